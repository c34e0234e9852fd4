"""What the server of `sgdd play --web` costs beside the library, and whether floods stop a short request.

    OMP_NUM_THREADS=1 python examples/web_load.py

Asks a real server on the loopback of this machine, in this process. Work is told in processor time of the whole
process, clients included, in turns with the library; waiting times are by the clock, as users see them.
"""

import argparse
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import torch
import uvicorn

from sgdd_cli.decoding_options import Writing
from sgdd_cli.web.app import create_app
from sgdd_engine import SGDD
from sgdd_engine.generation.config import GenerationConfig
from sgdd_engine.mini import SENTENCES

CLIENTS = 16
TEXTS = 48
TURNS = 3
# Requests of the flood, and texts in each: beyond what a batch holds.
FLOOD, FLOOD_TEXTS = 6, 64
SHORT_REQUESTS = 6


@contextmanager
def serving(writing: Writing) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(writing), log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def ask(url: str, **body: object) -> str:
    with httpx.Client(base_url=url, timeout=300) as client:
        response = client.post("/generate", json=body)
        return response.json()["results"][0]["text"] if response.status_code == 200 else ""


def processor_ms(work: Callable[[], None], texts: int) -> float:
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started) / texts


def throughput(model: SGDD, url: str, texts: list[str]) -> dict[str, float]:
    """Processor time for each text in ms, the median of turns."""

    def one_by_one() -> None:
        for text in texts:
            model.reconstruct(text)

    def in_batches() -> None:
        for first in range(0, len(texts), CLIENTS):
            model.reconstruct(texts[first : first + CLIENTS])

    def one_client() -> None:
        for text in texts:
            ask(url, texts=[text])

    def many_clients() -> None:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda text: ask(url, texts=[text]), texts))

    works = {
        "library, one text a call": one_by_one,
        f"library, {CLIENTS} texts a call": in_batches,
        "server, one client": one_client,
        f"server, {CLIENTS} clients": many_clients,
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(TURNS):
        for name, work in works.items():
            found[name].append(processor_ms(work, len(texts)))
    return {name: statistics.median(values) for name, values in found.items()}


def waiting_seconds(url: str) -> list[float]:
    """How long each of some short requests waits."""
    found = []
    for number in range(SHORT_REQUESTS):
        started = time.perf_counter()
        assert ask(url, texts=["The old man opened the door."], seed=number)
        found.append(time.perf_counter() - started)
    return found


@contextmanager
def flood(url: str, texts: list[str]) -> Iterator[None]:
    """Requests of many long texts, one after the other from each of some clients, until the end."""
    stop = threading.Event()

    def client(number: int) -> None:
        while not stop.is_set():
            with httpx.Client(base_url=url, timeout=300) as found:
                found.post("/generate", json={"texts": texts, "seed": 100 + number})

    with ThreadPoolExecutor(FLOOD) as pool:
        for number in range(FLOOD):
            pool.submit(client, number)
        time.sleep(2)  # until they wait in the queue
        yield
        stop.set()


@contextmanager
def slow_clients(url: str, texts: list[str]) -> Iterator[None]:
    """Streams that are asked for and never read."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"texts": texts[:4], "stream": True, "explain": True}).encode()
    head = (f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}", "", "")
    opened = []
    for _ in range(FLOOD):
        one = socket.create_connection((host, int(port)))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        one.sendall("\r\n".join(("POST /generate HTTP/1.1", *head)).encode() + body)
        opened.append(one)
    yield
    for one in opened:
        one.close()


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    torch.set_num_threads(1)
    model = SGDD.from_pretrained("mini", "cpu")
    writing = Writing(model, Path("mini"), model.recommended_sampling, GenerationConfig(), watch=False)
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    texts = lines[:TEXTS]
    long = [" ".join(lines[i : i + 4]) for i in range(FLOOD_TEXTS)]
    model.encode(texts)
    with serving(writing) as url:
        figures = throughput(model, url, texts)
        print("| asked | processor time for each text | texts in a second of one processor |\n|---|---|---|")
        for name, value in figures.items():
            print(f"| {name} | {value:.0f} ms | {1000 / value:.1f} |")
        waits = {"nothing else": waiting_seconds(url)}
        with slow_clients(url, texts):
            waits[f"{FLOOD} streams that nobody reads"] = waiting_seconds(url)
        with flood(url, long):
            waits[f"{FLOOD} clients with {FLOOD_TEXTS} long texts each, again and again"] = waiting_seconds(
                url
            )
        print("\n| a short request beside | median wait | longest |\n|---|---|---|")
        for name, found in waits.items():
            print(f"| {name} | {statistics.median(found):.2f} s | {max(found):.2f} s |")


if __name__ == "__main__":
    main()
