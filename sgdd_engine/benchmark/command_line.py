"""What the command line costs to start, beside importing what it needs."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from sgdd_engine.benchmark.clock import race, ratios
from sgdd_engine.benchmark.context import Workbench
from sgdd_engine.benchmark.measurement import Row, spread
from sgdd_engine.benchmark.processes import run_quietly
from sgdd_engine.checkpoint import Checkpoint, CheckpointInfo, save_checkpoint
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder import load_encoder
from sgdd_engine.text.tokenizer import TextTokenizer


def measure_command_line(bench: Workbench, _: frozenset[str]) -> list[Row]:
    """The rows `help` and `sample-start`."""
    return [_help(bench), _sample(bench)]


def _help(bench: Workbench) -> Row:
    seconds = _race(
        bench,
        "sgdd --help",
        [*bench.command, "--help"],
        [sys.executable, "-c", "import typer, rich"],
    )
    times = ratios(seconds["command"], seconds["imports"])
    return Row(
        measure="help",
        title='`sgdd --help` against `python -c "import typer, rich"`',
        value=median(times),
        unit="×",
        goal=bench.goal(2.5),
        at_most=True,
        details=_details(bench, seconds),
    )


def _sample(bench: Workbench) -> Row:
    checkpoint = write_small_checkpoint(bench.folder / "checkpoint", bench.tiny_encoder)
    text = "The old man opened the door."
    seconds = _race(
        bench,
        "sgdd sample",
        [*bench.command, "sample", text, "--checkpoint", str(checkpoint), "--device", bench.device.type],
        [sys.executable, "-c", "import torch, transformers"],
    )
    more = [c - i for c, i in zip(seconds["command"], seconds["imports"], strict=True)]
    return Row(
        measure="sample-start",
        title="`sgdd sample` with a small checkpoint, beyond `import torch, transformers`",
        value=median(more),
        unit="s",
        goal=bench.goal(1.0),
        at_most=True,
        details=_details(bench, seconds),
        note="The checkpoint and its encoder of one layer are the benchmark's own, with random weights.",
    )


def _race(
    bench: Workbench, title: str, command: Sequence[str], imports: Sequence[str]
) -> dict[str, list[float]]:
    def process(line: Sequence[str]) -> Callable[[], object]:
        return partial(run_quietly, line, bench.folder)

    return race(
        {"command": [process(command)], "imports": [process(imports)]},
        repeats=bench.config.repeats,
        device=bench.device,
        on_repeat=bench.stage(title),
    )


def _details(bench: Workbench, seconds: dict[str, list[float]]) -> dict[str, object]:
    return {
        "repeats": bench.config.repeats,
        "command_seconds": spread(seconds["command"]),
        "import_seconds": spread(seconds["imports"]),
    }


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
