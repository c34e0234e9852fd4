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
from sgdd_cli.web.service import Limits
from sgdd_engine import SGDD
from sgdd_engine.generation.config import GenerationConfig
from sgdd_engine.mini import SENTENCES

CLIENTS = 16
# Requests of the flood, and texts in each: far more than a batch holds, so that they are not done before the end.
FLOOD, FLOOD_TEXTS = 6, 64
SHORT_REQUESTS = 3


@contextmanager
def serving(writing: Writing) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(writing, limits=Limits(seconds=600)), log_config=None, timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def ask(client: httpx.Client, **body: object) -> str:
    response = client.post("/generate", json=body)
    response.raise_for_status()
    text: str = response.json()["results"][0]["text"]
    return text


def processor_ms(work: Callable[[], None], texts: int) -> float:
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started) / texts


def throughput(model: SGDD, client: httpx.Client, texts: list[str], turns: int) -> dict[str, float]:
    """Processor time for each text in ms, the median of turns."""

    def one_by_one() -> None:
        for text in texts:
            model.reconstruct(text)

    def in_batches() -> None:
        model.reconstruct(texts)

    def one_client() -> None:
        for text in texts:
            ask(client, texts=[text])

    def many_clients() -> None:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda text: ask(client, texts=[text]), texts))

    works = {
        "library, one text a call": one_by_one,
        f"library, {CLIENTS} texts a call": in_batches,
        "server, one client": one_client,
        f"server, {CLIENTS} clients": many_clients,
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            found[name].append(processor_ms(work, len(texts)))
    return {name: statistics.median(values) for name, values in found.items()}


def waiting_seconds(client: httpx.Client) -> list[float]:
    """How long each of some short requests waits."""
    found = []
    for number in range(SHORT_REQUESTS):
        started = time.perf_counter()
        ask(client, texts=["The old man opened the door."], seed=number)
        found.append(time.perf_counter() - started)
    return found


@contextmanager
def unread(url: str, *bodies: dict[str, object]) -> Iterator[None]:
    """Clients that ask for something and read nothing, until the end."""
    host, port = url.removeprefix("http://").split(":")
    opened = []
    for body in bodies:
        content = json.dumps(body).encode()
        head = (f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(content)}", "", "")
        one = socket.create_connection((host, int(port)))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        one.sendall("\r\n".join(("POST /generate HTTP/1.1", *head)).encode() + content)
        opened.append(one)
    time.sleep(1)  # until they wait in the queue
    yield
    for one in opened:
        one.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    model = SGDD.from_pretrained("mini", "cpu")
    writing = Writing(model, Path("mini"), model.recommended_sampling, GenerationConfig(), watch=False)
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    texts = lines[:CLIENTS]
    long = [" ".join(lines[i : i + 4]) for i in range(FLOOD_TEXTS)]
    model.encode(texts)
    # One client for all: making one reads the certificates of the system, for as long as a text takes.
    with serving(writing) as url, httpx.Client(base_url=url, timeout=600) as client:
        figures = throughput(model, client, texts, turns)
        print("| asked | processor time for each text | texts in a second of one processor |\n|---|---|---|")
        for name, value in figures.items():
            print(f"| {name} | {value:.0f} ms | {1000 / value:.1f} |")
        print("\n| a short request beside | median wait | longest |\n|---|---|---|")
        streams = [{"texts": texts[:2], "stream": True, "explain": True}] * FLOOD
        flood = [{"texts": long, "seed": 100 + number} for number in range(FLOOD)]
        for name, bodies in {
            "nothing else": [],
            f"{FLOOD} streams that nobody reads": streams,
            f"{FLOOD} requests of {FLOOD_TEXTS} long texts": flood,
        }.items():
            with unread(url, *bodies):
                found = waiting_seconds(client)
            print(f"| {name} | {statistics.median(found):.2f} s | {max(found):.2f} s |")


if __name__ == "__main__":
    main()
