"""Which checkpoint folder a name means: a folder itself, a run's best, the newest run's, `mini`, one on the hub."""

import math
import re
from dataclasses import replace
from pathlib import Path

from sgdd_engine.checkpoint.folder import NAME_ONE, checkpoint_damage, read_info
from sgdd_engine.checkpoint.hub import pull
from sgdd_engine.checkpoint.hub_name import HubName
from sgdd_engine.checkpoint.info import CONFIG
from sgdd_engine.errors import CheckpointError
from sgdd_engine.events import Listener, Notice, ignore
from sgdd_engine.mini import MINI, mini_folder

# The names that `checkpoint_folder` gives.
STEP_NAME = r"step-([0-9]{7}|[1-9][0-9]{7,})"


def checkpoint_folder(run: Path, step: int) -> Path:
    """The checkpoint folder of a step of a run."""
    return run / "checkpoints" / f"step-{step:07d}"


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoint folders that training wrote into a run, oldest first; damaged ones included.

    A folder of any other name, such as a copy `step-0001000-keep`, is the user's.
    """
    found = [
        path
        for path in (run / "checkpoints").glob("step-*")
        if re.fullmatch(STEP_NAME, path.name) and path.is_dir()
    ]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def resolve_checkpoint(name: Path | str, revision: str | None = None, on_event: Listener = ignore) -> Path:
    """The checkpoint that a name or path means: a folder itself, a run folder's best, `mini`, or a model on the hub.

    The best is the undamaged one of the lowest held-out loss, among those validated on the set that the run validates
    on by now: losses on another set are on another scale. The text `mini` is the model that comes with sgdd, unless
    a folder of that name in the current folder is a checkpoint or a run. A text `owner/name` (or
    `owner/name@revision`) is a model on the hub, unless there is a folder of that name or of the owner's; with `hf:`
    before it, it always is. A `Path`, or a text such as `./mini`, always means a folder.

    Args:
        name: Which one.
        revision: Commit, branch or tag of a model on the hub.
        on_event: Told what is fetched from the hub.

    Raises:
        CheckpointError: there is no usable checkpoint.
    """
    path = Path(name)
    if (on_hub := hub_model(name)) is not None:
        return pull(on_hub if revision is None else replace(on_hub, revision=revision), on_event)
    if revision is not None:
        raise CheckpointError(
            f"A revision ({revision}) was named, but `{name}` is not a model on the hub.",
            "Leave it out, or name the model as hf:owner/name.",
        )
    if name == MINI and not _is_model(path):
        return mini_folder()
    if not path.exists():
        raise CheckpointError(
            f"There is no checkpoint at `{path}`.",
            f"Train one with `sgdd train`, check the path, or name `{MINI}`, which comes with sgdd.",
        )
    if (path / CONFIG).is_file():
        return path
    folders = checkpoints_of(path)
    for folder in sorted(folders, key=lambda folder: (*_validation_rank(folder), -folders.index(folder))):
        if (problem := checkpoint_damage(folder)) is None:
            return folder
        on_event(Notice(f"Skipping the damaged checkpoint `{folder}`: {problem}.", warning=True))
    raise CheckpointError(
        f"`{path}` is neither a checkpoint nor a run with an undamaged checkpoint.", NAME_ONE
    )


def hub_model(name: Path | str) -> HubName | None:
    """The model on the hub that a name means; None where it means a folder."""
    found = HubName.parse(name) if isinstance(name, str) else None
    return found if found is not None and found.means_hub() else None


def require_pinned(name: str) -> None:
    """Check that a name means the same weights each time it is resolved, as a run that starts from them needs.

    Raises:
        CheckpointError: it is a model on the hub without a commit.
    """
    on_hub = hub_model(name)
    if on_hub is not None and not on_hub.pinned:
        raise CheckpointError(
            f"A run cannot start from {on_hub}, which may be another model tomorrow.",
            f"Name its commit, as owner/name@COMMIT; this command fetches it and prints it: sgdd pull {on_hub}",
        )


def newest_run(runs: Path = Path("runs")) -> Path | None:
    """The run in a folder of runs whose newest checkpoint was written last; None where no run has a checkpoint."""
    written = {
        run: max(folder.stat().st_mtime for folder in folders)
        for run in runs.glob("*")
        if (folders := checkpoints_of(run))
    }
    return max(written, key=written.__getitem__, default=None)


def newest_checkpoint(runs: Path = Path("runs"), on_event: Listener = ignore) -> Path:
    """The best checkpoint of the newest run in a folder of runs.

    Args:
        runs: The folder.
        on_event: Told of damaged checkpoints that are skipped.

    Raises:
        CheckpointError: there is none.
    """
    run = newest_run(runs)
    if run is None:
        raise CheckpointError(
            f"No checkpoint was named and `{runs}` holds no run.",
            "Name one with --checkpoint FOLDER, or train one: sgdd train",
        )
    return resolve_checkpoint(run, on_event=on_event)


def _is_model(folder: Path) -> bool:
    """Whether a folder is meant to be a checkpoint or a run, damaged or not."""
    return (folder / CONFIG).is_file() or (folder / "checkpoints").is_dir()


def _validation_rank(folder: Path) -> tuple[bool, int, float]:
    """What orders the checkpoints of a run, the best first; those that were not validated come last."""
    try:
        info = read_info(folder)
    except CheckpointError:
        return True, 0, math.inf
    return info.validation_loss == math.inf, -info.validation_set, info.validation_loss
