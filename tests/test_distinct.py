"""Several samples of a vector differ, by further seeds where texts repeat, and do not depend on the batch."""

from dataclasses import replace

import pytest

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.events import CanvasChanged
from sgdd_engine.generation import SGDD, Generation
from sgdd_engine.generation.distinct import DRAWS, distinct_samples
from sgdd_engine.mini import MINI

TEXT = "The ship sailed slowly into the harbour, and the captain looked for his old friend."


@pytest.fixture(scope="module")
def mini():
    return SGDD.from_pretrained(MINI, "cpu")


def test_six_samples_are_six_texts(mini):
    vectors = mini.encode([TEXT, "She was happy."])
    written = mini.generate(vectors, num_samples=6)
    assert [item.row for item in written] == [0] * 6 + [1] * 6
    assert len({item.text for item in written[:6]}) == 6
    assert [item.seed for item in written[:6]] == sorted({item.seed for item in written[:6]})
    assert mini.generate(vectors[1:], num_samples=6) == [replace(item, row=0) for item in written[6:]]


def test_an_explicit_temperature_of_zero_keeps_its_meaning(mini):
    greedy = mini.generate(mini.encode(TEXT))
    vectors = mini.encode(TEXT)
    same = mini.generate(vectors, sampling=replace(mini.recommended_sampling, temperature=0.0), num_samples=3)
    assert {item.text for item in same} == {greedy[0].text}
    assert SamplingConfig().temperature == 0


def test_what_cannot_differ_is_filled_up_and_seeds_are_bounded():
    asked = []

    def write(rows, first, listener):
        asked.append((tuple(rows), first))
        listener(CanvasChanged(1, 1, ("_",) * len(rows), tuple(range(len(rows)))))
        # Row 0 is always written alike; row 1 has a new text for each seed but the first two.
        return [
            Generation("same" if rows[number] == 0 else f"text {max(first + k, 12)}", (1,), number, first + k)
            for number in range(len(rows))
            for k in range(3)
        ]

    steps = []
    found = distinct_samples(write, 2, 3, 10, steps.append)
    assert [(item.row, item.text, item.seed) for item in found] == [
        (0, "same", 10),
        (0, "same", 11),
        (0, "same", 12),
        (1, "text 12", 10),
        (1, "text 13", 13),
        (1, "text 14", 14),
    ]
    assert asked == [((0, 1), 10), ((0, 1), 13), *(((0,), 10 + 3 * number) for number in range(2, DRAWS))]
    assert [step.rows for step in steps] == [(0, 1), (0, 1), (0,), (0,)]
