"""From what the user named to an open source: the kinds of sources by entry points, built-in ones and others alike."""

import difflib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.source import OpenSource, ReadOptions, VectorBatch, VectorSource

GROUP = "sgdd.vectors"
"""Entry-point group of kinds of sources: a name → a module with `matches` and `open`."""


@dataclass(frozen=True)
class VectorKind:
    """A kind of source that is installed, not imported yet.

    Attributes:
        name: As in the prefix `name:where`.
        entry_point: The module or object.
        package: The distribution that brings it.
        version: Of that distribution.
    """

    name: str
    entry_point: EntryPoint
    package: str
    version: str

    def load(self) -> VectorSource:
        """Import it.

        Raises:
            VectorSourceError: it cannot be imported, or lacks one of the two functions.
        """
        try:
            found = self.entry_point.load()
            if not isinstance(found, VectorSource):
                raise TypeError(f"{self.entry_point.value} lacks `matches` or `open`")
        except (Exception, SystemExit) as error:  # a broken package must not break the others
            reason = " ".join(str(error).split()) or "no reason given"
            raise VectorSourceError(
                f"The vector source `{self.name}` of {self.package} is broken: {type(error).__name__}: {reason}",
                f"Everything else works without it; to remove it: pip uninstall {self.package}",
            ) from error
        return found


@functools.cache
def vector_kinds() -> tuple[VectorKind, ...]:
    """The kinds that are installed: sgdd's own, then those of other packages, each by name."""
    found: dict[str, VectorKind] = {}
    kinds = [
        VectorKind(point.name, point, point.dist.name, point.dist.version)
        if point.dist is not None
        else VectorKind(point.name, point, "an unknown package", "")
        for point in entry_points(group=GROUP)
    ]
    for kind in sorted(kinds, key=lambda kind: (kind.package != "sgdd", kind.name, kind.package)):
        found.setdefault(kind.name, kind)
    return tuple(found.values())


def open_vectors(source: str, options: ReadOptions | None = None) -> OpenSource:
    """Open what the user named.

    Args:
        source: A path or URL, which is opened by the first kind that knows it; or `kind:where`, which chooses the kind.
        options: Columns, rows, size of batches.

    Returns:
        The source; its notes include a sentence for each kind that is broken.

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
        return named.load().open(where, options)
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
        opened = found.open(str(source), options)
        return replace(opened, notes=(*broken, *opened.notes))
    raise _unknown(str(source), prefix if colon else "", kinds, broken)


def read_vectors(source: str, **options: Any) -> Iterator[VectorBatch]:  # noqa: ANN401 - the fields of ReadOptions
    """The vectors of a file or database, in batches and in constant memory.

    Example:
        >>> for batch in read_vectors("vectors.parquet", text_column="text", batch_rows=256):
        ...     model.generate(batch.vectors)  # [n, D] float32; batch.ids, batch.texts

    Args:
        source: As for `open_vectors`, which tells the name, the number of rows and notes as well.
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
    names = [kind.name for kind in kinds]
    near = difflib.get_close_matches(prefix, names, n=1) if prefix else []
    hints = [hint for endings, hint in _CONVERT.items() if source.lower().endswith(endings)]
    hints += [f"Did you mean {near[0]}:{source.partition(':')[2]}?"] if near else []
    hints.append(f"Kinds of sources: {', '.join(names)}; KIND:WHERE chooses one, as in jsonl:export.txt.")
    return VectorSourceError(
        f"`{source}` is no source of vectors that sgdd knows, or is not there.", "\n".join([*hints, *broken])
    )
