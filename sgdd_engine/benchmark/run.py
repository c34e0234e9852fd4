"""One run of the benchmark: first the engine and the plain reference are compared, then every measure is taken."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sgdd_engine.benchmark.command_line import measure_command_line
from sgdd_engine.benchmark.config import MEASURES, QUICK, BenchConfig, Shapes
from sgdd_engine.benchmark.context import BenchContext
from sgdd_engine.benchmark.measurement import BenchmarkError, Machine, Row, describe_machine, dtype_name
from sgdd_engine.benchmark.preparation import (
    measure_cached_epoch,
    measure_prepare_memory,
    measure_prepare_overhead,
)
from sgdd_engine.benchmark.sampling import measure_latency, measure_sampling
from sgdd_engine.benchmark.trainable_model import check_agreement
from sgdd_engine.benchmark.training_step import measure_head, measure_step_memory, measure_training_step
from sgdd_engine.errors import EncoderError
from sgdd_engine.events import Listener, Notice, StageFinished, StageStarted, ignore
from sgdd_engine.models.device import compute_dtype, resolve_device
from sgdd_engine.version import __version__

Measure = Callable[[BenchContext], list[Row]]

# What one function measures together, in the order of the table.
FAMILIES: Sequence[tuple[tuple[str, ...], Measure]] = (
    (("train-step", "compact-vocabulary", "mfu"), measure_training_step),
    (("step-memory",), measure_step_memory),
    (("head",), measure_head),
    (("cached-epoch",), measure_cached_epoch),
    (("sampling",), measure_sampling),
    (("latency",), measure_latency),
    (("prepare-overhead",), measure_prepare_overhead),
    (("prepare-memory",), measure_prepare_memory),
    (("command-line",), measure_command_line),
)
_CHECKING = "checking losses and gradients against the plain reference"
_CHECKED_SENTENCES = 4
_PROCESSES_ONLY = frozenset({"prepare-memory", "command-line"})
_QUICK = (
    "Quick run: small shapes show that everything works; its figures are not comparable, and no goal applies."
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All rows of a run, the machine they hold for, and the settings that made them."""

    machine: Machine
    settings: Mapping[str, Any]
    rows: Sequence[Row]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "machine": asdict(self.machine),
            "settings": dict(self.settings),
            "rows": [row.to_dict() for row in self.rows],
        }


def run_benchmark(
    config: BenchConfig, *, command: tuple[str, ...], device: str = "auto", on_event: Listener = ignore
) -> Report:
    """Take the measures that `config` asks for; one that cannot be taken has a row that says why.

    Args:
        config: What, how often, on which text.
        command: How `sgdd` is started as a process of its own.
        device: See `resolve_device`.
        on_event: Told of every measure.

    Raises:
        BenchmarkError: the engine and the plain reference are not the same function.
        ConfigError: no such device.
        DataError: the text cannot be read or holds too little.
    """
    torch_device = resolve_device(device)
    shapes = QUICK if config.quick else Shapes()
    machine = describe_machine(
        torch_device, shapes.matmul if torch_device.type == "cpu" else 4 * shapes.matmul
    )
    if config.quick:
        on_event(Notice(_QUICK))
    if config.text is None:
        on_event(Notice("No --text was given: the sentences are those of the built-in, synthetic corpus."))
    # Windows cannot remove files that are still mapped.
    with tempfile.TemporaryDirectory(prefix="sgdd-bench-", ignore_cleanup_errors=True) as folder:
        bench = BenchContext(
            config=config,
            shapes=shapes,
            device=torch_device,
            dtype=compute_dtype(config.precision, torch_device),
            machine=machine,
            folder=Path(folder),
            command=command,
            on_event=on_event,
        )
        agreement = {} if _PROCESSES_ONLY.issuperset(config.wanted) else check(bench)
        rows = [row for names, measure in FAMILIES for row in _measured(bench, names, measure)]
        return Report(machine=machine, settings=_settings(bench, agreement), rows=rows)


def check(bench: BenchContext) -> dict[str, dict[str, float]]:
    """Compare losses and gradients of the reference configuration, in fp32 and in the arithmetic of the run.

    Returns:
        How far they are apart, by dtype.

    Raises:
        BenchmarkError: by more than rounding.
    """
    bench.on_event(StageStarted(_CHECKING, None, "checks"))
    # Sentences of a middling length, which the reference has to pad.
    batch = bench.batches(min(_CHECKED_SENTENCES, bench.shapes.batch_sentences))[bench.shapes.batches // 2]
    trainable, found = bench.trainable(bench.reference_config), {}
    for dtype in dict.fromkeys([torch.float32, bench.dtype]):
        trainable.dtype = dtype
        found[dtype_name(dtype)] = check_agreement(trainable, batch, bench.shapes.padded)
    bench.on_event(StageFinished(_CHECKING, f"they agree ({found['fp32']['gradient']:.0e} apart in fp32)."))
    return found


def _measured(bench: BenchContext, names: tuple[str, ...], measure: Measure) -> list[Row]:
    wanted = frozenset(names).intersection(bench.config.wanted)
    if not wanted:
        return []
    try:
        rows = measure(bench)
    except (BenchmarkError, EncoderError) as error:
        # What has been measured before this is not lost.
        reason = " ".join(filter(None, [error.message, error.hint]))
        rows = [
            Row(measure=name, title=MEASURES[name], value=None, unit="", note=f"Left out. {reason}")
            for name in names
            if name in wanted
        ]
    for row in rows:
        found = row.note if row.value is None else f"{row.value:.3g} {row.unit}"
        bench.on_event(Notice(f"{row.measure}: {found}", warning=row.value is None))
    return rows


def _settings(bench: BenchContext, agreement: dict[str, dict[str, float]]) -> dict[str, Any]:
    config = bench.config
    return {
        "sgdd": __version__,
        "measures": list(config.wanted),
        "quick": config.quick,
        "comparable": not config.quick,
        "repeats": config.repeats,
        "device": str(bench.device),
        "dtype": dtype_name(bench.dtype),
        "text": "built-in corpus" if config.text is None else str(config.text),
        "mean_tokens": float(bench.tokens.lengths.mean()),
        "agreement_with_the_plain_reference": agreement,
        "shapes": asdict(bench.shapes),
    }
