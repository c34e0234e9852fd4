"""`sgdd` in a fork of this process, which has loaded what it needs already."""

import os
import signal
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import fork_server

from sgdd_engine.stop_signals import STOP_SIGNALS


class ForkedCommand:
    """A command that runs.

    Args:
        arguments: Of `sgdd`; or of Python, where the first is `-m` or `-c`.
        folder: Where it runs.
        stdout: A descriptor. stderr: As well.
        ignoring: Signals that it ignores, as a shell or `nohup` may have it.
        environment: What else it finds there; settings of this process are left out.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        folder: Path,
        *,
        stdout: int,
        stderr: int,
        ignoring: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        fork_server.load()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}
        with warnings.catch_warnings():
            # Threads of libraries do not work for this process at that moment.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN if number in ignoring else signal.SIG_DFL)
            warnings.resetwarnings()
            fork_server.run(
                [os.open(os.devnull, os.O_RDONLY), stdout, stderr],
                ["-m", "sgdd_cli", *map(str, arguments)],
                str(folder),
                {**kept, **(environment or {})},
            )

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit code; -n where signal n ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
