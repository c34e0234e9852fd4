"""Commands run as processes of their own: how long they take, and how much memory they hold at most."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from sgdd_engine.benchmark.measurement import BenchmarkError

_SECONDS_BETWEEN_LOOKS = 0.02


def run_quietly(command: Sequence[str], folder: Path) -> None:
    """Run a command to its end, its output thrown away.

    Raises:
        BenchmarkError: it failed; the sentence ends with what it said last.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    _refuse_failure(command, done.returncode, done.stderr)


def peak_resident_bytes(command: Sequence[str], folder: Path) -> int:
    """The most memory that a command and its children held at once, by looking at them many times a second.

    Raises:
        BenchmarkError: it failed.
    """
    peak = 0
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            seen = psutil.Process(process.pid)
            while process.poll() is None:
                peak = max(peak, _resident(seen))
                try:
                    process.wait(_SECONDS_BETWEEN_LOOKS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        errors.seek(0)
        _refuse_failure(command, process.returncode, errors.read())
    return peak


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for part in (process, *process.children(recursive=True)):
            total += part.memory_info().rss
    except psutil.Error:  # one of them has just ended
        pass
    return total


def _refuse_failure(command: Sequence[str], code: int, said: bytes) -> None:
    if code:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        raise BenchmarkError(
            f"The command `{' '.join(command)}` failed with exit code {code}: {lines[-1] if lines else 'no message'}"
        )
