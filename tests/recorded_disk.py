"""What a folder would be like after a kill or a power cut at every file operation of some work; and a full disk.

The functions of `os` and `io` by which files are changed are recorded for one folder, while the work itself runs to its
end. Before, in the middle of and after each of them, the state of the folder is kept:

- killed: what the system has been told so far;
- power cut, names kept: the same names, but a file has the content that was last forced to the disk, or none;
- power cut, names undone: as above, and a name is there only if its folder was forced to the disk since it was given.

Code that writes without Python (safetensors) counts as one operation, whose middle is half of its file.
"""

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from safetensors import SafetensorError

State = dict[str, bytes | None]
"""Path in the folder → content; None for a folder."""


class _File:
    def __init__(self) -> None:
        self.content = self.forced = b""


class _Folder:
    def __init__(self) -> None:
        self.entries: dict[str, _File | _Folder] = {}
        self.forced: dict[str, _File | _Folder] = {}


@dataclass
class RecordedDisk:
    """Records the folder `root`, which may not exist yet; its parent is on the disk.

    Attributes:
        root: The folder.
        room: Bytes that may still be written; None for a disk that is never full.
        points: How many states were looked at, by kind of interruption.
        states: Those that differ, with the first operation that each was seen at.
    """

    root: Path
    room: int | None = None
    points: Counter[str] = field(default_factory=Counter)
    states: dict[bytes, tuple[str, State]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._top = _Folder()
        self._lock = threading.RLock()
        self._real: dict[tuple[Any, str], Any] = {}
        if self.root.exists():
            self._top.entries[self.root.name] = self._top.forced[self.root.name] = _as_forced(self.root)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """While entered, what is done in the folder is recorded."""
        with pytest.MonkeyPatch.context() as patch:
            self._patch(patch)
            yield
        now = next(iter(self._states()))[1]
        assert now == state_of(self.root), "something was written past the record"

    def interrupted(self) -> list[tuple[str, State]]:
        """The states that differ, each with the operation that it was first seen at."""
        return list(self.states.values())

    # --- the states -------------------------------------------------------------------------------------------

    def _point(self, what: str) -> None:
        if self.room is not None:
            return
        for kind, state in self._states():
            self.points[kind] += 1
            key = digest(state)
            self.states.setdefault(key, (f"{kind}: {what}", state))

    def _states(self) -> Iterator[tuple[str, State]]:
        for kind, content, names in (
            ("killed", "content", "entries"),
            ("power cut, names kept", "forced", "entries"),
            ("power cut, names undone", "forced", "forced"),
        ):
            state: State = {}
            _collect(self._top, "", content, names, state)
            yield kind, state

    # --- the functions ----------------------------------------------------------------------------------------

    def _patch(self, patch: pytest.MonkeyPatch) -> None:
        def replace(where: Any, name: str, by: Any) -> None:
            self._real[where, name] = getattr(where, name)
            patch.setattr(where, name, by)

        for name in ("rename", "replace"):
            replace(os, name, self._moving(name, getattr(os, name)))
        for name in ("unlink", "remove", "rmdir", "mkdir"):
            replace(os, name, self._changing(name, getattr(os, name)))
        for name in ("chmod", "utime"):
            replace(os, name, self._touching(name, getattr(os, name)))
        replace(os, "open", self._opening(os.open))
        replace(os, "fsync", self._forcing(os.fsync))
        opening = self._opening_a_stream(io.open)
        replace(io, "open", opening)
        patch.setattr("builtins.open", opening)
        replace(safetensors.torch, "serialize_file", self._serialising(safetensors.torch.serialize_file))

    def _inside(self, path: Any, dir_fd: int | None = None) -> str | None:
        """The path from the parent of the root on; None for what is elsewhere."""
        if isinstance(path, int):
            path = _name_of(path)
        elif dir_fd is not None:
            path = _name_of(dir_fd) / os.fsdecode(path)
        path = Path.cwd() / os.fsdecode(path)
        return path.relative_to(self.root.parent).as_posix() if path.is_relative_to(self.root) else None

    def _folder_of(self, name: str) -> tuple[_Folder, str]:
        folder = self._top
        *parents, last = name.split("/")
        for part in parents:
            folder = folder.entries[part]  # type: ignore[assignment]
        return folder, last

    def _node(self, name: str) -> _File | _Folder:
        folder, last = self._folder_of(name)
        return folder.entries[last]

    def _moving(self, name: str, real: Callable[..., None]) -> Callable[..., None]:
        def move(source: Any, target: Any, **others: Any) -> None:
            old, new = self._inside(source), self._inside(target)
            if old is None and new is None:
                real(source, target, **others)
                return
            assert None not in (old, new), "what is moved stays in the folder"
            with self._lock:
                self._point(f"before {name} {old} {new}")
                real(source, target, **others)
                folder, last = self._folder_of(old)
                node = folder.entries.pop(last)
                folder, last = self._folder_of(new)
                folder.entries[last] = node
                self._point(f"after {name} {old} {new}")

        return move

    def _changing(self, name: str, real: Callable[..., None]) -> Callable[..., None]:
        def change(path: Any, *args: Any, dir_fd: int | None = None, **others: Any) -> None:
            given = {**others, **({} if dir_fd is None else {"dir_fd": dir_fd})}
            inside = self._inside(path, dir_fd)
            if inside is None:
                real(path, *args, **given)
                return
            with self._lock:
                if name == "mkdir":
                    self._need_room(path)
                self._point(f"before {name} {inside}")
                real(path, *args, **given)
                folder, last = self._folder_of(inside)
                if name == "mkdir":
                    folder.entries[last] = _Folder()
                else:
                    del folder.entries[last]
                self._point(f"after {name} {inside}")

        return change

    def _touching(self, name: str, real: Callable[..., None]) -> Callable[..., None]:
        def touch(path: Any, *args: Any, **others: Any) -> None:
            inside = self._inside(path, others.get("dir_fd"))
            if inside is not None:
                self._point(f"before {name} {inside}")
            real(path, *args, **others)

        return touch

    def _opening(self, real: Callable[..., int]) -> Callable[..., int]:
        def open_file(path: Any, flags: int, *args: Any, **others: Any) -> int:
            inside = self._inside(path, others.get("dir_fd"))
            if inside is None or not flags & (os.O_CREAT | os.O_TRUNC):
                return real(path, flags, *args, **others)
            with self._lock:
                self._before_creating(path, inside)
                descriptor = real(path, flags, *args, **others)
                self._created(inside, emptied=bool(flags & os.O_TRUNC))
                return descriptor

        return open_file

    def _before_creating(self, path: Any, inside: str) -> None:
        if not Path(path).exists():
            self._need_room(path)
        self._point(f"before open {inside}")

    def _created(self, inside: str, *, emptied: bool) -> None:
        folder, last = self._folder_of(inside)
        node = folder.entries.setdefault(last, _File())
        if emptied and isinstance(node, _File):
            node.content = b""
        self._point(f"after open {inside}")

    def _opening_a_stream(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def open_stream(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            inside = None if isinstance(file, int) else self._inside(file)
            if inside is None or not set(mode) & set("wax+"):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            with self._lock:
                if set(mode) & set("wax"):
                    self._before_creating(file, inside)
                raw = _RecordedFile(file, mode.replace("b", "").replace("t", ""))
                raw.attach(self, inside)
                if set(mode) & set("wax"):
                    self._created(inside, emptied="w" in mode)
            if buffering == 0:
                return raw
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return buffered
            text = io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)
            text.mode = mode  # type: ignore[misc]
            return text

        return open_stream

    def _written(self, descriptor: int, what: str) -> None:
        """A file has changed; its content is read again, by its present name."""
        inside = self._inside(descriptor)
        if inside is None or inside.endswith(" (deleted)"):
            return
        node = self._node(inside)
        assert isinstance(node, _File)
        node.content = _content(f"/proc/self/fd/{descriptor}")
        self._point(f"{what} {inside}")

    def _forcing(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def force(descriptor: int) -> None:
            inside = self._inside(descriptor)
            if inside is None:
                if _name_of(descriptor) == self.root.parent:
                    self._force(self._top)
                real(descriptor)
                return
            with self._lock:
                self._point(f"before fsync {inside}")
                real(descriptor)
                self._force(self._node(inside))
                self._point(f"after fsync {inside}")

        return force

    def _force(self, node: "_File | _Folder") -> None:
        if isinstance(node, _File):
            node.forced = node.content
            return
        before, node.forced = node.forced, dict(node.entries)
        # What was moved from one folder to another is in one of them.
        folders = list(_folders(self._top, "entries")) + list(_folders(self._top, "forced"))
        for moved in node.forced.values():
            for other in folders:
                for name, found in list(other.forced.items()):
                    if found is moved and other is not node and other.entries.get(name) is not moved:
                        del other.forced[name]
        for moved in before.values():
            if all(moved is not kept for kept in node.forced.values()):
                for other in folders:
                    for name, found in other.entries.items():
                        if found is moved:
                            other.forced[name] = moved

    def _serialising(self, real: Callable[..., None]) -> Callable[..., None]:
        def serialise(tensors: Any, path: Any, *args: Any, **others: Any) -> None:
            inside = self._inside(path)
            if inside is None:
                real(tensors, path, *args, **others)
                return
            with self._lock:
                self._point(f"before serialize {inside}")
                real(tensors, path, *args, **others)
                content = _content(path)
                node = _File()
                folder, last = self._folder_of(inside)
                folder.entries[last] = node
                if self.room is not None:
                    if len(content) > self.room:
                        os.truncate(path, self.room)
                        node.content, self.room = content[: self.room], 0
                        raise SafetensorError(
                            "Error while serializing: I/O error: No space left on device (os error 28)"
                        )
                    self.room -= len(content)
                node.content = content[: len(content) // 2]
                self._point(f"half of serialize {inside}")
                node.content = content
                self._point(f"after serialize {inside}")

        return serialise

    # --- a full disk ------------------------------------------------------------------------------------------

    def _need_room(self, path: Any) -> None:
        if self.room is None:
            return
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        self.room -= 1

    def _take(self, wanted: int) -> int:
        """How much of what is to be written has room.

        Raises:
            OSError: nothing has; as the system says it, without the name of a file.
        """
        if self.room is None or not wanted:
            return wanted
        taken = min(wanted, self.room)
        if taken == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= taken
        return taken


class _RecordedFile(io.FileIO):
    _disk: RecordedDisk

    def attach(self, disk: RecordedDisk, inside: str) -> None:
        self._disk, self._inside = disk, inside

    def write(self, data: Any, /) -> int:
        data = bytes(data)
        with self._disk._lock:
            data = data[: self._disk._take(len(data))]
            self._disk._point(f"before write {self._inside}")
            half = len(data) // 2
            for part, what in ((data[:half], "half of write"), (data[half:], "after write")):
                super().write(part)
                self._disk._written(self.fileno(), what)
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        with self._disk._lock:
            size = super().truncate(size)
            self._disk._written(self.fileno(), "after truncate")
        return size


def _name_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def _content(path: Any) -> bytes:
    descriptor = _OPEN(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


_OPEN = os.open


def _as_forced(path: Path) -> _File | _Folder:
    """What stands on the disk, as if all of it had been forced there."""
    if path.is_file():
        file = _File()
        file.content = file.forced = path.read_bytes()
        return file
    folder = _Folder()
    folder.entries = {child.name: _as_forced(child) for child in path.iterdir()}
    folder.forced = dict(folder.entries)
    return folder


def _folders(folder: _Folder, names: str) -> Iterator[_Folder]:
    yield folder
    for node in getattr(folder, names).values():
        if isinstance(node, _Folder):
            yield from _folders(node, names)


def _collect(folder: _Folder, above: str, content: str, names: str, state: State) -> None:
    for name, node in getattr(folder, names).items():
        if isinstance(node, _Folder):
            state[f"{above}{name}"] = None
            _collect(node, f"{above}{name}/", content, names, state)
        else:
            state[f"{above}{name}"] = getattr(node, content)


@cache
def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def digest(state: State) -> bytes:
    """The same for equal states."""
    joined = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        content = state[name]
        joined.update(name.encode() + b"\0" + (b"/" if content is None else _hash(content)))
    return joined.digest()


def state_of(root: Path) -> State:
    """What is in a folder now, with names from its parent on."""
    if not root.exists():
        return {}
    paths = [root, *root.rglob("*")]
    return {
        path.relative_to(root.parent).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in paths
    }


@cache
def ended_pid() -> int:
    """The id of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    done.wait()
    return done.pid


def restore(state: State, root: Path) -> None:
    """Make a folder what a state says, as if a process that has ended had left it."""
    shutil.rmtree(root, ignore_errors=True)
    own, dead = f".{os.getpid()}.", f".{ended_pid()}."
    for name, content in state.items():
        path = root.parent / name.replace(own, dead)
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
