"""`sgdd train`: a prepared corpus in, a run with checkpoints out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.console import emit, say
from sgdd_cli.flags import Assignments, ConfigFiles, Device, Gpu, device_name

if TYPE_CHECKING:
    from sgdd_cli.schema import Settings
    from sgdd_engine.training.loop import TrainResult


def train(
    data: Annotated[
        Path | None, typer.Argument(help="Prepared corpus. Default: the newest one under data/.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder. Default: runs/CORPUS-TIME.")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run --out, or the newest, under the settings it was started with.",
        ),
    ] = False,
    gpu: Gpu = None,
    device: Device = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", help="Optimiser steps.")] = None,
    max_minutes: Annotated[float | None, typer.Option("--max-minutes", help="Training time.")] = None,
    files: ConfigFiles = None,
    assignments: Assignments = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of weights, order, masks and noise.")
    ] = None,
) -> None:
    """Train a decoder on a prepared corpus.

    Ctrl-C saves and stops; --resume goes on as if nothing had happened. Prints the run folder.

    Example: sgdd train data/tales --gpu 0 --max-minutes 60
    """
    from sgdd_cli.places import corpus_of_run, new_run, newest_corpus, newest_run  # noqa: PLC0415 - for quick help
    from sgdd_cli.settings import load_settings  # noqa: PLC0415

    place = device_name(gpu, device)
    run = out or newest_run() if resume else out
    settings = load_settings(
        _with_the_runs_own(run, files or ()) if resume and run else files or (),
        assignments or (),
        [
            ("--max-steps", "train.max_steps", max_steps),
            ("--max-minutes", "train.max_minutes", max_minutes),
            ("--seed", "train.seed", seed),
        ],
    ).settings
    if data is None:
        data = corpus_of_run(run) if resume and run else newest_corpus()
    run = run or new_run(data)
    result = _run(data, run, settings, place, resume)
    _report(result, run)


def _with_the_runs_own(run: Path, files: Sequence[Path]) -> list[Path]:
    """The settings that the run was started with, below those named now."""
    from sgdd_engine.errors import CheckpointError  # noqa: PLC0415 - as above

    own = run / "settings.toml"
    if not own.is_file():
        raise CheckpointError(
            f"`{run}` is not a run: it has no settings.toml.", "Name one with --out RUN --resume."
        )
    return [own, *files]


def _run(data: Path, run: Path, settings: "Settings", device: str, resume: bool) -> "TrainResult":
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - the engine loads torch
    from sgdd_cli.settings_toml import to_toml  # noqa: PLC0415
    from sgdd_engine.data.corpus import Corpus  # noqa: PLC0415
    from sgdd_engine.training.loop import TrainSpec  # noqa: PLC0415
    from sgdd_engine.training.loop import train as run_training  # noqa: PLC0415

    spec = TrainSpec(
        train=settings.train,
        bottleneck=settings.bottleneck,
        decoder=settings.decoder,
        diffusion=settings.diffusion,
    )
    corpus = Corpus.open(data)
    say(f"{'Going on with' if resume else 'Training'} {run} on the corpus {data}.")
    with ProgressDisplay() as display:
        return run_training(
            corpus,
            run,
            spec,
            device=device,
            resume=resume,
            settings_text=to_toml(settings),
            on_event=display,
        )


def _report(result: "TrainResult", run: Path) -> None:
    if result.signal is not None:
        say(f"Stopped at step {result.step:,} and saved {result.checkpoint}.")
        say(f"Go on: sgdd train --resume --out {run}")
        emit(str(run))
        raise typer.Exit(128 + result.signal)
    say(f"Done after {result.step:,} steps; the best checkpoint is {result.best}.")
    say(f"Next: sgdd eval {run}")
    say(f'      sgdd sample "Some text." --checkpoint {run}')
    emit(str(run))
