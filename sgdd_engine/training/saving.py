"""A run's folder: who may write it, which checkpoints it keeps, and which one it goes on from."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sgdd_engine.atomic_files import damage, remove_folder
from sgdd_engine.checkpoint import checkpoints_of, read_info, resolve_checkpoint
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.errors import CheckpointError, DataError, TrainingError
from sgdd_engine.events import Listener, Notice, ignore
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.training.config import TrainConfig

SETTINGS = "settings.toml"
LOCK = ".lock"


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """While entered, the run's folder is there and nobody else writes it; one that stays unused is removed.

    Raises:
        TrainingError: another process is writing it.
    """
    made = not run.exists()
    run.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run / LOCK, timeout=0):
            yield
    except Timeout:
        raise TrainingError(
            f"The run `{run}` is being trained by another process.",
            "Wait for it, or name another folder with --out.",
        ) from None
    finally:
        if made and [path.name for path in run.iterdir()] == [LOCK]:
            (run / LOCK).unlink()
            run.rmdir()


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return run / "checkpoints" / f"step-{step:07d}"


def newest_sound(run: Path, on_event: Listener = ignore) -> Path:
    """The newest checkpoint of a run that verifies; damaged ones are passed over with a warning.

    Raises:
        CheckpointError: there is none.
    """
    for folder in reversed(checkpoints_of(run)):
        problem = damage(folder)
        if problem is None:
            return folder
        on_event(Notice(f"Passing over `{folder}`: {problem}.", warning=True))
    raise CheckpointError(f"`{run}` holds no sound checkpoint to go on from.", "Start anew without --resume.")


def check_fits(
    checkpoint: Path,
    corpus: Corpus,
    model: ModelConfig,
    diffusion: DiffusionConfig,
    train: TrainConfig,
    on_event: Listener = ignore,
) -> None:
    """Check that a run can go on from its checkpoint with this corpus and these settings.

    What changes the order of the sentences is allowed, and said.

    Raises:
        DataError: it was trained on another corpus.
        CheckpointError: it has another model, noise process or optimiser.
    """
    info, run = read_info(checkpoint), checkpoint.parents[1]
    if info.facts.get("corpus", {}).get("fingerprint") != corpus.manifest.fingerprint():
        raise DataError(
            f"The run `{run}` was trained on another corpus than `{corpus.folder}`.",
            "Name the corpus it was started with.",
        )
    if info.model != model or info.diffusion != diffusion:
        raise CheckpointError(
            f"The run `{run}` has another model than the settings ask for.",
            f"Use the run's own settings: --config {run / SETTINGS}",
        )
    then = info.facts.get("settings", {})
    if then.get("optimizer", "adamw") != train.optimizer:
        raise CheckpointError(
            f"The run `{run}` was trained with train.optimizer={then.get('optimizer', 'adamw')}, whose moments are of "
            f"no use to {train.optimizer}.",
            f"Use the run's own settings: --config {run / SETTINGS}",
        )
    for name in ("seed", "batch_tokens"):
        before, now = then.get(name), getattr(train, name)
        if before != now:
            on_event(
                Notice(
                    f"train.{name} was {before} and is {now}: the sentences come in another order from here on.",
                    warning=True,
                )
            )


def prune(run: Path, keep: int) -> None:
    """Remove old checkpoints: never the `keep` newest, never the best."""
    old = checkpoints_of(run)[:-keep]
    if not old:
        return
    best = resolve_checkpoint(run)
    for folder in old:
        if folder != best:
            remove_folder(folder)
