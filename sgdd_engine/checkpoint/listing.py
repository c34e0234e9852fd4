"""The models on this machine: the one that comes with sgdd, the best of each run, those in the hub's cache."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from sgdd_engine.bounded_files import UnreadableError, open_regular, read_json
from sgdd_engine.checkpoint.find import checkpoints_of, resolve_checkpoint
from sgdd_engine.checkpoint.folder import MODEL_FILES, WEIGHTS, checkpoint_damage, read_info
from sgdd_engine.checkpoint.hub_name import HubName
from sgdd_engine.checkpoint.info import CONFIG, CheckpointInfo
from sgdd_engine.errors import CheckpointError
from sgdd_engine.mini import CHECKPOINT, MINI, mini_is_here

# Tensors that are no parameters: statistics of the vectors, and what is computed from them.
_NO_PARAMETERS = frozenset({"standardize.mean", "standardize.std", "bottleneck.matrix", "bottleneck.inverse"})


@dataclass(frozen=True)
class ListedModel:
    """One model on this machine.

    Attributes:
        name: What `--checkpoint` is given.
        place: `box` for the one that comes with sgdd, `run`, or `hub` for the hub's cache.
        folder: Of its checkpoint.
        bytes: Of the files that using it needs.
        parameters: Of its networks, without the encoder; None where the weights cannot be read.
        info: What it says of itself; None where that cannot be read.
        problem: Why it cannot be used, as a sentence; None where it can.
    """

    name: str
    place: Literal["box", "run", "hub"]
    folder: Path
    bytes: int = 0
    parameters: int | None = None
    info: CheckpointInfo | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: scores are the means of the newest recorded evaluation, or null."""
        info = self.info
        return {
            "name": self.name,
            "place": self.place,
            "parameters": self.parameters,
            "encoder": info.encoder.name if info else None,
            "step": info.step if info else None,
            "scores": self.scores(),
            "sentences_scored": info.evaluations[0]["sentences"] if info and info.evaluations else None,
            "bytes": self.bytes,
            "path": str(self.folder),
            "problem": self.problem,
        }

    def scores(self) -> dict[str, float] | None:
        """Means of the newest recorded evaluation by metric; None where none is recorded."""
        if self.info is None or not self.info.evaluations:
            return None
        own = next(one for one in self.info.evaluations[0]["conditions"] if one["name"] == "true")
        return {name: score["mean"] for name, score in own["scores"].items()}


def list_models(runs: Path) -> list[ListedModel]:
    """All models that can be named without a download; each one's files are verified.

    Args:
        runs: The folder of runs.
    """
    found = [_described(MINI, "box", CHECKPOINT)] if mini_is_here() else []
    return [*found, *_of_runs(runs), *_of_cache()]


def model_names(runs: Path, *, only_runs: bool = False) -> list[str]:
    """What those models are called, without a look into their files: for the completion of a shell.

    Args:
        runs: The folder of runs.
        only_runs: Leave out `mini` and the hub's cache.
    """
    own = [str(run) for run in sorted(runs.glob("*")) if checkpoints_of(run)]
    if only_runs:
        return own
    cached = dict.fromkeys(name.name for name, _ in _in_cache())
    return [*([MINI] if mini_is_here() else []), *own, *cached]


def hides_cached_model(folder: str) -> bool:
    """Whether a folder has the name of a model in the hub's cache, so that the two may be taken for each other."""
    name = HubName.parse(folder)
    return name is not None and any(cached.name == name.name for cached, _ in _in_cache())


def _of_runs(runs: Path) -> Iterator[ListedModel]:
    for run in sorted(runs.glob("*")):
        if not (folders := checkpoints_of(run)):
            continue
        try:
            yield _described(str(run), "run", resolve_checkpoint(run))
        except CheckpointError as error:
            yield ListedModel(str(run), "run", folders[-1], problem=error.message)


def _of_cache() -> Iterator[ListedModel]:
    for name, folder in _in_cache():
        yield _described(str(name), "hub", folder)


def _in_cache() -> Iterator[tuple[HubName, Path]]:
    """Checkpoints of sgdd in the hub's cache; models of other libraries are passed over."""
    from huggingface_hub import constants  # noqa: PLC0415 - costs time that few commands need

    for path in sorted(Path(constants.HF_HUB_CACHE).glob(f"models--*--*/snapshots/*/{CONFIG}")):
        name = HubName.of_folder(path.parent)
        if name is not None and _is_ours(path):
            yield name, path.parent


def _is_ours(config: Path) -> bool:
    try:
        plain = read_json(config)
    except UnreadableError:
        return False
    return isinstance(plain, dict) and {"format", "sgdd", "diffusion"} <= plain.keys()


def _described(name: str, place: Literal["box", "run", "hub"], folder: Path) -> ListedModel:
    size = sum(
        path.stat().st_size
        for path in folder.iterdir()
        if path.name.startswith(MODEL_FILES) and path.is_file()
    )
    try:
        info = read_info(folder)
    except CheckpointError as error:
        return ListedModel(name, place, folder, size, problem=error.message)
    problem = checkpoint_damage(folder)
    return ListedModel(
        name,
        place,
        folder,
        size,
        count_parameters(folder / WEIGHTS),
        info,
        None if problem is None else f"It is damaged: {problem}.",
    )


def count_parameters(weights: Path) -> int | None:
    """Parameters in a safetensors file of a checkpoint, from its header alone; None where that cannot be read."""
    try:
        open_regular(weights).close()
        with safe_open(weights, framework="np") as file:
            names = [name for name in file.keys() if name not in _NO_PARAMETERS]  # noqa: SIM118 - no mapping
            return sum(int(prod(file.get_slice(name).get_shape())) for name in names)
    except (SafetensorError, OSError, UnreadableError):
        return None
