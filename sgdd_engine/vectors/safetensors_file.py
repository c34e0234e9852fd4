"""Tensors in `.safetensors` files, half precision and bfloat16 included, read a piece at a time."""

from collections.abc import Iterator
from pathlib import Path

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.columns import choose_columns
from sgdd_engine.vectors.rows import numbered
from sgdd_engine.vectors.source import OpenSource, ReadOptions, VectorBatch, refuse_options


def matches(where: str) -> bool:
    """Files whose name ends in `.safetensors`."""
    return where.lower().endswith(".safetensors")


def open(where: str, options: ReadOptions) -> OpenSource:
    """The rows of one tensor [N, D]; it is found by its shape, or named with `column`.

    Raises:
        VectorSourceError: there is no such file, it is damaged, or has no such tensor.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - loads torch

    name = f"Safetensors file `{where}`"
    refuse_options(options, name, "text_column", "id_column", "group_column", "where", "table")
    if not Path(where).is_file():
        raise VectorSourceError(f"There is no file `{where}`.", "Check the name.")
    try:
        with safe_open(where, "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise VectorSourceError(
            f"{name} cannot be read: {error}.", "Copy it again, or save it again."
        ) from error
    columns = choose_columns(
        {key: shape[1] for key, shape in shapes.items() if len(shape) == 2},
        [],
        [key for key, shape in shapes.items() if len(shape) != 2],
        options,
        name,
        "tensor",
    )
    rows = shapes[columns.vector][0]

    def batches() -> Iterator[VectorBatch]:
        for start in range(0, rows, options.batch_rows):
            # Opened anew for each batch: pages that were read do not stay in memory.
            with safe_open(where, "pt") as file:
                vectors = file.get_slice(columns.vector)[start : start + options.batch_rows].float().numpy()
            yield VectorBatch(numbered(start, len(vectors)), vectors)

    return OpenSource(f"{name}, tensor {columns.vector}", rows, (), batches())
