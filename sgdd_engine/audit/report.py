"""What an audit found: the figures, the rows with what was written of them, and what the figures mean."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sgdd_engine.audit.exposure import ITEMS, Recovery
from sgdd_engine.audit.retrieval import RetrievalQuality
from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.report import LengthBucket
from sgdd_engine.evaluation.verdicts import Verdict

# The metrics of the evaluation that an audit shows.
MEASURES = ("exact_match", "token_f1", "bleu", "cosine")

Figures = Mapping[str, Interval]


@dataclass(frozen=True)
class Leak:
    """What an attacker wrote with so many encoder calls for each vector.

    Attributes:
        calls: The most encoder calls for one vector.
        spent: Those that were spent, mean.
        own: `MEASURES` of what was written from each text's own vector, with their intervals.
        shuffled: The same of what was written from another row's vector.
        gain: The one less the other, paired by text.
        items: By kind of `ITEMS`, the share that was written.
        texts: What was written of each row.
    """

    calls: int
    spent: float
    own: Figures
    shuffled: Figures
    gain: Figures
    items: Mapping[str, Recovery]
    texts: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values, without the texts."""
        return {
            "calls": self.calls,
            "spent": self.spent,
            "own": _plain(self.own),
            "shuffled": _plain(self.shuffled),
            "gain": _plain(self.gain),
            "items": {name: asdict(found) for name, found in self.items.items()},
        }


@dataclass(frozen=True)
class Attack:
    """One attacker of one defence.

    Attributes:
        name: As `Attacker.name`.
        label: In tables.
        cosine: Of the attacker's estimates with the plain vectors.
        leaks: By number of calls, rising.
    """

    name: str
    label: str
    cosine: Interval
    leaks: Sequence[Leak]

    @property
    def last(self) -> Leak:
        """With the most calls."""
        return self.leaks[-1]


@dataclass(frozen=True)
class DefenceFigures:
    """What one defence costs and what it leaves.

    Attributes:
        name: As `--defences` takes it.
        label: In tables.
        meaning: What exactly is done.
        retrieval: Neighbours that are still found.
        attacks: By attacker, at least one.
    """

    name: str
    label: str
    meaning: str
    retrieval: RetrievalQuality
    attacks: Sequence[Attack]

    @property
    def kind(self) -> str:
        """`noise`, `bits`, `first`, `pca` or `rotation`."""
        return self.name.partition(":")[0]

    @property
    def strongest(self) -> Attack:
        """The attack that a defence has to be judged by.

        That whose token F1, with the most calls, lies furthest above that of another row's vector, by the lower end of
        the interval: the estimates of some attackers write common words more often than those of others.
        """

        def certain_gain(attack: Attack) -> float:
            gain = attack.last.gain["token_f1"]
            return gain.mean if gain.low is None else gain.low

        return max(self.attacks, key=certain_gain)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with what each attacker wrote at the most calls."""
        return {
            "name": self.name,
            "label": self.label,
            "meaning": self.meaning,
            "retrieval": asdict(self.retrieval),
            "strongest": self.strongest.name,
            "attacks": [
                {
                    "name": attack.name,
                    "label": attack.label,
                    "cosine": asdict(attack.cosine),
                    "leaks": [leak.to_dict() for leak in attack.leaks],
                    "texts": list(attack.last.texts),
                }
                for attack in self.attacks
            ],
        }


@dataclass(frozen=True)
class ExposedRow:
    """One row, and what was written from its plain vector with the most encoder calls.

    Attributes:
        row: Its number among the audited ones, from 0, as in the `texts` of attacks.
        id: Of the row in a store; None for a line of text.
        source: The text.
        text: What was written.
        token_f1: Of the two.
        cosine: Of their vectors.
        exact: Whether the text came back letter for letter.
        written: By kind of item, those that were written.
        missed: By kind, the others.
    """

    row: int
    id: str | None
    source: str
    text: str
    token_f1: float
    cosine: float
    exact: bool
    written: Mapping[str, Sequence[str]]
    missed: Mapping[str, Sequence[str]]

    @property
    def group(self) -> str:
        """What was given away of it, in words."""
        if self.exact:
            return "word for word"
        if not any(self.written.values()):
            return "no item written"
        return "all items written" if not any(self.missed.values()) else "some items written"


@dataclass(frozen=True)
class AuditReport:
    """The outcome of `audit`.

    Attributes:
        leaks: What was written from the plain vectors, by number of encoder calls, rising: each is what a search with
            the most calls had found by then.
        undefended: What was written from the plain vectors by a search with as many calls as the defended ones were
            searched with, which begins with fewer texts; None without defences.
        by_length: Figures by tokens of the source, with the most calls.
        defences: The same attacks on defended vectors, beside what retrieval still finds.
        rows: Every row, the most exposed first: by token F1, then by cosine.
        documents: Vectors among which neighbours were looked for.
        own_texts: Texts of the attacker's own.
        verdicts: What the figures mean.
        settings: All that made the figures.
    """

    leaks: Sequence[Leak]
    undefended: Leak | None
    by_length: Sequence[LengthBucket]
    defences: Sequence[DefenceFigures]
    rows: Sequence[ExposedRow]
    documents: int
    own_texts: int
    verdicts: Sequence[Verdict]
    settings: Mapping[str, Any]

    @property
    def texts(self) -> int:
        """How many were attacked."""
        return len(self.rows)

    @property
    def last(self) -> Leak:
        """With the most calls."""
        return self.leaks[-1]

    def to_dict(self) -> dict[str, Any]:
        """The stable machine form, JSON values only: the object that `sgdd audit --json` prints.

        A figure is `{"mean", "low", "high"}` with its 95 % interval. Keys: `texts`, `documents`, `own_texts`;
        `verdicts` (`name`, `ok`, `sentence`; `ok` is false where something is given away); `items` (label and rule of
        each kind); `leaks` (`calls`, `spent`, `own`, `shuffled`, `gain`, and `items` by kind: `items`, `texts`, and the
        shares `own`, `shuffled`, `gain`, null without an item); `undefended` (such a leak, to hold `defences` against;
        null without them); `by_length`; `defences` (`retrieval`, `strongest`, and
        `attacks` with `leaks` and the `texts` written of each row); `rows` (the most exposed first); `settings`.
        """
        return {
            "texts": self.texts,
            "documents": self.documents,
            "own_texts": self.own_texts,
            "verdicts": [
                {"name": verdict.name, "ok": verdict.ok, "sentence": verdict.sentence}
                for verdict in self.verdicts
            ],
            "items": {name: asdict(kind) for name, kind in ITEMS.items()},
            "leaks": [leak.to_dict() for leak in self.leaks],
            "undefended": None if self.undefended is None else self.undefended.to_dict(),
            "by_length": [bucket.to_dict() for bucket in self.by_length],
            "defences": [defence.to_dict() for defence in self.defences],
            "rows": [asdict(row) for row in self.rows],
            "settings": dict(self.settings),
        }


def _plain(figures: Figures) -> dict[str, Any]:
    return {name: asdict(value) for name, value in figures.items()}
