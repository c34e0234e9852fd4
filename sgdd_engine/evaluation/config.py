"""What an evaluation measures. No torch here: settings are shown without loading it."""

from dataclasses import dataclass
from typing import Literal

from sgdd_engine.errors import require
from sgdd_engine.options import check_choices, check_seed, option


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Held-out sentences and the noise they are measured under."""

    split: Literal["test", "validation"] = option(
        "test", "split of a corpus; validation has chosen the best checkpoint, so its scores flatter"
    )
    limit: int = option(1000, "held-out sentences evaluated")
    candidates: int = option(1, "likeliest lengths decoded per sentence, the closest kept")
    nelbo_samples: int = option(8, "stratified times per sentence for the NELBO")
    seed: int = option(0, "seed of the choice of sentences, of masks and of the sampler")

    def __post_init__(self) -> None:
        check_choices(self, "eval")
        require(
            self.limit >= 2,
            f"eval.limit is {self.limit}; it must be at least 2, since each sentence is also written from "
            "another one's vector.",
        )
        for name in ("candidates", "nelbo_samples"):
            require(getattr(self, name) >= 1, f"eval.{name} is {getattr(self, name)}; it must be at least 1.")
        check_seed(self.seed, "eval.seed")
