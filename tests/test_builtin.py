"""The built-in corpus: what it promises about every sentence, and that the same seed says the same."""

import hashlib
import os
import re
import statistics
import subprocess
import sys
import tomllib
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from sgdd_engine.data.builtin import builtin_sentences
from sgdd_engine.data.builtin.english import PRONOUNS, article, finish, plural, possessive
from sgdd_engine.data.builtin.grammar import grammar, render
from sgdd_engine.data.builtin.scene import Person, Scene, UnsaidError
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.sources import open_source
from sgdd_engine.errors import ConfigError

# Changes only when somebody changes the lexicon or the grammar, which makes it another corpus.
FIRST_THOUSAND = "8515170409554fd2f50c33670a0bddf32e50c05b0d2b71b9532fd2261efc1ec7"


@pytest.fixture(scope="module")
def corpus():
    return list(builtin_sentences(30_000))


def failing(corpus, pattern):
    return [sentence for sentence in corpus if re.search(pattern, sentence)]


def test_no_sentence_comes_twice(corpus):
    assert len(set(corpus)) == len(corpus) == 30_000


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_the_data_file_is_declared_as_package_data():
    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    shipped = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    assert "grammar.toml" in shipped["sgdd_engine.data.builtin"]


def test_description_says_synthetic():
    assert "synthetic" in (builtin_sentences.__doc__ or "").lower()
    assert open_source("builtin", DataConfig()).describe()["synthetic"] is True


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
        ("tie", "ties tied tied tying"),
        ("go", "goes went gone going"),
        ("have", "has had had having"),
        ("forget", "forgets forgot forgotten forgetting"),
    ],
)
def test_verb_forms(base, forms):
    assert " ".join(grammar().verb(base)[1:]) == forms


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


def said(template, draw=0.9):
    scene = Scene(lambda: draw, grammar().people)
    scene.draw_tense()
    return finish(render(grammar().template(template), scene))


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("[A:he] [A.was] [A.is] [A.has] [A.does]", "He was is has does"),
        ("[I] [I.was] [I.is] [I.has] [I.does]", "I was am have do"),
        ("[A:they] [A.was] [A.is] [A.has] [A.does]", "They were are have do"),
        ("[A:someone] [A.was] [A.is] [A.has] [A.does]", "They was is has does"),
        ("[A:she] [A.be] <lay/lies> and [A.have] [A.done:=write]", "She was lay and had written"),
        ("[A:she] [A.do:=write], [A.prog:=write], [A.perf:=write]", "She wrote, was writing, had written"),
        ("[A:she] [A.does:=write], [A.not:=write]", "She writes, didn't write"),
        ("[quote:weekday], [A:she] [A.dont]", "Sunday, she didn't"),
        ("[I] saw [I.himself] and [A.obj:she]", "I saw myself and her"),
    ],
)
def test_people_agree_with_their_verbs(template, sentence):
    assert said(template) == sentence


def test_the_scene_decides_the_tense():
    assert said("[A:she] [A.do:=write] <was/is>", draw=0.1) == "She writes is"


def test_some_becomes_any_under_a_negation(corpus):
    assert failing(corpus, r"(n't|not) (eat|buy|sell|drink|cook) any\b")
    assert failing(corpus, r"(didn't|did not) (eat|buy|sell|drink|cook) (some|several|a few|many)\b") == []


def test_people_are_named_once_and_referred_to_after():
    farmer = Person("@ farmer", PRONOUNS["she"], again="the farmer")
    assert [farmer.refer(form) for form in ("obj", "", "own", "his", "him")] == [
        "@ farmer",
        "the farmer",
        "the farmer's",
        "her",
        "her",
    ]
    assert Person("she", PRONOUNS["she"]).refer("obj") == "her"
    assert Person("Anna", PRONOUNS["she"]).refer("obj") == "Anna"


def test_finish_settles_articles_capitals_and_spaces():
    assert finish('"^there is @ egg ," said  @ honest man and @ useful  boy.') == (
        '"There is an egg," said an honest man and a useful boy.'
    )


def test_choices_nest_and_may_be_empty():
    assert [said("a{|<b/c>|{d|e}}.", draw) for draw in (0.0, 0.4, 0.9)] == ["A.", "Ab.", "Ae."]


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("[A] {walks", ValueError),
        ("<was/is", ValueError),
        ("[#nonsense]", KeyError),
        ("[the:nonsense]", KeyError),
        ("[A.do:nonsense]", KeyError),
    ],
)
def test_a_template_that_cannot_be_said_is_refused(template, error):
    with pytest.raises(error):
        grammar().template(template)


def test_every_pattern_can_be_said():
    for template in {template for group in grammar().sentences for template in group}:
        for seed in range(200):
            try:
                text = finish(render(template, Scene(Random(seed).random, grammar().people)))
            except UnsaidError:
                continue
            assert text
            break
        else:
            pytest.fail(f"nothing could be said: {template}")
