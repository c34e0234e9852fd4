"""Children of this process, which has loaded PyTorch already, that end themselves by SIGKILL at a given place."""

import json
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
from torch.distributed import TCPStore

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


def start_ranks(count: int, work: Callable[[int], object], pids: Path) -> int:
    """Start a child that starts ranks, as the launcher does, and waits for them; returns its number.

    It exits with 1 where a rank failed. A rank that is left stopped when another one has ended is killed.

    Args:
        count: How many ranks.
        work: What each does, given its rank.
        pids: The file that the ranks' process numbers are written to.
    """

    def launcher() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        address, port = listening.getsockname()
        os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        started = [fork(lambda rank=rank: one(rank, listening)) for rank in range(count)]
        # After the forks, which no thread of the store's may be running in.
        store = TCPStore(
            address, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )
        pids.write_text(json.dumps(started), encoding="utf-8")
        # In the order in which they end: the first one may have left another one standing.
        codes = [os.waitstatus_to_exitcode(os.wait()[1])]
        for rank in started:
            if psutil.pid_exists(rank) and psutil.Process(rank).status() == psutil.STATUS_STOPPED:
                os.kill(rank, signal.SIGKILL)
        codes += [os.waitstatus_to_exitcode(os.wait()[1]) for _ in started[1:]]
        del store  # it serves the ranks until they have ended
        assert not any(codes), codes

    def one(rank: int, listening: socket.socket) -> None:
        listening.close()  # the launcher's, which goes with it
        os.environ["RANK"] = str(rank)
        work(rank)

    return fork(launcher)


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
