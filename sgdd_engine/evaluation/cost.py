"""About how long an evaluation takes: each part of it is done for a few sentences first, and its time multiplied."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sgdd_engine.counted import about, counted
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.reconstruction import CHUNK, write
from sgdd_engine.evaluation.scores import reencode
from sgdd_engine.events import Listener, StageFinished, StageStarted
from sgdd_engine.generation import SGDD

STAGE = "measuring the speed"
# Seconds of measuring that are enough, for all parts together, and for a part at least. Where a part took less, it is
# done for `GROWTH` times as many sentences, since many at once are quicker: `mini` writes 1 in .25 s of processor time,
# 4 in .66 s, 16 in 1.6 s and 64 in 4.8 s.
ENOUGH_SECONDS, LEAST_SECONDS = 3.0, 0.5
GROWTH = 4
# At most one of so many sentences is taken to measure, so that it is short beside what is measured.
ONE_OF = 8
# Encoder calls for one sentence that are measured. The time grows with their number: with `mini`, 16 and 64 calls of a
# search took 3.8 s and 18.2 s of processor time, a draft with 2 and with 8 rounds of refining 3.1 s and 9.7 s.
SEARCH_CALLS, ROUND_CALLS = 16, 4
# Seconds from which on it is said how an evaluation is made shorter.
LONG = 3600
# Fewer sentences are not proposed, since their scores say little.
FEW = 100


@dataclass(frozen=True)
class Part:
    """A part of an evaluation.

    Attributes:
        do: Does it for some sentences.
        count: Sentences for which it is done in all; a fraction where `do` does more or less than is done for one.
    """

    do: Callable[[EvaluationSet], object]
    count: float


def calls_per_sentence(config: EvalConfig) -> int:
    """Texts that are encoded to write one."""
    return config.search or config.candidates + config.refine


def writing_part(model: SGDD, config: EvalConfig, sampling: SamplingConfig, texts: int) -> Part:
    """So many texts that are written in one way and encoded; of many encoder calls for each a few are measured."""
    fewer = _with_fewer_calls(config)
    scale = calls_per_sentence(config) / calls_per_sentence(fewer)

    def do(data: EvaluationSet) -> None:
        reencode(model, [item.text for item in write(model, data, STAGE, fewer, sampling)])

    return Part(do, texts * scale)


def _with_fewer_calls(config: EvalConfig) -> EvalConfig:
    """The same way of writing with so few encoder calls that one sentence takes seconds."""
    if config.search:
        # Each draft costs a call.
        return replace(config, search=min(config.search, max(SEARCH_CALLS, config.candidates)))
    share = min(1.0, ROUND_CALLS / calls_per_sentence(config))
    candidates, refine = (math.ceil(share * count) for count in (config.candidates, config.refine))
    return replace(config, candidates=candidates, refine=refine)


def estimate_seconds(data: EvaluationSet, parts: Sequence[Part]) -> float:
    """About how long parts of an evaluation of N ≥ 2 sentences take on this machine, measured now.

    Too long where a few sentences take seconds, since many at once are quicker. With `mini` it was 12 s for what took
    11 s, 120 s for 80 s, and with 4 rounds of refining 83 s for 43 s.
    """
    enough = max(LEAST_SECONDS, ENOUGH_SECONDS / len(parts))
    return sum(part.count * _seconds_per_sentence(data, part, enough) for part in parts)


def _seconds_per_sentence(data: EvaluationSet, part: Part, enough: float) -> float:
    """Of sentences of about the median length, which stand side by side in the batches of an evaluation too."""
    order = np.argsort([len(tokens) for tokens in data.token_ids], kind="stable").tolist()
    rows = 1
    while True:
        start = (len(order) - rows) // 2
        few = data.rows(order[start : start + rows])
        began = time.perf_counter()
        part.do(few)
        seconds = time.perf_counter() - began
        more = GROWTH * rows
        if seconds >= enough or more > min(CHUNK, len(order) // ONE_OF):
            return seconds / rows
        rows = more


def encoder_calls(config: EvalConfig, texts: int) -> list[str]:
    """The count of encoder calls that choose so many texts, in words; none where nothing is chosen."""
    return [counted(texts * calls_per_sentence(config), "encoder call")] if config.feedback else []


def say_how_long(
    what: str,
    data: EvaluationSet,
    parts: Sequence[Part],
    counts: Sequence[str],
    on_event: Listener,
    *,
    fewer: str = "--limit",
    note: str = "",
) -> None:
    """Say before the long part about how long it takes, and how it is made shorter where that is long.

    Args:
        what: "the evaluation".
        data: Its sentences.
        parts: What is done for them.
        counts: How much is done, in words.
        on_event: Told of it.
        fewer: The option that says for how many sentences.
        note: A sentence on what is not in the estimate.
    """
    on_event(StageStarted(STAGE))
    seconds = estimate_seconds(data, parts)
    sentences = [
        f"{what} will take {about(seconds)}: {', '.join(counts)}.",
        note,
        f"With fewer sentences it is shorter: {fewer} {FEW}" * (seconds > LONG and len(data) > FEW),
    ]
    on_event(StageFinished(STAGE, " ".join(filter(None, sentences))))
