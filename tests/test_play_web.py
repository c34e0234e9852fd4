"""`sgdd play --web`: a real server on the loopback, asked through a real HTTP client."""

import asyncio
import contextlib
import io
import json
import math
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from test_cli import call
from tiny_sgdd import build

from sgdd_cli.decoding_options import Writing
from sgdd_cli.web import serve
from sgdd_cli.web.app import create_app
from sgdd_cli.web.batching import Batcher, Encode, QueueFull, Write
from sgdd_cli.web.openapi import CALLS, document
from sgdd_cli.web.service import Limits
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import ConfigError, GenerationError, SgddError
from sgdd_engine.generation.config import GenerationConfig
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder import load_encoder

TOKEN = "a-token-of-enough-length"
SAMPLING = SamplingConfig(cfg=1.5, steps=8)


@contextlib.contextmanager
def serving(writing, **options):
    """The address of a server that runs in a thread."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(writing, **options)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def writing(tiny_encoder, sentences):
    model = build(tiny_encoder, sentences[:6], steps=20)
    return Writing(model, Path("tiny"), SAMPLING, GenerationConfig(), watch=False)


@pytest.fixture(scope="module")
def url(writing):
    with serving(writing) as address:
        yield address


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, timeout=60) as found:
        yield found


def post(client, path, **body):
    return client.post(path, json=body)


def events(response):
    """The server-sent events of an answer: (kind, data)."""
    kind = None
    for line in response.iter_lines():
        if line.startswith("event:"):
            kind = line[6:].strip()
        elif line.startswith("data:"):
            yield kind, json.loads(line[5:])


# --- what it answers --------------------------------------------------------------------------------------


def test_texts_become_vectors_and_texts_again_as_the_library_writes_them(client, writing, sentences):
    texts = sentences[:3]
    vectors = post(client, "/encode", texts=texts).json()["vectors"]
    assert torch.allclose(torch.tensor(vectors), writing.model.encode(texts), atol=1e-6)
    expected = writing.model.reconstruct(texts, sampling=SAMPLING)
    for body in ({"texts": texts}, {"vectors": vectors}):
        results = post(client, "/generate", **body).json()["results"]
        assert [item["text"] for item in results] == [item.text for item in expected]
        assert [item["cosine"] for item in results] == pytest.approx(
            [item.cosine for item in expected], abs=1e-5
        )
    set_otherwise = {"cfg": 1.0, "steps": 3, "length": "5-7", "candidates": 2, "refine": 2, "seed": 4}
    expected = writing.model.reconstruct(
        texts, sampling=replace(SAMPLING, cfg=1.0, steps=3), lengths="5-7", candidates=2, refine=2, seed=4
    )
    answer = post(client, "/generate", texts=texts, explain=True, **set_otherwise).json()
    for found, wanted in zip(answer["results"], expected, strict=True):
        assert found["text"] == wanted.text
        assert [other["text"] for other in found["alternatives"]] == [text for text, _ in wanted.alternatives]
        assert len(found["tokens"]) == len(wanted.tokens)


def test_meanings_are_blended_walked_between_and_blanks_filled(client, writing, sentences):
    model, two = writing.model, sentences[:2]
    blended = post(client, "/blend", texts=two, weights=[0.7, 0.3]).json()["results"]
    assert blended[0]["text"] == model.blend(two, [0.7, 0.3], sampling=SAMPLING)[0].text
    assert len(blended[0]["cosines"]) == 2
    points = post(client, "/interpolate", texts=two, points=3).json()["results"]
    assert [item["text"] for item in points] == [
        item.text for item in model.interpolate(*two, 3, sampling=SAMPLING)
    ]
    assert [item["share"] for item in points] == [0, 0.5, 1]
    blank = re.sub(r" \w+\.$", " [MASK:1].", two[0])
    for meanings in (None, [two[0]]):
        (filled,) = post(client, "/fill", texts=[blank], meanings=meanings).json()["results"]
        sampling = SAMPLING if meanings else replace(SAMPLING, cfg=1.0)
        assert filled["text"] == model.fill(blank, meanings, sampling=sampling)[0].text
        assert len(filled["blanks"]) == 1


def test_several_samples_differ_unless_a_temperature_is_given(client, writing, sentences):
    text, blank = sentences[100], "The [MASK:2] found [MASK:3]."
    for path, texts in (("/generate", [text]), ("/fill", [blank])):
        found = post(client, path, texts=texts, num_samples=4).json()["results"]
        assert len({item["text"] for item in found}) == 4
        found = post(client, path, texts=texts, num_samples=4, temperature=0).json()["results"]
        assert len({item["text"] for item in found}) == 1
        found = post(client, path, texts=texts).json()["results"]
        assert len(found) == 1
    drawn = post(client, "/generate", texts=[text], num_samples=4).json()["results"]
    sampling = replace(SAMPLING, temperature=0.7)
    expected = writing.model.reconstruct([text], sampling=sampling, num_samples=4)
    assert [item["text"] for item in drawn] == [item.text for item in expected]


def test_a_temperature_of_the_start_holds_where_a_request_gives_none(writing, sentences):
    cold = writing.with_sampling(temperature=0.0)
    with serving(cold) as url, httpx.Client(base_url=url, timeout=60) as client:
        found = post(client, "/generate", texts=sentences[:1], num_samples=3).json()["results"]
    assert len({item["text"] for item in found}) == 1


def npy(vectors):
    file = io.BytesIO()
    np.save(file, vectors)
    return file.getvalue()


def test_a_file_of_vectors_or_of_texts_is_read(client, writing, sentences):
    texts = sentences[:2]
    vectors = writing.model.encode(texts).numpy()
    rows = vectors.tolist()
    expected = [item.text for item in writing.model.generate(vectors, sampling=SAMPLING)]
    files = {
        "two.npy": npy(vectors),
        "two.json": json.dumps(rows),
        "openai.json": json.dumps({"data": [{"embedding": row} for row in rows]}),
        "texts.json": json.dumps(texts),
        "two.jsonl": "\n".join(json.dumps({"embedding": row, "id": str(i)}) for i, row in enumerate(rows)),
        "numbers.txt": "\n".join(" ".join(map(str, row)) for row in rows),
        "lines.txt": "\n\n".join(texts),
    }
    for name, content in files.items():
        answer = client.post("/read", params={"name": name}, content=content).json()
        assert [item["text"] for item in answer["results"]] == expected, name
    one = client.post("/read", params={"name": "one.json", "steps": 2}, content=json.dumps(rows[0])).json()
    assert len(one["results"]) == 1


def test_lines_that_begin_with_brackets_are_texts(client):
    lines = ["[He laughs.] I do not know.", "{A note} The dog ran home.", "10, 20 and 30 people came."]
    answer = client.post("/read?name=stage.txt", content="\n".join(lines).encode())
    assert answer.status_code == 200, answer.text
    assert [item["id"] for item in answer.json()["results"]] == lines


def test_a_search_of_a_request_takes_the_place_of_refining_and_the_gradient_is_as_at_the_start(
    writing, sentences
):
    refining = replace(writing, config=GenerationConfig(refine=2))
    with serving(refining) as url, httpx.Client(base_url=url, timeout=60) as client:
        answer = post(client, "/generate", texts=sentences[:1], search=8, candidates=1)
        assert answer.status_code == 200, answer.text
    plain = replace(writing, config=GenerationConfig(search=12, gradient=False))
    expected = writing.model.generate(
        writing.model.encode(sentences[:1]), sampling=SAMPLING, search=12, gradient=False, score=True
    )[0]
    with_gradient = writing.model.generate(
        writing.model.encode(sentences[:1]), sampling=SAMPLING, search=12, score=True
    )[0]
    with serving(plain) as url, httpx.Client(base_url=url, timeout=60) as client:
        (found,) = post(client, "/generate", texts=sentences[:1], candidates=1).json()["results"]
    assert (found["text"], found["encoder_calls"]) == (expected.text, expected.encoder_calls)
    assert [text["text"] for text in found["alternatives"]] == [text for text, _ in expected.alternatives]
    assert expected.alternatives != with_gradient.alternatives


def test_the_token_is_on_no_command_line_of_a_browser(writing, monkeypatch):
    opened = queue.SimpleQueue()
    monkeypatch.setattr(serve.webbrowser, "open", opened.put)
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    serve.serve(writing, "127.0.0.1", 0, TOKEN, open_page=True)
    assert TOKEN not in opened.get(timeout=60)


def test_rows_of_a_file_that_cannot_be_read_are_named_and_the_others_keep_their_numbers(
    client, writing, sentences
):
    vectors = writing.model.encode(sentences[:4]).numpy()
    expected = [item.text for item in writing.model.generate(vectors, sampling=SAMPLING)]
    vectors[1], vectors[2, 3] = 0, np.nan
    vectors[3] *= 2
    rows = [{"id": f"key {number}", "embedding": row.tolist()} for number, row in enumerate(vectors)]
    rows[2]["embedding"] = None
    for name, content, left_out in (
        ("four.npy", npy(vectors), "NaN or infinite numbers"),
        ("four.json", json.dumps(rows), "no vector"),
    ):
        answer = client.post("/read", params={"name": name}, content=content).json()
        assert [item["row"] for item in answer["results"]] == [0, 3]
        assert [item["text"] for item in answer["results"]] == [expected[0], expected[3]]
        assert [item["id"] for item in answer["results"]] == (
            ["0", "3"] if name == "four.npy" else ["key 0", "key 3"]
        )
        said = " ".join(answer["notes"])
        assert "1 row has zeros only and is left out: 1." in said
        assert f"1 row has {left_out} and is left out: 2." in said
        assert f"{name}`" in said
        assert "row 3 has 2" in said
        assert "uploaded" not in said
    streamed = client.post("/read", params={"name": "x.npy", "stream": True}, content=npy(vectors[1:]))
    assert {data["row"] for kind, data in events(streamed) if kind == "canvas"} == {2}
    nothing = client.post("/read", params={"name": "x.npy"}, content=npy(vectors[1:2]))
    assert (nothing.status_code, "zeros only" in nothing.json()["hint"]) == (422, True)


def test_the_canvas_is_streamed_while_it_fills_and_the_result_follows(client, sentences):
    searched = post(client, "/generate", texts=sentences[:1], search=6).json()["results"][0]
    assert 1 <= searched["encoder_calls"] <= 6
    body = {"texts": sentences[:1], "stream": True, "explain": True, "refine": 1}
    with client.stream("POST", "/generate", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = list(events(response))
    kinds = [kind for kind, _ in found]
    assert set(kinds) <= {"canvas", "round", "result"}
    assert kinds.count("result") == 1
    assert kinds[-1] == "result"
    # Canvases of refining have no probabilities.
    canvases = [data["tokens"] for kind, data in found if kind == "canvas" and data["tokens"]]
    open_positions = [sum(not piece for piece, _ in tokens) for tokens in canvases]
    assert open_positions == sorted(open_positions, reverse=True)
    assert open_positions[-1] == 0
    plain = post(client, "/generate", **{**body, "stream": False}).json()
    assert found[-1][1] == plain


def test_the_canvas_of_a_blank_is_streamed_too(client, writing):
    body = {"texts": ["The baker [MASK:2-3] a letter."], "stream": True, "explain": True}
    with client.stream("POST", "/fill", json=body) as response:
        *canvases, (kind, answer) = events(response)
    assert {kind for kind, _ in canvases} == {"canvas"}
    last = canvases[-1][1]
    assert last["row"] == 0
    assert all(piece for piece, _ in last["tokens"])
    assert kind == "result"
    (filled,) = writing.model.fill(body["texts"], sampling=replace(SAMPLING, cfg=1.0), explain=True)
    tokens = answer["results"][0]["tokens"]
    assert [token["piece"] for token in tokens] == [token.piece for token in filled.details]
    # What was given has the step 0; two or three tokens were written.
    assert sum(token["step"] > 0 for token in tokens) in (2, 3)


def test_a_text_that_is_longer_than_the_model_writes_is_said_to_be(client, writing):
    (note,) = post(client, "/generate", texts=["word " * 60]).json()["notes"]
    assert f"writes at most {writing.model.info.model.max_tokens}" in note


def test_vectors_of_another_length_are_scaled_with_a_note(client, writing, sentences):
    vectors = writing.model.encode(sentences[:2])
    expected = post(client, "/generate", vectors=vectors.tolist(), explain=True).json()
    assert expected["notes"] == []
    for scale in (1e10, 1e38):
        found = post(client, "/generate", vectors=(vectors * scale).tolist(), explain=True).json()
        assert [item["text"] for item in found["results"]] == [item["text"] for item in expected["results"]]
        (note,) = found["notes"]
        assert "scaled" in note


# --- what it refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/generate", b"{not json", 400, "not JSON"),
        ("/generate", b"[]", 422, "body is wrong"),
        ("/generate", b"{}", 422, "and not both"),
        ("/generate", {"texts": []}, 422, "No text"),
        ("/generate", {"texts": [" "]}, 422, "nothing to encode"),
        ("/generate", {"texts": [1]}, 422, "`texts.0`"),
        ("/generate", {"texts": ["One."] * 10_000}, 422, "10,000"),
        ("/generate", {"texts": ["word " * 600]}, 422, "tokens; at most 512"),
        ("/generate", {"texts": ["w" * 9000]}, 422, "9,000 characters"),
        ("/generate", {"texts": ["One."], "stps": 4}, 422, "`stps`"),
        ("/generate", {"texts": ["One."], "steps": 0}, 422, "`steps`"),
        ("/generate", {"texts": ["One."], "steps": "4"}, 422, "`steps`"),
        ("/generate", {"texts": ["One."], "length": 99}, 422, "99 tokens"),
        ("/generate", {"texts": ["One."], "length": "x"}, 422, "whole number"),
        ("/generate", {"texts": ["One."], "length": 4, "candidates": 2}, 422, "one length"),
        ("/generate", b'{"vectors": [[' + b",".join([b"NaN"] * 32) + b"]]}", 422, "NaN"),
        ("/generate", b'{"vectors": [[' + b",".join([b"1e999"] * 32) + b"]]}", 422, "infinite"),
        ("/generate", {"vectors": [[0.0] * 32]}, 422, "zeros"),
        ("/generate", {"vectors": [[0.5] * 7]}, 422, "[1, 7]"),
        ("/generate", {"vectors": [[0.5] * 7, [0.5]]}, 422, "not a table"),
        ("/blend", {"texts": ["One.", "Two."], "weights": [1.0]}, 422, "1 weights"),
        ("/blend", {"texts": ["One."], "weights": [0.0]}, 422, "weight"),
        ("/interpolate", {"texts": ["One."]}, 422, "Two texts or vectors"),
        ("/fill", {"texts": ["No blank."]}, 422, "no blank"),
        ("/fill", {"texts": ["A [MASK]."], "candidates": 3}, 422, "meaning"),
        ("/fill", {"texts": ["A [MASK]."], "meanings": ["a", "b"]}, 422, "2 meanings"),
        ("/read?name=x.pkl", b"\x80\x04", 422, ".pkl"),
        ("/read?name=x.npy", b"\x93NUMPY", 422, "x.npy"),
        ("/read?name=x.txt", b"\xff\xfe\x00", 422, "UTF-8"),
        ("/read?name=x.txt", b"", 422, "No text"),
        ("/read?name=x.txt&stps=3", b"One.", 422, "`stps`"),
        ("/read?name=x.json", b"[[1, 2], [3, 4]]", 422, "32"),
        ("/nowhere", {}, 404, "nothing here"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(client, path, body, status, message):
    content = body if isinstance(body, bytes) else json.dumps(body)
    response = client.post(path, content=content, headers={"content-type": "application/json"})
    found = response.json()
    assert (response.status_code, message in found["error"]) == (status, True), found
    assert "\n" not in found["error"]
    assert "Traceback" not in response.text


def test_an_object_in_an_array_of_numpy_is_not_unpickled(client):
    file = io.BytesIO()
    np.save(file, np.array([os], dtype=object)[:0], allow_pickle=True)
    response = client.post("/read", params={"name": "x.npy"}, content=file.getvalue())
    assert response.status_code == 422


def test_other_methods_kinds_and_sizes_of_bodies_are_refused(client, url):
    assert client.get("/generate").status_code == 405
    assert client.post("/generate", content="{}").status_code == 415
    big = client.post("/encode", content=b" " * (9 << 20), headers={"content-type": "application/json"})
    assert (big.status_code, "longer" in big.json()["error"]) == (413, True)

    def endless():
        for _ in range(20):
            yield b" " * (1 << 20)

    with contextlib.suppress(httpx.WriteError):  # the server may close before everything is sent
        response = client.post("/encode", content=endless(), headers={"content-type": "application/json"})
        assert response.status_code == 413


def test_only_this_machine_may_ask_and_no_page_of_another_site(client):
    assert client.get("/model").status_code == 200
    for headers in (
        {"host": "evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://[x"},
    ):
        response = client.get("/model", headers=headers)
        assert response.status_code == 403, headers
        assert "error" in response.json()
    own = str(client.base_url).rstrip("/")
    assert client.get("/model", headers={"origin": own}).status_code == 200
    assert client.get("/model", headers={"host": "localhost:1"}).status_code == 200


def test_with_a_token_nothing_but_the_page_comes_without_it(writing):
    with serving(writing, names=None, token=TOKEN) as url, httpx.Client(base_url=url) as client:
        for given in (None, "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \xe9"):
            headers = {} if given is None else {"authorization": given.encode("latin-1")}
            response = client.get("/model", headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert client.post("/encode", json={"texts": ["One."]}, headers=headers).status_code == 401
        assert client.get("/").status_code == 200
        right = {"authorization": f"Bearer {TOKEN}", "host": "any.example"}
        assert client.get("/model", headers=right).status_code == 200


def test_the_page_asks_nothing_of_other_servers(client):
    for path in ("/", "/docs"):
        response = client.get(path)
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert not re.search(r"(src|href)=[\"']?(https?:)?//", response.text)
        assert not re.search(r"<script(?! src=\"/page.js\"></script>)", response.text)


# --- time, and many at once -------------------------------------------------------------------------------


def test_a_request_that_takes_too_long_is_given_up(writing):
    limits = replace(Limits(), seconds=0.05)
    body = {"texts": ["A text."] * 200, "candidates": 8, "refine": 8, "steps": 64}
    with serving(writing, limits=limits) as url, httpx.Client(base_url=url, timeout=60) as client:
        response = post(client, "/generate", **body)
        assert (response.status_code, "longer than" in response.json()["error"]) == (504, True)
        with client.stream("POST", "/generate", json={**body, "stream": True}) as stream:
            *_, (kind, data) = events(stream)
        assert (kind, data["status"]) == ("error", 504)


def test_a_full_queue_says_when_to_come_again(writing, sentences):
    limits = replace(Limits(), waiting=1)
    body = {"texts": sentences[:12], "candidates": 4}

    def ask(seed):
        with httpx.Client(base_url=url, timeout=60) as client:
            return post(client, "/generate", seed=seed, **body)

    with serving(writing, limits=limits) as url, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
        statuses = {answer.status_code for answer in answers}
        assert statuses == {200, 503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 503)


@pytest.mark.slow
def test_results_do_not_depend_on_whom_they_are_computed_with(url, writing, sentences):
    texts = sentences[:10]
    alone = [writing.model.reconstruct(text, sampling=SAMPLING, candidates=2)[0].text for text in texts]

    def ask(text):
        with httpx.Client(base_url=url, timeout=60) as client:
            return post(client, "/generate", texts=[text], candidates=2).json()["results"][0]["text"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, texts)) == alone


class Recorder(Encode):
    """Encodes, and records which rows were computed together."""

    def __init__(self, name, log, started=None, go_on=None, **options):
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "log", log)
        object.__setattr__(self, "gate", (started, go_on))

    def __eq__(self, other):
        return isinstance(other, Recorder) and self.name == other.name

    def __hash__(self):
        return hash(self.name)

    def cost(self, row):
        return 1.0

    def run(self, model, rows, on_event, check):
        self.log.append((self.name, list(rows)))
        started, go_on = self.gate
        if started is not None:
            started.set()
            go_on.wait()
        if "bad" in rows:
            raise GenerationError("A bad row.")
        return [row.upper() for row in rows]


def run_batches(asked, *, gone=(), max_waiting=64):
    """What a batcher computes, of requests that all wait behind another one: (log, results by name)."""
    log = []

    async def main():
        batcher = Batcher(None, batch_canvases=4, batch_seconds=math.inf, max_waiting=max_waiting)
        started, go_on = threading.Event(), threading.Event()
        first = asyncio.create_task(batcher.compute(Recorder("first", [], started, go_on), ["x"]))
        await asyncio.to_thread(started.wait)
        tasks = []
        for name, rows in asked:
            tasks.append(asyncio.create_task(batcher.compute(Recorder(name, log), rows)))
            await asyncio.sleep(0)
        for number in gone:
            tasks[number].cancel()
        await asyncio.sleep(0)
        go_on.set()
        await first
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(batcher.close)
        return results

    return log, asyncio.run(main())


def test_a_short_request_overtakes_a_flood_of_long_ones_which_go_on_too():
    long = [chr(97 + i) for i in range(20)]
    log, results = run_batches([("long", long)] * 5 + [("short", ["s"])])
    assert results[-1] == ["S"]
    assert ("short", ["s"]) in log[:3]
    assert all(result == [row.upper() for row in long] for result in results[:5])
    assert all(len(rows) <= 4 for _, rows in log)


def test_requests_of_the_same_kind_share_batches_row_by_row():
    log, _ = run_batches([("same", ["a1", "a2", "a3"]), ("same", ["b1", "b2", "b3"]), ("same", ["c1"])])
    assert sorted(log[0][1]) == ["a1", "a2", "b1", "c1"]


def test_work_that_nobody_waits_for_is_dropped():
    log, _ = run_batches([("one", ["a"] * 8), ("two", ["b"])], gone=[0])
    assert [name for name, _ in log] == ["two"]


def test_one_bad_request_spoils_no_other():
    _, results = run_batches([("same", ["a"]), ("same", ["bad"]), ("same", ["c"])])
    assert results[0] == ["A"]
    assert results[2] == ["C"]
    assert isinstance(results[1], GenerationError)


def test_no_more_requests_wait_than_may():
    _, results = run_batches([("one", ["a"])] * 4, max_waiting=2)
    assert sum(isinstance(result, QueueFull) for result in results) == 2


def calls_until_given_up(model, network, work, rows, *, at, close=False):
    """How often a network runs for work that is given up in its `at`-th run: by its caller, or by closing."""

    async def main():
        batcher = Batcher(model)
        loop, calls, given_up = asyncio.get_running_loop(), 0, threading.Event()
        asked = asyncio.create_task(batcher.compute(work, rows))

        def count(*_):
            nonlocal calls
            calls += 1
            if calls != at:
                return
            if close:
                loop.run_in_executor(None, batcher.close)
                while not batcher._closed:
                    given_up.wait(0.001)
            else:
                loop.call_soon_threadsafe(asked.cancel)
                given_up.wait()

        hook = network.register_forward_hook(count)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await asked
            given_up.set()
            assert asked.cancelled()
            if not close:  # done when the worker is free again
                await batcher.compute(Recorder("next", []), ["x"])
            await asyncio.to_thread(batcher.close)
        finally:
            hook.remove()
        return calls

    return asyncio.run(main())


@pytest.mark.parametrize("close", [False, True])
def test_work_that_is_given_up_ends_at_the_next_step_also_within_a_round_of_a_search(
    writing, sentences, close
):
    # All texts of one length, and without guidance: the network runs once in a step, and in a pass that scores texts.
    work = Write(replace(SAMPLING, cfg=1.0), search=64, num_samples=2)
    rows, network = [(sentences[100], "6-6")], writing.model.model.denoiser
    for at in (3, 40, 55):
        assert at <= calls_until_given_up(writing.model, network, work, rows, at=at, close=close) <= at + 1


def test_work_that_is_given_up_ends_at_the_next_batch_of_the_encoder(tiny_encoder_folder, sentences):
    encoder = load_encoder(EncoderConfig(name=str(tiny_encoder_folder), batch_tokens=64))
    model = build(encoder, sentences[:6])
    network = encoder._network
    assert calls_until_given_up(model, network, Encode(), sentences[:100], at=4) == 4
    drafts = Write(SAMPLING, candidates=8, num_samples=4)
    assert calls_until_given_up(model, network, drafts, [(sentences[0], "1-24")], at=3) == 3


def test_a_client_that_goes_away_leaves_nothing_behind(url, sentences):
    big = {"texts": sentences[:100], "candidates": 8, "refine": 16, "stream": True, "steps": 64}
    with httpx.Client(base_url=url, timeout=60) as client:
        for _ in range(3):
            with client.stream("POST", "/generate", json=big) as response:
                next(events(response))
        with contextlib.suppress(httpx.ReadTimeout):
            client.post("/generate", json={**big, "stream": False}, timeout=0.2)
        # If any of it were still computed, this would wait for minutes.
        assert post(client, "/generate", texts=sentences[:1]).status_code == 200


def test_a_client_that_reads_nothing_stops_nobody(url, sentences):
    body = json.dumps({"texts": sentences[:60], "stream": True, "explain": True}).encode()
    host, port = url.removeprefix("http://").split(":")
    slow = socket.create_connection((host, int(port)))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    head = (f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}", "", "")
    slow.sendall("\r\n".join(("POST /generate HTTP/1.1", *head)).encode() + body)
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            for _ in range(3):
                assert post(client, "/generate", texts=sentences[:1]).status_code == 200
    finally:
        slow.close()


# --- the document -----------------------------------------------------------------------------------------


def test_the_document_describes_every_call_and_its_examples_work(client):
    found = client.get("/openapi.json").json()
    assert found == json.loads(json.dumps(document()))
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found)))
    assert references <= found["components"]["schemas"].keys()
    page = client.get("/docs").text
    for path, described in CALLS.items():
        assert f"POST {path}" in page
        if described.body is None:
            continue
        fields = described.body.model_fields.items()
        example = {name: field.examples[0] for name, field in fields if field.examples}
        answer = client.post(path, json=example)
        assert answer.status_code == 200, answer.text
        described.answer.model_validate(answer.json())


# --- the command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "no token was given"),
        (["--host", "::"], "no token was given"),
        (["--host", "0.0.0.0", "--token", "short"], "at least 16"),
    ],
)
def test_other_machines_are_not_let_in_without_a_token(options, message):
    with pytest.raises(ConfigError, match=message):
        call("play", "--web", *options)


def test_what_is_for_the_page_is_refused_at_the_prompt():
    _, err = call("play", "--port", 9000, code=2)
    assert "--port is for the page" in err


def test_without_the_extra_one_sentence_names_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("sgdd_cli.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # which is how Python marks what cannot be imported
    with pytest.raises(SgddError) as raised:
        call("play", "--web")
    assert raised.value.hint == 'pip install "sgdd[web]"'


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_the_command_serves_until_it_is_asked_to_stop(loaded_python):
    command = [loaded_python, "-m", "sgdd_cli", "play", "--web", "--checkpoint", "mini", "--device", "cpu"]
    process = subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        shown = ""
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/docs", shown)):
            line = process.stderr.readline()
            assert line, shown
            shown += line
        assert httpx.get(f"http://127.0.0.1:{found[1]}/health").json() == {"status": "ok"}
        taken = subprocess.run([*command, "--port", found[1]], capture_output=True, text=True, check=False)
        assert taken.returncode == 1
        assert f"Port {found[1]} of 127.0.0.1 is in use." in taken.stderr
        assert "Traceback" not in taken.stderr
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate()
        assert process.returncode == 143
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.wait()
