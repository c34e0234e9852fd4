"""What an uploaded file of the HTTP API holds: vectors, or texts."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from sgdd_engine.bounded_files import UnreadableError, parse_json
from sgdd_engine.data.cleaning import clean
from sgdd_engine.errors import DataError, VectorSourceError
from sgdd_engine.events import Event, Notice
from sgdd_engine.generation import SGDD, CheckedVectors
from sgdd_engine.vectors import OpenSource, ReadOptions, VectorBatch, open_vectors

CheckCount = Callable[[int], None]


@dataclass(frozen=True)
class FileRows:
    """What a file holds.

    Attributes:
        ids: Of the rows that can be read.
        numbers: Which rows of the file these are, from 0.
        sources: Their vectors [N, D], or their texts.
        notes: What was left out or changed, in sentences.
    """

    ids: Sequence[str]
    numbers: Sequence[int]
    sources: Tensor | list[str]
    notes: list[str] = field(default_factory=list)


def read_file(model: SGDD, name: str, content: bytes, check_count: CheckCount) -> FileRows:
    """The vectors of a file, or its texts, which are their own ids.

    Args:
        model: What reads them.
        name: Of the file; its ending tells the kind.
        content: Its bytes.
        check_count: Refuses a number of rows that is too large, or 0.

    Raises:
        SgddError: the file is of no kind that is read here, damaged, too long, or holds other vectors.
    """
    ending = Path(name).suffix.lower()
    if ending in ("", ".txt", ".json", ".jsonl"):
        text = _decoded(content)
        rows = _json_rows(text) or [line for line in text.splitlines() if clean(line)]
        if all(isinstance(row, str) and not _is_vector(row) for row in rows):
            check_count(len(rows))
            return FileRows(rows, range(len(rows)), rows)
        content = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()
        ending = ".jsonl"
    if ending not in (".npy", ".jsonl", ".csv"):
        raise VectorSourceError(
            f"A file of the kind `{ending}` is not read here.",
            "Give .npy, .json, .jsonl, .csv or .txt; `sgdd read` reads more.",
        )
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"uploaded{ending}"
        path.write_bytes(content)
        # One row to a batch, so that it is known which row was left out.
        options = ReadOptions(width=model.info.model.embedding_dim, batch_rows=1)
        try:
            found = _vectors_of(model, open_vectors(str(path), options), check_count)
        except VectorSourceError as error:
            error.message = error.message.replace(str(path), name or "text")
            raise
        notes = [note.replace(str(path), name or "text") for note in found.notes]
        return replace(found, notes=notes)


def _vectors_of(model: SGDD, opened: OpenSource, check_count: CheckCount) -> FileRows:
    ids: list[str] = []  # of all rows, by number
    numbers: list[int] = []
    vectors: list[Tensor] = []
    events: list[Event] = []

    def numbered() -> Iterator[VectorBatch]:
        """The rows under their numbers, by which notes name them too."""
        for batch in opened.batches:
            number = [str(len(ids))]
            ids.extend(batch.ids or batch.left_out)
            check_count(len(ids))
            yield replace(batch, ids=number) if batch.ids else replace(batch, left_out=number)

    # The worker alone uses the encoder, so nothing is encoded here to compare with.
    source = replace(opened, batches=numbered())
    for batch in CheckedVectors(model, source, assume_same=True, on_event=events.append):
        numbers += map(int, batch.ids)
        vectors.append(torch.from_numpy(batch.vectors))
    notes = messages_of(events)
    if not numbers:
        raise VectorSourceError("The file holds no vector that can be read.", " ".join(notes) or None)
    return FileRows([ids[number] for number in numbers], numbers, torch.cat(vectors), notes)


def messages_of(events: Iterable[Event]) -> list[str]:
    """What the engine noted."""
    return [event.message for event in events if isinstance(event, Notice)]


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("The file is not UTF-8 text.", "Save it as UTF-8, or give .npy or .csv.") from error


def _json_rows(text: str) -> list[Any] | None:
    """The rows of a JSON value: one vector, a list of rows, or an object with such a list; None for other text."""
    try:
        value = parse_json(text, "The file")
    except UnreadableError:
        return None
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list) and item]
        value = next((item for item in lists if isinstance(item[0], list | dict)), value)
    if not isinstance(value, list) or (value and isinstance(value[0], int | float)):
        return [value]
    return value


def _is_vector(line: str) -> bool:
    """Whether a line of text is a row of JSON, with a vector, or several numbers."""
    if line.lstrip()[:1] in ("[", "{"):
        try:
            return isinstance(parse_json(line, "The line"), list | dict)
        except UnreadableError:
            return False
    words = line.replace(",", " ").replace(";", " ").split()
    return len(words) > 1 and all(map(_is_number, words))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
