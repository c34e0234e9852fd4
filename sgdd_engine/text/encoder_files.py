"""Where an encoder's files are, and what identifies them."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.config import BGE_M3, BGE_M3_REVISION, MINILM, EncoderConfig
from sgdd_engine.text.hub import fetch, weight_files
from sgdd_engine.text.offline import WEIGHTS_SHA256, minilm_folder

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# Keys of config.json that do not change what the network computes: where it came from, how it was trained, what
# saved it, and how its outputs are used. What is not named here counts.
NEUTRAL_KEYS = frozenset(
    {
        "_name_or_path",
        "architectures",
        "attention_probs_dropout_prob",
        "bos_token_id",
        "classifier_dropout",
        "dtype",
        "eos_token_id",
        "gradient_checkpointing",
        "hidden_dropout_prob",
        "id2label",
        "initializer_range",
        "label2id",
        "output_past",
        "tie_word_embeddings",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)


@dataclass(frozen=True)
class EncoderFiles:
    """Where an encoder's files are.

    Attributes:
        folder: The local folder.
        name: What to write down to find it again: `minilm`, a hub name, or an absolute path.
        revision: The hub commit; None for local files.
        weights_sha256: Of the weights, where they were hashed already to verify them; None otherwise.
    """

    folder: Path
    name: str
    revision: str | None
    weights_sha256: str | None = None


def find_files(config: EncoderConfig, *, weights: bool = True) -> EncoderFiles:
    """Find an encoder's files: `minilm`, then a local folder, then the hub's cache, then the hub.

    Raises:
        EncoderError: If there is no such folder, name or revision, or the hub is needed and out of reach.
    """
    if config.name == MINILM:
        return EncoderFiles(minilm_folder(), MINILM, None, WEIGHTS_SHA256)
    path = Path(config.name).expanduser()
    if path.is_dir():
        return EncoderFiles(path, str(path.resolve()), None)
    if path.exists():
        raise EncoderError(
            f"encoder.name is {config.name}, which is a file.", "Name the folder of an encoder."
        )
    if not _HUB_NAME.fullmatch(config.name):
        raise EncoderError(
            f"There is no encoder folder {config.name}.",
            "Check the path, or name a hub encoder such as BAAI/bge-m3, or `minilm`.",
        )
    revision = config.revision or (BGE_M3_REVISION if config.name == BGE_M3 else None)
    folder, commit = fetch(config.name, revision, weights=weights)
    return EncoderFiles(folder, config.name, commit)


def hash_weights(folder: Path) -> str:
    """Sha256 over an encoder's weight files, one after the other in name order."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def hash_config(folder: Path) -> str:
    """Sha256 over what `config.json` says of the network: all keys but `NEUTRAL_KEYS`, and none that is null.

    The same weights give other vectors under another activation, number of heads, or epsilon.

    Raises:
        EncoderError: If it is missing or damaged.
    """
    values = {
        key: value
        for key, value in read_json_object(folder / "config.json").items()
        if key not in NEUTRAL_KEYS and value is not None
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in one of an encoder's files.

    Raises:
        EncoderError: If the file is missing or damaged, or holds another value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise EncoderError(f"{path} should hold a JSON object.", "Fetch the encoder's files again.")
    return value


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """The JSON value in one of an encoder's files.

    Raises:
        EncoderError: If the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise EncoderError(
            f"{path} cannot be read: {problem}", "Fetch the encoder's files again."
        ) from problem
