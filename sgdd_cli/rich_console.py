"""The one place where Rich's console is made ours."""

import sys

from rich.console import Console

from sgdd_cli.process_end import CliExit, discard


class PipeAwareConsole(Console):
    """A console that knows what a closed pipe means."""

    def on_broken_pipe(self) -> None:
        """Whoever read our output closed it: without a reader for data the command ends, without one for notes not."""
        discard(self.file)
        if self.file is sys.stdout:
            raise CliExit(0)
