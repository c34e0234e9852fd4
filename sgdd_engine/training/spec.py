"""What a run is made from, and how it ends."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.errors import require
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig
from sgdd_engine.training.config import FeedbackConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Everything a run is made from, besides its corpus and its folder."""

    train: TrainConfig = field(default_factory=TrainConfig)
    bottleneck: BottleneckConfig = field(default_factory=BottleneckConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)

    def __post_init__(self) -> None:
        require(
            not self.decoder.feedback or self.train.start_from is not None,
            "decoder.feedback needs a trained decoder whose drafts it learns to correct.",
            "Train without it first, then name that run: --set train.start_from=runs/NAME",
        )


Ending = Literal["steps", "minutes", "signal"]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: Optimiser steps taken.
        checkpoint: The newest checkpoint. best: The one of the lowest held-out loss.
        stopped: Why it ended. signal: The signal's number, when it was one.
    """

    step: int
    checkpoint: Path
    best: Path
    stopped: Ending
    signal: int | None = None
