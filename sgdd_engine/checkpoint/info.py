"""What a checkpoint says of itself: `config.json`."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any

from sgdd_engine.bounded_files import shortened
from sgdd_engine.checkpoint.hub_name import HubName
from sgdd_engine.config_fields import from_plain
from sgdd_engine.diffusion.config import DiffusionConfig, SamplingConfig
from sgdd_engine.errors import SgddError, require
from sgdd_engine.models.config import LEAST_TEMPERATURE, MOST_TEMPERATURE, ModelConfig
from sgdd_engine.paths_and_shells import last_part
from sgdd_engine.text.reference import EncoderReference
from sgdd_engine.version import __version__

FORMAT = 1
CONFIG = "config.json"
# Where `facts` hold what was measured of the finished weights.
EVALUATIONS = "evaluations"
# Larger ones become no float.
_MOST_NUMBER = 1e300
# Settings of training that older versions kept with the shapes of the bottleneck.
MOVED_TO_TRAINING = ("beta", "free_bits", "anneal_steps")


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """Everything about a checkpoint that is not a tensor.

    Attributes:
        model: Shapes of the networks.
        diffusion: The noise process it was trained under.
        encoder: Which encoder made its vectors, with the hash of the encoder's weights.
        trained_null: Whether rows have trained the null condition, so that guidance means something.
        step: Optimiser steps taken.
        facts: Figures and origins: validation scores, corpus, training time, settings.
        sampling: Fields of `SamplingConfig` that were found to suit it, such as `{"cfg": 2.0}`; the rest has defaults.
        tokenizer_sha256: Fingerprint of its tokenizer; None in checkpoints of earlier versions.
        confidence: How likely a written sentence is close to its source, as `generation.confidence` records it; empty
            where that was not fitted.
        token_temperature: What logits are divided by, as `evaluation.token_temperature` found it.
    """

    model: ModelConfig
    diffusion: DiffusionConfig
    encoder: EncoderReference
    trained_null: bool
    step: int
    facts: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    tokenizer_sha256: str | None = None
    confidence: dict[str, Any] = field(default_factory=dict)
    token_temperature: float = 1.0

    def __post_init__(self) -> None:
        if unknown := self.sampling.keys() - {item.name for item in dataclasses.fields(SamplingConfig)}:
            raise SgddError(
                f"It records a sampling option that sgdd {__version__} does not know: {min(unknown)}.",
                "Upgrade sgdd.",
            )
        from_plain(SamplingConfig, self.sampling, "sampling")
        require(
            LEAST_TEMPERATURE <= self.token_temperature <= MOST_TEMPERATURE,
            f"token_temperature is {self.token_temperature}; it must lie between {LEAST_TEMPERATURE:g} and "
            f"{MOST_TEMPERATURE:g}.",
        )
        require(self.step >= 0, f"step is {self.step}; it must not be negative.")
        require(
            self.encoder.dim == self.model.embedding_dim,
            f"It reads vectors of {self.model.embedding_dim} dimensions, and those of its encoder have "
            f"{self.encoder.dim}.",
        )
        _check_facts(self.facts)
        if not self.trained_null and self.sampling.get("cfg", 1) != 1:
            raise SgddError(
                "It records a guidance weight, which a model without a trained null condition cannot use."
            )

    @property
    def validation_loss(self) -> float:
        """Held-out loss when it was saved; infinity where it was not validated, or the loss is no number."""
        loss = float(self.facts.get("validation", {}).get("loss", math.inf))
        # A comparison with NaN is false, so that it would be the best as well as the worst.
        return loss if math.isfinite(loss) else math.inf

    @property
    def validation_set(self) -> int:
        """How often what is validated on had changed in its run; held-out losses compare only within one number."""
        return int(self.facts.get("validation", {}).get("set", 0))

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations recorded in it, the newest first, as `EvaluationReport.to_record` made them.

        What is no such record, as in a file of another hand, is passed over.
        """
        recorded = self.facts.get(EVALUATIONS)
        return [one for one in recorded if is_record(one)] if isinstance(recorded, list) else []

    @property
    def null_rows(self) -> int:
        """Rows that have trained the null condition, in all runs that led to these weights.

        Checkpoints of older versions did not count them; their settings tell how many there were on average.
        """
        training: Mapping[str, Any] = self.facts.get("training", {})
        if "null_rows" in training or not self.trained_null:
            return int(training.get("null_rows", 0))
        share = float(self.facts.get("settings", {}).get("condition_dropout", 0.0))
        return max(1, round(share * float(training.get("sentences_seen", 0))))

    def shareable(self) -> "CheckpointInfo":
        """The same without the folders of the machine of training, of which only the last names are kept."""
        facts = dict(self.facts)
        if "corpus" in facts:
            corpus = {key: value for key, value in facts["corpus"].items() if key != "folder"}
            facts["corpus"] = _with_file_names(corpus)
        if start := facts.get("settings", {}).get("start_from"):
            facts["settings"] = {**facts["settings"], "start_from": _shared_name(start)}
        if self.evaluations:
            facts[EVALUATIONS] = [_with_file_names(_without_commands(one)) for one in self.evaluations]
        encoder = self.encoder
        if encoder.is_folder:
            encoder = dataclasses.replace(encoder, name=last_part(encoder.name))
        return dataclasses.replace(self, encoder=encoder, facts=facts)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with the format's version."""
        plain = dataclasses.asdict(self)
        plain["encoder"] = self.encoder.to_dict()
        return {"format": FORMAT, "sgdd": __version__, **plain}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "CheckpointInfo":
        """From what `to_dict` gave.

        Raises:
            SgddError: the format is another, a part is missing or unknown, or a value is of another kind or out of
                range.
        """
        if plain.get("format") != FORMAT or isinstance(plain["format"], bool):
            raise SgddError(
                f"Its format is {shortened(repr(plain.get('format')))}; this sgdd {__version__} reads format {FORMAT}.",
                "Upgrade sgdd, or train the checkpoint again with this version.",
            )
        recorded = {name: value for name, value in plain.items() if name not in ("format", "sgdd")}
        model, facts = recorded.get("model"), recorded.get("facts")
        if isinstance(model, dict) and isinstance(model.get("bottleneck"), dict):
            moved = {name: value for name, value in model["bottleneck"].items() if name in MOVED_TO_TRAINING}
            kept = {name: value for name, value in model["bottleneck"].items() if name not in moved}
            recorded["model"] = {**model, "bottleneck": kept}
            if moved and isinstance(facts, dict) and isinstance(facts.get("settings"), dict):
                recorded["facts"] = {**facts, "settings": {**moved, **facts["settings"]}}
        return from_plain(cls, recorded, CONFIG)


# What is read of the facts, by section, and of which kind it is; the facts hold more, which is only shown.
_READ_FACTS: Mapping[str, Mapping[str, type | UnionType]] = {
    "corpus": {"name": str, "folder": str, "fingerprint": str, "train_sentences": int, "source": dict},
    "training": {"null_rows": int, "sentences_seen": int, "seconds": int | float},
    "settings": {"start_from": str | None, "condition_dropout": int | float},
    "feedback": {},
    "validation": {"loss": int | float, "nelbo_nats_per_token": int | float, "set": int},
}


def _check_facts(facts: Mapping[str, Any]) -> None:
    """Check the kinds of what is read of them.

    Raises:
        ConfigError: one is of another kind.
    """
    for section, kinds in _READ_FACTS.items():
        values = facts.get(section, {})
        require(isinstance(values, dict), f"facts.{section} is not an object.")
        for name, kind in kinds.items():
            require(
                name not in values or _is_of(values[name], kind),
                f"facts.{section}.{name} is of another kind than sgdd records.",
            )
    require(isinstance(facts.get("hub", ""), str), "facts.hub is not a text.")


def _is_of(value: object, kind: type | UnionType) -> bool:
    """Whether a value is of a kind, and no truth value in the place of a number, nor one that becomes no float."""
    if isinstance(value, int):
        return isinstance(value, kind) and not isinstance(value, bool) and abs(value) < _MOST_NUMBER
    return isinstance(value, kind)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST_NUMBER


def is_record(value: object) -> bool:
    """Whether a JSON value has the parts of a recorded evaluation that are read: labels, scores, verdicts."""
    if not isinstance(value, dict) or not isinstance(value.get("sentences"), int):
        return False
    metrics, conditions, verdicts = (value.get(name) for name in ("metrics", "conditions", "verdicts"))
    return (
        isinstance(value.get("settings"), dict)
        and all(isinstance(part, dict) for part in value["settings"].values())
        and isinstance(verdicts, list)
        and all(isinstance(one, dict) and isinstance(one.get("sentence"), str) for one in verdicts)
        and isinstance(metrics, dict)
        and isinstance(conditions, list)
        and any(isinstance(one, dict) and one.get("name") == "true" for one in conditions)
        and all(
            isinstance(one, dict)
            and isinstance(one.get("label"), str)
            and isinstance(one.get("name"), str)
            and isinstance(one.get("scores"), dict)
            and all(
                name in metrics
                and isinstance(score, dict)
                and _is_number(score.get("mean"))
                and all(score.get(end) is None or _is_number(score[end]) for end in ("low", "high"))
                for name, score in one["scores"].items()
            )
            for one in conditions
        )
    )


def _without_commands(record: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded evaluation without what its verdicts say is to be done here: that names folders of this machine."""
    verdicts = [
        {key: None if key in ("cause", "command") else value for key, value in verdict.items()}
        for verdict in record["verdicts"]
    ]
    return {**record, "verdicts": verdicts}


def _with_file_names(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value in which every `path` is the last part of itself."""
    if isinstance(value, list):
        return [_with_file_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: last_part(item) if key == "path" and isinstance(item, str) else _with_file_names(item)
        for key, item in value.items()
    }


def _shared_name(start: str) -> str:
    """A name on the hub, which ends with its commit, as it is; of a folder the last part."""
    on_hub = HubName.parse(start)
    return start if on_hub is not None and on_hub.pinned else last_part(start)
