"""A hub that does not answer, or never stops answering: lookups are given up, and said.

No test looks at a clock: the server goes on until the test has seen the answer of the code under test.
"""

import hashlib
import http.server
import json
import os
import socketserver
import threading
from contextlib import contextmanager, suppress

import datasets
import huggingface_hub
import pytest

from sgdd_engine.data import hub as data_hub
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.sources import open_source
from sgdd_engine.errors import DataError, EncoderError
from sgdd_engine.text import hub
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder import load_encoder
from sgdd_engine.text.hub import ask_hub, fetch, remember

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def point_at(address, monkeypatch, cache):
    """Let the hub's libraries ask a server of this test, and nobody else."""
    constants = "huggingface_hub.constants"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(f"{constants}.ENDPOINT", address)
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)


@pytest.fixture(params=["silent", "dripping"])
def stalled_hub(request, monkeypatch, tmp_path):
    """A server that takes every question and never comes to the end of an answer; the questions that it got."""
    released = threading.Event()
    questions: list[str] = []

    class Stalled(socketserver.StreamRequestHandler):
        def handle(self):
            questions.append(self.rfile.readline().decode())
            while self.rfile.readline().strip():
                pass
            if request.param == "dripping" and not released.is_set():
                # Each byte comes in time for a client that waits for the next one only.
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Header: ")
                while not released.wait(0.02):
                    self.wfile.write(b"x")
            released.wait()
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    before = set(threading.enumerate())
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Stalled) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        point_at(address, monkeypatch, tmp_path / "cache")
        monkeypatch.setattr(hub, "ANSWER_SECONDS", 0.2)
        monkeypatch.setattr(data_hub, "LISTING_SECONDS", 0.5)
        yield questions
        released.set()
        for thread in set(threading.enumerate()) - before:  # lookups that were given up come to their end now
            if thread.name == "ask_hub":
                thread.join(60)
        server.shutdown()


@pytest.mark.slow
def test_looking_up_a_data_set_is_given_up(stalled_hub):
    with pytest.raises(DataError, match="`someone/texts` cannot be reached") as caught:
        open_source("hf:someone/texts", DataConfig()).describe()
    assert "sgdd prepare-data builtin --encoder minilm" in caught.value.hint
    assert stalled_hub


def test_listing_the_files_of_a_data_set_is_given_up(stalled_hub):
    source = open_source("hf:someone/texts", DataConfig(revision=COMMIT))
    kept = {"subset": None, "split": "train", "column": "text", "asked_revision": COMMIT, "revision": COMMIT}
    source.describe({"kind": "hub", "dataset": "someone/texts", **kept})  # asks nobody
    assert not stalled_hub
    with pytest.raises(DataError, match="`someone/texts` cannot be reached"):
        next(source.lines())
    assert stalled_hub


@pytest.mark.slow
def test_looking_up_an_encoder_is_given_up(stalled_hub):
    with pytest.raises(EncoderError, match="someone/else is not on this machine and the model hub cannot"):
        fetch("someone/else", None)
    assert stalled_hub


@pytest.mark.slow
def test_a_cached_encoder_serves_meanwhile(stalled_hub, tmp_path):
    snapshot = tmp_path / "cache" / "models--someone--tiny" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (snapshot / name).write_text("{}")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(COMMIT)
    assert fetch("someone/tiny", None) == (snapshot, COMMIT)
    assert stalled_hub
    stalled_hub.clear()
    (snapshot / "modules.json").write_text("[]")
    assert fetch("someone/tiny", COMMIT) == (snapshot, COMMIT)
    assert not stalled_hub  # pinned and complete: nobody is asked


@contextmanager
def encoder_on_a_hub(names, answer, monkeypatch, tmp_path, code=None):
    """A hub with `someone/tiny`, which has files of these names; `answer` gives a file's bytes, or a status."""

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = answer(self.path.removeprefix(f"/someone/tiny/resolve/{COMMIT}/"))
            if self.path.startswith("/api/models/someone/tiny"):
                siblings = [{"rfilename": name} for name in names]
                content = json.dumps({"id": "someone/tiny", "sha": COMMIT, "siblings": siblings}).encode()
            status, content = (content, b"") if isinstance(content, int) else (200, content)
            self.send_response(status)
            if status != 200:
                self.send_header("X-Error-Message", "no")
                self.send_header("X-Error-Code", code or "")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.end_headers()
            return self.command == "GET" and self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        point_at(f"http://127.0.0.1:{server.server_address[1]}", monkeypatch, tmp_path)
        yield
        server.shutdown()


def test_an_encoder_is_fetched_into_the_cache(monkeypatch, tmp_path, tiny_encoder_folder):
    files = {
        path.relative_to(tiny_encoder_folder).as_posix(): path for path in tiny_encoder_folder.rglob("*.*")
    }

    def answer(name):
        return files[name].read_bytes() if name in files else 404

    with encoder_on_a_hub([*files, "onnx/model.onnx"], answer, monkeypatch, tmp_path):
        for weights in (False, True):
            folder, commit = fetch("someone/tiny", None, weights=weights)
            assert commit == COMMIT
            assert (folder / "model.safetensors").exists() == weights
    assert (folder / "1_Pooling" / "config.json").is_file()
    assert "onnx" not in {path.name for path in folder.iterdir()}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch("someone/tiny", COMMIT) == (folder, COMMIT)
    assert fetch("someone/tiny", None) == (folder, COMMIT)  # the branch that was asked for then
    encoder = load_encoder(EncoderConfig(name=str(folder)))
    assert encoder.encode(["A letter."]).shape == (1, 32)


@pytest.mark.parametrize(
    ("status", "code", "sentence", "hint"),
    [
        (403, "GatedRepo", "The encoder someone/tiny asks for consent", "hf auth login"),
        (
            403,
            None,
            "The hub refuses to hand out the encoder someone/tiny",
            "https://huggingface.co/someone/tiny",
        ),
    ],
)
def test_a_file_of_an_encoder_that_is_not_handed_out_is_a_sentence(
    monkeypatch, tmp_path, status, code, sentence, hint
):
    names = ["config.json", "tokenizer.json", "model.safetensors"]
    with (
        encoder_on_a_hub(names, lambda name: status, monkeypatch, tmp_path, code),
        pytest.raises(EncoderError, match=sentence) as caught,
    ):
        fetch("someone/tiny", None)
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the root user may write anywhere"
)
def test_a_cache_that_may_only_be_read_serves(tmp_path):
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (tmp_path / "models--someone--tiny").chmod(0o555)
    remember(snapshot, None)


def test_what_is_remembered_already_is_not_written_again(tmp_path):
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    remember(snapshot, None)
    note = tmp_path / "models--someone--tiny" / "refs" / "main"
    before = note.stat().st_ino
    remember(snapshot, None)
    assert (note.read_text(encoding="utf-8"), note.stat().st_ino) == (COMMIT, before)


def test_an_answer_and_an_exception_come_through():
    assert ask_hub(lambda: 3, 20) == 3
    with pytest.raises(KeyError, match="x"):
        ask_hub(lambda: {}["x"], 20)
    with pytest.raises(huggingface_hub.errors.OfflineModeIsEnabled):
        ask_hub(offline, 20)


def offline():
    raise huggingface_hub.errors.OfflineModeIsEnabled("offline")
