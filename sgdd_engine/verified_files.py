"""Whether files have the SHA-256 that is recorded of them. What was found is remembered for a day, as are other checks.

A file is read again where anything of it has changed: its device, inode, size, or the times of the last change of its
content and of its entry, which no program can set back. What was remembered only saves reading a file that is intact;
that one is damaged is never taken from memory.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SECONDS_REMEMBERED = 24 * 60 * 60.0
# A file that is written twice within the resolution of its times looks as if it had been written once; FAT's is the
# coarsest. A file that was changed so recently is not remembered.
_RESOLUTION_SECONDS = 2.0
# About 150 bytes each; corpora have one file for 4,096 sentences or more.
_MOST_REMEMBERED = 10_000
# Of what `check` looks at: with another number nothing is remembered from before.
_CHECKS = 1
_PASSED = "passed"


class _Memory:
    """SHA-256 of files by what tells one from another, in this process and, where a folder is named, on disk."""

    def __init__(self) -> None:
        self._file: Path | None = None
        self._found: dict[str, tuple[str, float]] | None = None

    def keep_in(self, folder: Path | None) -> None:
        """Begin anew with what that folder holds."""
        self._file = None if folder is None else folder / f"verified-{_CHECKS}.json"
        self._found = None

    def knows(self, key: str, sha256: str) -> bool:
        """Whether this was found within the last day."""
        found, when = self._all().get(key, ("", 0.0))
        return found == sha256 and 0 <= time.time() - when <= SECONDS_REMEMBERED

    def add(self, key: str, sha256: str) -> None:
        """Remember, and forget what is older than a day; a disk that cannot be written is no matter."""
        now = time.time()
        if self._file is not None:
            self._found = None  # other processes may have added to the file
        fresh = {
            name: (found, when)
            for name, (found, when) in self._all().items()
            if 0 <= now - when <= SECONDS_REMEMBERED
        }
        fresh.pop(key, None)
        self._found = dict([*fresh.items(), (key, (sha256, now))][-_MOST_REMEMBERED:])
        if self._file is None:
            return
        aside = self._file.with_name(f".{self._file.name}.{os.getpid()}.tmp")
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # Not flushed to the disk: after a power cut it may be gone or half, and then files are read again.
            aside.write_text(json.dumps(self._found), encoding="utf-8")
            aside.replace(self._file)

    def _all(self) -> dict[str, tuple[str, float]]:
        if self._found is None:
            self._found = {}
            with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
                if self._file is not None:
                    read = json.loads(self._file.read_text(encoding="utf-8"))
                    self._found = {key: (str(one), float(when)) for key, (one, when) in read.items()}
        return self._found


_memory = _Memory()


def remember_in(folder: Path | None) -> None:
    """Keep what is found in a folder for other processes; with None, and at first, for this process alone."""
    _memory.keep_in(folder)


def has_passed(check: str) -> bool:
    """Whether `note_passed` was called within the last day for the same check: a text that names all it depends on."""
    return _memory.knows(check, _PASSED)


def note_passed(check: str) -> None:
    """Remember that a check passed which takes longer than it takes to name what it depends on."""
    _memory.add(check, _PASSED)


def is_remembered(path: Path, sha256: str) -> bool:
    """Whether `is_intact` would answer without reading the file.

    Raises:
        OSError: It is not there.
    """
    return _memory.knows(_key(path.stat()), sha256)


def is_intact(
    path: Path, sha256: str, check: Callable[[], object] | None = None, *, again: bool = False
) -> bool:
    """Whether a file has this SHA-256; it is read unless that was found before.

    Args:
        path: The file.
        sha256: In hex.
        check: Looks at the content of an intact file where it was read; what it raises is passed on, and then the file
            is not remembered.
        again: Read it in any case.

    Raises:
        OSError: It cannot be read.
    """
    if not again and is_remembered(path, sha256):
        return True
    from hashlib import file_digest  # noqa: PLC0415 - takes longer to load than all else here; `sgdd --help` need not

    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        found = file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if found != sha256:
        return False
    if check is not None:
        check()
    settled = time.time() - max(after.st_mtime, after.st_ctime) > _RESOLUTION_SECONDS
    if settled and _key(before) == _key(after):
        _memory.add(_key(after), sha256)
    return True


def _key(known: os.stat_result) -> str:
    parts = (known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns)
    return ":".join(map(str, parts))
