"""Children of this process, which has loaded PyTorch already, that end themselves by SIGKILL at a given place."""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

KILLED = -signal.SIGKILL
# What the interpreter reports before it changes or opens a file.
FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate"}


def fork(work: Callable[[], object]) -> int:
    """Start a child that does the work and nothing else; returns its number. It exits with 1 after an error."""
    with warnings.catch_warnings():
        # The threads of pytest-xdist hold no lock that the child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    """The exit code of a child, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(work: Callable[[], object]) -> int:
    """The exit code of a child that did the work."""
    return wait(fork(work))


class FileEvents:
    """Counts what this process, with all its threads, does to files under a folder, and ends it before a given one.

    Args:
        folder: The folder.
        last: The number of the event, from 1, before which the process is killed; None only counts.
    """

    def __init__(self, folder: Path, last: int | None = None) -> None:
        self.count, self._folder, self._last = 0, str(folder), last
        sys.addaudithook(self._see)  # it cannot be taken away again: for children only

    def _see(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in FILE_EVENTS and str(arguments[0]).startswith(self._folder):
            self.count += 1
            if self.count == self._last:
                kill_self()


def kill_self() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


class Calls:
    """Counts the calls that this thread makes, and does something at a given one.

    Args:
        last: The number of the call, from 1, at which it is done; None only counts.
        strike: What is done.
    """

    def __init__(self, last: int | None = None, strike: Callable[[], None] = kill_self) -> None:
        self.count, self._last, self._strike = 0, last, strike
        sys.setprofile(self._see)

    def _see(self, _frame: object, event: str, _argument: object) -> None:
        if event.endswith("call"):
            self.count += 1
            if self.count == self._last:
                self._strike()
