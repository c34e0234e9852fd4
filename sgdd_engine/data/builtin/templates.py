"""The language of the templates, and its compiler.

A template is English with slots in brackets and choices in braces: `[A] {quickly|slowly|} [A.do:move].`

- `{x|y|}` says one of the choices; an empty one says nothing.
- `[#name]` says one template of the rule `name`.
- `[~was/is]` says the first in the past and the second in the present, as the scene has it.
- `[quote:name]` says the rule `name` as somebody's own words: in the present.
- `[a:class]`, `[the:class]`, `[some:class]`, `[his:class]`, ... is a noun phrase (see `DETERMINERS`).
- `[A]`, `[B:kind]` introduces somebody as a subject; `[A.obj]` as an object; `[A.own]` is the possessive.
- `[A.he]`, `[A.him]`, `[A.his]`, `[A.himself]` refers back; `S` stands for whoever is the subject now.
- `[A.be]`, `[A.have]`, `[A.dont]`, `[A.was]`, `[A.is]`, `[A.has]`, `[A.does]` agree with the person.
- `[A.do:frames]` says an action of that class in the scene's tense; `did`, `base`, `ing`, `done`, ... fix the form; `not`, `nbase` and `ndone` stand under a negation.
- `[A.v:want]` is the verb alone in the scene's tense, `[A.vs:want]` in the present.
- `[other]` is somebody else, as an object; `[friend]` one person more, as a subject.
- `@` is "a" or "an", and `^` makes the next letter a capital (see `morphology.finish`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sgdd_engine.data.builtin.morphology import Verb, verb
from sgdd_engine.data.builtin.nouns import Noun
from sgdd_engine.data.builtin.people import Person, pick
from sgdd_engine.data.builtin.scene import NUMBERS, Scene, UnsaidError

Slot = Callable[[Scene], str]
Template = tuple[str | Slot, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """An action: its verb and the template of what follows the verb."""

    verb: Verb
    tail: Template


def render(template: Template, scene: Scene) -> str:
    """Return what `template` says in this scene."""
    return "".join([part if isinstance(part, str) else part(scene) for part in template])


def _some(noun: Noun, scene: Scene) -> str:
    return f"some {scene.describe(noun, plural=True, share=0.2)}"


def _a(noun: Noun, scene: Scene) -> str:
    return _some(noun, scene) if noun.mass else f"@ {scene.describe(noun)}"


def _his(noun: Noun, scene: Scene) -> str:
    owner = scene.subject
    return f"{owner.pronouns.his if owner else 'the'} {scene.describe(noun)}"


def _own(noun: Noun, scene: Scene) -> str:
    draw = scene.random()
    if draw < 0.5:
        return _his(noun, scene)
    return f"the {scene.describe(noun)}" if draw < 0.75 else _a(noun, scene)


def _np(noun: Noun, scene: Scene) -> str:
    draw = scene.random()
    if draw < 0.4:
        return f"the {scene.describe(noun)}"
    if draw < 0.8 or noun.mass:
        return _a(noun, scene)
    return _number(noun, scene)


def _number(noun: Noun, scene: Scene) -> str:
    number = "some" if noun.mass else pick(scene.random, NUMBERS)
    return f"{number} {scene.describe(noun, plural=True, share=0.2)}"


def _at(noun: Noun, scene: Scene) -> str:
    return f"{noun.preposition} {'the' if scene.random() < 0.8 else '@'} {scene.describe(noun, share=0.22)}"


DETERMINERS: dict[str, Callable[[Noun, Scene], str]] = {
    "a": _a,
    "the": lambda noun, scene: f"the {scene.describe(noun)}",
    "thepl": lambda noun, scene: f"the {scene.describe(noun, plural=True)}",
    "some": _some,
    "his": _his,
    "own": _own,
    "np": _np,
    "num": _number,
    "bare": lambda noun, scene: scene.describe(noun, plural=True, share=0.25),
    "one": lambda noun, scene: scene.describe(noun),
    "name": lambda noun, scene: noun.one,
    "many": lambda noun, scene: noun.many,
    "at": _at,
    "to": lambda noun, scene: f"to the {scene.describe(noun, share=0.22)}",
}


def _not(who: Person, form: Verb, scene: Scene) -> str:
    return f"{_dont(who, scene)} {form.base}"


def _dont(who: Person, scene: Scene) -> str:
    auxiliary = _agree(who, "does", "do") if scene.present else "did"
    return auxiliary + (" not" if scene.random() < 0.5 else "n't")


def _agree(who: Person, singular: str, plural: str) -> str:
    return singular if who.pronouns.singular else plural


def _is(who: Person) -> str:
    return "am" if who.pronouns.he == "I" else _agree(who, "is", "are")


def _was(who: Person) -> str:
    return "was" if who.pronouns.he == "I" else _agree(who, "was", "were")


def _tensed(who: Person, form: Verb, scene: Scene) -> str:
    return _agree(who, form.third, form.base) if scene.present else form.past


def _be(who: Person, scene: Scene) -> str:
    return _is(who) if scene.present else _was(who)


def _have(who: Person, scene: Scene) -> str:
    return _agree(who, "has", "have") if scene.present else "had"


# How a verb is said with a person as its subject.
VERB_FORMS: dict[str, Callable[[Person, Verb, Scene], str]] = {
    "do": _tensed,
    "did": lambda who, form, scene: form.past,
    "does": lambda who, form, scene: _agree(who, form.third, form.base),
    "base": lambda who, form, scene: form.base,
    "nbase": lambda who, form, scene: form.base,
    "ing": lambda who, form, scene: form.ing,
    "done": lambda who, form, scene: form.participle,
    "ndone": lambda who, form, scene: form.participle,
    "not": _not,
    "prog": lambda who, form, scene: f"{_be(who, scene)} {form.ing}",
    "perf": lambda who, form, scene: f"{_have(who, scene)} {form.participle}",
    "v": _tensed,
    "vs": lambda who, form, scene: _agree(who, form.third, form.base),
}
AUXILIARIES: dict[str, Callable[[Person, Scene], str]] = {
    "be": _be,
    "have": _have,
    "dont": _dont,
    "was": lambda who, scene: _was(who),
    "is": lambda who, scene: _is(who),
    "has": lambda who, scene: _agree(who, "has", "have"),
    "does": lambda who, scene: _agree(who, "does", "do"),
}
# Forms under a negation, where "some" and its like become "any".
NEGATED = frozenset({VERB_FORMS["not"], VERB_FORMS["nbase"], VERB_FORMS["ndone"]})
SOME = (" some ", " several ", " a few ", " many ")
# Forms that make the person the subject, so that `S` and `his` follow.
NOMINATIVE = frozenset({"subj", "he", "bind", *AUXILIARIES, *VERB_FORMS})


def _refer(who: Person, form: str) -> str:
    """Say a person without a verb."""
    if form == "bind":
        return ""
    if form in ("he", "him", "his", "himself"):
        return str(getattr(who.pronouns, form))
    first, owner, who.mentioned = not who.mentioned, who.owner, True
    if form == "obj":
        return who.object if first else who.again if who.again != who.pronouns.he else who.pronouns.him
    if form == "own":
        return owner
    return who.name if first else who.again


class Compiler:
    """Turns texts of templates into templates over one lexicon.

    Args:
        nouns: The classes of nouns by name.
    """

    def __init__(self, nouns: dict[str, list[Noun]]) -> None:
        self.nouns = nouns
        self.rules: dict[str, list[Template]] = {}
        self.frames: dict[str, list[Frame]] = {}

    def declare(self, rules: dict[str, str], frames: dict[str, str], unions: dict[str, str]) -> None:
        """Compile rules and actions, one template a line; any may name any other, whatever the order."""
        self.rules |= {name: [] for name in rules}
        self.frames |= {name: [] for name in [*frames, *unions]}
        for name, text in rules.items():
            self.rules[name] += [self.compile(line) for line in text.strip().splitlines()]
        for name, text in frames.items():
            self.frames[name] += [self._frame(line) for line in text.strip().splitlines()]
        for name, members in unions.items():
            for member in members.split():
                self.frames[name] += self.frames[member]

    def _frame(self, line: str) -> Frame:
        base, _, tail = line.partition(" ")
        return Frame(verb(base), self.compile(" " + tail if tail else ""))

    def compile(self, text: str) -> Template:
        """Return the template written in `text`."""
        parts: list[str | Slot] = []
        while text:
            start = min((at for at in (text.find("["), text.find("{")) if at >= 0), default=len(text))
            if start:
                parts.append(text[:start])
            if start == len(text):
                break
            end = _closing(text, start)
            inner = text[start + 1 : end]
            parts.append(self._slot(inner) if text[start] == "[" else self._choice(split_at(inner, "|")))
            text = text[end + 1 :]
        return tuple(parts)

    def _choice(self, options: Sequence[str]) -> Slot:
        templates = [self.compile(option) for option in options]
        return lambda scene: render(pick(scene.random, templates), scene)

    def _slot(self, inner: str) -> Slot:
        head, _, argument = inner.partition(":")
        if inner[0] == "#":
            rule = self.rules[inner[1:]]
            return lambda scene: render(pick(scene.random, rule), scene)
        if inner[0] == "~":
            past, present = (self.compile(side) for side in split_at(inner[1:], "/"))
            return lambda scene: render(present if scene.present else past, scene)
        if head == "quote":
            return partial(_quoted, self.rules[argument])
        if head == "other":
            return lambda scene: scene.extra("other").object
        if head == "friend":
            return lambda scene: scene.extra("friend").name
        if inner[0].isupper():
            letter, _, form = head.partition(".")
            return self._person(letter, form or "subj", argument)
        determiner, nouns = DETERMINERS[head], self._nouns(argument)
        return lambda scene: determiner(scene.noun(nouns), scene)

    def _nouns(self, name: str) -> list[Noun]:
        """Return a class of nouns, or the one noun called `=noun`."""
        if not name.startswith("="):
            return self.nouns[name]
        return [next(noun for nouns in self.nouns.values() for noun in nouns if noun.one == name[1:])]

    def _person(self, letter: str, form: str, argument: str) -> Slot:
        if form in ("v", "vs"):
            alone = [Frame(verb(argument), ())]
            return partial(_act, letter, VERB_FORMS[form], alone)
        if form in VERB_FORMS and argument:
            frames = self.frames if argument == "job" else self.frames[argument]
            return partial(_act, letter, VERB_FORMS[form], frames)
        kind = argument or ("other" if form == "obj" else "person" if letter == "A" else "third")
        if form in AUXILIARIES:
            return partial(_assist, letter, AUXILIARIES[form])
        return partial(_mention, letter, form, kind)


def _mention(letter: str, form: str, kind: str, scene: Scene) -> str:
    who = scene.who(letter, kind)
    if form in NOMINATIVE or scene.subject is None:
        scene.subject = who
    return _refer(who, form)


def _assist(letter: str, say: Callable[[Person, Scene], str], scene: Scene) -> str:
    who = scene.subject = scene.who(letter, "person")
    return say(who, scene)


def _act(
    letter: str,
    say: Callable[[Person, Verb, Scene], str],
    frames: list[Frame] | dict[str, list[Frame]],
    scene: Scene,
) -> str:
    who = scene.subject = scene.who(letter, "person")
    choices = frames if isinstance(frames, list) else frames[f"job.{who.job}"]
    for _ in range(8):
        frame = pick(scene.random, choices)
        if not frame.tail or frame.verb.base not in scene.used:
            break
    else:
        raise UnsaidError
    scene.used.append(frame.verb.base)
    tail = render(frame.tail, scene)
    if say in NEGATED:
        for some in SOME:
            tail = tail.replace(some, " any ")
    return say(who, frame.verb, scene) + tail


def _quoted(rule: list[Template], scene: Scene) -> str:
    """Say a rule as direct speech, whose tense does not depend on the narrator's."""
    subject, present, scene.present = scene.subject, scene.present, True
    text = render(pick(scene.random, rule), scene)
    scene.subject, scene.present = subject, present
    return text


def split_at(text: str, mark: str) -> list[str]:
    """Split at every `mark` that stands outside brackets and braces."""
    pieces, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "[{") - (letter in "]}")
        if letter == mark and depth == 0:
            pieces.append(text[start:place])
            start = place + 1
    return [*pieces, text[start:]]


def _closing(text: str, start: int) -> int:
    """Return where the bracket or brace opened at `start` closes."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "[{") - (text[place] in "]}")
        if depth == 0:
            return place
    message = f"unclosed bracket in the template {text!r}"
    raise AssertionError(message)
