"""The page of an evaluation: what stands on it, what is left out, and that nothing can leave it."""

import copy
import json
import math
import re
import tomllib
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdd_engine.errors import SgddError
from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.metrics import token_f1
from sgdd_engine.evaluation.page import claim, render, write_page
from sgdd_engine.evaluation.page.differences import compare
from sgdd_engine.evaluation.page.plots import Bar, Series, bars, lines
from sgdd_engine.evaluation.page.profiles import Bin, calibration, profile
from sgdd_engine.evaluation.page.scales import round_ticks, tick_text
from sgdd_engine.text.words import words

VOID = {"meta", "link", "br", "input", "img", "hr"}


def near(mean, width=0.01):
    return {"mean": mean, "low": mean - width, "high": mean + width}


def condition(share):
    return {
        "exact_match": near(0.1234 * share),
        "token_f1": near(0.7312 * share),
        "set_f1": near(0.7018 * share),
        "bleu": near(35.27 * share, 1.0),
        "corpus_bleu": near(33.11 * share, 1.0),
        "chrf": near(58.36 * share, 1.0),
        "cosine": near(0.8643 * share),
        "repetition": near(0.0157 * share, 0.001),
        "length_error": near(0.42 * share),
        "retrieval_top1": near(0.9712 * share),
        "a_score_of_tomorrow": near(0.5552 * share),
    }


FULL = {
    "sentences": 1234,
    "checkpoint": "runs/tales",
    "verdicts": [
        {"name": "vector_used", "ok": True, "sentence": "The vector is used."},
        {"name": "repetition", "ok": False, "sentence": "Words are often repeated."},
        {"name": "guidance", "ok": None, "sentence": "Whether guidance helps cannot be told."},
    ],
    "conditions": {
        "true": condition(1.0),
        "unguided": condition(0.9),
        "nearest": condition(0.4),
        "shuffled": condition(0.25),
        "null": condition(0.2),
    },
    "differences": {
        "shuffled": {
            "token_f1": near(0.5484),
            "repetition": near(0.0118, 0.001),
            "cosine": near(0.001, 0.02),
        },
        "unguided": {"token_f1": near(-0.0731), "repetition": near(-0.0216, 0.001)},
    },
    "random_pair_cosine": near(0.0517, 0.003),
    "by_length": [
        {"tokens": "1-8", "sentences": 1034, "token_f1": near(0.8617), "shuffled_token_f1": 0.1919},
        {"tokens": "9-16", "sentences": 200, "token_f1": near(0.6423), "shuffled_token_f1": 0.1717},
    ],
    "by_mask_ratio": [
        {"masked": "0-10", "accuracy": 0.9517, "nll_nats": 0.3131, "tokens": 7},
        {"masked": "100", "accuracy": 0.4126, "nll_nats": 3.1714, "tokens": 9},
    ],
    "likelihood": {
        "nelbo_nats_per_token": 2.4137,
        "standard_error": 0.0213,
        "bits_per_byte": 0.9126,
        "bits_per_byte_standard_error": 0.0084,
    },
    "calibration": {
        "ece": 0.0343,
        "overconfidence": -0.0121,
        "bins": [
            {"low": 0.0, "high": 0.5, "confidence": 0.3111, "accuracy": 0.2888, "count": 1777},
            {"low": 0.5, "high": 1.0, "confidence": 0.8222, "accuracy": 0.8444, "count": 3999},
        ],
    },
    "latent": {
        "kind": "vib",
        "dimensions": 4,
        "kl_nats_per_sentence": 6.137,
        "kl_nats_by_dimension": [3.0, 2.0, 1.0, 0.137],
        "active_units": 3,
        "collapsed": False,
        "spectrum": [4.0, 3.0, 2.0, 1.0],
        "effective_rank": 3.33,
    },
    "diversity": {
        "outputs_distinct_1": 0.3131,
        "references_distinct_1": 0.3232,
        "samples_per_sentence": 4,
        "sentences": 100,
        "temperature": 0.7,
        "self_bleu": 41.26,
        "something_new": 0.2727,
    },
    "memorisation": {"outputs": near(0.0042, 0.001), "sources": near(0.0113, 0.001)},
    "guidance_search": {
        "best": 2.0,
        "sentences": 300,
        "grid": [
            {"cfg": 1.0, "token_f1": near(0.6613), "cosine": near(0.7914), "repetition": 0.0571},
            {"cfg": 2.0, "token_f1": near(0.7315), "cosine": near(0.8616), "repetition": 0.0152},
            {"cfg": 4.0, "token_f1": near(0.6817), "cosine": near(0.8218), "repetition": 0.0378},
        ],
    },
    "encoder_calls": 8.5,
    "samples": [
        {
            "group": "best",
            "source": "A door.",
            "text": "A door.",
            "cosine": 0.99,
            "token_f1": 1.0,
            "bleu": 100.0,
        },
        {
            "group": "worst",
            "source": "He saw her & left.",
            "text": "<script>alert(1)</script> left he",
            "cosine": 0.21,
            "token_f1": 0.2,
            "bleu": 3.1,
        },
    ],
    "settings": {
        "eval": {"limit": 1234, "candidates": 8, "seed": 3},
        "sampling": {"steps": 16, "cfg": 2.0, "temperature": 0.0},
        "data": {"path": "tales.txt"},
        "model": {"step": 12000, "encoder": {"name": "minilm"}},
        "versions": {"sgdd": "7.8.9"},
    },
}
SMALL = {"sentences": 2, "conditions": {"true": {"token_f1": near(0.3)}, "shuffled": {"token_f1": near(0.1)}}}
# The key of the machine form that each part of the page shows.
PARTS = {
    "verdicts": "verdicts",
    "conditions": "conditions",
    "differences": "differences",
    "length": "by_length",
    "masks": "by_mask_ratio",
    "guidance": "guidance_search",
    "calibration": "calibration",
    "latent": "latent",
    "likelihood": "likelihood",
    "samples": "samples",
    "settings": "settings",
}


class Page(HTMLParser):
    """A page as its reader sees it; raises where an element is not closed where it was opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.shown, self.cells = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.shown).replace("\u00a0", " ").split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "dd"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.shown.append(data)
        if "td" in self.open or "dd" in self.open:
            self.cells[-1] += data

    def ids(self):
        return [attrs["id"] for _, attrs in self.elements if "id" in attrs]

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def changed(**parts):
    return {**copy.deepcopy(FULL), **parts}


@pytest.fixture(scope="module")
def page():
    return Page(render(FULL))


def sections(page):
    return [attrs["id"] for attrs in page.all("section")]


def test_every_part_has_its_section_and_its_way_there(page):
    assert sections(page) == [*list(PARTS)[:-2], "variety", "samples", "settings"]
    ids = page.ids()
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for attrs in page.all("a")]
    assert {f"#{part}" for part in sections(page)} - {"#verdicts"} <= set(links)
    assert {link[1:] for link in links} <= set(ids)
    named = {name for _, attrs in page.elements for name in attrs.get("aria-labelledby", "").split()}
    assert named <= set(ids)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("nothing", [None, "missing"])
def test_a_part_without_figures_is_left_out_and_all_others_stay(page, part, nothing):
    result = changed(**{PARTS[part]: None})
    if nothing == "missing":
        del result[PARTS[part]]
    assert sections(Page(render(result))) == [name for name in sections(page) if name != part]


def test_the_least_result_makes_a_page():
    page = Page(render(SMALL))
    assert sections(page) == ["conditions"]
    assert "0.300" in page.text
    assert not re.search(r"\bNone\b|\bnull\b|undefined", page.text)
    assert sections(Page(render({}))) == []


def test_the_numbers_of_the_result_stand_in_its_tables(page):
    cells = " ".join(page.cells)
    for name, scores in FULL["conditions"].items():
        for score, value in scores.items():
            decimals = 1 if score in ("bleu", "corpus_bleu", "chrf") else 2 if score == "length_error" else 3
            for end in value.values():
                assert f"{end:.{decimals}f}".replace("-", "−") in cells, (name, score)
    for text in (
        *("0.862", "0.192", "1,034", "0.952", "3.171", "0.661", "0.015"),
        *("2.414", "± 0.021", "0.913", "± 0.008", "0.034", "−0.012", "1,777", "0.844"),
        *("6.14", "3.3", "0.313", "0.323", "41.3", "0.273", "0.4 %", "1.1 %", "8.5"),
    ):
        assert text in cells, text
    assert "1,234 held-out sentences" in page.text
    assert "A score of tomorrow" in page.text
    assert "two random sentences 0.052" in page.text
    assert "sgdd 7.8.9" in page.text
    assert "w = 2 (chosen)" in page.text
    assert json.dumps(FULL["settings"], indent=2) in render_text(FULL, "pre")


def render_text(result, tag):
    """The text of the elements of one kind, as a reader copies it."""
    found = []

    class EncoderScorer(HTMLParser):
        def handle_starttag(self, name, attrs):
            self.inside = name == tag

        def handle_endtag(self, name):
            self.inside = False

        def handle_data(self, data):
            if getattr(self, "inside", False):
                found.append(data)

    EncoderScorer().feed(render(result))
    return "".join(found)


def test_verdicts_are_told_by_sign_and_by_word(page):
    marks = {attrs["aria-label"] for attrs in page.all("span") if attrs.get("class") == "mark"}
    assert marks == {"yes", "no", "not judged"}
    assert re.search("✓ The vector is used.*✗ Words are often.*– Whether guidance", page.text)


def test_texts_cannot_become_markup():
    nasty = "</pre><script>alert(2)</script>\"'<img src=x onerror=alert(3)>"
    page = Page(
        render(
            changed(
                checkpoint=nasty,
                verdicts=[{"name": nasty, "ok": True, "sentence": nasty}],
                settings={"data": {"path": nasty}, nasty: nasty},
                diversity={nasty: 0.5},
                conditions={nasty: {"token_f1": near(0.5), nasty: near(0.4)}},
                by_length=[{"tokens": nasty, "token_f1": near(0.5)}],
                samples=[{"group": nasty, "source": nasty, "text": nasty, "token_f1": 0.1}],
            )
        )
    )
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert not any(key.startswith("on") for _, attrs in page.elements for key in attrs)
    assert nasty in page.text


def test_the_page_asks_for_nothing():
    text = render(FULL)
    page = Page(text)
    assert not re.search(r"https?:|//\w|url\(|@import|<iframe|<object|<embed", text)
    for _, attrs in page.elements:
        assert "src" not in attrs
        assert attrs.get("href", "#").startswith(("#", "data:,"))
    (policy,) = (attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert "default-src 'none'" in policy


def test_each_drawing_has_a_title_and_tells_its_numbers(page):
    drawings = page.all("svg")
    # Three of the conditions, one by length, two by mask ratio, three of guidance, calibration, two of the latent.
    assert len(drawings) == 12
    ids = set(page.ids())
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert set(drawing["aria-labelledby"].split()) <= ids
    assert "its own vector 0.731 (0.721 to 0.741); its own, no guidance 0.658" in page.text


def test_a_difference_is_judged_by_which_way_is_good(page):
    text = page.text
    assert "0.548 0.538 to 0.558: better" in text  # token F1 above another's
    assert "−0.073 −0.083 to −0.063: worse" in text
    assert "−0.022 −0.023 to −0.021: better" in text  # fewer repeated words than unguided
    assert "0.012 0.011 to 0.013: worse" in text
    assert "0.001 −0.019 to 0.021: not clear" in text


def test_figures_that_are_no_numbers_are_dashes():
    result = changed(
        by_mask_ratio=[{"masked": "100", "accuracy": math.nan, "nll_nats": None}],
        conditions={"true": {"token_f1": near(0.5), "cosine": {"mean": math.inf, "low": 0, "high": 0}}},
        likelihood={"nelbo_nats_per_token": math.nan, "bits_per_byte": 1.5},
    )
    text = render(result)
    Page(text)
    assert not re.search(r"\bnan\b|\binf\b", text)


def test_samples_carry_their_scores_for_sorting(page):
    items = [attrs for attrs in page.all("li") if "data-group" in attrs]
    assert [item["data-group"] for item in items] == ["best", "worst"]
    assert [float(item["data-token-f1"]) for item in items] == [1.0, 0.2]
    # Without its script the page shows all samples and no dead controls.
    (form,) = page.all("form")
    assert "hidden" in form
    assert not any("hidden" in item for item in items)


def test_capitals_are_no_difference_where_the_vocabulary_has_none():
    pair = {"group": "best", "source": "The Door.", "token_f1": 1.0}
    lower = Page(render(changed(samples=[{**pair, "text": "the door."}])))
    cased = Page(render(changed(samples=[{**pair, "text": "the Door."}])))
    # The legend above the samples has one of each.
    assert len(lower.all("mark")) == 1
    assert len(cased.all("mark")) == 2


def test_the_page_is_written_whole_and_replaced_whole(tmp_path):
    path = tmp_path / "new" / "report.html"
    write_page(SMALL, path)
    write_page(FULL, path)
    assert path.read_text(encoding="utf-8") == render(FULL)
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(SgddError, match="is a folder") as caught:
        write_page(SMALL, tmp_path)
    assert "report.html" in caught.value.hint
    file = tmp_path / "file"
    file.write_text("kept", encoding="utf-8")
    with pytest.raises(SgddError, match="cannot be written"):
        claim(file / "report.html")
    with pytest.raises(SgddError, match="cannot be written"):
        write_page(SMALL, tmp_path / ("x" * 300))
    assert file.read_text(encoding="utf-8") == "kept"


def test_a_name_that_is_no_text_is_written_all_the_same(tmp_path):
    write_page(changed(checkpoint="runs/\udcff"), tmp_path / "report.html")
    assert "runs/" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_files_of_the_page_are_shipped():
    folder = files("sgdd_engine.evaluation.page")
    there = {
        entry.name
        for entry in folder.iterdir()
        if entry.is_file() and not entry.name.endswith((".py", ".pyc"))
    }
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    shipped = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    assert there == set(shipped["sgdd_engine.evaluation.page"])


TEXT = st.lists(st.sampled_from(["the", "The", "cat", "didn't", "sat", ".", ",", "a"]), max_size=9).map(
    " ".join
)


@settings(deadline=None, max_examples=50)
@given(TEXT, TEXT)
def test_marks_agree_with_token_f1(source, text):
    first, second = compare(source, text)
    assert "".join(run.text for run in first) == source
    assert "".join(run.text for run in second) == text
    shared = [sum(len(words(run.text)) for run in runs if run.kind != "only") for runs in (first, second)]
    assert shared[0] == shared[1]
    total = len(words(source)) + len(words(text))
    if len(words(source)) and len(words(text)):
        assert token_f1(source, text) == pytest.approx(2 * shared[0] / total)


def test_a_moved_word_is_told_from_a_new_one():
    source, text = compare("He never saw the red door.", "He saw the old door never.")
    assert [run.text for run in source if run.kind == "only"] == ["red"]
    assert [run.text for run in source if run.kind == "moved"] == ["never"]
    assert [run.text for run in text if run.kind == "only"] == ["old"]
    assert [run.text for run in text if run.kind == "moved"] == ["never"]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6),
    st.booleans(),
)
def test_ticks_are_round_even_and_enclose_all(values, from_zero):
    ticks = round_ticks(values, from_zero=from_zero)
    room = 1e-6 * max(1.0, *(abs(value) for value in values))
    assert ticks[0] <= min(values) + room
    assert ticks[-1] >= max(values) - room
    steps = [b - a for a, b in pairwise(ticks)]
    assert steps
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)
    assert 2 <= len(ticks) <= 8
    if from_zero:
        assert min(abs(tick) for tick in ticks) <= room


def test_tick_texts_are_distinct():
    for low, high in ((0, 1), (0.7, 0.73), (0, 40), (-0.02, 0.06), (0, 2500)):
        ticks = round_ticks([low, high], from_zero=False)
        texts = [tick_text(tick, ticks) for tick in ticks]
        assert len(set(texts)) == len(texts)


def numbers(drawing, tag, attribute):
    return [float(value) for value in re.findall(rf'<{tag} [^>]*\b{attribute}="([-\d.]+)"', str(drawing))]


def test_bars_are_as_long_as_their_values():
    rows = [Bar("a", Interval(0.8, 0.7, 0.9), "own"), Bar("b", Interval(0.2, 0.2, 0.2), "control")]
    drawing = bars("x", "X", rows)
    long, short = numbers(drawing, "rect", "width")
    assert long / short == pytest.approx(4, rel=0.01)
    # A value without an interval has no whisker.
    assert str(drawing).count('class="whisker"') == 3
    below = bars(
        "x", "X", [Bar("a", Interval(-0.5, -0.5, -0.5), "own"), Bar("b", Interval(0.5, 0.5, 0.5), "own")]
    )
    (left, right), widths = numbers(below, "rect", "x"), numbers(below, "rect", "width")
    assert left + widths[0] == pytest.approx(right, abs=0.2)


def test_higher_values_stand_higher():
    values = [Interval(0.2, 0.1, 0.3), None, Interval(0.6, 0.5, 0.7)]
    drawing = lines("x", "X", ["a", "b", "c"], [Series("s", values, "own")], axis="places", chosen=2)
    low, high = numbers(drawing, "circle", "cy")
    assert high < low
    (left, right) = numbers(drawing, "circle", "cx")
    assert numbers(drawing, 'line class="reference"', "x1") == [right]
    assert left < right


def test_one_place_and_equal_values_can_be_drawn():
    alone = lines("x", "X", ["a"], [Series("s", [Interval(0.5, 0.5, 0.5)], "own")], axis="w", from_zero=False)
    assert len(numbers(alone, "circle", "cx")) == 1
    flat = [Interval(0.0, 0.0, 0.0)] * 3
    zeros = lines("x", "X", ["a", "b", "c"], [Series("s", flat, "own")], axis="w", from_zero=False)
    assert "−" not in str(zeros)
    for values in ([0.0], [0.0, 0.0], [1.0] * 3, [1e-30, 5.0]):
        for logarithmic in (False, max(values) > 0):
            assert "<path" in str(profile("x", "X", values, axis="d", logarithmic=logarithmic))
    assert "<circle" not in str(calibration("x", "X", []))


def test_a_perfectly_calibrated_bin_lies_on_the_diagonal():
    drawing = calibration("x", "X", [Bin(0.0, 0.0, 1), Bin(0.5, 0.5, 4), Bin(1.0, 1.0, 9), Bin(0.9, 0.1, 0)])
    x, y = (numbers(drawing, "circle", axis) for axis in ("cx", "cy"))
    assert (x[0] + x[2]) / 2 == pytest.approx(x[1])
    assert (y[0] + y[2]) / 2 == pytest.approx(y[1])
    # Right less often than it says lies below the diagonal.
    assert y[3] > y[1] + (y[2] - y[1]) * 0.8
    radii = numbers(drawing, "circle", "r")
    assert radii[3] < radii[0] < radii[1] < radii[2]
