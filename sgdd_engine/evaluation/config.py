"""What an evaluation measures. No torch here: settings are shown without loading it."""

from dataclasses import dataclass, replace
from typing import Literal

from sgdd_engine.config_fields import check_choices, check_seed, option
from sgdd_engine.errors import require

# What `sgdd eval --quick` leaves out or makes smaller. Of the processor time of 60 sentences of `mini` (32 s) 47 % was
# for diversity, which grows up to 100 sentences, 25 % for 8 masks a sentence, 10 % for the texts without guidance, and
# 5 % to measure the speed. The rest (12 %, writing from the sentence's own vector) is what scores rest on; it grows
# with the sentences, so that of 1,000 of them half are scored. The quick evaluation of the 60 took 9 s.
QUICK = {"limit": 500, "nelbo_samples": 2, "compare_guidance": False, "diversity_samples": 0}


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Held-out sentences, how they are written again, and what they are compared with."""

    split: Literal["test", "validation"] = option(
        "test",
        "split of a corpus; scores on `validation` are too good, since it has chosen the best checkpoint",
    )
    limit: int = option(
        1000, "number of held-out sentences to score; more take longer and give narrower intervals"
    )
    # No settings of this section: those of `sample` of the same names hold for evaluations too.
    candidates: int = 1
    refine: int = 0
    shortlist: int | None = None
    search: int = 0
    gradient: bool = True
    nelbo_samples: int = option(8, "stratified masks per sentence for the NELBO and the calibration")
    compare_guidance: bool = option(
        True,
        "also decode without guidance, to see whether guidance helps (not beside candidates and feedback)",
    )
    find_cfg: bool = option(False, "first find the best guidance weight, on sentences that are not scored")
    diversity_samples: int = option(
        4, "number of samples for each of at most 100 sentences, to measure diversity; 0 for none"
    )
    training_limit: int = option(
        1_000_000,
        "find the nearest among at most this many training sentences, taken evenly from a larger split",
    )
    seed: int = option(0, "seed of the choice of sentences, of masks and of the sampler")

    @property
    def feedback(self) -> bool:
        """Whether more than one sentence is written to keep one."""
        return self.candidates > 1 or self.refine > 0 or (self.shortlist or 1) > 1 or self.search > 0

    @property
    def one_shot(self) -> "EvalConfig":
        """The same with one text for each sentence, which is kept as it is written."""
        return replace(self, candidates=1, refine=0, shortlist=1, search=0)

    def __post_init__(self) -> None:
        check_choices(self, "eval")
        require(
            self.limit >= 2,
            f"eval.limit is {self.limit}; it must be at least 2, since each sentence is also written from "
            "another one's vector.",
        )
        for name in ("candidates", "shortlist", "nelbo_samples", "training_limit"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"eval.{name} is {value}; it must be at least 1.")
        for name in ("refine", "search"):
            value = getattr(self, name)
            require(value >= 0, f"eval.{name} is {value}; it must not be negative.")
        require(
            self.diversity_samples == 0 or self.diversity_samples >= 2,
            f"eval.diversity_samples is {self.diversity_samples}; it must be 0 or at least 2.",
        )
        check_seed(self.seed, "eval.seed")
