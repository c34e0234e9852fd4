"""From what the user named to an open source."""

import difflib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.kinds import VectorKind, vector_kinds
from sgdd_engine.vectors.source import OpenSource, ReadOptions, VectorBatch, VectorSource
from sgdd_engine.visible_text import without_secrets


def open_vectors(source: str, options: ReadOptions | None = None) -> OpenSource:
    """Open what the user named.

    Args:
        source: A path or URL, which is opened by the first kind that knows it; or `kind:where`, which chooses the kind.
        options: Columns, rows, size of batches.

    Returns:
        The source; its warnings include a sentence for each kind that is broken, or of the same name as the one that
        is used.

    Raises:
        VectorSourceError: no kind knows it, or it cannot be opened.
    """
    kinds = vector_kinds()
    if not kinds:
        raise VectorSourceError(
            "This installation of sgdd lists no kinds of vector sources.",
            "Install it again: pip install -U sgdd",
        )
    options = options or ReadOptions()
    prefix, colon, where = str(source).partition(":")
    if colon and (named := next((kind for kind in kinds if kind.name == prefix), None)):
        opened = _opened(named.load(), where, options)
        return replace(opened, warnings=(*_same_name(named, kinds), *opened.warnings))
    broken: list[str] = []
    for kind in kinds:
        try:
            found = kind.load()
            if not found.matches(str(source)):
                continue
        except VectorSourceError as error:
            broken.append(error.message)
            continue
        except Exception as error:  # as in `load`
            broken.append(f"The vector source `{kind.name}` is broken: {type(error).__name__}: {error}")
            continue
        opened = _opened(found, str(source), options)
        return replace(opened, warnings=(*broken, *_same_name(kind, kinds), *opened.warnings))
    raise _unknown(str(source), prefix if colon else "", kinds, broken)


def _opened(kind: VectorSource, where: str, options: ReadOptions) -> OpenSource:
    """The source; one that is a named pipe of the system cannot be read twice."""
    is_pipe = Path(where).is_fifo()
    opened = kind.open(where, options)
    return replace(opened, repeatable=False) if is_pipe else opened


def _same_name(kind: VectorKind, kinds: tuple[VectorKind, ...]) -> tuple[str, ...]:
    """A sentence for each kind that has the name of another one and is not used."""
    return tuple(
        f"The vector source `{one.name}` of {one.package} is not used: {one.conflict}."
        for one in kinds
        if one.name == kind.name and one.conflict is not None
    )


def read_vectors(source: str, **options: Any) -> Iterator[VectorBatch]:  # noqa: ANN401 - the fields of ReadOptions
    """The vectors of a file or database, in batches and in constant memory.

    Example:
        >>> for batch in read_vectors("vectors.parquet", text_column="text", batch_rows=256):
        ...     model.generate(batch.vectors)  # [n, D] float32; batch.ids, batch.texts

    Args:
        source: As for `open_vectors`, which tells the name, the number of rows, notes and warnings as well.
        **options: The fields of `ReadOptions`: `column`, `text_column`, `id_column`, `where`, `batch_rows`, ….

    Raises:
        VectorSourceError: it cannot be opened; later, a row cannot be read.
        TypeError: there is no such option.
    """
    return open_vectors(source, ReadOptions(**options)).batches


# Endings of files that often hold vectors and are not read → what to do with them.
_CONVERT = {
    (
        ".pt",
        ".pth",
        ".pkl",
        ".pickle",
        ".joblib",
    ): "It may hold a pickle, which can run any code. Save the numbers with np.save or safetensors.",
    (".json",): "Turn it into JSON Lines, one row on each line: jq -c '.[]' FILE > FILE.jsonl",
    (".h5", ".hdf5", ".mat", ".xlsx", ".xls"): "Convert it to Parquet, .npy or CSV.",
}


def _unknown(source: str, prefix: str, kinds: tuple[VectorKind, ...], broken: list[str]) -> VectorSourceError:
    names = [kind.name for kind in kinds if kind.conflict is None]
    near = difflib.get_close_matches(prefix, names, n=1) if prefix else []
    hints = [hint for endings, hint in _CONVERT.items() if source.lower().endswith(endings)]
    hints += [f"Did you mean {near[0]}:{without_secrets(source.partition(':')[2])}?"] if near else []
    hints.append(f"Kinds of sources: {', '.join(names)}; KIND:WHERE chooses one, as in jsonl:export.txt.")
    return VectorSourceError(
        f"`{without_secrets(source)}` is not a source of vectors that sgdd knows, or it does not exist.",
        "\n".join([*hints, *broken]),
    )
