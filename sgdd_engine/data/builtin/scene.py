"""The scene of one sentence: who takes part, which words it has used, and whether it is told in the present.

The shares here (of the present tense, of adjectives, of people with a trade) are the corpus's own design, set by
reading its sentences.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sgdd_engine.data.builtin.english import PRONOUNS, Pronouns, possessive

T = TypeVar("T")

# A draw that does not fit (a word used already, an ambiguous pronoun) is repeated, and the sentence then given up.
TRIES = 12
_NUMBERS = ("two", "three", "four", "five", "several", "a few", "some", "many")
# Determiner → what stands before the noun, whether the noun is plural, and how often it has an adjective.
_DETERMINERS = {
    "a": ("@", False, 0.33),
    "the": ("the", False, 0.33),
    "one": ("", False, 0.33),
    "thepl": ("the", True, 0.33),
    "bare": ("", True, 0.25),
    "some": ("some", True, 0.2),
    "to": ("to the", False, 0.22),
}
# Letters that always stand for the speaker, the speakers and whoever is spoken to.
_SPEECH = {"I": "I", "W": "we", "Y": "you"}
_FIRST_PERSON = (PRONOUNS["I"], PRONOUNS["we"])


class UnsaidError(Exception):
    """A draw came to nothing (nobody left who fits); the sentence is dropped and another is drawn."""


class Noun(NamedTuple):
    """A noun: singular, plural, adjectives that suit it, preposition of a place, whether it is uncounted."""

    one: str
    many: str
    adjectives: Sequence[str]
    preposition: str
    mass: bool


@dataclass(slots=True)
class Person:
    """Somebody in a sentence.

    Attributes:
        name: The noun phrase of the first mention ("Anna", "an old farmer", "her mother"), as a subject.
        pronouns: The pronouns that refer to this person.
        again: The noun phrase of later mentions ("the old farmer"); the same where it is "".
        job: The trade or kind of animal whose actions this person can do, or "".
        mentioned: Whether the sentence has named this person yet.
    """

    name: str
    pronouns: Pronouns
    again: str = ""
    job: str = ""
    mentioned: bool = False

    def refer(self, form: str = "") -> str:
        """Name the person as a subject, an object ("obj") or a possessive ("own"), or by a form of the pronoun."""
        if form in Pronouns._fields:
            return str(getattr(self.pronouns, form))
        phrase = self.again if self.mentioned and self.again else self.name
        self.mentioned = True
        if form == "":
            return phrase
        if phrase == self.pronouns.he:
            return {"obj": self.pronouns.him, "own": self.pronouns.his}[form]
        return {"obj": phrase, "own": possessive(phrase)}[form]


class Scene:
    """What is true while one sentence is made.

    Args:
        random: The source of every draw, uniform in [0, 1).
        people: Who can take part, as `Grammar.people` holds it.

    Attributes:
        cast: The people by the letter that the templates give them.
        subject: Whose action is being told; `S` in the templates.
        present: Whether the sentence is in the present tense instead of the past.
        used: Verbs, nouns and adjectives that the sentence has used.
    """

    def __init__(self, random: Callable[[], float], people: Mapping[str, Any]) -> None:
        self.random, self._people = random, people
        self.present = False
        self.cast: dict[str, Person] = {}
        self.subject: Person | None = None
        self.used: list[str] = []
        self._heads: list[str] = []

    def pick(self, options: Sequence[T]) -> T:
        """Return one of `options`; all draws go through `random()`, so that a seed means the same everywhere."""
        return options[int(self.random() * len(options))]

    def draw_tense(self) -> None:
        """Tell the sentence in the present tense now and then."""
        self.present = self.random() < 0.18

    def who(self, letter: str, kind: str) -> Person:
        """Return the person behind `letter`, drawn now if this is the first time."""
        if letter == "S":
            if self.subject is None:
                raise UnsaidError
            return self.subject
        if letter not in self.cast:
            self.cast[letter] = self._draw(_SPEECH[letter]) if letter in _SPEECH else self.newcomer(kind)
        return self.cast[letter]

    def newcomer(self, kind: str) -> Person:
        """Return a person whom the sentence does not name yet and whose pronoun is not ambiguous in it.

        Raises:
            UnsaidError: nobody was found.
        """
        subject = self.subject.pronouns if self.subject else None
        of = {
            "kin": subject,
            "friend": subject,
            "other": subject or PRONOUNS["she"],
            "speaker": PRONOUNS["I"],
        }
        if kind == "friend" and not subject:
            kind = "name"
        for _ in range(TRIES):
            person = self._draw(kind, of.get(kind))
            words = person.name.split()
            heads = [word.removesuffix("'s") for word in words if word[0].isupper()] + words[-1:]
            if self._is_clear(person) and not any(head in self._heads for head in heads):
                self._heads += heads
                return person
        raise UnsaidError

    def _is_clear(self, newcomer: Person) -> bool:
        """Whether a pronoun would still mean one person, save now and then between two who are named."""
        for person in (*self.cast.values(), *([self.subject] if self.subject else ())):
            if person.pronouns in _FIRST_PERSON and newcomer.pronouns in _FIRST_PERSON:
                return False
            if person.pronouns is newcomer.pronouns:
                nameless = newcomer.pronouns.he in (person.name, newcomer.name)
                if nameless or not newcomer.pronouns.singular or self.random() > 0.15:
                    return False
        return True

    def _draw(self, kind: str, of: Pronouns | None = None) -> Person:  # noqa: PLR0911 - one per kind
        """Return somebody of a kind; relatives are those of `of`, or of somebody drawn for it."""
        people = self._people
        if kind in people["kinds"]:
            return self._draw(self.pick(people["kinds"][kind]), of)
        if kind in PRONOUNS:
            return Person(PRONOUNS[kind].he, PRONOUNS[kind])
        if kind == "group":
            several = self._couple() if self.random() < 0.3 else self.pick(people["groups"])
            return Person(several, PRONOUNS["they"])
        if kind == "animal":
            return self._animal()
        if kind == "worker":
            return self._worker()
        if kind in ("kin", "relative") and of is not PRONOUNS["it"]:
            relative = self._relative(of)
            if kind == "kin" or relative.pronouns.singular:
                return relative
        sex = self._sex()
        if kind == "stranger":
            return self._introduced(self.pick(people["strangers"][sex]), sex)
        return Person(self.pick(people["names"][sex]), PRONOUNS[sex])

    def _sex(self) -> str:
        return "she" if self.random() < 0.5 else "he"

    def _couple(self) -> str:
        one, two = self.pick(self._people["names"]["she"]), self.pick(self._people["names"]["he"])
        return f"{one} and {two}" if self.random() < 0.5 else f"{two} and {one}"

    def _worker(self) -> Person:
        name, trade = self.pick(self._people["trades"])
        sex = "he" if name in self._people["male_trades"] else self._sex()
        if self.random() < 0.3:
            name = f"{self.pick(self._people['adjectives'])} {name}"
        return self._introduced(name, sex, trade)

    def _introduced(self, name: str, sex: str, job: str = "") -> Person:
        return Person(f"{'@' if self.random() < 0.35 else 'the'} {name}", PRONOUNS[sex], f"the {name}", job)

    def _animal(self) -> Person:
        name, kind = self.pick(self._people["animals"])
        draw = self.random()
        if draw < 0.2 and kind in self._people["pets"]:
            return Person(f"{self._draw('name').refer('own')} {name}", PRONOUNS["it"], job=kind)
        return Person(f"{'@' if draw < 0.5 else 'the'} {name}", PRONOUNS["it"], f"the {name}", kind)

    def _relative(self, of: Pronouns | None) -> Person:
        draw = self.random()
        who = "she" if draw < 0.42 else "he" if draw < 0.84 else "they"
        owner = of.his if of else "my" if self.random() < 0.4 else self._draw("name").refer("own")
        return Person(f"{owner} {self.pick(self._people['kin'][who])}", PRONOUNS[who])

    def noun_phrase(self, determiner: str, nouns: Sequence[Noun]) -> str:
        """Return a noun that the sentence has not used yet, with its determiner and perhaps an adjective.

        Raises:
            UnsaidError: all that were drawn are used.
        """
        noun = self._unused(nouns)
        if determiner in ("name", "many"):
            return noun.one if determiner == "name" else noun.many
        if determiner == "own":
            draw = self.random()
            determiner = "his" if draw < 0.5 else "the" if draw < 0.75 else "a"
        elif determiner == "np":
            draw = self.random()
            determiner = "the" if draw < 0.4 else "a" if draw < 0.8 else "num"
        if noun.mass and determiner in ("a", "num"):
            determiner = "some"
        if determiner == "his":
            before, many, share = self.subject.pronouns.his if self.subject else "the", False, 0.33
        elif determiner == "num":
            before, many, share = self.pick(_NUMBERS), True, 0.2
        elif determiner == "at":
            known = noun.preposition in ("by", "at") or self.random() < 0.75
            before, many, share = f"{noun.preposition} {'the' if known else '@'}", False, 0.22
        else:
            before, many, share = _DETERMINERS[determiner]
        word = noun.many if many and not noun.mass else noun.one
        if noun.adjectives and self.random() < share:
            adjective = self.pick(noun.adjectives)
            if adjective not in self.used:
                self.used.append(adjective)
                word = f"{adjective} {word}"
        return f"{before} {word}"

    def _unused(self, nouns: Sequence[Noun]) -> Noun:
        for _ in range(TRIES):
            noun = self.pick(nouns)
            if noun.one not in self.used:
                self.used.append(noun.one)
                return noun
        raise UnsaidError
