"""What stands around an encoder's Transformer, read from the files that sentence-transformers writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdd_engine.atomic_files import is_inside
from sgdd_engine.bounded_files import shortened
from sgdd_engine.errors import EncoderError
from sgdd_engine.text.config import BGE_M3, EncoderConfig
from sgdd_engine.text.encoder_files import read_json, read_json_object
from sgdd_engine.text.pooling import POOLINGS

# No encoder reads more; larger ones do not fit into the integers of its tokenizer.
MOST_TOKENS = 1 << 30
# It is put before every sentence; published ones have some hundred characters.
_LONGEST_PROMPT = 10_000
# The older spelling of sentence-transformers: one boolean per mode.
_OLD_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class ModuleChain:
    """What stands around the Transformer.

    Attributes:
        pooling: A name in `POOLINGS`.
        normalize: Whether vectors are divided by their L2 norm.
        transformer: Folder of the Transformer's own files.
        max_tokens: Tokens read per text according to the files; None where they give no limit.
        lowercase: Whether text is lower-cased before it is tokenised.
        prompt: Text put before every sentence.
        truncate_dim: Only so many leading coordinates of the (normalised) vector are kept; None for all.
    """

    pooling: str
    normalize: bool
    transformer: Path
    max_tokens: int | None = None
    lowercase: bool = False
    prompt: str = ""
    truncate_dim: int | None = None

    def dim_of(self, hidden_size: int) -> int:
        """Size of a vector that is made of token states of this size."""
        return hidden_size if self.truncate_dim is None else min(self.truncate_dim, hidden_size)


def read_module_chain(folder: Path, config: EncoderConfig) -> ModuleChain:
    """Read `modules.json` and its neighbours, as sentence-transformers writes them.

    Raises:
        EncoderError: If the chain is not Transformer → Pooling (one of `POOLINGS`) → optional Normalize, if a file
            is damaged, or if there are no such files and `config.pooling` is `auto` (BGE-M3 excepted).
    """
    if not (folder / "modules.json").is_file():
        return ModuleChain(_pooling_without_files(folder, config), normalize=True, transformer=folder)
    modules = read_json(folder / "modules.json")
    if not isinstance(modules, list) or not all(map(_is_module, modules)):
        raise EncoderError(f"{folder / 'modules.json'} is not a list of sentence-transformers modules.")
    kinds = [module["type"] for module in modules]
    paths = [folder / module["path"] for module in modules]
    names = [kind.rpartition(".")[2] for kind in kinds]
    ours = all(kind.startswith("sentence_transformers.") for kind in kinds)
    if not ours or names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise EncoderError(
            f"{folder / 'modules.json'} describes the chain {' → '.join(names) or '(empty)'}, "
            "which sgdd does not support.",
            "sgdd takes encoders of the form Transformer → Pooling → Normalize.",
        )
    pooling = config.pooling if config.pooling != "auto" else _read_pooling(paths[1] / "config.json")
    if len(paths) > 2:
        _check_normalize(paths[2] / "config.json")
    max_tokens, lowercase = _read_transformer_settings(paths[0] / "sentence_bert_config.json")
    library_settings = folder / "config_sentence_transformers.json"
    return ModuleChain(
        pooling=pooling,
        normalize=len(names) > 2,
        transformer=paths[0],
        max_tokens=max_tokens,
        lowercase=lowercase,
        prompt=_read_prompt(library_settings, paths[1] / "config.json"),
        truncate_dim=_read_truncate_dim(library_settings),
    )


def _is_module(value: object) -> bool:
    """Whether a JSON value names a class, and a folder inside the encoder's own."""
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return False
    path = value.get("path")
    return isinstance(path, str) and (not path or is_inside(path))


def _pooling_without_files(folder: Path, config: EncoderConfig) -> str:
    if config.pooling != "auto":
        return config.pooling
    if config.name == BGE_M3:
        return "cls"
    raise EncoderError(
        f"The encoder {config.name} has no modules.json ({folder}), so its pooling is unknown; "
        f"only {BGE_M3} is known to use cls.",
        "Say which it was trained with: --set encoder.pooling=mean  or  --set encoder.pooling=cls",
    )


def _read_pooling(path: Path) -> str:
    settings = read_json_object(path)
    if "pooling_mode" in settings:
        chosen = settings["pooling_mode"]
        modes = chosen if isinstance(chosen, list) else [chosen]
    else:
        # sentence-transformers takes the mean where no mode is switched on.
        modes = [mode for key, mode in _OLD_KEYS.items() if settings.get(key)] or ["mean"]
    if len(modes) == 1 and isinstance(modes[0], str) and POOLINGS.find(modes[0]) is not None:
        return modes[0]
    raise EncoderError(
        f"{path} asks for the pooling {shortened(' + '.join(map(str, modes)))}, which sgdd does not support.",
        f"sgdd knows the poolings {', '.join(POOLINGS.names())}; choose another encoder.",
    )


def _check_normalize(path: Path) -> None:
    settings = _read_optional(path)
    names = [settings.get(key) for key in ("module_input_name", "module_output_name")]
    if any(name not in (None, "sentence_embedding") for name in names):
        raise EncoderError(
            f"{path} normalises something other than the sentence vector; sgdd does not support this."
        )


def _read_transformer_settings(path: Path) -> tuple[int | None, bool]:
    settings = _read_optional(path)
    task = settings.get("transformer_task", "feature-extraction")
    if task != "feature-extraction" or settings.get("processing_kwargs"):
        what = f"the task {task!r}" if task != "feature-extraction" else "processing_kwargs"
        raise EncoderError(f"{path} asks for {what}, which sgdd does not support.", "Choose another encoder.")
    max_tokens = settings.get("max_seq_length")
    if max_tokens is not None and not (type(max_tokens) is int and 0 < max_tokens <= MOST_TOKENS):
        raise EncoderError(
            f"{path} has a max_seq_length that is not a number of tokens.", "Correct or remove it."
        )
    lowercase = settings.get("do_lower_case", False)
    if not isinstance(lowercase, bool):
        raise EncoderError(
            f"{path} has a do_lower_case that is neither true nor false.", "Correct or remove it."
        )
    return max_tokens, lowercase


def _read_prompt(path: Path, pooling_path: Path) -> str:
    settings = _read_optional(path)
    name = settings.get("default_prompt_name")
    if not name:
        return ""
    prompts = settings.get("prompts") or {}
    if not isinstance(name, str) or not isinstance(prompts, dict):
        raise EncoderError(f"{path} has prompts that are not texts by name.", "Choose another encoder.")
    prompt = prompts.get(name)
    if prompt is None:
        raise EncoderError(f"{path} names the default prompt {name!r}, which it does not define.")
    if not isinstance(prompt, str) or len(prompt) > _LONGEST_PROMPT or not _is_unicode(prompt):
        raise EncoderError(
            f"{path} has a prompt {name!r} that is not a text of at most {_LONGEST_PROMPT:,} characters.",
            "Choose another encoder.",
        )
    if prompt and not _read_optional(pooling_path).get("include_prompt", True):
        raise EncoderError(
            f"{pooling_path} leaves the prompt {prompt!r} out of the pooling; sgdd does not support this.",
            "Choose an encoder without instructions.",
        )
    return prompt


def _is_unicode(text: str) -> bool:
    """Whether no lone surrogates are in it, which no tokenizer takes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _read_truncate_dim(path: Path) -> int | None:
    size = _read_optional(path).get("truncate_dim")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise EncoderError(
            f"{path} has a truncate_dim that is not a number of coordinates.",
            "Correct or remove it.",
        )
    return size


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}
