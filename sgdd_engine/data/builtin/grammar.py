"""The grammar of the built-in corpus: the templates of `grammar.toml`, compiled, and the sentences drawn from them.

`grammar.toml` explains the notation. A compiled template is a tuple of texts and slots, and a slot is a function that
returns what it says in a scene.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import blake2b
from importlib import resources
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple, TypeVar

from sgdd_engine.data.builtin.english import BE, DO, HAVE, Pronouns, Verb, agree, finish, plural, verb
from sgdd_engine.data.builtin.scene import TRIES, Noun, Person, Scene, UnsaidError
from sgdd_engine.errors import require

T = TypeVar("T")
Slot = Callable[[Scene], str]
Template = tuple[str | Slot, ...]

# Sentences where no number is given.
BUILTIN_SENTENCES = 200_000
MIN_WORDS, MAX_WORDS = 4, 24
_TOKEN = re.compile(r"\[[^\]]*\]|[{|}</>]|[^\[{|}</>]+")
_BECOMES_ANY = re.compile(r" (?:some|several|a few|many) ")
# Finite forms that a template can ask for: whether they are in the present; None where the scene decides.
_FINITE = {"do": None, "does": True, "did": False}
# The other forms: their auxiliary, if any, and the form of the verb after it.
_NON_FINITE = {
    "base": ("", "base"),
    "nbase": ("", "base"),
    "ing": ("", "ing"),
    "done": ("", "participle"),
    "ndone": ("", "participle"),
    "not": ("dont", "base"),
    "prog": ("be", "ing"),
    "perf": ("have", "participle"),
}
_AUXILIARIES = {
    "be": (BE, None),
    "have": (HAVE, None),
    "dont": (DO, None),
    "was": (BE, False),
    "is": (BE, True),
    "has": (HAVE, True),
    "does": (DO, True),
}
# A person named in one of these forms becomes the subject only where there is none; in any other, at once.
_OBLIQUE = ("obj", "own", "him", "his", "himself")


def builtin_sentences(count: int = BUILTIN_SENTENCES, seed: int = 0) -> Iterator[str]:
    """Generate distinct, cased English sentences of 4 to 24 words from the project's own grammar.

    The text is synthetic, about everyday people, places, things and feelings; no sentence of it was written by a
    person or taken from any text. The same seed gives the same sentences in the same order on every machine and
    Python version, and a smaller count gives the beginning of a larger one: all draws come from `Random.random()`,
    whose stream Python guarantees. Sentences are made one at a time; what stays in memory is an eight-byte hash of
    each (about 70 bytes apiece with the set that holds it). The grammar has many millions of sentences.

    Args:
        count: How many sentences.
        seed: Any integer; negative ones are refused, as Python's generator would not tell -1 from 1.

    Raises:
        ConfigError: `count` or `seed` is negative.
    """
    require(count >= 0, f"the number of built-in sentences is {count}, but must not be negative")
    require(seed >= 0, f"the seed of the built-in sentences is {seed}, but must not be negative")
    return _distinct(count, Random(seed).random)


def _distinct(count: int, random: Callable[[], float]) -> Iterator[str]:
    compiled, seen = grammar(), set[bytes]()
    while len(seen) < count:
        scene = Scene(random, compiled.people)
        template = scene.pick(scene.pick(compiled.sentences))
        scene.draw_tense()
        try:
            sentence = finish(render(template, scene))
        except UnsaidError:
            continue
        digest = blake2b(sentence.encode(), digest_size=8).digest()
        if digest not in seen and _is_sound(sentence):
            seen.add(digest)
            yield sentence


def _is_sound(sentence: str) -> bool:
    """Whether the length is in bounds and no word stands twice in a row ("gave her her book")."""
    words = sentence.lower().split()
    return MIN_WORDS <= len(words) <= MAX_WORDS and all(one != two for one, two in pairwise(words))


class Action(NamedTuple):
    """A verb, and the template of what follows it."""

    verb: Verb
    rest: Template


class Grammar:
    """Compiled templates over a lexicon.

    Args:
        data: The tables of `grammar.toml`.

    Attributes:
        people: The table `people`, with the pairs of a name and its job of `trades` and `animals`.
        sentences: For each of a hundred sentences, the templates that it is drawn from.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._verbs: Mapping[str, str] = data["verbs"]
        self._nouns = {name: _nouns(text) for name, text in data["nouns"].items()}
        self._nouns |= _united(self._nouns, data["noun_groups"])
        # A template may name any phrase or class of actions, also one that stands below it.
        self._phrases: dict[str, list[Template]] = {name: [] for name in data["phrases"]}
        self._actions: dict[str, list[Action]] = {
            name: [] for name in (*data["actions"], *data["action_groups"])
        }
        for name, text in data["phrases"].items():
            self._phrases[name] += self._templates(text)
        for name, text in data["actions"].items():
            self._actions[name] += self._class(text)
        for name, actions in _united(self._actions, data["action_groups"]).items():
            self._actions[name] += actions
        jobs = data["trades"] | data["animals"]
        self._jobs = {name: self._class(job["actions"]) for name, job in jobs.items()}
        kinds = data["people"]["kinds"].items()
        self.people = data["people"] | {
            "kinds": {k: list(Counter(of).elements()) if isinstance(of, dict) else of for k, of in kinds},
            "trades": _named(data["trades"]),
            "animals": _named(data["animals"]),
        }
        self.sentences = [
            templates
            for group in data["sentences"].values()
            for templates in [self._templates(group["patterns"])] * group["share"]
        ]

    def verb(self, base: str) -> Verb:
        """Return the forms of the verb `base`."""
        return verb(base, self._verbs.get(base, ""))

    def template(self, text: str) -> Template:
        """Compile one template.

        Raises:
            KeyError: it names an unknown phrase or class.
            ValueError: a bracket is not closed.
        """
        return self._alternatives(iter(_TOKEN.findall(text)), "", "")[0]

    def _alternatives(self, tokens: Iterator[str], mark: str, end: str) -> list[Template]:
        """Read templates that `mark` parts, up to the token `end`."""
        found: list[list[str | Slot]] = [[]]
        for token in tokens:
            if token == end:
                break
            if token == mark:
                found.append([])
            elif token == "{":
                found[-1].append(partial(_choose, self._alternatives(tokens, "|", "}")))
            elif token == "<":
                past, present = self._alternatives(tokens, "/", ">")
                found[-1].append(partial(_tense, past, present))
            else:
                found[-1].append(self._slot(token[1:-1]) if token[0] == "[" else token)
        else:
            if end:
                raise ValueError(f"a template lacks its {end}")
        return [tuple(parts) for parts in found]

    def _templates(self, text: str) -> list[Template]:
        return [self.template(line) for line in _entries(text)]

    def _class(self, text: str) -> list[Action]:
        """Read the actions of a class: the verb is the first word."""
        lines = [line.partition(" ") for line in _entries(text)]
        return [Action(self.verb(base), self.template(space + rest)) for base, space, rest in lines]

    def _slot(self, slot: str) -> Slot:
        head, _, name = slot.partition(":")
        if head[0].isupper():
            return self._person(*head.partition(".")[::2], name)
        if head in ("other", "friend"):
            return lambda scene: scene.newcomer(head).refer("obj" if head == "other" else "")
        if head[0] == "#":
            return partial(_choose, self._phrases[head[1:]])
        if head == "quote":
            return partial(_quote, self._phrases[name])
        nouns = [self._noun(name[1:])] if name[0] == "=" else self._nouns[name]
        return lambda scene: scene.noun_phrase(head, nouns)

    def _person(self, letter: str, form: str, name: str) -> Slot:
        if form in _AUXILIARIES and not name:
            return partial(_assist, letter, form)
        if form not in _FINITE and form not in _NON_FINITE:
            kind = name or ("other" if form == "obj" else "person" if letter == "A" else "third")
            return partial(_mention, letter, form, kind)
        if name == "job":
            return partial(_act, letter, form, lambda who: self._jobs[who.job])
        actions = [Action(self.verb(name[1:]), ())] if name[0] == "=" else self._actions[name]
        return partial(_act, letter, form, lambda _: actions)

    def _noun(self, word: str) -> Noun:
        return next(noun for nouns in self._nouns.values() for noun in nouns if noun.one == word)


@lru_cache(maxsize=1)
def grammar() -> Grammar:
    """Return the compiled grammar; it is read at the first call."""
    text = resources.files("sgdd_engine.data.builtin").joinpath("grammar.toml").read_text(encoding="utf-8")
    return Grammar(tomllib.loads(text))


def render(template: Template, scene: Scene) -> str:
    """Return what `template` says in this scene."""
    return "".join([part if isinstance(part, str) else part(scene) for part in template])


def _agree(verb: Verb, present: bool | None, who: Pronouns, scene: Scene) -> str:
    return agree(verb, who, scene.present if present is None else present)


def _auxiliary(form: str, who: Pronouns, scene: Scene) -> str:
    said = _agree(*_AUXILIARIES[form], who, scene)
    return said if form != "dont" else said + (" not" if scene.random() < 0.5 else "n't")


def _conjugated(verb: Verb, form: str, who: Pronouns, scene: Scene) -> str:
    if form in _FINITE:
        return _agree(verb, _FINITE[form], who, scene)
    auxiliary, own = _NON_FINITE[form]
    word = str(getattr(verb, own))
    return f"{_auxiliary(auxiliary, who, scene)} {word}" if auxiliary else word


def _choose(templates: Sequence[Template], scene: Scene) -> str:
    return render(scene.pick(templates), scene)


def _tense(past: Template, present: Template, scene: Scene) -> str:
    return render(present if scene.present else past, scene)


def _quote(templates: Sequence[Template], scene: Scene) -> str:
    """Say a phrase as direct speech, which has a subject of its own and is in the present."""
    subject, present, scene.present = scene.subject, scene.present, True
    text = _choose(templates, scene)
    scene.subject, scene.present = subject, present
    return text


def _mention(letter: str, form: str, kind: str, scene: Scene) -> str:
    who = scene.who(letter, kind)
    if form not in _OBLIQUE or scene.subject is None:
        scene.subject = who
    return "" if form == "bind" else who.refer(form)


def _assist(letter: str, form: str, scene: Scene) -> str:
    who = scene.subject = scene.who(letter, "person")
    return _auxiliary(form, who.pronouns, scene)


def _act(letter: str, form: str, actions: Callable[[Person], Sequence[Action]], scene: Scene) -> str:
    who = scene.subject = scene.who(letter, "person")
    for _ in range(TRIES):
        action = scene.pick(actions(who))
        if not action.rest or action.verb.base not in scene.used:
            break
    else:
        raise UnsaidError
    scene.used.append(action.verb.base)
    rest = render(action.rest, scene)
    if form in ("not", "nbase", "ndone"):
        rest = _BECOMES_ANY.sub(" any ", rest)
    return _conjugated(action.verb, form, who.pronouns, scene) + rest


def _entries(text: str) -> list[str]:
    """Return the templates of a text: one a line, or parted by `;`; an indented line goes on with the last."""
    return re.split(r"\s*[;\n]\s*", text.strip().replace("\n  ", " "))


def _nouns(text: str) -> list[Noun]:
    """Read a class of nouns: `words | adjectives | preposition or "mass"`."""
    words, adjectives, place, *_ = *(part.strip() for part in " ".join(text.split()).split("|")), "", ""
    describing = adjectives.split(", ") if adjectives else []
    preposition = "in" if place in ("", "mass") else place
    forms = [word.partition("/") for word in words.split(", ")]
    return [
        Noun(one, many or plural(one), describing, preposition, place == "mass") for one, _, many in forms
    ]


def _named(jobs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return each name of a trade or animal with its table's name."""
    return [(name, job) for job, table in jobs.items() for name in table["names"]]


def _united(classes: Mapping[str, list[T]], groups: Mapping[str, str]) -> dict[str, list[T]]:
    """Return groups of classes: name → the members of all classes that it names."""
    return {
        name: [member for part in parts.split() for member in classes[part]] for name, parts in groups.items()
    }
