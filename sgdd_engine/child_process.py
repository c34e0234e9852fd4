"""A command in a process of its own, which stops when this one is asked to, or is killed."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from sgdd_engine.stop_signals import StopSignals


def run_child(
    command: Sequence[str],
    *,
    on_start: Callable[[subprocess.Popen[Any]], None] | None = None,
    **options: Any,  # noqa: ANN401 - of Popen
) -> subprocess.CompletedProcess[Any]:
    """Run a command to its end. A signal that asks this process to stop is passed on, once, and waited for.

    Ctrl-C comes to a whole group of processes. So the command gets a group of its own: otherwise it would get the
    signal twice, and the second one ends at once what the first one has save. (Windows has no such groups; there the
    console alone tells it.)

    Signals come to the main thread alone: what runs a command in another one passes them on itself, with `tell`.

    Where this process is killed, which nothing can catch, Linux asks the command to stop; elsewhere it runs to its end.

    Args:
        command: The program and its arguments; it has no standard input.
        on_start: Called with the process once it runs.
        options: Of `subprocess.Popen`, such as `env` and `stdout`.

    Returns:
        What it printed to a pipe, and its exit code: 128 + n where this process got signal n, and -n where the command
        alone was ended by it.
    """
    child: subprocess.Popen[Any] | None = None

    def pass_on(number: int) -> None:
        if child is not None:
            tell(child, number)

    own_group: dict[str, Any] = {} if os.name == "nt" else {"process_group": 0}
    with (
        StopSignals(on_first=pass_on) as signals,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            # Between fork and exec one function of C is called, which was found before: no lock is waited for.
            preexec_fn=_end_with_parent(),  # noqa: PLW1509
            **own_group,
            **options,
        ) as started,
    ):
        child = started
        if signals.received:  # while it was started
            tell(child, signals.received)
        if on_start is not None:
            on_start(child)
        pausing = _Pausing(child)
        try:
            printed, _ = child.communicate()
        except BaseException:  # a second signal
            child.terminate()
            raise
        finally:
            pausing.end()
    code = 128 + signals.received if signals.received else child.returncode
    return subprocess.CompletedProcess(command, code, printed)


# Of <linux/prctl.h>: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> Callable[[], None] | None:
    """What a child calls before its program begins, to be asked to stop where this process ends; see prctl(2)."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def call() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # it has ended already
            os._exit(128 + signal.SIGTERM)

    return call


def tell(child: subprocess.Popen[Any], number: int) -> None:
    """Pass a signal on to a child that `run_child` started; Windows has a way for SIGTERM alone."""
    if os.name != "nt":
        child.send_signal(number)
    elif number == signal.SIGTERM:
        child.terminate()


class _Pausing:
    """Has Ctrl-Z stop and go on with a child too, which is in another group; in the main thread alone."""

    def __init__(self, child: subprocess.Popen[Any]) -> None:
        self._child = child
        self._is_set = os.name != "nt" and threading.current_thread() is threading.main_thread()
        self._before = signal.signal(signal.SIGTSTP, self._pause) if self._is_set else None

    def end(self) -> None:
        """Leave Ctrl-Z as it was."""
        if self._is_set:
            signal.signal(signal.SIGTSTP, self._before)

    def _pause(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        self._child.send_signal(signal.SIGSTOP)
        signal.raise_signal(signal.SIGSTOP)
        self._child.send_signal(signal.SIGCONT)
