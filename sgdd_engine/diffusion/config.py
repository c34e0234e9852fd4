"""The noise process and the sampler. No torch here: settings are shown without loading it."""

import math
from dataclasses import dataclass
from typing import Literal

from sgdd_engine.config_fields import check_choices, choice, option
from sgdd_engine.diffusion.guidance import GUIDANCE_SCHEDULES
from sgdd_engine.diffusion.position_rules import POSITION_RULES
from sgdd_engine.diffusion.schedule import SCHEDULES
from sgdd_engine.diffusion.times import TIMES
from sgdd_engine.errors import require

# Beyond these, numbers of float32 that are computed from them overflow; far within, they change nothing any more.
LARGEST, LOWEST_TEMPERATURE = 1_000_000, 1e-6


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Absorbing-state corruption and how training draws its times."""

    schedule: str = choice("cosine", SCHEDULES, "how the share of clean tokens falls with t")
    num_steps: int = option(1000, "size of the grid of training times")
    times: str = choice(
        "stratified",
        TIMES,
        "how training draws t: evenly over the batch, each row by itself, or evenly but most often near 1/2",
    )
    full_mask_share: float = option(
        0.1, "share of the rows trained at t = 1, where decoding starts (flat weighting)"
    )
    weighting: Literal["flat", "elbo"] = option("flat", "weight of a masked token in the training loss")
    masks: Literal["independent", "decoding_order"] = option(
        "independent",
        "which tokens of a row training leaves visible: any, or as many of those that the decoder is surest of, which "
        "it would write first (costs another forward pass; flat weighting)",
    )

    def __post_init__(self) -> None:
        check_choices(self, "diffusion")
        require(self.num_steps >= 2, f"diffusion.num_steps is {self.num_steps}; it must be at least 2.")
        require(
            0 <= self.full_mask_share <= 1,
            f"diffusion.full_mask_share is {self.full_mask_share}; it must lie in [0, 1].",
        )
        require(
            self.weighting != "elbo" or self.times in ("stratified", "uniform"),
            f"diffusion.weighting=elbo is for times drawn evenly, and diffusion.times={self.times} draws them "
            "unevenly.",
            "Choose --set diffusion.weighting=flat or --set diffusion.times=stratified.",
        )
        require(
            self.weighting != "elbo" or self.masks == "independent",
            "diffusion.weighting=elbo is the bound of tokens masked independently, and "
            f"diffusion.masks={self.masks} does not mask them so.",
            "Choose --set diffusion.weighting=flat or --set diffusion.masks=independent.",
        )

    @property
    def share_at_one(self) -> float:
        """Share of the rows that training sets to t = 1.

        The bound weighs t = 1 with zero: under `elbo` such rows would train nothing, and the loss be no bound.
        """
        return 0.0 if self.weighting == "elbo" else self.full_mask_share


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """MaskGIT-style decoding: choose positions, then tokens."""

    steps: int = option(
        16, "number of denoising steps: passes of the decoder over a text; time grows with it"
    )
    cfg: float = option(
        1.5,
        "guidance weight w: how much the text is pushed towards its vector; 1 is no push and half the work, 0 ignores "
        "the vector",
    )
    guidance: Literal["coverage", "plain"] = option(
        "coverage",
        "`coverage` applies no guidance to tokens that the text has already; `plain` to all tokens",
    )
    guidance_schedule: str = choice(
        "constant",
        GUIDANCE_SCHEDULES,
        "how the guidance weight changes while a text is written; steps at weight 1 take half the time",
    )
    null_every: int = option(
        1,
        "the prediction without the vector, which guidance needs, is computed every this many steps and reused in "
        "between; above 1 is faster and an approximation",
    )
    kv_cache: bool = option(
        False,
        "keep the attention keys and values of written tokens, so that a step reads only masked tokens and those of "
        "the last step; faster, and an approximation",
    )
    vocabulary: int = option(
        0,
        "write each text only with this many tokens, those that are most likely in its first step; 0 for all tokens; "
        "fewer are faster",
    )
    unmasking: str = choice(
        "cosine",
        SCHEDULES,
        "how the number of masked positions falls over the steps; it need not be the schedule of training",
    )
    position_rule: str = choice(
        "confidence",
        POSITION_RULES,
        "which masked positions are revealed first; entropy_bound and threshold need fewer steps for easy texts",
    )
    temperature: float = option(
        0.0, "randomness of the tokens: 0 takes the most likely ones, 1 draws as the model predicts"
    )
    top_k: int = option(0, "at temperature > 0, draw only among this many most likely tokens; 0 for all")
    top_p: float = option(
        1.0, "at temperature > 0, draw only among the most likely tokens with this share of the probability"
    )
    position_noise: float = option(0.0, "Gumbel noise on the scores of positions, fading to 0 over the steps")
    remask: float = option(
        0.0,
        "share of the written tokens that are masked again after each step, most often the uncertain ones",
    )

    def __post_init__(self) -> None:
        check_choices(self, "sample")
        for name in ("cfg", "temperature", "position_noise"):
            value = getattr(self, name)
            require(math.isfinite(value), f"sample.{name} is {value}; it must be a finite number.")
            require(value <= LARGEST, f"sample.{name} is {value}; it must be at most {LARGEST:,}.")
        require(self.steps >= 1, f"sample.steps is {self.steps}; it must be at least 1.")
        require(self.cfg >= 0, f"sample.cfg is {self.cfg}; it must not be negative.")
        require(
            self.temperature == 0 or self.temperature >= LOWEST_TEMPERATURE,
            f"sample.temperature is {self.temperature}; it must be 0, or at least {LOWEST_TEMPERATURE:g}.",
        )
        require(self.null_every >= 1, f"sample.null_every is {self.null_every}; it must be at least 1.")
        require(self.vocabulary >= 0, f"sample.vocabulary is {self.vocabulary}; it must not be negative.")
        require(self.top_k >= 0, f"sample.top_k is {self.top_k}; it must not be negative.")
        require(0 <= self.remask < 1, f"sample.remask is {self.remask}; it must lie in [0, 1).")
        require(
            not (self.kv_cache and self.remask),
            "sample.kv_cache keeps what was read of written tokens, and sample.remask masks them again.",
            "Leave out one of the two.",
        )
        require(0 < self.top_p <= 1, f"sample.top_p is {self.top_p}; it must lie in (0, 1].")
        require(
            self.position_noise >= 0,
            f"sample.position_noise is {self.position_noise}; it must not be negative.",
        )

    @property
    def stochastic(self) -> bool:
        """Whether two seeds give two texts (but for exact ties)."""
        rule = POSITION_RULES.build(self.position_rule)
        return self.temperature > 0 or self.position_noise > 0 or self.remask > 0 or rule.stochastic
