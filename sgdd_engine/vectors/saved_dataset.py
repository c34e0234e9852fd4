"""Vectors in a folder that `save_to_disk` of the library `datasets` wrote."""

from pathlib import Path
from typing import Any

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.source import OpenSource, ReadOptions


def matches(where: str) -> bool:
    """Folders with the files of `save_to_disk`."""
    return (Path(where) / "dataset_dict.json").is_file() or (Path(where) / "state.json").is_file()


def open(where: str, options: ReadOptions) -> OpenSource:
    """A `Dataset`, or the only split of a `DatasetDict`; one of several is named as a folder.

    Raises:
        VectorSourceError: the folder is damaged, has no such column, or several splits.
    """
    import datasets  # noqa: PLC0415 - takes 0.7 s and only this source needs it
    import pyarrow as pa  # noqa: PLC0415

    from sgdd_engine.vectors.arrow_tables import open_tables  # noqa: PLC0415 - loads pyarrow

    folder = _split(Path(where))
    try:
        data: Any = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise VectorSourceError(
            f"`{folder}` is a damaged data set of `save_to_disk`: {reason}.", "Save it again."
        ) from error
    return open_tables(
        f"Data set `{folder}`",
        data.features.arrow_schema,
        lambda columns: data.select_columns(columns).with_format("arrow").iter(batch_size=options.batch_rows),
        len(data),
        options,
    )


def _split(folder: Path) -> Path:
    if (folder / "state.json").is_file():
        return folder
    splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
    if len(splits) != 1:
        raise VectorSourceError(
            f"`{folder}` has {len(splits)} splits: {', '.join(splits) or 'none'}.",
            f"Name the folder of one, for example {folder / splits[0]}" if splits else "Save it again.",
        )
    return folder / splits[0]
