"""What an audit measures. No torch here: the command line reads it for its help."""

from dataclasses import dataclass

from sgdd_engine.config_fields import check_seed, option
from sgdd_engine.errors import ConfigError, require

# One shot, as many as a person waits for, as many as a machine may spend on every row, and as many as on a chosen one.
CALLS = (1, 8, 64, 512)
# Every defence is attacked several times, so with fewer calls.
DEFENCE_CALLS = (1, 8)
KINDS = ("noise", "bits", "first", "pca", "rotation")
"""The kinds of defences; all but the last have a strength."""


def parse_defence(name: str) -> tuple[str, float | None]:
    """The kind and the strength of a defence such as `noise:0.5`; None for its usual strengths.

    Raises:
        ConfigError: there is no such defence, or the strength is not a number.
    """
    kind, colon, value = name.partition(":")
    if kind not in KINDS or (colon and kind == "rotation"):
        raise ConfigError(
            f"`{name}` is not a defence; there are {', '.join(KINDS)}.",
            "Write for example: --defences noise,bits:8,first:96,rotation",
        )
    try:
        return kind, float(value) if colon else None
    except ValueError:
        raise ConfigError(
            f"`{value}` in `{name}` is not a number.", "Write for example: --defences noise:0.5,bits:8"
        ) from None


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Texts whose vectors are attacked, how hard, and under which defences."""

    limit: int = option(
        100, "texts whose vectors are attacked; time grows with them, and intervals get narrower"
    )
    calls: tuple[int, ...] = option(
        CALLS,
        "encoder calls that the attacker spends on each vector, several numbers that rise, such as 1,8,64; "
        "time grows with the last",
    )
    defence_calls: tuple[int, ...] = option(
        DEFENCE_CALLS, "the same for vectors under defences, each of which is attacked in several ways"
    )
    defences: tuple[str, ...] = option(
        KINDS,
        "defences that are tried, with their usual strengths or with one, such as noise:0.5,bits:8,first:96,rotation; "
        "none for none",
    )
    own_texts: int = option(
        1000,
        "texts of the attacker's own, with their vectors; they are other rows of the same source unless a file "
        "is named",
    )
    seed: int = option(0, "seed of the choice of texts, of noise and rotations, and of the sampler")

    def __post_init__(self) -> None:
        require(
            self.limit >= 2,
            f"The limit is {self.limit}; it must be at least 2, since what is written of each vector is also compared "
            "with another text.",
        )
        require(self.own_texts >= 0, f"own_texts is {self.own_texts}; it must not be negative.")
        for name in ("calls", "defence_calls"):
            numbers = getattr(self, name)
            flag = f"--{name.replace('_', '-')}"
            require(
                bool(numbers) and list(numbers) == sorted(set(numbers)) and numbers[0] >= 1,
                f"{flag} is {','.join(map(str, numbers)) or 'empty'}; it must be numbers from 1 on that rise.",
                f"Write for example: {flag} 1,8,64",
            )
        for name in self.defences:
            parse_defence(name)
        check_seed(self.seed, "The seed")
