"""What is true while one sentence is made: who takes part, what was said already, and when it happens."""

from collections.abc import Callable, Sequence

from sgdd_engine.data.builtin.nouns import Noun
from sgdd_engine.data.builtin.people import (
    HE,
    ME,
    SHE,
    SPEAKERS,
    THEY,
    WE,
    YOU,
    Person,
    Pronouns,
    Random,
    animal,
    folk,
    friend,
    group,
    kin,
    named,
    other,
    person,
    pick,
    unnamed,
    worker,
)

PRESENT_SHARE = 0.18
ADJECTIVE_SHARE = 0.33
TRIES = 12
NUMBERS = ("two", "three", "four", "five", "several", "a few", "some", "many")


class UnsaidError(Exception):
    """A draw came to nothing (nobody left who fits); the sentence is dropped and another is drawn."""


class Scene:
    """The state of one sentence.

    Attributes:
        random: The source of every draw, uniform in [0, 1).
        cast: The people by the letter that the templates give them.
        subject: Whose action is being told; `S` in the templates.
        present: Whether a pattern open to both is told in the present tense instead of the past.
    """

    __slots__ = ("cast", "heads", "present", "random", "subject", "used")

    def __init__(self, random: Random) -> None:
        self.random = random
        self.present = random() < PRESENT_SHARE
        self.cast: dict[str, Person] = {}
        self.subject: Person | None = None
        self.heads: list[str] = []
        self.used: list[str] = []

    def who(self, letter: str, kind: str) -> Person:
        """Return the person behind `letter`, cast now if this is the first time."""
        if letter == "S":
            if self.subject is None:
                raise UnsaidError
            return self.subject
        known = self.cast.get(letter)
        if known is None:
            speaker = SPEECH.get(letter)
            known = Person(speaker.he, speaker) if speaker else self._cast(kind)
            self.cast[letter] = known
        return known

    def extra(self, kind: str) -> Person:
        """Return somebody who takes part once and is not spoken of again."""
        return self._cast(kind)

    def _cast(self, kind: str) -> Person:
        for _ in range(TRIES):
            candidate = self._draw(kind)
            heads = [word.removesuffix("'s") for word in candidate.name.split() if word[0].isupper()]
            heads.append(candidate.name.rsplit(" ", 1)[-1])
            if self._fits(candidate) and not any(head in self.heads for head in heads):
                self.heads += heads
                return candidate
        raise UnsaidError

    def _draw(self, kind: str) -> Person:
        if kind == "other":
            return other(self.random, self.subject.pronouns if self.subject else SHE)
        if kind == "friend" and self.subject:
            return friend(self.random, self.subject.pronouns)
        if kind == "kin" and self.subject:
            return kin(self.random, self.subject.pronouns)
        return KINDS[kind](self.random)

    def _fits(self, candidate: Person) -> bool:
        """Tell whether a pronoun would still point to one person, save now and then between two names."""
        present = [*self.cast.values(), self.subject] if self.subject else list(self.cast.values())
        for someone in present:
            if someone.pronouns in SPEAKERS and candidate.pronouns in SPEAKERS:
                return False
            if someone.pronouns is candidate.pronouns:
                bare = candidate.name == candidate.pronouns.he or someone.name == someone.pronouns.he
                if bare or not candidate.pronouns.singular or self.random() > 0.15:
                    return False
        return True

    def noun(self, nouns: Sequence[Noun]) -> Noun:
        """Return a noun that this sentence has not used yet."""
        for _ in range(TRIES):
            noun = pick(self.random, nouns)
            if noun.one not in self.used:
                self.used.append(noun.one)
                return noun
        raise UnsaidError

    def describe(self, noun: Noun, plural: bool = False, share: float = ADJECTIVE_SHARE) -> str:
        """Return the noun, with one of its adjectives now and then."""
        word = noun.many if plural and not noun.mass else noun.one
        if noun.adjectives and self.random() < share:
            adjective = pick(self.random, noun.adjectives)
            if adjective not in self.used:
                self.used.append(adjective)
                return f"{adjective} {word}"
        return word


# People whom nothing but a pronoun names; "someone" is singular in its verbs, plural in its pronouns.
FIXED = {
    "I": ME,
    "we": WE,
    "you": YOU,
    "he": HE,
    "she": SHE,
    "they": THEY,
    "someone": Pronouns("they", "them", "their", "themselves", True),
}
# Letters that always stand for the speaker, the speakers and whoever is spoken to.
SPEECH = {"I": ME, "W": WE, "Y": YOU}


def _fixed(pronouns: Pronouns) -> Callable[[Random], Person]:
    return lambda _: Person(pronouns.he, pronouns)


def _single(random: Random) -> Person:
    return named(random) if random() < 0.6 else folk(random)


def _speaker(random: Random) -> Person:
    """Return one person who can say "I": groups do not."""
    draw = random()
    if draw < 0.25:
        return unnamed(random, (SHE, HE, SHE, HE, ME))
    return friend(random, ME) if draw < 0.4 else _single(random)


def _thirds(random: Random) -> Person:
    draw = random()
    if draw < 0.5:
        return named(random)
    return folk(random) if draw < 0.75 else kin(random) if draw < 0.9 else group(random)


# The kinds of people a template can ask for: [A:name], [B:worker], ...
KINDS: dict[str, Callable[[Random], Person]] = {
    "person": person,
    "name": named,
    "friend": named,
    "folk": folk,
    "worker": worker,
    "single": _single,
    "third": _thirds,
    "speaker": _speaker,
    "group": group,
    "kin": kin,
    "alone": unnamed,
    "animal": animal,
    **{name: _fixed(pronouns) for name, pronouns in FIXED.items()},
}
