"""Conclusions in sentences: each verdict is yes, no, or that so many sentences cannot decide it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.latent import LatentFigures
from sgdd_engine.evaluation.likelihood import Calibration
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.training_text import Memorisation
from sgdd_engine.text.words import spacing

Intervals = Mapping[str, Interval]

# On these a reconstruction has to beat retrieval.
MEASURES = ("token_f1", "bleu", "chrf", "cosine")
# Thresholds of this project. `mini` on held-out novels (its model card): calibration error .031, no copies, 1.0 % of
# neighbours repeated, or 7.7 % with plain guidance, whose texts are visibly broken.
MOST_CALIBRATION_ERROR = 0.10
# Above what the sources themselves show: share of training sentences, share of repeated neighbours.
MOST_COPIED = 0.01
MOST_REPEATED = 0.02
# A vector that brings less than this is as good as none: about a tenth of what that of `mini` brings (its model card).
LEAST_GAIN = {"token_f1": 0.05, "chrf": 5.0}
# Of nominal 95 % bootstrap intervals so many hold the mean that they estimate (1,500 simulated sets of scores, from
# Beta(2, 3) and Beta(0.5, 2)): 84 and 81 % from 5 sentences, 90 and 86 % from 10, 93 and 92 % from 20.
FEWEST_SENTENCES = 20

QUESTIONS = {
    "vector_used": "the vector is used",
    "posterior": "the posterior has collapsed",
    "guidance": "guidance helps",
    "feedback": "feedback helps",
    "retrieval": "it beats the nearest training sentence on every measure",
    "calibration": "token confidences can be trusted",
    "memorisation": "it copies training sentences",
    "repetition": "words are repeated too often",
}
"""What each verdict answers, by its name."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One question and its answer.

    Attributes:
        name: `vector_used`, `posterior`, `guidance`, `feedback`, `retrieval`, `calibration`, `memorisation` or
            `repetition`.
        ok: Whether the answer is a good one; None where the figures do not decide it.
        sentence: The answer in words, with the figures it rests on.
        cause: What is likely behind a bad answer; None where nothing is known, or nothing is bad.
        command: One command that cures it, or finds out more.
    """

    name: str
    ok: bool | None
    sentence: str
    cause: str | None = None
    command: str | None = None


def undecided(name: str, figures: str) -> Verdict:
    """That so many sentences do not decide a question."""
    return Verdict(name, None, f"Whether {QUESTIONS[name]} cannot be told: {figures}.")


def of_sentences(verdict: Verdict, sentences: int) -> Verdict:
    """The verdict, if it rests on enough sentences; of fewer than `FEWEST_SENTENCES`, that nothing can be told."""
    if sentences >= FEWEST_SENTENCES:
        return verdict
    sentence = f"Whether {QUESTIONS[verdict.name]} cannot be told from {sentences:,} sentences."
    return replace(verdict, ok=None, sentence=sentence)


def overlap_metric(references: Sequence[str]) -> str:
    """The metric of common text that verdicts rest on: `token_f1`, or `chrf` for scripts without spaces.

    In those a word of `words` is a single letter, and two unrelated sentences share many letters; runs of letters
    tell them apart.
    """
    unspaced = sum(spacing(reference) != "spaced" for reference in references)
    return "chrf" if 2 * unspaced > len(references) else "token_f1"


def vector_verdict(
    true: Intervals, shuffled: Intervals, difference: Intervals, sentences: int, overlap: str = "token_f1"
) -> Verdict:
    """Whether the overlap with the source is higher with the sentence's own vector than with another's.

    It is as good as not used where the whole interval of the gain lies below `LEAST_GAIN`, above zero or not.
    """
    gain = difference[overlap]
    figures = (
        f"{METRICS[overlap].label} {_value(overlap, true[overlap].mean)} with it, "
        f"{_value(overlap, shuffled[overlap].mean)} with another sentence's{_range(overlap, gain)}"
    )
    if gain.high is not None and gain.high < LEAST_GAIN[overlap]:
        how = "hardly used" if gain.above_zero else "NOT used"
        answer = f"The vector is {how}, as far as {sentences:,} sentences can tell: {figures}."
        return Verdict("vector_used", False, answer)
    if gain.above_zero:
        return Verdict("vector_used", True, f"The vector is used: {figures}.")
    return undecided("vector_used", figures)


def posterior_verdict(latent: LatentFigures) -> Verdict | None:
    """Whether a variational posterior has collapsed; None for a deterministic bottleneck."""
    posterior = latent.posterior
    if posterior is None:
        return None
    return Verdict(
        "posterior",
        not posterior.collapsed,
        f"The posterior has {'' if posterior.collapsed else 'not '}collapsed: {posterior.active_units:,} of "
        f"{latent.dimensions:,} dimensions are active, KL {posterior.kl_nats_per_sentence:.1f} nats per sentence.",
    )


def guidance_verdict(cfg: float, gain: Intervals, overlap: str = "token_f1") -> Verdict:
    """Whether guidance raises the overlap or the cosine and lowers neither, against w = 1 on the same sentences."""
    return _gain_verdict("guidance", f"against w = 1, w = {cfg:g} changes", gain, overlap)


def feedback_verdict(
    encoder_calls: float, shortlist: int | None, gain: Intervals, overlap: str = "token_f1"
) -> Verdict:
    """Whether candidates, rounds, shortlists and search raise the overlap, against one shot.

    They choose by the cosine, which can therefore only rise; the overlap is the evidence that they do not only please
    the encoder.
    """
    what = f"against one shot, {encoder_calls:.1f} encoder calls"
    if (shortlist or 1) > 1:
        what += f" and shortlists of {shortlist}"
    return _gain_verdict("feedback", f"{what} change", gain, overlap, judged_by=(overlap,))


def _gain_verdict(
    name: str, what: str, gain: Intervals, overlap: str, judged_by: Sequence[str] | None = None
) -> Verdict:
    judged = [gain[metric] for metric in judged_by or (overlap, "cosine")]
    better, worse = any(part.above_zero for part in judged), any(part.below_zero for part in judged)
    figures = (
        f"{what} {METRICS[overlap].label} by {_change(overlap, gain[overlap])} and the cosine by "
        f"{_change('cosine', gain['cosine'])}"
    )
    if better and not worse:
        return Verdict(name, True, f"{name.capitalize()} helps: {figures}.")
    if worse and not better:
        return Verdict(name, False, f"{name.capitalize()} makes it worse: {figures}.")
    if better:
        return Verdict(name, None, f"{name.capitalize()} helps one and harms the other: {figures}.")
    return undecided(name, figures)


def retrieval_verdict(
    true: Intervals, nearest: Intervals, gain: Intervals, searched: int = 1, available: int = 1
) -> Verdict:
    """Whether writing beats the nearest training sentence on every measure; of so many that were searched."""
    figures = ", ".join(
        f"{METRICS[name].label} {_value(name, true[name].mean)} against {_value(name, nearest[name].mean)}"
        for name in MEASURES
    )
    what = "nearest training sentence"
    if searched < available:
        what = f"nearest of {searched:,} training sentences (of {available:,})"
    behind = [METRICS[name].label for name in MEASURES if gain[name].below_zero]
    if all(gain[name].above_zero for name in MEASURES):
        answer = f"It beats the {what} on every measure"
        return Verdict("retrieval", True, f"{answer}: {figures}.")
    if behind:
        answer = f"The {what} is better in {' and '.join(behind)}"
        return Verdict("retrieval", False, f"{answer}: {figures}.")
    return undecided("retrieval", figures)


def calibration_verdict(calibration: Calibration) -> Verdict:
    """Whether confidence in tokens is within 0.10 of their accuracy, on average over the bins."""
    error, excess = calibration.expected_error, calibration.overconfidence
    leaning = "too sure" if excess > 0 else "not sure enough"
    ok = error <= MOST_CALIBRATION_ERROR
    return Verdict(
        "calibration",
        ok,
        f"Token confidences {'can' if ok else 'CANNOT'} be trusted: expected calibration error {error:.3f} ({leaning} "
        f"by {abs(excess):.3f} on average).",
    )


def memorisation_verdict(memorisation: Memorisation, trained_on: bool = True) -> Verdict:
    """Whether outputs are training sentences more often than the held-out sources are, by `MOST_COPIED`.

    Of the training sentences of another corpus than the model's own nothing can be told.
    """
    excess = memorisation.excess
    figures = (
        f"{_percent(memorisation.outputs.mean)} of the outputs and {_percent(memorisation.sources.mean)} of the "
        f"sources are training sentences{_percent_range(excess)}"
    )
    if not trained_on:
        return undecided(
            "memorisation", f"{figures}, of a corpus that is not recorded as that of its training"
        )
    ok = _within(excess, MOST_COPIED)
    if ok is None:
        return undecided("memorisation", figures)
    return Verdict(
        "memorisation", ok, f"It {'does not copy' if ok else 'COPIES'} training sentences: {figures}."
    )


def repetition_verdict(true: Intervals, of_sources: float) -> Verdict:
    """Whether neighbouring words are repeated more often than in the sources, by `MOST_REPEATED`."""
    here = true["repetition"]
    words, of_them = _percent(here.mean), _percent(of_sources)
    figures = f"{words} of neighbouring words are the same word twice, in the sources {of_them}"
    low, high = here.ends or (here.mean, here.mean)
    ok = _within(Interval(here.mean - of_sources, low - of_sources, high - of_sources), MOST_REPEATED)
    if ok is None:
        return undecided("repetition", figures)
    return Verdict("repetition", ok, f"Words are {'not' if ok else 'often'} repeated: {figures}.")


def _within(excess: Interval, most: float) -> bool | None:
    """Whether an excess is at most so much; None where its interval lies on both sides."""
    low, high = excess.ends or (excess.mean, excess.mean)
    return True if high <= most else False if low > most else None


def _value(name: str, value: float) -> str:
    """A metric with as many digits as in the tables: 0.596, 46.1; never a negative zero."""
    decimals = METRICS[name].decimals
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def _range(name: str, difference: Interval) -> str:
    if difference.ends is None:
        return ""
    low, high = (_value(name, end) for end in difference.ends)
    return f" (95 % interval of the difference: {low} to {high})"


def _change(name: str, difference: Interval) -> str:
    mean, *ends = (
        f"{value:+.{METRICS[name].decimals}f}" for value in (difference.mean, *(difference.ends or ()))
    )
    return f"{mean} ({' to '.join(ends)})" if ends else mean


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _percent_range(difference: Interval) -> str:
    if difference.ends is None:
        return ""
    low, high = map(_percent, difference.ends)
    return f" (95 % interval of the difference: {low} to {high})"
