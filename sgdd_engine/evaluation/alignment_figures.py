"""How good a map between the vectors of two encoders is: figures on held-out pairs, and what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgdd_engine.evaluation.bootstrap import Floats, Interval, bootstrap_interval

# Words for a map, by what it keeps of the token F1 and cosine that the texts of true vectors have above those of a
# control, the smaller of the two; where they come from is in examples/align.md.
_WORDING_FROM, _GIST_FROM = 0.9, 0.5
# More pairs are worth a word where the last step of the learning curve brought so much cosine, and as much is left.
_STILL_RISING = 0.01

CONDITIONS = {
    "mapped": "mapped vectors",
    "shuffled": "a map of shuffled pairs",
    "mean": "the mean vector",
    "true": "true vectors",
}
"""What held-out texts are written from: the map, two controls that know nothing of them, and the best there can be."""


@dataclass(frozen=True, slots=True)
class MapFigures:
    """What vectors that stand for held-out texts give.

    Attributes:
        cosine: With the true vectors.
        rank_1: Share of the vectors whose nearest one among all true ones is their own.
        token_f1: Of what the model writes from them, on some of the texts.
        text_cosine: Of the vector of what is written with the true one. Token F1 counts "the" as much as any word.
    """

    cosine: Interval
    rank_1: float
    token_f1: Interval
    text_cosine: Interval


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The map of fewer pairs."""

    pairs: int
    penalty: float
    figures: MapFigures


@dataclass(frozen=True)
class Scores:
    """The same as `MapFigures`, pair by pair and text by text, and the texts."""

    cosine: Floats
    first: npt.NDArray[np.bool_]
    token_f1: Floats
    text_cosine: Floats
    texts: list[str]

    def figures(self, seed: int) -> MapFigures:
        """Their means, with intervals by a bootstrap of this seed."""
        return MapFigures(
            bootstrap_interval(self.cosine, seed),
            float(self.first.mean()),
            bootstrap_interval(self.token_f1, seed),
            bootstrap_interval(self.text_cosine, seed),
        )


def verdicts_on(scores: Mapping[str, Scores], curve: Sequence[CurvePoint], seed: int) -> list[str]:
    """What the figures say; each is compared with the better of the two controls.

    Args:
        scores: By condition.
        curve: Figures by number of pairs.
        seed: Of the intervals.
    """

    def figures_of(name: str) -> str:
        return f"{scores[name].token_f1.mean():.2f} and {scores[name].text_cosine.mean():.2f}"

    def gain(name: str) -> Interval:
        return bootstrap_interval(scores[name].text_cosine - scores[control].text_cosine, seed)

    def kept(metric: str) -> float:
        mapped, low, high = (getattr(scores[name], metric).mean() for name in ("mapped", control, "true"))
        return float((mapped - low) / max(high - low, 1e-9))

    control = max(("shuffled", "mean"), key=lambda name: float(scores[name].text_cosine.mean()))
    figures = (
        f"texts written from mapped vectors have a token F1 and cosine of {figures_of('mapped')}, from "
        f"{CONDITIONS[control]} {figures_of(control)}, from the model's own vectors {figures_of('true')}"
    )
    if not gain("true").above_zero:
        verdict = f"The model cannot write these texts, so only the cosine of the vectors judges the map: {figures}."
    elif not gain("mapped").above_zero:
        verdict = (
            f"The map does not help: the written texts are no closer than those of the control: {figures}."
        )
    else:
        f1, cosine = kept("token_f1"), kept("text_cosine")
        if min(f1, cosine) >= _WORDING_FROM:
            verdict = f"As good as the model's own vectors: {figures}."
        else:
            gist = min(f1, cosine) >= _GIST_FROM
            word = (
                "The texts keep the meaning, not the wording"
                if gist
                else "The texts keep little more than the topic"
            )
            verdict = f"{word}: {figures}; the map keeps {f1:.0%} and {cosine:.0%} of the difference."
    verdicts = [verdict]
    if len(curve) > 1:
        before, now = curve[-2], curve[-1]
        rise = min(now.figures.cosine.mean - before.figures.cosine.mean, 1 - now.figures.cosine.mean)
        verdicts.append(
            f"More pairs would {'' if rise >= _STILL_RISING else 'hardly '}help: the held-out cosine is "
            f"{before.figures.cosine.mean:.3f} with {before.pairs:,} pairs and {now.figures.cosine.mean:.3f} with "
            f"{now.pairs:,}."
        )
    return verdicts
