"""`sgdd bench`: what sgdd's optimisations save on this machine, compared with a plain implementation."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sgdd_cli.console import emit_json, emit_table, emit_text, new_table, say
from sgdd_cli.flags import AsJson, Device, Force, Gpu, check_output, device_name

if TYPE_CHECKING:
    from sgdd_engine.benchmark.measurement import Row
    from sgdd_engine.benchmark.run import Report


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Take only this measurement; may be repeated."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", help="Text file, one sentence per line. Default: the built-in corpus."),
    ] = None,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Number of repetitions; more take longer and vary less.")
    ] = 5,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(
            "--precision",
            help="Number format that the training steps compute in, on both sides: fp32, bf16, or auto, which is bf16 "
            "if the hardware has it.",
        ),
    ] = "auto",
    gpu: Gpu = None,
    device: Device = None,
    as_json: AsJson = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Also write the result into this file, as JSON."),
    ] = None,
    force: Force = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Use small shapes, which takes seconds; the figures say nothing about speed."
        ),
    ] = False,
    long: Annotated[
        bool,
        typer.Option("--long", help="Also take the measurements that need many minutes (prepare-memory)."),
    ] = False,
) -> None:
    """Measure what sgdd saves on this machine, compared with a plain implementation.

    Both sides, sgdd and the plain implementation, run in turns in one process, after a check that they compute the
    same. Each figure is the median of the repetitions. Takes about 15 minutes on two cores, and up to 16 GB of memory
    for the plain side.

    Measurements: train-step, step-memory, compact-vocabulary, mfu, head, cached-epoch, sampling, latency,
    prepare-overhead, prepare-memory, command-line.

    Example: sgdd bench --only train-step --only head --text tales.txt
    """
    from sgdd_engine.benchmark.config import BenchConfig  # noqa: PLC0415 - `sgdd --help` need not load it

    name = device_name(gpu, device)
    config = BenchConfig(
        only=tuple(only or ()),
        text=text,
        repeats=repeats,
        precision=precision,
        quick=quick,
        long=long,
    )
    from sgdd_engine.atomic_files import write_json  # noqa: PLC0415 - `sgdd --help` need not load it

    if out is not None:
        check_output(out, "--out", force=force)
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - the engine loads torch
    from sgdd_engine.benchmark.run import run_benchmark  # noqa: PLC0415

    with ProgressDisplay() as display:
        report = run_benchmark(
            config, command=(sys.executable, "-m", "sgdd_cli"), device=name, on_event=display
        )
    result = report.to_dict()
    if out is not None:
        write_json(out, result)
        say(f"Written: {out}")
    if as_json:
        emit_json(result, indent=2)
    else:
        draw_benchmark(report)


def draw_benchmark(report: "Report") -> None:
    """Print the report for people."""
    machine, settings = report.machine, report.settings
    rates = ", ".join(
        f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in machine.matmul_flops_per_second.items()
    )
    emit_text(
        f"{machine.cpu}, {machine.cores} cores, {machine.threads} threads; {machine.device}; PyTorch {machine.torch}"
    )
    emit_text(f"Measured matrix products: {rates}")
    emit_text(
        f"Text: {settings['text']}, {settings['mean_tokens']:.1f} tokens per sentence; "
        f"training in {settings['dtype']}; median of {settings['repeats']}"
    )
    table = new_table("measure", "what", "value", "goal", "met", numbers=("value", "goal"))
    for row in report.rows:
        table.add_row(row.measure, row.title, _value(row), _goal(row), _met(row))
    emit_table(table)
    for note in dict.fromkeys(row.note for row in report.rows if row.note):
        emit_text(f"{', '.join(row.measure for row in report.rows if row.note == note)}: {note}")


def _value(row: "Row") -> str:
    return "-" if row.value is None else f"{_number(row.value)} {row.unit}"


def _goal(row: "Row") -> str:
    return "-" if row.goal is None else f"{'≤' if row.at_most else '≥'} {_number(row.goal)}"


def _met(row: "Row") -> str:
    return {True: "yes", False: "no", None: "-"}[row.met]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
