"""The stream of distinct sentences: a pattern is drawn, said, finished, checked, and kept if it is new."""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from random import Random

from sgdd_engine.data.builtin import actions, descriptions, jobs, patterns, phrases, speech
from sgdd_engine.data.builtin.morphology import finish
from sgdd_engine.data.builtin.nouns import noun_classes
from sgdd_engine.data.builtin.scene import Scene, UnsaidError
from sgdd_engine.data.builtin.templates import Compiler, Template, render
from sgdd_engine.errors import require

DEFAULT_COUNT = 200_000
MIN_WORDS, MAX_WORDS = 4, 24
DESCRIPTION = (
    "Synthetic English: sentences of 4 to 24 words about everyday people, places, things and feelings, generated "
    "by sgdd's own seeded grammar. No sentence was written by a person or taken from any text."
)
# How many of a hundred sentences come from each group of patterns.
SHARES = {
    "plain": 14,
    "joined": 12,
    "long": 8,
    "reasons": 12,
    "minds": 10,
    "plans": 7,
    "mishaps": 4,
    "who": 6,
    "things": 5,
    "made": 2,
    "weather": 3,
    "animals": 5,
    "compared": 3,
    "dialogue": 14,
    "questions": 6,
    "orders": 3,
}


@lru_cache(maxsize=1)
def _grammar() -> tuple[tuple[Template, ...], ...]:
    """Compile the grammar once: for each of a hundred shares, the patterns it draws from."""
    compiler = Compiler(noun_classes())
    groups = patterns.PATTERNS | descriptions.PATTERNS | speech.PATTERNS
    compiler.declare(phrases.RULES | speech.RULES | groups, actions.FRAMES | jobs.JOB_FRAMES, actions.UNIONS)
    return tuple(tuple(compiler.rules[group]) for group, share in SHARES.items() for _ in range(share))


def _sound(sentence: str) -> bool:
    """Tell whether a sentence has a length in bounds and no word twice in a row ("gave her her book")."""
    said = sentence.lower().split()
    if not MIN_WORDS <= len(said) <= MAX_WORDS:
        return False
    return not any(one == two for one, two in zip(said, said[1:], strict=False))


def builtin_sentences(count: int | None = None, seed: int = 0) -> Iterator[str]:
    """Generate distinct, cased English sentences of 4 to 24 words from the project's own grammar.

    The text is synthetic (see `DESCRIPTION`). The same seed gives the same sentences in the same order on every
    machine and Python version, and a smaller count gives the beginning of a larger one: all draws come from
    `Random.random()`, whose stream Python guarantees. Sentences are made one at a time; what stays in memory is
    an eight-byte hash of each sentence said (about 70 bytes apiece with the set that holds it). The grammar
    holds many millions of sentences; distinctness is by text, with capitals told apart.

    Args:
        count: How many sentences; 200,000 when None.
        seed: Any integer; negative ones are refused, as Python's generator would not tell -1 from 1.

    Raises:
        ConfigError: `count` or `seed` is negative.
    """
    wanted = DEFAULT_COUNT if count is None else count
    require(wanted >= 0, f"the number of built-in sentences is {wanted}, but must not be negative")
    require(seed >= 0, f"the seed of the built-in sentences is {seed}, but must not be negative")
    return _stream(wanted, seed)


def _stream(wanted: int, seed: int) -> Iterator[str]:
    random = Random(seed).random
    grammar = _grammar()
    said: set[bytes] = set()
    while len(said) < wanted:
        group = grammar[int(random() * len(grammar))]
        pattern = group[int(random() * len(group))]
        try:
            sentence = finish(render(pattern, Scene(random)))
        except UnsaidError:
            continue
        digest = blake2b(sentence.encode(), digest_size=8).digest()
        if digest not in said and _sound(sentence):
            said.add(digest)
            yield sentence
