"""The noise process and the sampler. No torch here: settings are shown without loading it."""

from dataclasses import dataclass
from typing import Literal

from sgdd_engine.config_fields import check_choices, option
from sgdd_engine.errors import require


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Absorbing-state corruption and how training draws its times."""

    schedule: Literal["cosine", "linear"] = option("cosine", "how the share of clean tokens falls with t")
    num_steps: int = option(1000, "size of the grid of training times")
    times: Literal["stratified", "uniform", "bell"] = option(
        "stratified",
        "how training draws t: evenly over the batch, each row by itself, or evenly but most often near 1/2",
    )
    full_mask_share: float = option(
        0.1, "share of the rows trained at t = 1, where decoding starts (flat weighting)"
    )
    weighting: Literal["flat", "elbo"] = option("flat", "weight of a masked token in the training loss")

    def __post_init__(self) -> None:
        check_choices(self, "diffusion")
        require(self.num_steps >= 2, f"diffusion.num_steps is {self.num_steps}; it must be at least 2.")
        require(
            0 <= self.full_mask_share <= 1,
            f"diffusion.full_mask_share is {self.full_mask_share}; it must lie in [0, 1].",
        )
        require(
            (self.weighting, self.times) != ("elbo", "bell"),
            "diffusion.weighting=elbo is for times drawn evenly, and diffusion.times=bell draws them unevenly.",
            "Choose --set diffusion.weighting=flat or --set diffusion.times=stratified.",
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

    steps: int = option(16, "denoising steps")
    cfg: float = option(1.5, "guidance weight w; 1 is plain conditional, 0 unconditional")
    guidance: Literal["coverage", "plain"] = option(
        "coverage", "coverage leaves tokens alone that stand on the canvas already"
    )
    order: Literal["confidence", "margin", "entropy", "random"] = option(
        "confidence", "which positions are filled first"
    )
    temperature: float = option(0.0, "0 takes the likeliest token")
    top_p: float = option(1.0, "nucleus of the token distribution when temperature > 0")
    order_noise: float = option(0.0, "Gumbel noise on the order of positions, fading to 0 over the steps")

    def __post_init__(self) -> None:
        check_choices(self, "sample")
        require(self.steps >= 1, f"sample.steps is {self.steps}; it must be at least 1.")
        require(self.cfg >= 0, f"sample.cfg is {self.cfg}; it must not be negative.")
        require(self.temperature >= 0, f"sample.temperature is {self.temperature}; it must not be negative.")
        require(0 < self.top_p <= 1, f"sample.top_p is {self.top_p}; it must lie in (0, 1].")
        require(self.order_noise >= 0, f"sample.order_noise is {self.order_noise}; it must not be negative.")

    @property
    def by_chance(self) -> bool:
        """Whether two seeds give two texts (but for exact ties)."""
        return self.temperature > 0 or self.order_noise > 0 or self.order == "random"
