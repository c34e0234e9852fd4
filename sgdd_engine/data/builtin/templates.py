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
- `[A.do:frames]` says an action of that class in the scene's tense; `did`, `base`, `ing`, `done`,
  ... fix the form; `not`, `nbase` and `ndone` stand under a negation.
- `[A.v:want]` is the verb alone in the scene's tense, `[A.vs:want]` in the present.
- `[other]` is somebody else, as an object; `[friend]` one person more, as a subject.
- `@` is "a" or "an", and `^` makes the next letter a capital (see `morphology.finish`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sgdd_engine.data.builtin.agreement import (
    AUXILIARIES,
    DETERMINERS,
    NOMINATIVE,
    VERB_FORMS,
    VerbForm,
    refer,
)
from sgdd_engine.data.builtin.morphology import Verb, verb
from sgdd_engine.data.builtin.nouns import Noun
from sgdd_engine.data.builtin.people import Person, pick
from sgdd_engine.data.builtin.scene import Scene, UnsaidError

# What becomes "any" under a negation.
SOME = (" some ", " several ", " a few ", " many ")

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


# People who take part once and are not spoken of again.
EXTRAS: dict[str, Slot] = {
    "other": lambda scene: scene.extra("other").object,
    "friend": lambda scene: scene.extra("friend").name,
}


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
            self.rules[name] += [self.compile(line) for line in entries(text)]
        for name, text in frames.items():
            self.frames[name] += [self._frame(line) for line in entries(text)]
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
        return partial(_chosen, templates)

    def _slot(self, inner: str) -> Slot:
        head, _, argument = inner.partition(":")
        if inner[0] == "#":
            return partial(_chosen, self.rules[inner[1:]])
        if inner[0] == "~":
            past, present = (self.compile(side) for side in split_at(inner[1:], "/"))
            return lambda scene: render(present if scene.present else past, scene)
        if inner[0].isupper():
            letter, _, form = head.partition(".")
            return self._person(letter, form or "subj", argument)
        if head in EXTRAS:
            return EXTRAS[head]
        if head == "quote":
            return partial(_quoted, self.rules[argument])
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
    return refer(who, form)


def _assist(letter: str, say: Callable[[Person, Scene], str], scene: Scene) -> str:
    who = scene.subject = scene.who(letter, "person")
    return say(who, scene)


def _act(
    letter: str,
    form: VerbForm,
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
    if form.negated:
        for some in SOME:
            tail = tail.replace(some, " any ")
    return form.say(who, frame.verb, scene) + tail


def _chosen(templates: Sequence[Template], scene: Scene) -> str:
    return render(pick(scene.random, templates), scene)


def _quoted(rule: list[Template], scene: Scene) -> str:
    """Say a rule as direct speech, whose tense does not depend on the narrator's."""
    subject, present, scene.present = scene.subject, scene.present, True
    text = _chosen(rule, scene)
    scene.subject, scene.present = subject, present
    return text


def entries(text: str) -> list[str]:
    """Return the templates of a text: one a line, or parted by `;`; an indented line goes on."""
    joined = text.strip().replace("\n  ", " ")
    return [entry.strip() for line in joined.splitlines() for entry in split_at(line, ";")]


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
