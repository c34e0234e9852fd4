"""The picture of a terminal in README.md: runs two commands and draws what they print.

    python examples/terminal_picture.py --out .github/terminal.svg

The commands run without a terminal, where `--watch` prints every denoising step on a line of its own.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

COMMANDS = (
    'sgdd sample "A cold wind blew over the dark sea." --watch',
    'sgdd sample "It was a cold night, and the wind blew from the sea." -n 3 --temperature 0.7 --quiet',
)
WIDTH = 104
# Rich's frame asks a server for its font; without these rules the viewer's own monospaced font is taken.
FRAME = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def printed(command: str) -> str:
    """What a command prints, both streams in their order."""
    environment = {
        **os.environ,
        "COLUMNS": str(WIDTH),
        "NO_COLOR": "1",
        "SGDD_CHECKPOINT": "mini",
        "PYTHONUTF8": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "sgdd_cli", *shlex.split(command)[1:]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"`{command}` failed:\n{done.stdout}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".github/terminal.svg"))
    out = parser.parse_args().out
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(
            record=True, width=WIDTH, file=nowhere, color_system="truecolor", force_terminal=True
        )
        for command in COMMANDS:
            console.print(Text(f"$ {command}", style="bold green"))
            console.print(Text(printed(command)))
        out.write_text(
            console.export_svg(title="sgdd", code_format=FRAME, unique_id="sgdd"), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
