"""The signals that ask a process to stop, and work that finishes what it is doing when one comes."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

# The third one comes when a terminal is closed; Windows has none.
STOP_SIGNALS = tuple(number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGHUP"))

Handler = Callable[[int, FrameType | None], None]


def is_hangup(number: int) -> bool:
    """Whether a signal says that the terminal was closed, which the system and the shell may both say."""
    return signal.Signals(number).name == "SIGHUP"


def handle_stop_signals(handler: Handler) -> dict[int, Any]:
    """Have a function called for each signal that asks to stop; returns the handlers of before, by number.

    A hangup that is ignored stays ignored: so `nohup` starts what is to outlive its terminal.
    """
    return {
        number: signal.signal(number, handler)
        for number in STOP_SIGNALS
        if not (is_hangup(number) and signal.getsignal(number) == signal.SIG_IGN)
    }


class StopSignals:
    """While entered, the first of `STOP_SIGNALS` is remembered in `received` instead of ending the process.

    From then on the handlers of before are in force again, so a second signal ends the process as it usually would;
    only a second hangup does not, because a closed terminal sends several.

    Args:
        on_first: Called in the handler of the first signal, with its number.
    """

    def __init__(self, on_first: Callable[[int], None] | None = None) -> None:
        self.received: int | None = None
        self._on_first = on_first
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        # Python lets only the main thread set handlers; in another thread the embedding program's stay in force.
        if threading.current_thread() is threading.main_thread():
            self._previous = handle_stop_signals(self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        self.received = number
        self._restore()
        if is_hangup(number):
            self._previous = {number: signal.signal(number, signal.SIG_IGN)}
        if self._on_first is not None:
            self._on_first(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
