"""What this machine has for sgdd, and what is broken or missing: each a sentence, with the command that mends it."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from sgdd_engine.checkpoint import checkpoints_of, list_models
from sgdd_engine.data.manifest import MANIFEST, Manifest
from sgdd_engine.errors import DataError, EncoderError, SgddError
from sgdd_engine.paths_and_shells import shell_line
from sgdd_engine.text import hub
from sgdd_engine.text.config import BGE_M3, BGE_M3_REVISION
from sgdd_engine.text.encoder_files import WEIGHTS_SHA256, minilm_folder
from sgdd_engine.version import __version__

State = Literal["ok", "note", "broken"]
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "huggingface_hub", "safetensors", "numpy")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What, in one or two words.
        state: `broken` where something cannot work; `note` where something is missing that not everybody needs.
        sentence: What was found.
        command: What mends it; None where nothing has to be.
    """

    name: str
    state: State
    sentence: str
    command: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def examine_machine(data: Path, runs: Path, *, offline: bool = False) -> list[Check]:
    """Look at packages, processor, encoders, corpora, models, caches, disk and hub; never longer than some seconds.

    Args:
        data: The folder of corpora.
        runs: The folder of runs.
        offline: Do not ask the hub.
    """
    parts: tuple[Callable[[], Iterator[Check]], ...] = (
        _versions,
        _devices,
        _encoders,
        lambda: _corpora(data),
        lambda: _models(runs),
        lambda: _disk(data, runs),
        lambda: _hub(offline),
    )
    return [check for part in parts for check in part()]


def _versions() -> Iterator[Check]:
    found = [f"{name} {_version(name) or 'missing'}" for name in PACKAGES]
    yield Check(
        "versions", "ok", f"sgdd {__version__}, Python {platform.python_version()}, {', '.join(found)}."
    )
    try:
        required = metadata.requires("sgdd") or []
    except metadata.PackageNotFoundError:
        yield Check("packages", "note", "sgdd is not installed but run from its folder.", "pip install .")
        return
    for requirement in map(Requirement, required):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wanted = f"{requirement.name}{requirement.specifier}"
            is_there = "is missing" if version is None else f"is {version}"
            sentence = f"{requirement.name} {is_there}; sgdd needs {wanted}."
            yield Check("packages", "broken", sentence, f'pip install "{wanted}"')


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Check]:
    try:
        import torch  # noqa: PLC0415 - takes seconds, and may be what is broken

        from sgdd_engine.models.device import best_device, has_native_bf16  # noqa: PLC0415
    except (ImportError, OSError) as error:
        command = 'pip install --force-reinstall "torch>=2.10,<2.14"'
        yield Check("torch", "broken", f"PyTorch cannot be loaded: {' '.join(str(error).split())}", command)
        return
    device = best_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    bf16 = (
        "multiplies bfloat16 natively"
        if has_native_bf16(device)
        else "has no native bfloat16, so float32 is used"
    )
    yield Check("device", "ok", f"{name}; it {bf16}.")
    # PyTorch has no public question for this.
    amx = getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    sentence = f"{cores} logical processors, AMX {'yes' if amx else 'no'}, {threads} threads for PyTorch."
    if threads > cores:
        yield Check(
            "processor",
            "note",
            f"{sentence} More threads than processors are slower.",
            "unset OMP_NUM_THREADS",
        )
    else:
        yield Check("processor", "ok", sentence)


def _encoders() -> Iterator[Check]:
    try:
        minilm_folder()
    except EncoderError as error:
        state: State = "broken" if "lacks" in error.message or "official" in error.message else "note"
        yield Check("encoder minilm", state, error.message, error.hint)
    else:
        yield Check(
            "encoder minilm", "ok", f"Its files are verified (weights sha256 {WEIGHTS_SHA256[:12]}…)."
        )
    here = hub.cached(BGE_M3, BGE_M3_REVISION)
    if here is None:
        sentence = f"{BGE_M3} is not in the hub's cache; it is fetched when a corpus is prepared with it."
        yield Check("encoder bge-m3", "ok", sentence)
    elif not hub.is_complete(here, weights=True):
        sentence = (
            "Only a part of it is in the hub's cache; the rest is fetched when a corpus is prepared with it."
        )
        yield Check("encoder bge-m3", "note", sentence)
    else:
        yield Check("encoder bge-m3", "ok", f"In the hub's cache, commit {here.name[:12]}.")


def _corpora(data: Path) -> Iterator[Check]:
    for path in sorted(data.glob(f"*/{MANIFEST}")):
        folder = path.parent
        try:
            manifest = Manifest.read(folder)
        except DataError as error:
            yield Check(f"corpus {folder.name}", "broken", error.message, error.hint)
            continue
        wrong = [
            shard.file
            for shard in manifest.shards
            if not (folder / shard.file).is_file() or (folder / shard.file).stat().st_size != shard.bytes
        ]
        if wrong:
            sentence = f"`{folder}` is damaged: {wrong[0]} is missing or has another size."
            command = shell_line(["sgdd", "prepare-data", "SOURCE", "--out", folder, "--overwrite"])
            yield Check(f"corpus {folder.name}", "broken", sentence, command)
            continue
        encoder = manifest.encoder
        yield Check(
            f"corpus {folder.name}",
            "ok",
            f"{manifest.splits.get('train', 0):,} training sentences, fingerprint {manifest.fingerprint()[:12]}…; "
            f"vectors of {encoder['name']} (weights sha256 {str(encoder['weights_sha256'])[:12]}…).",
        )


def _models(runs: Path) -> Iterator[Check]:
    found = list_models(runs)
    for model in found:
        if model.problem is not None:
            command = {
                "box": "pip install --force-reinstall --no-deps .",
                "hub": f"sgdd pull {model.name} --again",
                "run": shell_line(["sgdd", "train", "--resume", "--out", model.name]),
            }[model.place]
            yield Check(f"model {model.name}", "broken", model.problem, command)
    sound = sum(model.problem is None for model in found)
    yield Check("models", "ok", f"{sound} can be used; a list: sgdd models")


def _disk(data: Path, runs: Path) -> Iterator[Check]:
    from huggingface_hub import constants  # noqa: PLC0415 - costs time that few commands need

    places = {"data": data, "runs": runs, "the hub's cache": Path(constants.HF_HUB_CACHE)}
    sizes = [f"{name} {_gigabytes(_bytes(place))}" for name, place in places.items() if place.is_dir()]
    if sizes:
        yield Check("sizes", "ok", f"{', '.join(sizes)}.")
    free = shutil.disk_usage(runs if runs.is_dir() else Path.cwd()).free
    newest = [folders[-1] for run in runs.glob("*") if (folders := checkpoints_of(run))]
    if not newest:
        sentence = f"{_gigabytes(free)} free here; what a corpus takes: sgdd prepare-data SOURCE --dry-run"
        yield Check("disk", "ok", sentence)
        return
    # A checkpoint is written whole before an older one is removed.
    need = 2 * max(map(_bytes, newest))
    enough = free > need
    sentence = f"{_gigabytes(free)} free; saving the largest run needs up to {_gigabytes(need)} at once."
    yield Check(
        "disk", "ok" if enough else "broken", sentence, None if enough else f"du -sh {runs}/* {data}/*"
    )


def _bytes(folder: Path) -> int:
    """Bytes of all files in a folder; links, as the hub's cache has them, are not followed."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            path = Path(place, name)
            if not path.is_symlink() and path.is_file():
                total += path.stat().st_size
    return total


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _hub(offline: bool) -> Iterator[Check]:
    from huggingface_hub import constants, errors, get_token  # noqa: PLC0415 - as above

    if offline or constants.HF_HUB_OFFLINE:
        why = "--offline" if offline else "HF_HUB_OFFLINE is set"
        yield Check("hub", "ok", f"Not asked ({why}).")
        return
    try:
        hub.look_up("model", BGE_M3, None)
    except Exception as problem:
        if isinstance(problem, SgddError):
            yield Check("hub", "broken", problem.message, problem.hint)
            return
        if hub.refusal(problem, "", "", None) is None:
            sentence = (
                f"{constants.ENDPOINT} cannot be reached ({hub.reason(problem)}); what is here works without it, and "
                "quicker where the hub is not asked."
            )
            yield Check("hub", "note", sentence, "export HF_HUB_OFFLINE=1")
            return
        # That this one model is not there says nothing of the hub: a mirror may lack it.
        status = problem.response.status_code if isinstance(problem, errors.HfHubHTTPError) else 404
        if status == 401 and not isinstance(problem, errors.RepositoryNotFoundError):
            sentence = (
                f"{constants.ENDPOINT} refuses the login, which may have expired ({hub.reason(problem)})."
            )
            yield Check("hub", "broken", sentence, "hf auth login")
            return
        if status not in (401, 404):
            yield Check("hub", "note", f"{constants.ENDPOINT} refuses to answer ({hub.reason(problem)}).")
            return
    login = "somebody is logged in" if get_token() else "nobody is logged in, needed only for sharing"
    yield Check("hub", "ok", f"{constants.ENDPOINT} answers; {login}.")


def broken(checks: Sequence[Check]) -> bool:
    """Whether something cannot work."""
    return any(check.state == "broken" for check in checks)
