"""Files and folders that are either complete or not there, and the lock of a folder that one process writes.

What is written stands beside its final name `NAME` until it is complete. A process that is killed may leave

- `.NAME.PID.tmp`: half written;
- `.NAME.PID.old`: a folder whose replacement was about to get its name;
- `.NAME.PID.gone`: a folder that was being removed.

Whoever writes the same name next clears these up, if the process has ended, and so does `remove_leftovers`; a folder of
the second kind gets its name back if nothing stands there.
"""

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sgdd_engine.bounded_files import (
    UnreadableError,
    open_regular,
    read_json_object,
    require_text_name,
    shortened,
)
from sgdd_engine.errors import SgddError

# The hashes of a folder's files.
HASHES = "files.json"
LOCK = ".lock"
# Seconds in which a lock that `is_locked` holds for a moment is given up.
_PATIENCE = 0.1
_SHA256 = re.compile("[0-9a-f]{64}")
# Seconds in which who waits for another process gets the lock: it writes a few small files.
_WHILE_RECORDING = 30.0
# Seconds by which the clock of files and the clock of processes may differ.
_CLOCKS_DIFFER = 60.0
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.(?P<state>tmp|old|gone)")
# Names by which the system gives a process its own open files, which may be files on a disk.
_OPEN_FILE = re.compile(r"/dev/(std(in|out|err)|fd/\d+)|/proc/[^/]+/fd/\d+")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex; read in small blocks."""
    with open_regular(path) as file:
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


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, which a power cut then leaves there."""
    require_text_name(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        flush_folder(path.parent)


@contextmanager
def naming(path: Path, aside: Path) -> Iterator[None]:
    """Have errors of the system name what was to be written: that of a full disk names nothing, others the file aside.

    Raises:
        OSError: as within, with `path` or a file in it.
    """
    try:
        yield
    except OSError as error:
        named = aside if error.filename is None else Path(os.fsdecode(error.filename))
        if error.errno is not None and named.is_relative_to(aside):
            error.filename = str(path / named.relative_to(aside))
        raise


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
    require_text_name(path)
    if folder:
        _require_replaceable(path, hint)
    elif is_stream(path):
        if not os.access(path, os.W_OK):
            raise SgddError(f"`{path}` cannot be written: permission denied.", hint)
        return
    try:
        if path.is_dir() and not folder:
            raise SgddError(f"`{path}` is a folder.", hint)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, re.escape(path.name))
        aside = _aside(path, "tmp")
        aside.touch()
        aside.unlink()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise SgddError(f"`{path}` cannot be written: {reason}.", hint) from error


def is_stream(path: Path) -> bool:
    """Whether a path is a pipe, a device or an open file of a process: it is written into, and never replaced."""
    try:
        kind = path.stat().st_mode
    except OSError:
        return False
    is_open = _OPEN_FILE.fullmatch(path.absolute().as_posix()) is not None
    return not stat.S_ISDIR(kind) and (is_open or not stat.S_ISREG(kind))


def _require_replaceable(folder: Path, hint: str) -> None:
    """Check that a folder is not the one that this process, or the shell before it, works in, nor above that.

    Raises:
        SgddError: it is.
    """
    try:
        here = Path.cwd()
    except OSError:  # somebody has removed it
        return
    if here.is_relative_to(folder.resolve()):
        raise SgddError(
            f"`{folder}` is the folder that you are in, or above it: it cannot be replaced.", hint
        )


def _aside(path: Path, state: str) -> Path:
    """The name beside `path` that this process uses: `tmp`, `old` or `gone`; see the module."""
    return path.with_name(f".{path.name}.{os.getpid()}.{state}")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file that is complete under its name or not there; into a pipe or a device, straight away."""
    if is_stream(path):
        # Behind what stands there: standard output may be a file, with lines of this command.
        with path.open("ab") as file:
            file.write(data)
        return
    remove_leftovers(path.parent, re.escape(path.name))
    aside = _aside(path, "tmp")
    with naming(path, aside):
        try:
            aside.write_bytes(data)
            publish(aside, path)
        finally:
            aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file that is complete under its name or not there."""
    write_bytes(path, text.encode())


def as_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """The indented text of a JSON file."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - as above
    """Write an indented JSON file that is complete under its name or not there."""
    write_text(path, as_json(value))


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder that is complete under its name or not there, with the hashes of its files in `files.json`.

    Args:
        folder: The final name; what stands there is replaced once the new one is complete.
        fill: Writes the files into the folder it is given.

    Raises:
        SgddError: it is the folder that this process works in, or above it.
    """
    _require_replaceable(folder, "Name another folder.")
    make_folder(folder.parent)
    # What an earlier attempt moved aside may be the only content there is.
    remove_leftovers(folder.parent, re.escape(folder.name))
    aside = _aside(folder, "tmp")
    shutil.rmtree(aside, ignore_errors=True)
    with naming(folder, aside):
        try:
            aside.mkdir()
            fill(aside)
            seal(aside)
            if folder.exists():
                _replace(folder, aside)
            else:
                aside.rename(folder)
                flush_folder(folder.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _replace(folder: Path, new: Path) -> None:
    old = _aside(folder, "old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    flush_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder: after a crash all of it stands under its name, or nothing.

    A folder that is in use (Windows does not let go of open files) stays as it is.
    """
    aside = _aside(folder, "gone")
    try:
        folder.rename(aside)
    except OSError:
        return
    flush_folder(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(parent: Path, name: str = ".+", *, locked: bool = False) -> None:
    """Clear up what killed processes left of files and folders of a name; those of processes that live stay.

    What was half written or half removed goes. A folder that was moved aside to be replaced gets its name back if
    nothing stands there.

    Args:
        parent: The folder to look in; it may be missing.
        name: Regular expression that a whole final name matches, such as `step-[0-9]+`; by default any.
        locked: This process holds the lock under which such names are written: whoever began them has ended.
    """
    for path, final, state, pid in _leftovers(parent, name):
        if state == "old" and not final.exists():
            path.rename(final)
        elif not (locked or _has_ended(pid, path)):
            continue
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _leftovers(parent: Path, name: str) -> list[tuple[Path, Path, str, int]]:
    """(leftover, final name, `tmp`, `old` or `gone`, process) for the final names that match."""
    found = [_LEFTOVER.fullmatch(path.name) for path in parent.iterdir()] if parent.is_dir() else []
    return [
        (parent / match[0], parent / match["name"], match["state"], int(match["pid"]))
        for match in found
        if match and re.fullmatch(name, match["name"])
    ]


def _has_ended(pid: int, leftover: Path) -> bool:
    """Whether the process that left something has ended; its number may be that of a later process by now."""
    import psutil  # noqa: PLC0415 - leftovers are rare

    if pid == os.getpid():  # which is writing nothing now: it was another one, as containers number them
        return True
    with suppress(psutil.AccessDenied, OSError):
        try:
            return psutil.Process(pid).create_time() > leftover.stat().st_ctime + _CLOCKS_DIFFER
        except psutil.NoSuchProcess:
            return True
    return False


@contextmanager
def exclusive_folder(folder: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """While entered, `folder` exists and this process alone holds its lock; folders made for it go if still empty.

    The lock file is removed while the lock is held. A process that has opened the file meanwhile finds, once it gets
    the lock, that its file has no name any more, and asks again (filelock 3.25 and later). Removed after the lock was
    given up, it could be the file that the next process has just locked, and a third one would lock a new file.

    Args:
        folder: The folder.
        patience: Seconds to wait for a process that holds the lock.

    Raises:
        filelock.Timeout: another process holds the lock.
        OSError: the folder cannot be made or written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with _locked(folder, patience):
            yield
    finally:
        with suppress(OSError):  # not empty
            for path in made:
                path.rmdir()


@contextmanager
def _locked(folder: Path, patience: float) -> Iterator[None]:
    lock = FileLock(folder / LOCK)
    make_folder(folder)
    try:
        lock.acquire(timeout=patience, poll_interval=_PATIENCE / 10)
    except FileNotFoundError:
        # The process that held the lock removed the folder, which had stayed empty, at this very moment.
        make_folder(folder)
        lock.acquire(timeout=patience, poll_interval=_PATIENCE / 10)
    try:
        yield
    finally:
        if os.name == "nt":  # where no open file is removed, and so none that another process has locked
            lock.release()
        with suppress(OSError):
            (folder / LOCK).unlink()
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of `exclusive_folder`; False where this may not be asked."""
    if not (folder / LOCK).is_file():
        return False
    lock = FileLock(folder / LOCK)
    try:
        # Held for a moment where its process was killed; who waits for it in that moment asks again.
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def seal(folder: Path) -> None:
    """Flush every file of a folder and write their hashes into `files.json`, last."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != HASHES)
    for path in files:
        # safetensors leaves its files readable by their owner alone.
        path.chmod(0o644)
        flush(path)
    for path in folder.rglob("*"):
        if path.is_dir():
            flush_folder(path)
    hashes = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    write_json(folder / HASHES, hashes)


def change_file(folder: Path, name: str, change: Callable[[], str]) -> None:
    """Change one text file of a sealed folder; after a crash it verifies, with the old file or the new one.

    Processes that do so at once take turns. Two files cannot change at once, so between the two writes `files.json`
    accepts both contents.

    Args:
        folder: A folder that `write_folder` made; the file must be undamaged, since its content is accepted as it is.
        name: Its path in the folder.
        change: Reads what stands there and gives the new content; no other process writes meanwhile.

    Raises:
        filelock.Timeout: another process is writing it, and does not end.
    """
    with exclusive_folder(folder, _WHILE_RECORDING):
        remove_leftovers(folder, locked=True)
        text = change()
        hashes = read_json_object(folder / HASHES)
        new = hashlib.sha256(text.encode()).hexdigest()
        write_json(folder / HASHES, {**hashes, name: [sha256_of(folder / name), new]})
        write_text(folder / name, text)
        write_json(folder / HASHES, {**hashes, name: new})


def damage(folder: Path, under: str | tuple[str, ...] = "") -> str | None:
    """What is wrong with a sealed folder, or None.

    Args:
        folder: A folder that `write_folder` made.
        under: Check only files whose relative path starts with this, or with one of these; empty checks all.

    Returns:
        A clause such as "`model.safetensors` is damaged".
    """
    try:
        hashes = read_json_object(folder / HASHES)
    except UnreadableError as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        return f"`{HASHES}` is {'missing' if missing else f'damaged ({error.reason})'}"
    for name, expected in hashes.items():
        # Two hashes stand where `replace_file` was interrupted.
        accepted = expected if isinstance(expected, list) else [expected]
        if not (accepted and all(isinstance(one, str) and _SHA256.fullmatch(one) for one in accepted)):
            return f"`{HASHES}` is damaged (it has no SHA-256 of `{shortened(name)}`)"
        if not is_inside(name):
            return f"`{HASHES}` names a file outside of the folder, `{shortened(name)}`"
        if name.startswith(under) and (problem := _file_problem(folder / name, accepted)):
            return f"`{shortened(name)}` {problem}"
    return None


def _file_problem(path: Path, accepted: Sequence[str]) -> str | None:
    """What is wrong with a file of a sealed folder, as the rest of a clause; None if it has one of the hashes."""
    try:
        return None if sha256_of(path) in accepted else "is damaged"
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except UnreadableError as error:
        return f"cannot be read ({error.reason})"
    except UnicodeEncodeError:
        return "is not the name of a file"
    except OSError as error:  # as for a name that is too long for the system
        return f"cannot be read ({(error.strerror or type(error).__name__).lower()})"


def is_inside(name: str) -> bool:
    """Whether a name in a list of files is a path inside their folder, on every system."""
    return bool(name) and not re.search(r"^/|^[A-Za-z]:|\\|\0|(^|/)\.{0,2}(/|$)", name)
