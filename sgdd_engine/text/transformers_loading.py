"""Encoders as `transformers` reads them: every architecture that it knows, for some seconds of imports."""

import contextlib
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from sgdd_engine.bounded_files import shortened
from sgdd_engine.errors import EncoderError
from sgdd_engine.text.hub import weight_files

# Beginnings of the names of types in a safetensors header: F16, F32, F64, F8_…, BF16.
_FRACTIONS = ("F1", "F3", "F6", "F8", "BF")


def load_auto_tokenizer(folder: Path) -> Any:  # noqa: ANN401 - transformers' classes are not typed for this use
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


def load_auto_model(folder: Path, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    """The frozen Transformer in evaluation mode, without its unused pooler.

    Raises:
        EncoderError: If files are damaged, weights are missing, or it would need code from the hub.
    """
    from transformers import AutoModel  # noqa: PLC0415

    files = weight_files(folder)
    config = _load_config(folder)
    _check_size(folder, files)
    with quiet_transformers(), _as_encoder_error(folder, "weights"):
        model, report = AutoModel.from_pretrained(
            str(folder),
            config=config,
            dtype=dtype,
            output_loading_info=True,
            trust_remote_code=False,
            local_files_only=True,
            # With a local folder nothing is converted in the background; a .bin is read with weights_only.
            use_safetensors="safetensors" in files[0].name or None,
            **_without_pooler(config),
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


def _check_size(folder: Path, files: Sequence[Path]) -> None:
    """Check that the weights are as many as `config.json` claims, before memory is asked for them, and are fractions.

    Raises:
        EncoderError: they are far fewer, or whole numbers.
    """
    for path in files:
        # transformers would take whole numbers for weights. A damaged file is told by it.
        if path.suffix == ".safetensors" and (name := _of_whole_numbers(path)):
            raise EncoderError(
                f"`{shortened(name)}` in {path} holds whole numbers.", "Fetch the encoder's files again."
            )
    claimed = sum(parameter.numel() for parameter in outline_auto_model(folder).parameters())
    # The smallest numbers that are read have two bytes. Half of them may be missing before transformers says which.
    held = sum(path.stat().st_size for path in files) // 2
    if claimed > 2 * held:
        raise EncoderError(
            f"The config.json in {folder} claims {claimed:,} numbers, and its weights hold no more than {held:,}.",
            "Fetch the encoder's files again.",
        )


def _of_whole_numbers(path: Path) -> str | None:
    """The first matrix of a file that holds whole numbers; None where there is none."""
    try:
        with safe_open(path, framework="pt") as file:
            parts = ((name, file.get_slice(name)) for name in file.keys())  # noqa: SIM118 - no mapping
            whole = (
                name
                for name, part in parts
                if len(part.get_shape()) > 1 and part.get_dtype()[:2] not in _FRACTIONS
            )
            return next((name for name in whole if name.endswith("weight")), None)
    except (SafetensorError, OSError):
        return None


def outline_auto_model(folder: Path) -> torch.nn.Module:
    """The Transformer of a folder's `config.json` on the meta device: shapes and no numbers.

    Raises:
        EncoderError: If `config.json` is damaged, of an unknown kind, or not that of an encoder.
    """
    from transformers import AutoModel  # noqa: PLC0415

    config = _load_config(folder)
    build: Any = AutoModel.from_config  # untyped in transformers
    with _as_encoder_error(folder, "config.json"), torch.device("meta"):
        outline: torch.nn.Module = build(config, trust_remote_code=False, **_without_pooler(config))
    return outline


def _load_config(folder: Path) -> Any:  # noqa: ANN401 - transformers' own configuration class
    """The encoder's `config.json`.

    Raises:
        EncoderError: If it is damaged, of an unknown kind, or not that of an encoder.
    """
    from transformers import AutoConfig  # noqa: PLC0415

    with quiet_transformers(), _as_encoder_error(folder, "config.json"):
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    if config.is_encoder_decoder or not isinstance(getattr(config, "hidden_size", None), int):
        raise EncoderError(
            f"{folder} holds a model of type {config.model_type}, which is not a plain text encoder.",
            "Choose an encoder such as BAAI/bge-m3.",
        )
    return config


def _without_pooler(config: Any) -> dict[str, bool]:  # noqa: ANN401 - transformers' own configuration class
    """Arguments that keep a model class from building its pooler, whose output is never used."""
    from transformers import MODEL_MAPPING  # noqa: PLC0415

    model_class: Any = MODEL_MAPPING.get(type(config), None)
    if isinstance(model_class, type) and "add_pooling_layer" in inspect.signature(model_class).parameters:
        return {"add_pooling_layer": False}
    return {}


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing progress bars and load reports: the engine never draws."""
    from transformers.utils import logging  # noqa: PLC0415

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(50)  # CRITICAL, which this module does not export
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


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
            f"The {what} in {folder} cannot be loaded: {shortened(text.splitlines()[0], 200).rstrip('.')}.",
            "Fetch the encoder's files again, or name another encoder.",
        ) from problem
