"""Files that are either whole or not there: written aside, flushed, renamed last, verified when read."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sgdd_engine.errors import SgddError

MANIFEST = "files.json"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex; read in small blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(value: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object, in hex, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def flush(path: Path) -> None:
    """Force a closed file's content to the disk."""
    # Windows refuses to do this through a descriptor that was opened for reading only.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, where the system can (Windows cannot)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(temporary: Path, final: Path) -> None:
    """Give a complete file its final name: a crash leaves the old file or the new one, never half of one.

    Args:
        temporary: A closed file on the same file system as `final`.
        final: The name that readers know; an older file of that name is replaced.
    """
    flush(temporary)
    temporary.replace(final)
    flush_folder(final.parent)


def check_writable(path: Path, hint: str, *, folder: bool = False) -> None:
    """Check, before long work, that its result can be written; an older file stays as it is.

    The folder around it is made, and an empty file is written there and removed.

    Args:
        path: The file or folder to be written.
        hint: What to do where it cannot be.
        folder: Whether it is a folder.

    Raises:
        SgddError: `path` is a folder, or no file can be written there.
    """
    try:
        if path.is_dir() and not folder:
            raise SgddError(f"`{path}` is a folder.", hint)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _aside(path)
        aside.touch()
        aside.unlink()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise SgddError(f"`{path}` cannot be written: {reason}.", hint) from error


def _aside(path: Path) -> Path:
    """The temporary file beside a file that is being written."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file that is whole under its name or not there."""
    aside = _aside(path)
    try:
        aside.write_bytes(data)
        publish(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file that is whole under its name or not there."""
    write_bytes(path, text.encode())


def as_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """The text of a JSON file, readable by people."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - as above
    """Write a JSON file that is whole under its name or not there, readable by people."""
    write_text(path, as_json(value))


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder that is whole under its name or not there.

    Args:
        folder: The final name; what stands there is replaced once the new one is complete.
        fill: Writes the files into the folder it is given.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        fill(aside)
        seal(aside)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            try:
                aside.rename(folder)
            except OSError:
                old.rename(folder)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    flush_folder(folder.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder that readers know by name: a crash leaves all of it or nothing under that name.

    A folder that is in use (Windows does not let go of open files) stays as it is.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        folder.rename(aside)
    except OSError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(place: Path, names: str) -> None:
    """Remove what killed processes left half-written or half-removed; nobody else may be writing there.

    Args:
        place: The folder to look in.
        names: Pattern of the final names, such as `step-*`.
    """
    for left in [*place.glob(f".{names}.*.tmp"), *place.glob(f".{names}.*.old")]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def seal(folder: Path) -> None:
    """Flush every file of a folder and write their hashes into `files.json`, last."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    for path in files:
        # safetensors leaves its files readable by their owner alone.
        path.chmod(0o644)
        flush(path)
    for path in folder.rglob("*"):
        if path.is_dir():
            flush_folder(path)
    hashes = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    write_json(folder / MANIFEST, hashes)


def replace_file(folder: Path, name: str, text: str) -> None:
    """Change one text file of a sealed folder; a crash leaves a folder that verifies, with the old file or the new.

    Two files cannot change at once, so between the two writes the manifest accepts both contents.

    Args:
        folder: A folder that `write_folder` made; the file must be sound, for whatever stands there is accepted.
        name: Its path in the folder.
        text: The new content.
    """
    hashes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    new = hashlib.sha256(text.encode()).hexdigest()
    write_json(folder / MANIFEST, {**hashes, name: [sha256_of(folder / name), new]})
    write_text(folder / name, text)
    write_json(folder / MANIFEST, {**hashes, name: new})


def damage(folder: Path, under: str | tuple[str, ...] = "") -> str | None:
    """What is wrong with a sealed folder, or None.

    Args:
        folder: A folder that `write_folder` made.
        under: Check only files whose relative path starts with this, or with one of these; empty checks all.

    Returns:
        A clause such as "`model.safetensors` is damaged".
    """
    try:
        hashes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"`{MANIFEST}` is missing"
    except (OSError, ValueError):
        return f"`{MANIFEST}` is damaged"
    if not isinstance(hashes, dict):
        return f"`{MANIFEST}` is damaged"
    for name, expected in hashes.items():
        if not name.startswith(under):
            continue
        path = folder / name
        if not path.is_file():
            return f"`{name}` is missing"
        # Two hashes stand where `replace_file` was interrupted.
        if sha256_of(path) not in (expected if isinstance(expected, list) else [expected]):
            return f"`{name}` is damaged"
    return None
