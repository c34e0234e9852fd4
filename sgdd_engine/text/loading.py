"""From an encoder's name to real modules: where its files are, and what `transformers` makes of them."""

import contextlib
import hashlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.config import BGE_M3, BGE_M3_REVISION, MINILM, EncoderConfig
from sgdd_engine.text.hub import fetch, weight_files
from sgdd_engine.text.offline import minilm_folder

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class EncoderFiles:
    """Where an encoder's files are.

    Attributes:
        folder: The local folder.
        name: What to write down to find it again: `minilm`, a hub name, or an absolute path.
        revision: The hub commit; None for local files.
    """

    folder: Path
    name: str
    revision: str | None


def find_files(config: EncoderConfig, *, weights: bool = True) -> EncoderFiles:
    """Find an encoder's files: `minilm`, then a local folder, then the hub's cache, then the hub.

    Raises:
        EncoderError: If there is no such folder, name or revision, or the hub is needed and out of reach.
    """
    if config.name == MINILM:
        return EncoderFiles(minilm_folder(), MINILM, None)
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


def load_tokenizer(folder: Path) -> Any:  # noqa: ANN401 - transformers' classes are not typed for this use
    """The encoder's own fast tokenizer.

    Raises:
        EncoderError: If it cannot be read, or has no fast form.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - transformers takes seconds to import

    with quiet_transformers(), _as_encoder_error(folder, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    if not tokenizer.is_fast:
        raise EncoderError(f"The tokenizer in {folder} has no fast form (tokenizer.json), which sgdd needs.")
    return tokenizer


def load_model(folder: Path, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    """The frozen Transformer in evaluation mode, without its unused pooler.

    Raises:
        EncoderError: If files are damaged, weights are missing, or it would need code from the hub.
    """
    from transformers import AutoModel  # noqa: PLC0415

    files = weight_files(folder)
    if not files:
        raise EncoderError(f"The encoder folder {folder} holds no weights (model.safetensors).")
    config = load_config(folder)
    with quiet_transformers(), _as_encoder_error(folder, "weights"):
        model, report = AutoModel.from_pretrained(
            str(folder),
            config=config,
            dtype=dtype,
            output_loading_info=True,
            trust_remote_code=False,
            local_files_only=True,
            # With a local folder nothing is converted in the background; a .bin is read with weights_only.
            use_safetensors=True
            if files[0].suffix == ".safetensors" or "safetensors" in files[0].name
            else None,
            **without_pooler(config),
        )
    # A missing weight would only be logged, and the encoder would compute with random numbers.
    missing = sorted(key for key in report["missing_keys"] if not re.match(r"(\w+\.)?pooler\.", key))
    wrong = missing + sorted(str(key) for key in report["mismatched_keys"])
    if wrong:
        shown = ", ".join(wrong[:3]) + (", …" if len(wrong) > 3 else "")
        raise EncoderError(
            f"The weights in {folder} do not fit its config.json: "
            f"{len(wrong)} tensors are missing or misshapen ({shown}).",
            "Fetch the encoder's files again.",
        )
    model.requires_grad_(False)
    frozen: torch.nn.Module = model.eval().to(device)
    return frozen


def load_config(folder: Path) -> Any:  # noqa: ANN401 - transformers' own configuration class
    """The encoder's `config.json`.

    Raises:
        EncoderError: If it is missing, damaged, of an unknown kind, or not that of an encoder.
    """
    from transformers import AutoConfig  # noqa: PLC0415

    if not (folder / "config.json").is_file():
        raise EncoderError(f"{folder} is not an encoder folder: it has no config.json.")
    with quiet_transformers(), _as_encoder_error(folder, "config.json"):
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    if config.is_encoder_decoder or not isinstance(getattr(config, "hidden_size", None), int):
        raise EncoderError(
            f"{folder} holds a model of type {config.model_type}, which is not a plain text encoder.",
            "Choose an encoder such as BAAI/bge-m3.",
        )
    return config


def without_pooler(config: Any) -> dict[str, bool]:  # noqa: ANN401 - transformers' own configuration class
    """Arguments that keep a model class from building its pooler, whose output is never used."""
    from transformers import MODEL_MAPPING  # noqa: PLC0415

    model_class: Any = MODEL_MAPPING.get(type(config), None)
    if isinstance(model_class, type) and "add_pooling_layer" in inspect.signature(model_class).parameters:
        return {"add_pooling_layer": False}
    return {}


def hash_weights(folder: Path) -> str:
    """Sha256 over an encoder's weight files, one after the other in name order."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing progress bars and load reports: the engine never draws."""
    from transformers.utils import logging  # noqa: PLC0415

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(50)  # CRITICAL, which this module does not export
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _as_encoder_error(folder: Path, what: str) -> Iterator[None]:
    """Any failure of the library while it reads these files is a failure of these files."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as problem:
        text = str(problem).strip() or type(problem).__name__
        if "trust_remote_code" in text:
            raise EncoderError(
                f"The encoder in {folder} needs Python code from the hub, which sgdd does not run.",
                "Choose an encoder that transformers knows, such as BAAI/bge-m3.",
            ) from problem
        raise EncoderError(
            f"The {what} in {folder} cannot be loaded: {text.splitlines()[0][:200]}",
            "Fetch the encoder's files again, or name another encoder.",
        ) from problem
