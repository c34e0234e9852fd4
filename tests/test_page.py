"""The page of an evaluation: what stands on it, what is left out, and that nothing can leave it."""

import itertools
import json
import math
import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports_for_tests import FULL, SMALL

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.likelihood import Bin
from sgdd_engine.evaluation.metrics import METRICS, token_f1
from sgdd_engine.evaluation.page.charts import (
    Bar,
    Series,
    bars,
    lines,
    profile,
    round_ticks,
    tick_text,
)
from sgdd_engine.evaluation.page.drawings import CURVE_POINTS, by_cost, calibration, training
from sgdd_engine.evaluation.page.samples import compare
from sgdd_engine.evaluation.page.scatter import Spot, scatter
from sgdd_engine.evaluation.page.write import render, write_page
from sgdd_engine.evaluation.report import Sample
from sgdd_engine.evaluation.verdicts import Verdict
from sgdd_engine.text.words import words

VOID = {"meta", "link", "br", "input", "img", "hr"}
SECTIONS = [
    *(
        "written",
        "verdicts",
        "training",
        "conditions",
        "differences",
        "length",
        "masks",
        "guidance",
        "cost",
        "calibration",
        "latent",
    ),
    *("likelihood", "variety", "samples", "settings"),
]


CURVES = {
    "train/loss": [(step, 9.0 - 0.01 * step) for step in range(10, 500, 10)],
    "validation/loss": [(100, 8.5), (300, 7.2), (490, float("nan"))],
    "train/learning_rate": [(10, 1.0)],
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


@pytest.fixture(scope="module")
def page():
    return Page(render(FULL, "runs/tales", CURVES))


def sections(page):
    return [attrs["id"] for attrs in page.all("section")]


def test_every_part_has_its_section_and_its_way_there(page):
    assert sections(page) == SECTIONS
    ids = page.ids()
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for attrs in page.all("a")]
    assert {f"#{part}" for part in sections(page)} - {"#verdicts"} <= set(links)
    assert {link[1:] for link in links} <= set(ids)
    named = {name for _, attrs in page.elements for name in attrs.get("aria-labelledby", "").split()}
    assert named <= set(ids)


def test_the_best_the_median_and_the_worst_come_before_any_number(page):
    before = page.text[: page.text.index("In words", page.text.index("More samples"))]
    assert before.index("A door.") < before.index("He saw her")
    assert "Token F1 1.00" in before
    assert "The vector is used" not in before


def test_the_training_has_its_curve_where_it_was_recorded(page):
    told = page.text[page.text.index("Loss by step") :]
    assert "training: 8.900 at first, 4.100 at the end; held out: 8.500 at first, 7.200 at the end" in told
    assert training({"train/loss": [(1, 2.0)]}) == ""
    many = training({"train/loss": [(step, float(step % 7)) for step in range(1, 10_001)]})
    (curve,) = re.findall(r'<path [^>]*d="([^"]+)"', many)
    assert 100 <= curve.count("L") <= CURVE_POINTS


def test_the_page_names_no_folder_of_this_machine():
    home = "/home/somebody/work"
    made = {
        **FULL.settings,
        "data": {"path": f"{home}/tales.txt"},
        "training": {"folder": f"{home}/data/tales"},
    }
    made["model"] = {**made["model"], "encoder": {"name": f"{home}/encoder"}}
    verdict = Verdict(
        "vector_used", False, "It is not.", "3 steps are few.", f"sgdd train --out {home}/runs/tales"
    )
    report = replace(FULL, settings=made, verdicts=[verdict])
    text = render(report, f"{home}/runs/tales/checkpoints/step-0002000")
    assert "somebody" not in text
    plain = re.sub(r"</?span>", "", text)
    for part in ("tales, step-0002000", "tales.txt", "encoder", "sgdd train --out tales", "3 steps are few."):
        assert part in plain
    windows = render(report, "C:\\Users\\somebody\\model")
    assert "somebody" not in windows
    assert "<h1>model</h1>" in windows
    assert "<h1>anna/tales@1f2e</h1>" in render(FULL, "anna/tales@1f2e")


def test_what_was_not_measured_is_left_out():
    page = Page(render(SMALL, "runs/tales"))
    assert sections(page) == [name for name in SECTIONS if name not in ("training", "guidance", "cost")]
    for text in ("found in training", "Self-BLEU", "KL", "Active units", "standard error", "Encoder calls"):
        assert text not in page.text
    assert "nearest training sentence" not in page.text.replace(
        "looking up the nearest training sentence", ""
    )
    assert "So few sentences show at most 1 directions." in page.text
    assert not re.search(r"\bNone\b|\bnull\b|undefined", page.text.split("Show as JSON")[0])


def test_the_numbers_of_the_report_stand_in_its_tables(page):
    cells = " ".join(page.cells)
    for condition, scores in FULL.conditions.items():
        for name, value in scores.items():
            for end in (value.mean, *value.ends):
                assert f"{end:.{METRICS[name].decimals}f}".replace("-", "−") in cells, (condition, name)
    for text in (
        *("0.654", "0.162", "0.192", "1,034", "0.952", "3.171"),
        *("2.414", "± 0.021", "0.913", "± 0.008", "0.011", "0.008", "1,777", "0.830"),
        *(
            "6.14",
            "3.3",
            "0.313",
            "0.323",
            "41.3",
            "0.414",
            "0.717",
            "0.818",
            "5.151",
            "0.4 %",
            "1.1 %",
            "8.5",
        ),
    ):
        assert text in cells, text
    assert "1,234 held-out sentences" in page.text
    assert "two random sentences 0.052" in page.text
    assert "sgdd 7.8.9" in page.text
    assert "w = 2 (chosen)" in page.text
    assert json.dumps(FULL.settings, indent=2) in render_text(FULL, "pre")


def test_one_sentence_is_shown_without_an_interval(page):
    (row,) = re.findall(r"33–64 tokens</th>(.*?)</tr>", render(FULL, "x"))
    assert "range" not in row
    assert row.count("<td>") == 2 + len(FULL.by_length[0].own)
    assert "0.654" in row


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

    EncoderScorer().feed(render(result, "x"))
    return "".join(found)


def test_verdicts_are_told_by_sign_and_by_word(page):
    marks = {attrs["aria-label"] for attrs in page.all("span") if attrs.get("class") == "mark"}
    assert marks == {"yes", "no", "not judged"}
    assert re.search("✓ The vector is used.*✗ Words are often.*– Whether guidance", page.text)


def test_texts_cannot_become_markup():
    nasty = "</pre><script>alert(2)</script>\"'<img src=x onerror=alert(3)>"
    report = replace(
        FULL,
        verdicts=[Verdict(nasty, True, nasty)],
        settings={**FULL.settings, "data": {"path": nasty}, nasty: nasty},
        by_length=[replace(FULL.by_length[0], tokens=nasty)],
        latent=replace(FULL.latent, kind=nasty),
        samples=[Sample(nasty, nasty, nasty, 0.1, 0.1, 0.1)],
    )
    page = Page(render(report, nasty))
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert not any(key.startswith("on") for _, attrs in page.elements for key in attrs)
    assert nasty in page.text


def test_the_page_asks_for_nothing():
    text = render(FULL, "x")
    page = Page(text)
    assert not re.search(r"https?:|//\w|url\(|@import|<iframe|<object|<embed", text)
    for _, attrs in page.elements:
        assert "src" not in attrs
        assert attrs.get("href", "#").startswith(("#", "data:,"))
    (policy,) = (attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert "default-src 'none'" in policy


def test_each_drawing_has_a_title_and_tells_its_numbers(page):
    drawings = page.all("svg")
    # Training, conditions and lengths three each, two by mask ratio, six of guidance, calibration, two of the latent.
    assert len(drawings) == 20
    ids = set(page.ids())
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert set(drawing["aria-labelledby"].split()) <= ids
    assert "its own vector 0.732 (0.722 to 0.742); its own vector, no guidance 0.659" in page.text


def test_a_difference_is_judged_by_which_way_is_good(page):
    text = page.text
    assert "0.548 0.538 to 0.558: better" in text  # token F1 above another's
    assert "−0.073 −0.083 to −0.063: worse" in text
    assert "−0.022 −0.023 to −0.021: better" in text  # fewer repeated words than unguided
    assert "0.012 0.011 to 0.013: worse" in text
    assert "0.001 −0.019 to 0.021: not clear" in text


def test_figures_that_are_no_numbers_are_dashes():
    likelihood = replace(FULL.likelihood, nelbo_nats_per_token=math.nan, bits_per_byte=math.inf)
    text = render(replace(FULL, likelihood=likelihood), "x")
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
    def shown(text):
        return Page(render(replace(FULL, samples=[Sample("best", "The Door.", text, 1.0, 1.0, 9.0)]), "x"))

    # Each of the two legends has one mark, and each sample stands below both.
    assert len(shown("the door.").all("mark")) == 2
    assert len(shown("the Door.").all("mark")) == 4


def test_differences_are_marked_by_whole_words_in_any_script():
    source, text = compare("हिन्दी में लिखो", "हिन्दू में लिखो")
    assert [run.text for run in source if run.kind == "only"] == ["हिन्दी"]
    assert [run.text for run in text if run.kind == "only"] == ["हिन्दू"]
    source, text = compare("我今天去公园。", "我今天去学校。")
    assert [run.text for run in source if run.kind == "only"] == ["公园"]


def test_the_page_is_written_whole_and_replaced_whole(tmp_path):
    path = tmp_path / "report.html"
    write_page(SMALL, "a", path)
    write_page(FULL, "b", path)
    assert path.read_text(encoding="utf-8") == render(FULL, "b")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_a_name_that_is_no_text_is_written_all_the_same(tmp_path):
    write_page(FULL, "runs/\udcff", tmp_path / "report.html")
    assert "<h1>" in (tmp_path / "report.html").read_text(encoding="utf-8")


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
    rows = [Bar("a", Interval(0.8, 0.7, 0.9), "own"), Bar("b", Interval(0.2), "control")]
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
    values = [Interval(0.2, 0.1, 0.3), Interval(0.6)]
    drawing = lines("x", "X", ["a", "c"], [Series("s", values, "own")], axis="places", chosen=1)
    low, high = numbers(drawing, "circle", "cy")
    assert high < low
    (left, right) = numbers(drawing, "circle", "cx")
    assert numbers(drawing, 'line class="reference"', "x1") == [right]
    assert left < right
    # One interval, and a value without one.
    assert str(drawing).count(" span") == 1


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


def test_ways_of_sampling_that_pay_are_joined_and_named():
    drawing = str(by_cost(FULL.samplers, "token_f1", "positions_read"))
    assert drawing.count("<circle") == 5
    assert drawing.count('class="own fill"') == drawing.count('class="name"') == 3
    (front,) = re.findall(r'<path class="own stroke thin" d="M([^"]*)"', drawing)
    ways = [tuple(map(float, point.split())) for point in front.split(" L")]
    # From cheap and poor to dear and good; the upright axis points down.
    assert ways == sorted(ways)
    assert [y for _, y in ways] == sorted((y for _, y in ways), reverse=True)
    named = re.findall(r'<text class="name"[^>]*>([^<]*)<', drawing)
    assert named == ["4, margin", "8, margin", "16, margin"]
    # By time the cheapest of all is another one.
    by_time = str(by_cost(FULL.samplers, "cosine", "seconds"))
    assert re.findall(r'<text class="name"[^>]*>([^<]*)<', by_time)[0] == "4, random"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(1, 100), st.floats(0, 1)), min_size=1, max_size=12))
def test_names_of_points_meet_nothing(places):
    spots = [Spot(f"way {i}", x, Interval(y), on_front=True) for i, (x, y) in enumerate(places)]
    drawing = str(scatter("x", "X", spots, axis="cost"))
    found = re.findall(
        r'<text class="name" x="([-\d.]+)" y="([-\d.]+)" text-anchor="(\w+)">([^<]*)<', drawing
    )
    boxes = []
    for x, y, anchor, text in found:
        width = 6.4 * len(text)
        left = float(x) - {"start": 0, "middle": width / 2, "end": width}[anchor]
        boxes.append((left, float(y) - 10, left + width, float(y)))
    assert boxes
    for one, other in itertools.combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_perfectly_calibrated_bin_lies_on_the_diagonal():
    def dot(confidence, accuracy, count):
        return Bin(0.0, 1.0, confidence, accuracy, count)

    drawing = calibration("x", "X", [dot(0.0, 0.0, 1), dot(0.5, 0.5, 4), dot(1.0, 1.0, 9), dot(0.9, 0.1, 0)])
    x, y = (numbers(drawing, "circle", axis) for axis in ("cx", "cy"))
    assert (x[0] + x[2]) / 2 == pytest.approx(x[1])
    assert (y[0] + y[2]) / 2 == pytest.approx(y[1])
    # Right less often than it says lies below the diagonal.
    assert y[3] > y[1] + (y[2] - y[1]) * 0.8
    radii = numbers(drawing, "circle", "r")
    assert radii[3] < radii[0] < radii[1] < radii[2]
