"""Checkpoints on the Hugging Face hub: fetched into its cache, verified, and shared with others.

Only the files of a checkpoint, known by name, are fetched or sent; nothing fetched is run, and none is a pickle.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sgdd_engine.atomic_files import HASHES, sha256_of
from sgdd_engine.bounded_files import UnreadableError, read_json_object, read_text
from sgdd_engine.checkpoint.card import MARK, is_generated
from sgdd_engine.checkpoint.folder import (
    TOKENIZER_FILES,
    WEIGHTS,
    checkpoint_damage,
    read_info,
)
from sgdd_engine.checkpoint.hub_name import HubName
from sgdd_engine.checkpoint.info import CONFIG
from sgdd_engine.errors import CheckpointError
from sgdd_engine.events import Listener, Notice, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.text import hub

CARD = "README.md"
# What a checkpoint cannot be used without; small files first: another format is told before weights are fetched.
NEEDED = (CONFIG, HASHES, *TOKENIZER_FILES, WEIGHTS)
FILES = (*NEEDED, CARD)
# A mobile line that is hardly usable; a transfer that takes longer than at this rate is given up.
SLOWEST_BYTES_PER_SECOND = 30_000
# For what a transfer needs besides its bytes: some ten questions to the hub, each of well under a second.
TRANSFER_SECONDS = 60.0


@dataclass(frozen=True)
class Upload:
    """What was sent to the hub, or would be.

    Attributes:
        name: `owner/name`.
        files: Bytes of each file, by its name.
        url: Where the model is.
        commit: The commit that was made; None where nothing was sent.
    """

    name: str
    files: Mapping[str, int]
    url: str
    commit: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"name": self.name, "files": dict(self.files), "url": self.url, "commit": self.commit}


# --- fetching ---------------------------------------------------------------------------------------------


def pull(name: HubName, on_event: Listener = ignore, *, again: bool = False) -> Path:
    """Bring a checkpoint into the hub's cache and verify it.

    A commit that is in the cache is used without asking the hub, and so is what the cache has where the hub does not
    answer within some seconds.

    Args:
        name: Which one.
        on_event: Told how much was fetched, and where the cache had to serve.
        again: Fetch its files although the cache has them, as where one of them is damaged.

    Returns:
        The folder in the cache, named by the commit.

    Raises:
        CheckpointError: it does not exist, may not be read, is no checkpoint, or is damaged; or the hub cannot be
            reached and the cache does not have it.
    """
    cached = hub.cached(name.name, name.revision)
    usable = cached is not None and all((cached / file).is_file() for file in NEEDED)
    if cached is not None and usable and name.pinned and not again:
        return _verified(cached, name)
    try:
        info = hub.look_up("model", name.name, name.revision, sizes=True)
    except Exception as problem:
        if refused := hub.refusal(problem, f"model {name.name}", name.name, name.revision):
            raise CheckpointError(*refused) from problem
        if not hub.is_network_error(problem):
            raise
        if cached is None or not usable or again:
            raise _unreachable(name, problem) from problem
        on_event(Notice(f"The hub was not asked for a newer one ({hub.reason(problem)}).", warning=True))
        return _verified(cached, name)
    folder = _download(replace(name, revision=str(info.sha)), info, on_event, again=again)
    hub.remember(folder, name.revision)
    return folder


def _download(name: HubName, info: Any, on_event: Listener, *, again: bool) -> Path:  # noqa: ANN401 - a `ModelInfo`
    sizes = {entry.rfilename: entry.size or 0 for entry in info.siblings or [] if entry.rfilename in FILES}
    if missing := [file for file in NEEDED if file not in sizes]:
        raise CheckpointError(
            f"The model {name.name} on the hub is not a checkpoint of sgdd: it has no {missing[0]}.",
            f"Look at https://huggingface.co/{name.name}/tree/{name.revision}.",
        )
    stage, total, done = f"fetching {name.name}", sum(sizes.values()), 0
    on_event(StageStarted(stage, total, "bytes"))

    def report(count: float) -> None:
        nonlocal done
        done = min(total, done + int(count))
        on_event(StageProgress(stage, done))

    folder = Path()
    for file in (file for file in FILES if file in sizes):
        folder = _fetch(name, file, sizes[file], report, again=again)
        if file == CONFIG:
            read_info(folder)  # a newer format is told before the weights are fetched
    on_event(StageFinished(stage))
    # The tensors are looked at when the model is used, as those of every checkpoint: PyTorch is not loaded for it here.
    return _verified(folder, name)


def _fetch(name: HubName, file: str, size: int, report: Callable[[float], None], *, again: bool) -> Path:
    """Fetch one file within a time that its size allows; the folder it lies in."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - costs time that local folders need not pay
    from huggingface_hub.utils.tqdm import tqdm  # noqa: PLC0415

    class Reporting(tqdm):
        """A progress bar that draws nothing."""

        def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
            super().__init__(*arguments, **{**named, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            """Count bytes."""
            report(n or 0)
            return None

    def ask() -> str:
        return str(
            hf_hub_download(
                name.name, file, revision=name.revision, force_download=again, tqdm_class=Reporting
            )
        )

    try:
        return Path(hub.ask_hub(ask, _transfer_seconds(size))).parent
    except Exception as problem:
        if refused := hub.refusal(problem, f"model {name.name}", name.name, name.revision):
            raise CheckpointError(*refused) from problem
        # The library that transfers large files names its errors RuntimeError.
        if not hub.is_network_error(problem) and not isinstance(problem, RuntimeError):
            raise
        raise CheckpointError(
            f"Fetching {file} of {name.name} from the hub was interrupted ({hub.reason(problem)}).",
            f"Run the command again, or by itself: sgdd pull {name}",
        ) from problem


def _verified(folder: Path, name: HubName) -> Path:
    read_info(folder)
    if problem := checkpoint_damage(folder):
        raise CheckpointError(
            f"The checkpoint {name.name} from the hub, commit {folder.name[:12]}, cannot be used: {problem}.",
            f"Fetch its files again: sgdd pull {name.name}@{folder.name} --again",
        )
    return folder


def _unreachable(name: HubName, problem: Exception) -> CheckpointError:
    return CheckpointError(
        f"There is no folder `{name.name}` here, the hub's cache has no such model, and the hub cannot be reached "
        f"({hub.reason(problem)}).",
        "Check the path; or try again where the hub can be reached. What is on this machine: sgdd models",
    )


# --- sharing ----------------------------------------------------------------------------------------------


def upload_of(folder: Path, name: str) -> Upload:
    """What `push` sends: the files of a checkpoint, never its training state; nothing is asked or sent.

    Raises:
        CheckpointError: the folder is no undamaged checkpoint, or the name is none of the hub's.
    """
    asked = HubName.parse(name)
    if asked is None or asked.revision is not None:
        raise CheckpointError(
            f"`{name}` is not a name on the hub.", "Name it as owner/name, such as anna/tales."
        )
    read_info(folder)
    if problem := checkpoint_damage(folder):
        raise CheckpointError(
            f"The checkpoint `{folder}` is not shared: {problem}.", "Use another checkpoint of the run."
        )
    from huggingface_hub import constants  # noqa: PLC0415 - as above

    _card_of(folder)
    files = {file: (folder / file).stat().st_size for file in FILES if (folder / file).is_file()}
    return Upload(asked.name, files, f"{constants.ENDPOINT}/{asked.name}")


def own_card(folder: Path) -> str | None:
    """The card of a checkpoint where somebody wrote or changed it; None where sgdd made it or there is none.

    Raises:
        CheckpointError: it is a link to a file elsewhere on this machine.
    """
    card = _card_of(folder)
    try:
        text = read_text(card)
        hashes = read_json_object(folder / HASHES)
    except UnreadableError:
        return None
    unchanged = hashes.get(CARD) in (None, sha256_of(card))  # older versions recorded no hash of it
    if not is_generated(text):
        return text
    # Without the mark it is kept from now on, although its new hash is recorded.
    return None if unchanged else text.replace(f"{MARK}\n", "")


def _card_of(folder: Path) -> Path:
    """The place of a checkpoint's card, which may be changed, unlike its other files.

    Raises:
        CheckpointError: it is a link to a file elsewhere on this machine, which shall not be shared unseen.
    """
    card = (folder / CARD).resolve()
    if folder.resolve() not in card.parents and HubName.of_folder(folder) is None:
        raise CheckpointError(
            f"`{folder / CARD}` is a link to `{card}`, outside of the checkpoint, which is not shared.",
            "Put the text itself there, or name one with --card.",
        )
    return folder / CARD


def push(
    folder: Path,
    name: str,
    *,
    private: bool | None = None,
    message: str = "Upload a checkpoint of sgdd",
    on_event: Listener = ignore,
) -> Upload:
    """Send a checkpoint to the hub as one commit; the model is made there if it does not exist.

    Args:
        folder: A checkpoint folder, which is verified first.
        name: `owner/name`.
        private: Only those who may read it see it; None leaves it to the owner's default.
        message: Of the commit.
        on_event: Told of the beginning and the end, and of what the hub remarks.

    Raises:
        CheckpointError: nobody is logged in, writing there is not allowed, the model exists and is public although
            `private` was asked for, or the hub cannot be reached; nothing is changed then but that it may exist.
    """
    upload = upload_of(folder, name)
    from huggingface_hub import HfApi, get_token  # noqa: PLC0415 - as above

    hub.check_token()
    if not get_token():
        raise CheckpointError(
            "Nobody is logged in to the hub on this machine.",
            "Make a token that may write at https://huggingface.co/settings/tokens, then: hf auth login",
        )
    stage = f"sending {upload.name}"
    on_event(StageStarted(stage, None, "bytes"))
    api = HfApi(library_name="sgdd")
    try:
        hub.ask_hub(
            lambda: api.create_repo(upload.name, private=private, exist_ok=True), hub.ANSWER_SECONDS + 1
        )
        if private and hub.look_up("model", upload.name, None).private is False:
            raise CheckpointError(
                f"The model {upload.name} exists on the hub and is public.",
                "Make it private there first, or name another one.",
            )
        commit = hub.ask_hub(
            lambda: _commit(api, folder, upload, message, on_event),
            _transfer_seconds(sum(upload.files.values())),
        )
    except CheckpointError:
        raise
    except Exception as problem:
        raise _push_failure(problem, upload.name) from problem
    on_event(StageFinished(stage, upload.url))
    return replace(upload, commit=commit)


def _commit(api: Any, folder: Path, upload: Upload, message: str, on_event: Listener) -> str:  # noqa: ANN401
    from huggingface_hub import CommitOperationAdd  # noqa: PLC0415 - as above
    from huggingface_hub.utils.tqdm import (  # noqa: PLC0415
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    drew = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            made = api.create_commit(
                upload.name,
                [CommitOperationAdd(file, folder / file) for file in upload.files],
                commit_message=message,
            )
    finally:
        if drew:
            enable_progress_bars()
    for remark in remarks:
        on_event(Notice(f"The hub says: {' '.join(str(remark.message).split())}"))
    return str(made.oid)


def _push_failure(problem: Exception, name: str) -> CheckpointError:
    from huggingface_hub import errors  # noqa: PLC0415 - as above

    # The client wraps what went wrong with one of the files.
    while isinstance(problem, RuntimeError) and isinstance(problem.__cause__, Exception):
        problem = problem.__cause__
    status = problem.response.status_code if isinstance(problem, errors.HfHubHTTPError) else None
    if status in (401, 403):
        return CheckpointError(
            f"The hub does not let you write to {name}.",
            "Check the owner's name, and log in with a token that may write: hf auth login",
        )
    if isinstance(problem, errors.RepositoryNotFoundError) or status == 404:
        return CheckpointError(f"The hub knows no owner of {name}.", "Check the name; yours: hf auth whoami")
    if isinstance(problem, ValueError) and "metadata" in str(problem):
        return CheckpointError(
            f"The hub refuses the model card: {hub.reason(problem)}",
            "Correct the metadata at its beginning (--card).",
        )
    return CheckpointError(
        f"Sending {name} to the hub was interrupted ({hub.reason(problem)}).",
        "Run the command again; files that arrived are not sent twice.",
    )


def _transfer_seconds(size: int) -> float:
    return TRANSFER_SECONDS + size / SLOWEST_BYTES_PER_SECOND
