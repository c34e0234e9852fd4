"""The built-in corpus: what it promises about every sentence, and that the same seed says the same."""

import hashlib
import os
import re
import statistics
import subprocess
import sys
from itertools import islice

import pytest

from sgdd_engine.data.builtin import DESCRIPTION, builtin_sentences
from sgdd_engine.data.builtin.agreement import AUXILIARIES
from sgdd_engine.data.builtin.morphology import article, finish, plural, possessive, verb
from sgdd_engine.data.builtin.people import HE, ME, SHE, THEY, Person
from sgdd_engine.data.builtin.scene import Scene
from sgdd_engine.data.builtin.templates import entries, split_at
from sgdd_engine.errors import ConfigError

# Changes only when somebody changes the lexicon or the grammar, which makes it another corpus.
FIRST_THOUSAND = "8515170409554fd2f50c33670a0bddf32e50c05b0d2b71b9532fd2261efc1ec7"


@pytest.fixture(scope="module")
def corpus():
    return list(builtin_sentences(30_000))


def failing(corpus, pattern):
    return [sentence for sentence in corpus if re.search(pattern, sentence)]


def test_default_count_is_reached_without_a_repetition():
    sentences = list(builtin_sentences())
    assert len(sentences) == len(set(sentences)) == 200_000


@pytest.mark.parametrize("count", [0, 1, 17])
def test_count_is_exact(count):
    assert len(list(builtin_sentences(count))) == count


def test_stream_is_lazy():
    assert len(list(islice(builtin_sentences(10**12), 5))) == 5


def test_negative_count_or_seed_is_refused():
    with pytest.raises(ConfigError, match="-1"):
        builtin_sentences(-1)
    with pytest.raises(ConfigError, match="-3"):
        builtin_sentences(1, seed=-3)


def test_same_seed_same_sentences_everywhere():
    said = "\n".join(builtin_sentences(1000))
    assert hashlib.sha256(said.encode()).hexdigest() == FIRST_THOUSAND


def test_hash_randomisation_changes_nothing():
    code = "from sgdd_engine.data.builtin import builtin_sentences as b; print(list(b(300, seed=4))[-1])"
    said = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1] != b""


def test_smaller_count_is_a_prefix_and_seeds_differ(corpus):
    assert list(builtin_sentences(50)) == corpus[:50]
    assert len(set(builtin_sentences(1000, seed=1)) & set(corpus)) < 200


def test_word_bounds_and_spread(corpus):
    lengths = [len(sentence.split()) for sentence in corpus]
    assert min(lengths) == 4
    assert max(lengths) == 24
    assert 9 <= statistics.median(lengths) <= 12
    assert statistics.stdev(lengths) > 3
    assert set(lengths) == set(range(4, 25))


def test_starts_with_a_capital_and_ends_with_punctuation(corpus):
    assert failing(corpus, r"^(?!\"?[A-Z])") == []
    assert failing(corpus, r"(?<![.?!])(?<![.?!]\")$") == []


def test_quotes_are_balanced_and_open_with_a_capital_or_go_on(corpus):
    assert [sentence for sentence in corpus if sentence.count('"') % 2] == []
    assert failing(corpus, r'(^|\. )"[a-z]') == []
    assert sum('"' in sentence for sentence in corpus) > 2000


def test_articles_follow_the_next_word(corpus):
    for sentence in corpus:
        for given, word in re.findall(r"\b([Aa]n?) ([A-Za-z-]+)", sentence):
            assert given.lower() == article(word), sentence


def test_no_word_twice_in_a_row(corpus):
    assert failing(corpus, r"(?i)\b(\w+) \1\b") == []


def test_no_template_marker_and_clean_spacing(corpus):
    assert failing(corpus, r"[\[\]{}|@^~#<>_;]|\d|  | [,.?!]|[,.?!]{2}|^ | $") == []


@pytest.mark.parametrize(
    "wrong",
    [
        r"\b(they|we) (was|is|has|goes|wants|does)\b",
        r"\b(he|she|it) (were|are|am)\b",
        r"\bI (is|are|has|were|does)\b",
        r"\b(did|does|do)(n't| not) (?!need|feed)\w+ed\b",
        r"\b(will|would|must|should) (was|were|is|are|has|had)\b",
        r"\b(dont|childs|mans|womans|foots|tooths|leafs|shelfs|wolfs|gooses|buyed|goed|eated|taked)\b",
        r"\b(\w+) (?:told|asked|gave|helped|saw) \1\b",
    ],
)
def test_common_mistakes_do_not_occur(corpus, wrong):
    assert failing(corpus, wrong) == []


def test_variety_of_vocabulary_and_openings(corpus):
    words = {word for sentence in corpus for word in re.findall(r"[a-z]+", sentence.lower())}
    assert 1200 < len(words) < 2600
    assert len({tuple(sentence.split()[:3]) for sentence in corpus}) > 5000
    for kind in (
        r"\?",
        "!",
        '"',
        r"\bbecause\b",
        r"\bwho\b",
        r"\bwill\b",
        r"n't\b",
        r"\bthan\b",
        r"\b[Tt]here (is|was)",
    ):
        assert len(failing(corpus, kind)) > 100, kind


def test_description_says_synthetic():
    assert "synthetic" in DESCRIPTION.lower()
    assert "synthetic" in (builtin_sentences.__doc__ or "").lower()


@pytest.mark.parametrize(
    ("base", "forms"),
    [
        ("write", "writes wrote written writing"),
        ("stop", "stops stopped stopped stopping"),
        ("open", "opens opened opened opening"),
        ("carry", "carries carried carried carrying"),
        ("play", "plays played played playing"),
        ("watch", "watches watched watched watching"),
        ("lie", "lies lay lain lying"),
        ("travel", "travels travelled travelled travelling"),
        ("mix", "mixes mixed mixed mixing"),
        ("see", "sees saw seen seeing"),
        ("peel", "peels peeled peeled peeling"),
    ],
)
def test_verb_forms(base, forms):
    assert " ".join(verb(base)[1:]) == forms


def test_noun_forms():
    assert [plural(noun) for noun in ("box", "cherry", "key", "peach", "bus")] == [
        "boxes",
        "cherries",
        "keys",
        "peaches",
        "buses",
    ]
    assert possessive("Anna") == "Anna's"
    assert possessive("the farmers") == "the farmers'"


def test_people_agree_with_their_verbs():
    scene = Scene(lambda: 0.9)
    said = [
        [AUXILIARIES[form](Person("x", who), scene) for form in ("was", "is", "has")]
        for who in (HE, ME, THEY)
    ]
    assert said == [["was", "is", "has"], ["was", "am", "have"], ["were", "are", "have"]]
    assert Person("she", SHE).object == "her"
    assert Person("Anna", SHE).object == "Anna"


def test_finish_settles_articles_capitals_and_spaces():
    assert finish('"^there is @ egg ," said  @ honest man and @ useful  boy.') == (
        '"There is an egg," said an honest man and a useful boy.'
    )


def test_template_texts_are_split_outside_brackets():
    assert split_at("a|[~b/{c|d}]|e", "|") == ["a", "[~b/{c|d}]", "e"]
    assert entries("\none; two\nthree goes\n  on\n") == ["one", "two", "three goes on"]
