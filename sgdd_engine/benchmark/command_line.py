"""`sgdd` as a process: what it costs to start, beside importing what it needs, and the memory that it holds."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psutil

from sgdd_engine.benchmark.context import BenchContext
from sgdd_engine.benchmark.measurement import BenchmarkError, Row, Timings
from sgdd_engine.checkpoint import Checkpoint, CheckpointInfo, save_checkpoint
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder import load_encoder
from sgdd_engine.text.tokenizer import TextTokenizer

# Often enough for work of seconds; a look takes a small part of a millisecond.
_SECONDS_BETWEEN_LOOKS = 0.02


def measure_command_line(bench: BenchContext) -> list[Row]:
    """The rows `help` and `sample-start`."""
    return [_help(bench), _sample(bench)]


def _help(bench: BenchContext) -> Row:
    timings = _race(bench, "sgdd --help", ["--help"], "import typer, rich")
    return Row.of_median(
        timings.ratios("command", "imports"),
        measure="help",
        title='`sgdd --help` against `python -c "import typer, rich"`',
        unit="×",
        goal=bench.goal(2.5),
        at_most=True,
        details=timings.details(),
    )


def _sample(bench: BenchContext) -> Row:
    checkpoint = write_small_checkpoint(bench.folder / "checkpoint", bench.tiny_encoder)
    # Without a search, whose calls would be counted as part of the start.
    options = ["--checkpoint", str(checkpoint), "--device", bench.device.type, "--search", "0"]
    timings = _race(
        bench,
        "sgdd sample",
        ["sample", "The old man opened the door.", *options],
        "import torch, transformers",
    )
    seconds = timings.seconds
    return Row.of_median(
        [command - imports for command, imports in zip(seconds["command"], seconds["imports"], strict=True)],
        measure="sample-start",
        title="`sgdd sample` with a small checkpoint, beyond `import torch, transformers`",
        unit="s",
        goal=bench.goal(1.0),
        at_most=True,
        details=timings.details(),
        note="The checkpoint and its encoder of one layer are the benchmark's own, with random weights.",
    )


def _race(bench: BenchContext, title: str, arguments: Sequence[str], imports: str) -> Timings:
    commands = {"command": [*bench.command, *arguments], "imports": [sys.executable, "-c", imports]}
    return bench.race(
        title, {name: [partial(run_quietly, line, bench.folder)] for name, line in commands.items()}
    )


def write_small_checkpoint(folder: Path, encoder_folder: Path) -> Path:
    """Write an untrained model of one block for the vectors of an encoder."""
    encoder = load_encoder(EncoderConfig(name=str(encoder_folder)))
    tokenizer = TextTokenizer.from_encoder(encoder)
    config = ModelConfig(
        embedding_dim=encoder.dim,
        max_tokens=32,
        vocabulary=tokenizer.vocabulary(),
        bottleneck=BottleneckConfig(kind="vib", latent_dim=16, hidden_dim=16),
        decoder=DecoderConfig(layers=1, width=32, heads=2),
    )
    info = CheckpointInfo(
        model=config, diffusion=DiffusionConfig(), encoder=encoder.reference, trained_null=True, step=0
    )
    save_checkpoint(folder, Checkpoint(info, SemanticDecoder(config).eval(), tokenizer))
    return folder


def run_quietly(command: Sequence[str], folder: Path) -> None:
    """Run a command to its end without its output.

    Raises:
        BenchmarkError: it failed; the sentence ends with the last line of its stderr.
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


def _resident_bytes(process: psutil.Process) -> int:
    """What a process and its children hold now."""
    family = (process, *process.children(recursive=True))
    return sum(member.memory_info().rss for member in family)


def peak_resident_bytes(command: Sequence[str], folder: Path) -> int:
    """The most memory that a command and its children held at once, by looking at them many times a second.

    Raises:
        BenchmarkError: it failed.
    """
    peak, quiet = 0, subprocess.DEVNULL
    with tempfile.TemporaryFile() as errors:
        with psutil.Popen(command, cwd=folder, stdin=quiet, stdout=quiet, stderr=errors) as process:
            try:
                while process.poll() is None:
                    with contextlib.suppress(psutil.Error):  # one of them has just ended
                        peak = max(peak, _resident_bytes(process))
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
            finally:
                if process.poll() is None:
                    process.terminate()
        errors.seek(0)
        _refuse_failure(command, process.returncode, errors.read())
    return peak


def _refuse_failure(command: Sequence[str], code: int, stderr: bytes) -> None:
    if code:
        lines = stderr.decode("utf-8", "replace").strip().splitlines()
        last = lines[-1] if lines else "no message"
        raise BenchmarkError(f"The command `{' '.join(command)}` failed with exit code {code}: {last}")
