"""Numbers as text: times, sizes, rates, and one line of training figures."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sgdd_engine.events import SamplesWritten, TrainingProgress, Validated

_BARS = "▁▂▃▄▅▆▇█"


def duration(seconds: float) -> str:
    """0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size(count: float) -> str:
    """Bytes in the largest unit that leaves a number above 1: 512 B, 3.4 MB, 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def rate(per_second: float) -> str:
    """A rate: whole from 10 on, with one decimal below."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"


def share(value: float) -> str:
    """A share in [0, 1] as papers print it: .46."""
    return f"{value:.2f}".removeprefix("0")


def accuracy(by_mask_ratio: Mapping[str, float]) -> str:
    """Accuracy by percent of the canvas masked: 0-25 % .81, 100 % .12."""
    return ", ".join(f"{bucket} % {share(value)}" for bucket, value in by_mask_ratio.items())


def steps(event: "TrainingProgress") -> str:
    """How far training is: by its steps, or by its minutes where these end it first."""
    if event.max_steps is None or event.fraction > event.step / event.max_steps:
        return f"step {event.step:,} ({event.fraction:.0%} of the minutes)"
    return f"step {event.step:,} of {event.max_steps:,} ({event.fraction:.0%})"


def training_line(event: "TrainingProgress") -> str:
    """All figures of a training report on one line."""
    by_mask = event.accuracy_by_mask_ratio
    of_masks = [f"accuracy by mask {accuracy(by_mask)}"] if by_mask else []
    parts = [
        steps(event),
        f"loss {event.loss:.3f}",
        *of_masks,
        f"{rate(event.sentences_per_second)} sentences/s",
        f"lr {event.learning_rate:.2e}",
        size(event.memory_bytes),
    ]
    if event.seconds_left is not None:
        parts.append(f"{duration(event.seconds_left)} left")
    return "; ".join(parts)


def validation_line(event: "Validated") -> str:
    """Held-out figures on one line; of the accuracies the one that decoding starts from."""
    parts = [f"held-out loss {event.loss:.3f}", f"NELBO {event.nelbo_nats_per_token:.3f} nats/token"]
    if "100" in event.accuracy_by_mask_ratio:
        parts.append(f"accuracy from a full mask {share(event.accuracy_by_mask_ratio['100'])}")
    if event.surrogate_error is not None:
        parts.append(f"surrogate's squared distance {event.surrogate_error:.3f}")
    return f"step {event.step:,}: {', '.join(parts)}{' (best so far)' if event.best else ''}"


def pair_lines(source: str, written: str) -> str:
    """A source and what was written from its vector, one below the other, so that they are easily compared."""
    return f"  source   {source}\n  written  {written}"


def samples_lines(event: "SamplesWritten") -> str:
    """What training writes of held-out sentences."""
    head = f"step {event.step:,}: held-out sentences, written from their vectors"
    return "\n".join([head, *(pair_lines(*pair) for pair in event.pairs)])


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve as a row of bars from its lowest to its highest value; neighbours are averaged to at most `width`."""
    count = min(width, len(values))
    edges = [index * len(values) // count for index in range(count + 1)] if count else []
    means = [fmean(values[start:end]) for start, end in pairwise(edges)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    top = len(_BARS) - 1
    return "".join(_BARS[round((value - low) / (high - low) * top) if high > low else 0] for value in means)
