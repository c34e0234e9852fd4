"""Memory, order and speed of a stream of text: pipes N lines into `sgdd sample - --json` and reads what comes back.

    python examples/million_lines.py --lines 5000 --steps 1

Every hundredth line is not UTF-8. It is reported with its number, and all others come back in their order. With
6,000 lines on a shared two-core CPU the process took 500 MB after 600 lines, 538 MB after 2,400 and 545 MB at the end;
a million lines take hours.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO

import psutil

from sgdd_engine.mini import SENTENCES

BAD_EVERY = 100


def is_bad(number: int) -> bool:
    """Whether a line, numbered from 1, is one that cannot be read."""
    return number % BAD_EVERY == 0


def feed(stream: IO[bytes], count: int) -> None:
    """Write so many lines, each with its number in it."""
    known = SENTENCES.read_text(encoding="utf-8").splitlines()
    with stream:
        for number in range(1, count + 1):
            text = f"{known[number % len(known)]} {number}\n".encode()
            stream.write(b"caf\xe9 " + text if is_bad(number) else text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=16, help="denoising steps")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "sgdd_cli", "sample", "-", "--json", "--checkpoint", "mini"]
    command += ["--steps", str(arguments.steps)]
    with tempfile.TemporaryFile() as messages:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            threading.Thread(target=feed, args=(process.stdin, arguments.lines), daemon=True).start()
            report(process.pid, process.stdout, arguments.lines)
        messages.seek(0)
        named = sum(b"has the byte" in line for line in messages)
    print(
        f"{named:,} bad lines were named, of {arguments.lines // BAD_EVERY:,}; exit code {process.returncode}"
    )


def report(pid: int, lines: IO[bytes], count: int) -> None:
    """Check the order of what comes back; print ten times how far it came, how fast, and how much memory it takes."""
    child, began, shown = psutil.Process(pid), time.perf_counter(), 0
    expected = (number for number in range(1, count + 1) if not is_bad(number))
    for number, line in zip(expected, lines, strict=True):
        source = json.loads(line)["source"]
        if int(source.rsplit(maxsplit=1)[1]) != number:
            raise SystemExit(f"Line {number} was expected, and this came: {source}")
        if number * 10 // count > shown:
            shown = number * 10 // count
            speed = number / (time.perf_counter() - began)
            print(
                f"{number:>9,} lines  {speed:>7,.0f} lines/s  {child.memory_info().rss / 1e6:>7,.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
