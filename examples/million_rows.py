"""Memory and speed of reading many vectors: makes a file of N rows, reads it, and prints both at intervals.

    python examples/million_rows.py                                # a million rows of .npy, read and checked
    python examples/million_rows.py --kind parquet
    python examples/million_rows.py --rows 3000 --write --steps 4  # the whole way, to texts

Reading is what a million rows are measured by; writing takes the same memory at any row, and hours for a million on a
CPU. The rows are vectors of the sentences that come with sgdd, each with a little noise.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from sgdd_engine import SGDD
from sgdd_engine.generation import CheckedVectors, write_texts
from sgdd_engine.mini import SENTENCES
from sgdd_engine.vectors import ReadOptions, open_vectors

# Rows that are made and written at once.
PIECE = 10_000
NOISE = 0.01


def pieces(model: SGDD, rows: int) -> Iterator[np.ndarray]:
    """Vectors [n, D] of unit length, `rows` in all."""
    known = model.encode(SENTENCES.read_text(encoding="utf-8").splitlines()).numpy()
    generator = np.random.default_rng(0)
    for start in range(0, rows, PIECE):
        numbers = np.arange(start, min(start + PIECE, rows)) % len(known)
        noise = generator.normal(scale=NOISE, size=(len(numbers), known.shape[1]))
        vectors = known[numbers] + noise
        yield (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make(path: Path, parts: Iterable[np.ndarray], rows: int, width: int) -> None:
    """Write the parts into one file, of the kind that its ending says."""
    match path.suffix:
        case ".npy":
            with path.open("wb") as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
                np.lib.format.write_array_header_1_0(file, header)
                file.writelines(part.tobytes() for part in parts)
        case ".jsonl":
            with path.open("w", encoding="utf-8") as lines:
                for part in parts:
                    lines.writelines(json.dumps({"embedding": row}) + "\n" for row in part.round(6).tolist())
        case ".parquet":
            schema = pa.schema({"embedding": pa.list_(pa.float32())})
            with pq.ParquetWriter(path, schema) as writer:
                for part in parts:
                    lists = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), width)
                    writer.write_table(pa.table([lists.cast(schema.field(0).type)], schema=schema))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=("npy", "parquet", "jsonl"), default="npy")
    parser.add_argument("--write", action="store_true", help="write texts too, with `mini`")
    parser.add_argument("--steps", type=int, help="denoising steps")
    parser.add_argument("--folder", type=Path, help="where the file is made; a temporary folder by default")
    arguments = parser.parse_args()

    model = SGDD.from_pretrained("mini")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / f"vectors.{arguments.kind}"
        width = model.info.model.embedding_dim
        make(path, pieces(model, arguments.rows), arguments.rows, width)
        print(f"{path.name}: {arguments.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB")

        source = open_vectors(str(path), ReadOptions(width=width))
        batches: Iterable = CheckedVectors(model, source)
        if arguments.write:
            sampling = model.recommended_sampling
            sampling = replace(sampling, steps=arguments.steps or sampling.steps)
            batches = write_texts(model, batches, sampling=sampling)
        report(batches, arguments.rows)


def report(batches: Iterable, rows: int) -> None:
    """Go through the batches, and print ten times how far it came, how fast, and how much memory is in use."""
    process = psutil.Process()
    done, peak, began, shown = 0, 0, time.perf_counter(), 0
    for batch in batches:
        done += len(getattr(batch, "ids", batch))
        peak = max(peak, process.memory_info().rss)
        if done * 10 // rows > shown:
            shown = done * 10 // rows
            seconds = time.perf_counter() - began
            print(
                f"{done:>9,} rows  {done / seconds:>9,.0f} rows/s  {peak / 1e6:>7,.0f} MB at most", flush=True
            )


if __name__ == "__main__":
    main()
