"""`sgdd train`: a prepared corpus in, a run with checkpoints out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.console import emit, say
from sgdd_cli.flags import Assignments, ConfigFiles, Device, Gpus, device_names

if TYPE_CHECKING:
    from sgdd_cli.schema import Settings
    from sgdd_engine.distributed import World
    from sgdd_engine.training.loop import TrainResult

# A machine that is gone must not hold the others for days; a slow disk may take its time with a checkpoint.
_PATIENCE = timedelta(hours=1)


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
    gpu: Gpus = None,
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

    Ctrl-C saves and stops; --resume goes on as if nothing had happened. Several GPUs train one model together;
    on several machines, start it with torchrun. Prints the run folder.

    Example: sgdd train data/tales --gpu 0 --max-minutes 60
    """
    from sgdd_cli.launcher import join_world, launch, launched, silence_other_ranks  # noqa: PLC0415 - for quick help

    silence_other_ranks()
    flags: list[tuple[str, str, object]] = [
        ("--max-steps", "train.max_steps", max_steps),
        ("--max-minutes", "train.max_minutes", max_minutes),
        ("--seed", "train.seed", seed),
    ]
    request = TrainRequest(data, out, resume, files or (), assignments or (), flags)
    places = device_names(gpu, device)
    # A wrong setting is said before anything is loaded or started.
    plan = None if launched() else request.resolve()
    if plan and len(places) > 1:
        raise typer.Exit(launch(places))
    with join_world(places, timeout=_PATIENCE) as (world, place):
        plan = plan or request.resolve(world)
        result = _run(plan, place, world)
        _report(result, plan.run)
    if result.signal is not None:
        raise typer.Exit(128 + result.signal)


@dataclass(frozen=True)
class _Plan:
    """A run whose every choice is made."""

    data: Path
    run: Path
    resume: bool
    settings: "Settings"


@dataclass(frozen=True)
class TrainRequest:
    """A run as it was asked for."""

    data: Path | None
    out: Path | None
    resume: bool
    files: Sequence[Path]
    assignments: Sequence[str]
    flags: Sequence[tuple[str, str, object]]

    def resolve(self, world: "World | None" = None) -> _Plan:
        """Fill in what was not named; in a world, all take rank 0's choice."""
        from sgdd_cli.default_paths import corpus_of_run, new_run, newest_corpus, newest_run  # noqa: PLC0415 - for quick help
        from sgdd_cli.settings import load_settings  # noqa: PLC0415

        def chosen(choice: Callable[[], Path]) -> Path:
            if world is None:
                return choice()
            return Path(world.broadcast_text(str(choice()) if world.is_main else ""))

        before = chosen(lambda: self.out or newest_run()) if self.resume else None
        files = _with_the_runs_own(before, self.files) if before else self.files
        settings = load_settings(files, self.assignments, self.flags).settings
        data = chosen(lambda: self.data or (corpus_of_run(before) if before else newest_corpus()))
        run = chosen(lambda: before or self.out or new_run(data))
        return _Plan(data, run, self.resume, settings)


def _with_the_runs_own(run: Path, files: Sequence[Path]) -> list[Path]:
    """The settings that the run was started with, below those named now."""
    from sgdd_engine.errors import CheckpointError  # noqa: PLC0415 - as above

    own = run / "settings.toml"
    if not own.is_file():
        raise CheckpointError(
            f"`{run}` is not a run: it has no settings.toml.", "Name one with --out RUN --resume."
        )
    return [own, *files]


def _run(plan: _Plan, device: str, world: "World") -> "TrainResult":
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - the engine loads torch
    from sgdd_cli.settings_toml import to_toml  # noqa: PLC0415
    from sgdd_engine.data.corpus import Corpus  # noqa: PLC0415
    from sgdd_engine.training.config import TrainSpec  # noqa: PLC0415
    from sgdd_engine.training.loop import train as run_training  # noqa: PLC0415

    settings = plan.settings
    spec = TrainSpec(
        train=settings.train,
        bottleneck=settings.bottleneck,
        decoder=settings.decoder,
        diffusion=settings.diffusion,
        feedback=settings.feedback,
    )
    corpus = Corpus.open(plan.data)
    say(f"{'Going on with' if plan.resume else 'Training'} {plan.run} on the corpus {plan.data}.")
    with ProgressDisplay() as display:
        return run_training(
            corpus,
            plan.run,
            spec,
            device=device,
            resume=plan.resume,
            settings_text=to_toml(settings),
            on_event=display,
            world=world,
        )


def _report(result: "TrainResult", run: Path) -> None:
    if result.signal is not None:
        say(f"Stopped at step {result.step:,} and saved {result.checkpoint}.")
        say(f"Go on: sgdd train --resume --out {run}")
        emit(str(run))
        return
    say(f"Done after {result.step:,} steps; the best checkpoint is {result.best}.")
    say(f"Next: sgdd eval {run}")
    say(f'      sgdd sample "Some text." --checkpoint {run}')
    emit(str(run))
