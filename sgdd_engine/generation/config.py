"""How many texts are written and compared for each vector. No torch here: settings are shown without loading it."""

from dataclasses import dataclass

from sgdd_engine.config_fields import check_seed, option
from sgdd_engine.errors import require


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """What `SGDD.generate` is asked for besides the sampler's own settings; both are the section `sample`."""

    candidates: int = option(
        1,
        "texts written for each vector at its likeliest lengths; each is encoded (one encoder call), and the one whose "
        "vector has the highest cosine with the given one is kept",
    )
    refine: int = option(
        0,
        "rounds that rewrite uncertain tokens or the whole text, encode the result (one encoder call a round) and "
        "keep it if its cosine is higher",
    )
    shortlist: int | None = option(
        None,
        "texts written for each encoder call; the model's surrogate of the encoder predicts which one is closest. "
        "Costs no encoder call, but that many times the writing; 1 turns it off. By default 4 together with candidates "
        "or refine where the model has a surrogate, else 1",
    )
    length: int | None = option(None, "tokens of each text; by default the model predicts the length")
    num_samples: int = option(1, "texts kept for each vector; sample k uses the seed plus k")
    seed: int = option(0, "seed of the sampler")

    def __post_init__(self) -> None:
        for name in ("candidates", "shortlist", "length", "num_samples"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"sample.{name} is {value}; it must be at least 1.")
        require(self.refine >= 0, f"sample.refine is {self.refine}; it must not be negative.")
        check_seed(self.seed, "sample.seed")
        require(
            self.length is None or self.candidates == 1,
            f"sample.candidates is {self.candidates} and sample.length is {self.length}; candidates differ in their "
            "length, so a length can only be given for one.",
            "Leave out one of the two, for example with --set sample.length=none.",
        )
