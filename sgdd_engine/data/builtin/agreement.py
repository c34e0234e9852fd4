"""How nouns and people are said in a sentence: determiners, agreement, tense, reference."""

from collections.abc import Callable
from typing import NamedTuple

from sgdd_engine.data.builtin.morphology import Verb
from sgdd_engine.data.builtin.nouns import Noun
from sgdd_engine.data.builtin.people import Person, pick
from sgdd_engine.data.builtin.scene import NUMBERS, Scene


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
    known = noun.preposition in ("by", "at") or scene.random() < 0.75
    return f"{noun.preposition} {'the' if known else '@'} {scene.describe(noun, share=0.22)}"


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
    "name": lambda noun, _scene: noun.one,
    "many": lambda noun, _scene: noun.many,
    "at": _at,
    "to": lambda noun, scene: f"to the {scene.describe(noun, share=0.22)}",
}


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


class VerbForm(NamedTuple):
    """How a verb is said with a person as its subject, and whether that form stands under a negation."""

    say: Callable[[Person, Verb, Scene], str]
    negated: bool = False


VERB_FORMS = {
    "do": VerbForm(_tensed),
    "did": VerbForm(lambda _who, form, _scene: form.past),
    "does": VerbForm(lambda who, form, _scene: _agree(who, form.third, form.base)),
    "base": VerbForm(lambda _who, form, _scene: form.base),
    "nbase": VerbForm(lambda _who, form, _scene: form.base, negated=True),
    "ing": VerbForm(lambda _who, form, _scene: form.ing),
    "done": VerbForm(lambda _who, form, _scene: form.participle),
    "ndone": VerbForm(lambda _who, form, _scene: form.participle, negated=True),
    "not": VerbForm(lambda who, form, scene: f"{_dont(who, scene)} {form.base}", negated=True),
    "prog": VerbForm(lambda who, form, scene: f"{_be(who, scene)} {form.ing}"),
    "perf": VerbForm(lambda who, form, scene: f"{_have(who, scene)} {form.participle}"),
    "v": VerbForm(_tensed),
    "vs": VerbForm(lambda who, form, _scene: _agree(who, form.third, form.base)),
}
AUXILIARIES: dict[str, Callable[[Person, Scene], str]] = {
    "be": _be,
    "have": _have,
    "dont": _dont,
    "was": lambda who, _scene: _was(who),
    "is": lambda who, _scene: _is(who),
    "has": lambda who, _scene: _agree(who, "has", "have"),
    "does": lambda who, _scene: _agree(who, "does", "do"),
}
# Forms that make the person the subject, so that `S` and `his` follow.
NOMINATIVE = frozenset({"subj", "he", "bind", *AUXILIARIES, *VERB_FORMS})


def refer(who: Person, form: str) -> str:
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
