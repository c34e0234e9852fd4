"""What the figures mean, in sentences: each verdict is yes, no, or not to be told from so many sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.calibration import Calibration

Figures = Mapping[str, Interval]

# On these a reconstruction has to beat retrieval.
MEASURES = {"token_f1": "token F1", "bleu": "BLEU", "chrf": "chrF", "cosine": "cosine"}
MOST_CALIBRATION_ERROR = 0.10
# Above what the sources themselves show: share of training sentences, share of repeated neighbours.
MOST_COPIED = 0.01
MOST_REPEATED = 0.02


@dataclass(frozen=True, slots=True)
class Verdict:
    """One question and its answer.

    Attributes:
        name: `vector_used`, `posterior`, `guidance`, `feedback`, `retrieval`, `calibration`, `memorisation` or
            `repetition`.
        ok: Whether all is well; None where the figures do not tell.
        sentence: The answer in words, with the figures it rests on.
    """

    name: str
    ok: bool | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"name": self.name, "ok": self.ok, "sentence": self.sentence}


def vector_verdict(true: Figures, shuffled: Figures, difference: Figures, sentences: int) -> Verdict:
    """Whether token F1 is higher with the sentence's own vector than with another's."""
    gain = difference["token_f1"]
    figures = (
        f"token F1 {share(true['token_f1'].mean)} with it, {share(shuffled['token_f1'].mean)} with another "
        f"sentence's ({_range(gain)})"
    )
    if gain.low > 0:
        return Verdict("vector_used", True, f"The vector is used: {figures}.")
    told = f"The vector is NOT used, as far as {sentences:,} sentences can tell: {figures}."
    return Verdict("vector_used", False, told)


def posterior_verdict(latent: Mapping[str, Any]) -> Verdict | None:
    """Whether a variational posterior has collapsed; None for a deterministic bottleneck."""
    if "collapsed" not in latent:
        return None
    figures = (
        f"{latent['active_units']:,} of {latent['dimensions']:,} dimensions are active, "
        f"KL {latent['kl_nats_per_sentence']:.1f} nats per sentence"
    )
    collapsed = bool(latent["collapsed"])
    return Verdict(
        "posterior", not collapsed, f"The posterior has {'' if collapsed else 'not '}collapsed: {figures}."
    )


def guidance_verdict(cfg: float, gain: Figures) -> Verdict:
    """Whether guidance raises token F1 or cosine and lowers neither, against w = 1 on the same sentences."""
    return _gain_verdict("guidance", f"against w = 1, w = {cfg:g}", gain)


def feedback_verdict(encoder_calls: float, shortlist: int | None, gain: Figures) -> Verdict:
    """Whether candidates, rounds and shortlists raise token F1 or cosine and lower neither, against one shot.

    They are chosen by the cosine, so token F1 is the evidence that they do not only please the encoder.
    """
    what = f"against one shot, {encoder_calls:.1f} encoder calls"
    if (shortlist or 1) > 1:
        what += f" and shortlists of {shortlist}"
    return _gain_verdict("feedback", what, gain, "change")


def _gain_verdict(name: str, what: str, gain: Figures, verb: str = "changes") -> Verdict:
    both = (gain["token_f1"], gain["cosine"])
    better, worse = any(part.low > 0 for part in both), any(part.high < 0 for part in both)
    figures = f"{what} {verb} token F1 by {_change(both[0])} and the cosine by {_change(both[1])}"
    if better and not worse:
        return Verdict(name, True, f"{name.capitalize()} helps: {figures}.")
    if worse and not better:
        return Verdict(name, False, f"{name.capitalize()} makes it worse: {figures}.")
    answer = (
        f"{name.capitalize()} helps one and harms the other"
        if better
        else f"Whether {name} helps cannot be told"
    )
    return Verdict(name, None, f"{answer}: {figures}.")


def retrieval_verdict(true: Figures, nearest: Figures, gain: Figures) -> Verdict:
    """Whether writing beats the nearest training sentence on every measure."""
    figures = ", ".join(
        f"{label} {_value(name, true[name].mean)} against {_value(name, nearest[name].mean)}"
        for name, label in MEASURES.items()
    )
    behind = [label for name, label in MEASURES.items() if gain[name].high < 0]
    if all(gain[name].low > 0 for name in MEASURES):
        answer = "It beats the nearest training sentence on every measure"
        return Verdict("retrieval", True, f"{answer}: {figures}.")
    if behind:
        answer = f"The nearest training sentence is better in {' and '.join(behind)}"
        return Verdict("retrieval", False, f"{answer}: {figures}.")
    answer = "Whether it beats the nearest training sentence on every measure cannot be told"
    return Verdict("retrieval", None, f"{answer}: {figures}.")


def calibration_verdict(calibration: Calibration) -> Verdict:
    """Whether confidence in tokens is within 0.10 of their accuracy, on average over the bins."""
    error, excess = calibration.expected_error, calibration.overconfidence
    leaning = "too sure" if excess > 0 else "not sure enough"
    ok = error <= MOST_CALIBRATION_ERROR
    return Verdict(
        "calibration",
        ok,
        f"Token confidences {'can' if ok else 'CANNOT'} be taken at their word: expected calibration error "
        f"{error:.3f} ({leaning} by {abs(excess):.3f} on average).",
    )


def memorisation_verdict(memorisation: Mapping[str, Any]) -> Verdict:
    """Whether outputs are training sentences more often than the held-out sources are."""
    outputs, sources, excess = (memorisation[name] for name in ("outputs", "sources", "excess"))
    ok = excess["low"] <= MOST_COPIED
    return Verdict(
        "memorisation",
        ok,
        f"It {'does not copy' if ok else 'COPIES'} training sentences: {_percent(outputs['mean'])} of the outputs are "
        f"training sentences, of the sources {_percent(sources['mean'])}.",
    )


def repetition_verdict(true: Figures, of_sources: float) -> Verdict:
    """Whether neighbouring words are repeated more often than in the sources."""
    here = true["repetition"].mean
    ok = here - of_sources <= MOST_REPEATED
    return Verdict(
        "repetition",
        ok,
        f"Words are {'not' if ok else 'often'} repeated: {_percent(here)} of neighbouring words are one word twice, "
        f"in the sources {_percent(of_sources)}.",
    )


def answered(verdicts: Sequence[Verdict | None]) -> list[Verdict]:
    """Those that could be asked."""
    return [verdict for verdict in verdicts if verdict is not None]


def share(value: float) -> str:
    """A share without its leading zero: .46, -.02, 1.00."""
    # Adding 0 turns a rounded -0.0 into 0.0.
    text = f"{round(value, 2) + 0.0:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def _range(difference: Interval) -> str:
    return f"95 % interval of the difference: {share(difference.low)} to {share(difference.high)}"


def _change(difference: Interval) -> str:
    return f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def _value(name: str, value: float) -> str:
    return f"{value:.1f}" if name in ("bleu", "chrf") else share(value)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
