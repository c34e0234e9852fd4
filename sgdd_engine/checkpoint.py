"""A checkpoint is a folder that loads on its own: shapes, weights, tokenizer, encoder reference, model card.

Layout: `config.json`, `model.safetensors` (the averaged weights, float32), tokenizer files, `README.md`,
`training/` (what resuming needs), and `files.json` with the SHA-256 of each, written last. No pickle anywhere.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.errors import CheckpointError, SgddError
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig, VocabularyConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.storage import damage, write_folder, write_json, write_text
from sgdd_engine.text.encoder import EncoderReference
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.version import __version__

FORMAT = 1
TRAINING = "training/"
# What using a model needs; the training state beside it is several times as large.
MODEL = ("model.safetensors", "config.json", "tokenizer")

_NAME_ONE = "Name a checkpoint folder such as runs/NAME/checkpoints/step-0001000, or a run folder."


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """Everything about a checkpoint that is not a tensor.

    Attributes:
        model: Shapes of the networks.
        diffusion: The noise process it was trained under.
        encoder: Which encoder made its vectors, with the hash of the encoder's weights.
        trained_null: Whether the null condition was trained, so that guidance means something.
        step: Optimiser steps taken.
        facts: Figures and origins for people: validation scores, corpus, training time, settings.
    """

    model: ModelConfig
    diffusion: DiffusionConfig
    encoder: EncoderReference
    trained_null: bool
    step: int
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def validation_loss(self) -> float:
        """Held-out loss when it was saved; infinity where it was not validated."""
        return float(self.facts.get("validation", {}).get("loss", float("inf")))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with the format's version."""
        plain = dataclasses.asdict(self)
        plain["encoder"] = self.encoder.to_dict()
        return {"format": FORMAT, "sgdd": __version__, **plain}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "CheckpointInfo":
        """From what `to_dict` gave.

        Raises:
            SgddError: the format is another, or a value is out of range.
            KeyError, TypeError: a part is missing or of another kind.
        """
        if plain.get("format") != FORMAT:
            raise SgddError(
                f"Its format is {plain.get('format')!r}; this sgdd {__version__} reads format {FORMAT}.",
                "Upgrade sgdd, or train the checkpoint again with this version.",
            )
        model = plain["model"]
        return cls(
            model=ModelConfig(
                embedding_dim=model["embedding_dim"],
                max_tokens=model["max_tokens"],
                vocabulary=VocabularyConfig(**model["vocabulary"]),
                bottleneck=BottleneckConfig(**model["bottleneck"]),
                decoder=DecoderConfig(**model["decoder"]),
            ),
            diffusion=DiffusionConfig(**plain["diffusion"]),
            encoder=EncoderReference.from_dict(plain["encoder"]),
            trained_null=plain["trained_null"],
            step=plain["step"],
            facts=plain["facts"],
        )


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it."""

    info: CheckpointInfo
    model: SemanticDecoder
    tokenizer: TextTokenizer


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, training_state: dict[str, Any] | None = None
) -> None:
    """Write a checkpoint folder, whole or not at all.

    Args:
        folder: The final name.
        checkpoint: What to save; its model's state becomes `model.safetensors`.
        training_state: Name → tensors by name (one safetensors file each) or JSON values, for resuming.

    Raises:
        CheckpointError: the tensors cannot be written.
        OSError: another file cannot be written, for example on a full disk.
    """

    def fill(aside: Path) -> None:
        save_file(_saveable(checkpoint.model.state_dict()), aside / "model.safetensors")
        write_json(aside / "config.json", checkpoint.info.to_dict())
        checkpoint.tokenizer.save(aside)
        write_text(aside / "README.md", model_card(checkpoint.info))
        for name, value in (training_state or {}).items():
            (aside / TRAINING).mkdir(exist_ok=True)
            if name.endswith(".json"):
                write_json(aside / TRAINING / name, value)
            else:
                save_file(_saveable(value), aside / TRAINING / name)

    try:
        write_folder(folder, fill)
    except SafetensorError as error:  # its own name for what the system refuses
        raise CheckpointError(
            f"The checkpoint `{folder}` cannot be written: {error}.",
            "Make room on the disk; what was saved before is complete.",
        ) from error


def _saveable(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}


def read_info(folder: Path) -> CheckpointInfo:
    """Read `config.json` of a checkpoint folder.

    Raises:
        CheckpointError: the folder is not a checkpoint or its format cannot be read.
    """
    try:
        plain = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(plain, dict) or "format" not in plain:
            raise CheckpointError(f"`{folder}` is not a checkpoint of sgdd.", _NAME_ONE)
        return CheckpointInfo.from_dict(plain)
    except CheckpointError:
        raise
    except SgddError as error:
        raise CheckpointError(f"`{folder}` cannot be read. {error.message}", error.hint) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"`{folder}` is not a checkpoint: its config.json is missing or damaged ({type(error).__name__}).",
            _NAME_ONE,
        ) from None


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a checkpoint folder, verified.

    Raises:
        CheckpointError: it is missing, damaged, or from a format that cannot be read.
    """
    info = read_info(folder)
    if problem := damage(folder, MODEL):
        raise CheckpointError(
            f"The checkpoint `{folder}` cannot be used: {problem}.", "Use another checkpoint of the run."
        )
    model = SemanticDecoder(info.model)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (RuntimeError, OSError, SafetensorError) as error:
        raise CheckpointError(f"The weights of `{folder}` do not fit its config.json: {error}") from None
    return Checkpoint(info, model.to(device).eval(), TextTokenizer.load(folder))


def load_training_state(folder: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `training_state`, verified.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    problem = damage(folder, TRAINING)
    files = sorted((folder / TRAINING).glob("*"))
    if problem or not files:
        raise CheckpointError(
            f"Training cannot go on from `{folder}`: {problem or 'it holds no training state'}."
        )
    return {
        path.name: json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else load_file(path)
        for path in files
    }


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first; damaged ones included."""
    found = [path for path in (run / "checkpoints").glob("step-*") if path.is_dir()]
    # Steps beyond ten million have longer names than the zeros provide for.
    return sorted(found, key=lambda path: (len(path.name), path.name))


def resolve_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means: a checkpoint folder itself, or a run folder's best.

    Raises:
        CheckpointError: the path holds no usable checkpoint.
    """
    if not path.exists():
        raise CheckpointError(
            f"There is no checkpoint at `{path}`.", "Train one with `sgdd train`, or check the path."
        )
    if (path / "config.json").is_file():
        return path
    folders = checkpoints_of(path)
    for folder in sorted(folders, key=lambda folder: (_held_out_loss(folder), -folders.index(folder))):
        if not damage(folder, MODEL):
            return folder
    raise CheckpointError(
        f"`{path}` is neither a checkpoint nor a run with a sound checkpoint.",
        _NAME_ONE,
    )


def _held_out_loss(folder: Path) -> float:
    try:
        return read_info(folder).validation_loss
    except CheckpointError:
        return float("inf")


def newest_checkpoint(runs: Path = Path("runs")) -> Path:
    """The best checkpoint of the newest run in a folder of runs.

    Raises:
        CheckpointError: there is none.
    """
    found = [run for run in runs.glob("*") if checkpoints_of(run)]
    if not found:
        raise CheckpointError(
            f"No checkpoint was named and `{runs}` holds no run.",
            "Name one with --checkpoint FOLDER, or train one: sgdd train",
        )
    return resolve_checkpoint(max(found, key=lambda run: max(p.stat().st_mtime for p in checkpoints_of(run))))


def model_card(info: CheckpointInfo) -> str:
    """The README.md of a checkpoint: what it is, what it needs, how it scored."""
    decoder, encoder, facts = info.model.decoder, info.encoder, info.facts
    lines = [
        "# A semantic-guided discrete diffusion decoder",
        "",
        f"Writes a sentence from one vector of `{encoder.name}` ({encoder.dim} dimensions, {encoder.pooling} pooling).",
        "",
        f"- decoder: {decoder.layers} layers × {decoder.width}, {decoder.memory_tokens} memory tokens",
        f"- vocabulary: {info.model.vocabulary.size:,} pieces; up to {info.model.max_tokens} tokens",
        f"- bottleneck: {info.model.bottleneck.kind}",
        f"- trained for {info.step:,} steps on {facts.get('corpus', {}).get('name', 'an unnamed corpus')}",
    ]
    if validation := facts.get("validation"):
        nelbo, loss = validation["nelbo_nats_per_token"], validation["loss"]
        lines.append(f"- held out: {nelbo:.3f} nats per token (NELBO), loss {loss:.3f}")
    lines += [
        "",
        "Use it:",
        "",
        '    sgdd sample "text" --checkpoint THIS_FOLDER',
        "    sgdd eval THIS_FOLDER",
        "",
    ]
    return "\n".join(lines)
