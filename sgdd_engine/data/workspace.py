"""The corpus folder during preparation: lock, state file, refusal of other files, cleaning up."""

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import Timeout

from sgdd_engine.atomic_files import LOCK, exclusive_folder
from sgdd_engine.data.manifest import MANIFEST, SPLITS, STATISTICS, TOKENIZER, WORK
from sgdd_engine.errors import DataError

STATE = "state.json"
INPUT = "input"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Lock the folder for this process, and turn a full or read-only disk into a `DataError`.

    Raises:
        DataError: If the folder cannot be made or written, or another process holds it.
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
        except OSError as error:
            raise _disk_error(out, error) from error
        with disk_errors(out):
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
        raise _disk_error(out, error) from error


def read_state(out: Path) -> dict[str, Any]:
    """The state file of an unfinished preparation; empty if there is none."""
    try:
        state = json.loads((out / WORK / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def refuse_foreign(out: Path) -> None:
    """Raise `DataError` if the folder holds files that are not from a preparation."""
    if (out / MANIFEST).exists() or (out / WORK).exists():
        return
    if foreign := [path.name for path in out.iterdir() if path.name != LOCK]:
        raise DataError(
            f"`{out}` holds other files ({', '.join(sorted(foreign)[:3])}) and is not a prepared corpus.",
            "Choose an empty or new folder with --out.",
        )


def clear(out: Path, *, keep_input: bool = False) -> None:
    """Delete what a preparation wrote, and nothing else; the manifest first.

    Args:
        out: The corpus folder.
        keep_input: Keep the copy of an input stream that was just stored there.
    """
    (out / MANIFEST).unlink(missing_ok=True)
    for path in [out / STATISTICS, *(path for split in SPLITS for path in out.glob(f"{split}-*.arrow"))]:
        path.unlink(missing_ok=True)
    shutil.rmtree(out / TOKENIZER, ignore_errors=True)
    for path in (out / WORK).glob("*"):
        if path.is_file():
            path.unlink()
        elif not (keep_input and path.name == INPUT):
            shutil.rmtree(path)
    if not keep_input:
        shutil.rmtree(out / WORK, ignore_errors=True)


def _disk_error(out: Path, error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"The disk that holds `{out}` is full.",
            "Make room and run the same command again; it goes on where it stopped.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG):
        return DataError(f"`{out}` cannot be written: {error.strerror}.", "Choose another folder with --out.")
    return error
