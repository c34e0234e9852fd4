"""`sgdd train`: a prepared corpus in, a run with checkpoints out."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.completion import complete_corpus
from sgdd_cli.console import command_line, emit, say, say_command, say_next
from sgdd_cli.flags import Assignments, ConfigFiles, Device, Gpus, device_names, options_for, setting
from sgdd_engine.counted import counted
from sgdd_engine.training.config import TrainConfig

if TYPE_CHECKING:
    from sgdd_cli.settings import Settings
    from sgdd_engine.distributed import World
    from sgdd_engine.training.loop import TrainResult

# Processes must not wait for days for a machine that is gone; writing a checkpoint to a slow disk may take minutes.
_TIMEOUT = timedelta(hours=1)
# Where there is no GPU and nobody said when to end: the default number of steps takes a day on two cores. The learning
# rate follows the clock to this end, so that the run is whole.
_MINUTES_ON_A_CPU = 60.0


def train(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Prepared corpus. Default: the newest one under data/.",
            autocompletion=complete_corpus,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder. Default: runs/CORPUS-TIME.")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run named by --out, or the newest run, with the settings saved in it.",
        ),
    ] = False,
    gpu: Gpus = None,
    device: Device = None,
    max_steps: Annotated[int | None, setting(TrainConfig, "max_steps")] = None,
    max_minutes: Annotated[float | None, setting(TrainConfig, "max_minutes")] = None,
    tracker: Annotated[str | None, setting(TrainConfig, "tracker")] = None,
    skip_nonfinite: Annotated[int | None, setting(TrainConfig, "skip_nonfinite")] = None,
    files: ConfigFiles = None,
    assignments: Assignments = None,
    seed: Annotated[int | None, setting(TrainConfig, "seed")] = None,
) -> None:
    """Train a decoder on a prepared corpus.

    Ctrl-C saves and stops; --resume goes on as if the run had never stopped. Several GPUs train one model together; on
    several machines, start it with torchrun. Without a GPU a run ends after an hour, unless --max-minutes or
    --max-steps say otherwise. Prints the run folder.

    Example: sgdd train data/tales --gpu 0 --max-minutes 60
    """
    from sgdd_cli.launcher import join_world, launch, launched, silence_other_ranks  # noqa: PLC0415 - for quick help

    silence_other_ranks()
    flags: list[tuple[str, str, object]] = [
        ("--max-steps", "train.max_steps", max_steps),
        ("--max-minutes", "train.max_minutes", max_minutes),
        ("--tracker", "train.tracker", tracker),
        ("--skip-nonfinite", "train.skip_nonfinite", skip_nonfinite),
        ("--seed", "train.seed", seed),
    ]
    request = TrainRequest(data, out, resume, files or (), assignments or (), flags)
    devices = device_names(gpu, device)
    # A wrong setting is reported before anything is loaded or started.
    plan = None if launched() else request.resolve()
    if plan and len(devices) > 1:
        raise typer.Exit(launch(devices))
    with join_world(devices, timeout=_TIMEOUT) as (world, own_device):
        plan = plan or request.resolve(world)
        with _run_folder(plan, world) as run:
            result = _train(plan, run, own_device, world)
        _report(result, run, files, assignments, gpu, device)
    if result.signal is not None:
        raise typer.Exit(128 + result.signal)


@dataclass(frozen=True)
class _Plan:
    """A run whose every choice is made; where `run` is None, its folder gets a name of its own.

    Attributes:
        end_given: Whether somebody said after how many steps or minutes it ends.
    """

    data: Path
    run: Path | None
    resume: bool
    settings: "Settings"
    encoder: str | None
    end_given: bool


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
        """Fill in what was not named; in a world, all processes take rank 0's choice."""
        from sgdd_cli.default_paths import corpus_of_run, newest_corpus, run_to_resume  # noqa: PLC0415 - for quick help
        from sgdd_cli.models import named_encoder  # noqa: PLC0415
        from sgdd_cli.settings import load_settings  # noqa: PLC0415

        run = self.out
        if self.resume and run is None:
            run = _of_rank_0(world, run_to_resume)
        resumed = run if self.resume else None
        files = _with_settings_of_run(resumed, self.files) if resumed else self.files
        resolved = load_settings(files, self.assignments, self.flags)
        data = self.data or _of_rank_0(world, lambda: corpus_of_run(resumed) if resumed else newest_corpus())
        end_given = not {"max_steps", "max_minutes"}.isdisjoint(resolved.given("train"))
        return _Plan(data, run, self.resume, resolved.settings, named_encoder(resolved), end_given)


def _with_end(plan: _Plan, device: str, tell: Callable[[str], None]) -> _Plan:
    """The plan, which ends in a sensible time where nobody said when to end and there is no GPU."""
    from sgdd_engine.models.device import resolve_device  # noqa: PLC0415 - loads torch

    if plan.end_given or plan.resume or resolve_device(device).type != "cpu":
        return plan
    tell(
        f"Training on a CPU ends after {_MINUTES_ON_A_CPU:g} minutes; for another end: --max-minutes or "
        "--max-steps"
    )
    ended = replace(plan.settings.train, max_minutes=_MINUTES_ON_A_CPU)
    return replace(plan, settings=plan.settings.model_copy(update={"train": ended}))


def _of_rank_0(world: "World | None", choose: Callable[[], Path]) -> Path:
    """A path that is chosen once for all processes of a world."""
    if world is None:
        return choose()
    return Path(world.broadcast_text(str(choose()) if world.is_main else ""))


def _with_settings_of_run(run: Path, files: Sequence[Path]) -> list[Path]:
    """The settings that the run was started with, below those named now."""
    from sgdd_engine.errors import CheckpointError  # noqa: PLC0415 - as above

    own = run / "settings.toml"
    if not own.is_file():
        raise CheckpointError(
            f"`{run}` is not a run: it has no settings.toml.", "Name a run with --out RUN --resume."
        )
    return [own, *files]


@contextlib.contextmanager
def _run_folder(plan: _Plan, world: "World") -> Iterator[Path]:
    """The folder of the run; one that was made here and stays empty is removed."""
    from sgdd_cli.default_paths import new_run  # noqa: PLC0415 - as above

    run = plan.run or _of_rank_0(world, lambda: new_run(plan.data))
    try:
        yield run
    finally:
        if plan.run is None and world.is_main:
            _remove_if_unused(run)


def _remove_if_unused(run: Path) -> None:
    from sgdd_engine.atomic_files import LOCK  # noqa: PLC0415 - loads torch

    with contextlib.suppress(OSError):
        if {path.name for path in run.iterdir()} <= {LOCK}:
            (run / LOCK).unlink(missing_ok=True)
            run.rmdir()


def _train(plan: _Plan, run: Path, device: str, world: "World") -> "TrainResult":
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - the engine loads torch
    from sgdd_cli.settings import to_toml  # noqa: PLC0415
    from sgdd_engine.data.corpus import Corpus  # noqa: PLC0415
    from sgdd_engine.events import Notice  # noqa: PLC0415
    from sgdd_engine.training.config import TrainSpec  # noqa: PLC0415
    from sgdd_engine.training.loop import train as run_training  # noqa: PLC0415

    with ProgressDisplay() as display:

        def tell(message: str) -> None:
            display(Notice(message))

        # What cannot be used is told before anything is announced.
        corpus = Corpus.open(plan.data, plan.encoder, verify=world.is_main, on_event=display)
        settings = _with_end(plan, device, tell).settings
        tell(f"{'Going on with' if plan.resume else 'Training'} {run} on the corpus {plan.data}.")
        return run_training(
            corpus,
            run,
            TrainSpec(
                train=settings.train,
                bottleneck=settings.bottleneck,
                decoder=settings.decoder,
                diffusion=settings.diffusion,
                feedback=settings.feedback,
            ),
            device=device,
            resume=plan.resume,
            settings_text=to_toml(settings),
            on_event=display,
            world=world,
            encoder_batch_tokens=settings.encoder.batch_tokens,
        )


def _report(
    result: "TrainResult",
    run: Path,
    files: list[Path] | None,
    assignments: list[str] | None,
    gpu: str | None,
    device: str | None,
) -> None:
    if result.signal is not None:
        say(f"Stopped at step {result.step:,} and saved {result.checkpoint}.")
        # The run keeps its settings itself.
        again = command_line("train", "--resume", "--out", run, *options_for("train", gpu=gpu, device=device))
        say_command(again, "To continue: ")
    else:
        # Evaluation and sampling use one device.
        gpu = None if gpu is None else gpu.split(",")[0].strip()
        say(f"Done after {counted(result.step, 'step')}; the best checkpoint is {result.best}.")
        evaluate, sample = (
            options_for(name, files, assignments, gpu=gpu, device=device) for name in ("eval", "sample")
        )
        say_next(
            command_line("eval", run, *evaluate),
            command_line("sample", "Some text.", "--checkpoint", run, *sample),
        )
    emit(str(run))
