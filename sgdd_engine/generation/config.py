"""How many texts are written and compared for each vector. No torch here: settings are shown without loading it."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from sgdd_engine.config_fields import check_seed, option
from sgdd_engine.errors import ConfigError, require

# No text has a billion tokens, and Python reads no number of more than 4,300 digits.
_RANGE = re.compile(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", re.ASCII)


class LengthRange(NamedTuple):
    """From how many tokens to how many, both included."""

    shortest: int
    longest: int

    def __contains__(self, length: object) -> bool:
        return isinstance(length, int) and self.shortest <= length <= self.longest

    def __str__(self) -> str:
        return f"{self.shortest}-{self.longest}"

    @property
    def exact(self) -> bool:
        """Whether it holds one length."""
        return self.shortest == self.longest

    @classmethod
    def parse(cls, text: str) -> "LengthRange | None":
        """The range of a text such as `8` or `6-9`; None where it is none, or holds no length of 1 or more."""
        if (found := _RANGE.fullmatch(text)) is None:
            return None
        shortest, longest = int(found[1]), int(found[2] or found[1])
        return cls(shortest, longest) if 1 <= shortest <= longest else None


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """What `SGDD.generate` is asked for besides the sampler's own settings; both are the section `sample`."""

    candidates: int = option(
        1,
        "number of texts written for each vector, at its most likely lengths; each is encoded, and the one whose "
        "vector is closest to the given vector is kept. Time grows with it",
    )
    refine: int = option(
        0,
        "number of rounds that write uncertain tokens or the whole text again, encode the result and keep it if it is "
        "closer. Time grows with it",
    )
    shortlist: int | None = option(
        None,
        "number of texts written for each text that is encoded: a small network in the model predicts how close each "
        "is, and only the best one is encoded, by that and by how likely it is. It takes about this many times as "
        "long; 1 turns it off. By default 4 with candidates or refine if the model has this network, else 1",
    )
    search: int | None = option(
        None,
        "number of encoder calls for each vector in a search, which changes texts in several ways and keeps those that "
        "are closest to the vector and likely under the decoder; time grows with it, and 0 is no search. It takes the "
        "place of refine and shortlist. By default 32 for a few texts that `sgdd sample` gets as arguments (8 for a "
        "large encoder on a CPU), else 0",
    )
    gradient: bool = option(True, "whether a search uses the encoder's gradient; a gradient counts as a call")
    length: int | str | None = option(
        None,
        "length of each text in tokens: a number, or a range such as 6-9 in which the model chooses; by default it "
        "chooses among all lengths: the likeliest, or one that is drawn where the temperature is above 0",
    )
    num_samples: int = option(
        1,
        "number of texts for each vector, all different if enough are found; above 1, the temperature is 0.7 if none "
        "is given",
    )
    seed: int = option(0, "seed of the sampler")

    def __post_init__(self) -> None:
        for name in ("candidates", "shortlist", "num_samples"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"sample.{name} is {value}; it must be at least 1.")
        require(self.refine >= 0, f"sample.refine is {self.refine}; it must not be negative.")
        search = self.search or 0
        require(search >= 0, f"sample.search is {self.search}; it must not be negative.")
        require(
            not search or (not self.refine and (self.shortlist or 1) == 1),
            f"sample.search is {self.search}, and refining or a shortlist is asked for; a search takes their place.",
            "Leave out one of them: --search, or --refine and --shortlist.",
        )
        require(
            not search or self.candidates <= search,
            f"sample.candidates is {self.candidates} and sample.search is {self.search}; each candidate costs a call "
            "of the search.",
            "Give fewer candidates, or more calls.",
        )
        check_seed(self.seed, "sample.seed")
        if self.length is None:
            return
        lengths = LengthRange.parse(str(self.length))
        if lengths is None:
            raise ConfigError(
                f"sample.length is {self.length}; it must be a whole number of at least 1, or a range such as 6-9."
            )
        one_spelling = lengths.shortest if lengths.exact else f"{lengths.shortest}-{lengths.longest}"
        object.__setattr__(self, "length", one_spelling)

    def require_lengths_for_candidates(self) -> None:
        """Refuse one length for several candidates of a whole text.

        Raises:
            ConfigError: there are several, and one length.
        """
        require(
            self.candidates == 1 or self.length is None or "-" in str(self.length),
            f"sample.candidates is {self.candidates} and sample.length is {self.length}; candidates differ in their "
            "length, so one length can only be given for one.",
            "Leave out one of the two, for example with --set sample.length=none, or give a range such as 6-9.",
        )
