"""The corpus folder during preparation: lock, state, what determines its content, cleaning up."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import Timeout

from sgdd_engine.atomic_files import LOCK, exclusive_folder, flush_folder
from sgdd_engine.bounded_files import UnreadableError, read_json_object
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.manifest import MANIFEST, SPLITS, STATISTICS, TOKENIZER, WORK, Manifest, identity
from sgdd_engine.errors import DataError
from sgdd_engine.text.config import TokenizerConfig
from sgdd_engine.text.reference import EncoderReference

STATE = "state.json"
INPUT = "input"

# Held as JSON values, so that a stored specification compares equal to a new one.
PreparationSpec = dict[str, Any]


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Lock the folder for this process.

    Raises:
        DataError: If it is a file, or another process holds it.
        OSError: If it cannot be made or written.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"`{out}` is a file.", "Choose another folder with --out.")
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive_folder(out))
        except Timeout as error:
            raise DataError(
                f"`{out}` is being prepared by another process.", "Wait for it, or choose another --out."
            ) from error
        yield


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a `DataError`.

    Raises:
        DataError: Instead of such an `OSError`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"The disk that holds `{out}` is full.",
                "Make room and run the same command again; it goes on where it stopped.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise DataError(
                f"`{out}` cannot be written: {error.strerror}.", "Choose another folder with --out."
            ) from error
        raise


def read_state(out: Path) -> dict[str, Any]:
    """The state file of an unfinished preparation; empty if there is none.

    Raises:
        DataError: If there is one that cannot be read: what was prepared beside it may be hours of work.
    """
    if not os.path.lexists(out / WORK / STATE):
        return {}
    try:
        return read_json_object(out / WORK / STATE)
    except UnreadableError as error:
        raise DataError(
            error.message, "Make it readable, or start this corpus from the beginning with --overwrite."
        ) from error


def is_lost(out: Path) -> bool:
    """Whether what was prepared is of no use any more: an unfinished first pass, which cannot be resumed."""
    try:
        return not read_state(out).get("staged")
    except DataError:
        return False  # nobody knows, and it is left to the user


def refuse_foreign(out: Path) -> None:
    """Raise `DataError` if the folder holds files that are not from a preparation."""
    if (out / MANIFEST).exists() or (out / WORK).exists():
        return
    if foreign := [path.name for path in out.iterdir() if path.name != LOCK]:
        raise DataError(
            f"`{out}` holds other files ({', '.join(sorted(foreign)[:3])}) and is not a prepared corpus.",
            "Choose an empty or new folder with --out.",
        )


def clear_results(out: Path) -> None:
    """Delete the corpus that a preparation wrote, and nothing else; the manifest first."""
    (out / MANIFEST).unlink(missing_ok=True)
    flush_folder(out)  # never an old manifest beside new shards
    for path in [out / STATISTICS, *(path for split in SPLITS for path in out.glob(f"{split}-*.arrow"))]:
        path.unlink(missing_ok=True)
    shutil.rmtree(out / TOKENIZER, ignore_errors=True)


def clear_work(out: Path) -> None:
    """Delete what an unfinished preparation left, but for the copy of an input stream that was just stored there."""
    for path in (out / WORK).glob("*"):
        if path.is_file():
            path.unlink()
        elif path.name != INPUT:
            shutil.rmtree(path)


def make_spec(
    source: Mapping[str, Any], encoder: EncoderReference, tokenizer: TokenizerConfig, config: DataConfig
) -> PreparationSpec:
    """Everything that determines the content of a corpus; equal specifications give equal shards.

    `data.vectors_from` is no part of it: it changes the time that preparation takes, not the content.
    """
    pieces: dict[str, Any] = {"kind": tokenizer.kind}
    if tokenizer.kind == "unigram":
        pieces["vocab_size"] = tokenizer.vocab_size
    data = asdict(config)
    del data["vectors_from"]
    spec: PreparationSpec = json.loads(
        json.dumps({"source": source, "encoder": encoder.to_dict(), "tokenizer": pieces, "data": data})
    )
    return spec


def spec_of(manifest: Manifest) -> PreparationSpec:
    """The specification of a finished corpus."""
    return {
        "source": manifest.source,
        "encoder": manifest.encoder,
        "tokenizer": manifest.tokenizer["asked"],
        "data": manifest.settings,
    }


def refuse_differences(out: Path, recorded: PreparationSpec, spec: PreparationSpec) -> None:
    """Raise `DataError`, naming what differs, unless both specifications give the same corpus."""
    differences = [
        *_differences_of_encoders(recorded.get("encoder", {}), spec["encoder"]),
        *_differences(_comparable(recorded), _comparable(spec)),
    ]
    if differences:
        raise DataError(
            f"`{out}` was prepared in another way: {'; '.join(differences[:4])}.",
            "Repeat the earlier settings, choose another folder with --out, or start from the beginning with "
            "--overwrite.",
        )


def _comparable(spec: PreparationSpec) -> PreparationSpec:
    parts = identity({key: spec.get(key, {}) for key in ("source", "encoder", "tokenizer", "data")})
    del parts["encoder"]
    return parts


def _differences_of_encoders(old: PreparationSpec, new: PreparationSpec) -> Iterator[str]:
    before, now = EncoderReference.from_dict(old), EncoderReference.from_dict(new)
    if different := now.differences(before):
        yield f"with the encoder {before.name}, and {now.name} is another: {'; '.join(different)}"
    yield from _differences(before.dtype, now.dtype, "encoder.dtype")


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON values
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, now) in enumerate(zip(old, new, strict=True)):
            label = before.get("path", number) if isinstance(before, dict) else number
            yield from _differences(before, now, f"{name} {label}")
    elif old != new:
        yield f"{name} was {_short(old)} and is now {_short(new)}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:36] + "…"
