"""Which folder a checkpoint's name means: a path, a run, the newest run, or the model that comes with sgdd."""

from pathlib import Path

from sgdd_engine.atomic_files import damage
from sgdd_engine.checkpoint.folder import MODEL, NAME_ONE, read_info
from sgdd_engine.errors import CheckpointError
from sgdd_engine.mini import MINI, mini_folder


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first; damaged ones included."""
    found = [path for path in (run / "checkpoints").glob("step-*") if path.is_dir()]
    # Steps beyond ten million have longer names than the zeros provide for.
    return sorted(found, key=lambda path: (len(path.name), path.name))


def resolve_checkpoint(place: Path | str) -> Path:
    """The checkpoint that a name or path means: a checkpoint folder itself, a run folder's best, or `mini`.

    The text `mini` is the model that comes with sgdd, unless a folder of that name in the current folder is a
    checkpoint or a run. A `Path`, or a text such as `./mini`, always means a folder.

    Raises:
        CheckpointError: there is no usable checkpoint.
    """
    path = Path(place)
    if place == MINI and not _is_model(path):
        return mini_folder()
    if not path.exists():
        raise CheckpointError(
            f"There is no checkpoint at `{path}`.",
            f"Train one with `sgdd train`, check the path, or name `{MINI}`, which comes with sgdd.",
        )
    if (path / "config.json").is_file():
        return path
    folders = checkpoints_of(path)
    for folder in sorted(folders, key=lambda folder: (_held_out_loss(folder), -folders.index(folder))):
        if not damage(folder, MODEL):
            return folder
    raise CheckpointError(
        f"`{path}` is neither a checkpoint nor a run with a sound checkpoint.",
        NAME_ONE,
    )


def newest_run(runs: Path = Path("runs")) -> Path | None:
    """The run in a folder of runs whose newest checkpoint was written last; None where no run has a checkpoint."""
    written = {
        run: max(folder.stat().st_mtime for folder in folders)
        for run in runs.glob("*")
        if (folders := checkpoints_of(run))
    }
    return max(written, key=written.__getitem__, default=None)


def newest_checkpoint(runs: Path = Path("runs")) -> Path:
    """The best checkpoint of the newest run in a folder of runs.

    Raises:
        CheckpointError: there is none.
    """
    run = newest_run(runs)
    if run is None:
        raise CheckpointError(
            f"No checkpoint was named and `{runs}` holds no run.",
            "Name one with --checkpoint FOLDER, or train one: sgdd train",
        )
    return resolve_checkpoint(run)


def _is_model(folder: Path) -> bool:
    """Whether a folder is meant to be a checkpoint or a run, sound or not."""
    return (folder / "config.json").is_file() or (folder / "checkpoints").is_dir()


def _held_out_loss(folder: Path) -> float:
    try:
        return read_info(folder).validation_loss
    except CheckpointError:
        return float("inf")
