"""What differs between systems in what users write and read: paths, drive letters, URLs, quoting."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
# A scheme has at least two letters here: `C://` is a drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file; with any ending too.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def last_part(path: str) -> str:
    """The name that a path ends with, on whichever system it was written."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def expanded(path: str | Path) -> Path:
    """A path with the home folder in the place of `~` and `~user`; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_url(text: str) -> bool:
    """Whether a text begins with a scheme and `://`; a Windows drive is none."""
    return _URL.match(text) is not None


def split_name(text: str) -> list[str]:
    """The parts of `name:part:part`, where the name may be a Windows path: its drive keeps its colon."""
    drive = _DRIVE.match(text)
    start = 0 if drive is None else drive.end()
    name, *parts = text[start:].split(":")
    return [text[:start] + name, *parts]


def is_reserved(name: str) -> bool:
    """Whether Windows keeps a file or folder name for a device, such as `aux` and `nul.txt`."""
    return _RESERVED.fullmatch(name) is not None


def shell_line(words: Iterable[Any], *, windows: bool = os.name == "nt") -> str:
    """Words as a line for the shell of this system: cmd.exe and PowerShell both take double quotes."""
    texts = list(map(str, words))
    return subprocess.list2cmdline(texts) if windows else shlex.join(texts)
