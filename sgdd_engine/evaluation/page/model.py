"""What the network knows and how sure it is: guesses, calibration, latent, likelihood."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.latent import LatentFigures
from sgdd_engine.evaluation.likelihood import LikelihoodFigures
from sgdd_engine.evaluation.page.plots import Series, lines
from sgdd_engine.evaluation.page.profiles import calibration, profile
from sgdd_engine.evaluation.page.view import Cell, Fact, Figure, Row, Section, Table, form

_SHARES = (0.5, 0.9, 0.99)


def mask_section(found: LikelihoodFigures) -> Section:
    """Accuracy and NLL by the share of tokens that are masked."""
    rows = found.by_mask_ratio
    places = [row.masked.replace("-", "–") for row in rows]
    drawn = (
        (
            "accuracy",
            "Accuracy",
            [row.accuracy for row in rows],
            "Share of masked tokens guessed right at the first try; higher is better.",
        ),
        (
            "nll_nats",
            "NLL",
            [row.nll_nats for row in rows],
            "Surprise at the true token, in nats per masked token; lower is better.",
        ),
    )
    figures = []
    for name, head, values, caption in drawn:
        series = [Series(head, [Interval(value) for value in values], "own")]
        figures.append(
            Figure(head, lines(f"mask-{name}", head, places, series, axis="tokens masked, %"), caption)
        )
    body = [
        Row(f"{place} %", [Cell(form(row.accuracy)), Cell(form(row.nll_nats))])
        for place, row in zip(places, rows, strict=True)
    ]
    lead = (
        "The true sentence with some tokens hidden, and one guess at each. 100 % is where writing starts: there "
        "the vector alone must say which words come."
    )
    tables = [Table("By share masked", ["accuracy", "NLL, nats"], body, narrow=True)]
    return Section("masks", "Guessing masked tokens", lead, (), figures, tables)


def calibration_section(found: LikelihoodFigures) -> Section:
    """Whether a confidence of 0.7 is right seven times in ten."""
    figures = found.calibration
    rows = [
        Row(
            f"{form(one.low, 2)}–{form(one.high, 2)}",
            [Cell(form(one.confidence)), Cell(form(one.accuracy)), Cell(f"{one.count:,}")],
        )
        for one in figures.bins
    ]
    facts = [
        Fact(
            "Expected calibration error",
            form(figures.expected_error),
            "mean distance from the diagonal; lower is better",
        ),
        Fact(
            "Overconfidence",
            form(figures.overconfidence),
            "mean confidence less accuracy; above zero it is too sure, below too modest",
        ),
    ]
    head = "Confidence and accuracy"
    caption = "On the diagonal a guess is right as often as it says. Circles grow with the number of tokens."
    drawn = [Figure(head, calibration("calibration-plot", head, figures.bins), caption)]
    lead = "The decoder fills the positions it is surest of first, so its confidence has to mean something."
    tables = [Table("By confidence", ["confidence", "right", "tokens"], rows, narrow=True)]
    return Section("calibration", "Does it know when it is right?", lead, facts, drawn, tables)


def latent_section(latent: LatentFigures, sentences: int) -> Section:
    """What the bottleneck lets through."""
    spectrum, posterior = latent.spectrum, latent.posterior
    facts = [
        Fact("Bottleneck", latent.kind),
        Fact("Dimensions", f"{latent.dimensions:,}", "numbers in the vector that the decoder reads"),
        Fact(
            "Effective rank",
            form(latent.effective_rank, 1),
            "how many directions share the variance; higher uses more of it",
        ),
    ]
    if posterior is not None:
        facts += [
            Fact(
                "KL", form(posterior.kl_nats_per_sentence, 2), "nats that the vector tells about one sentence"
            ),
            Fact(
                "Active units",
                f"{posterior.active_units:,}",
                "dimensions that vary with the sentence; more is better",
            ),
            Fact(
                "Collapsed",
                "yes" if posterior.collapsed else "no",
                "whether the posterior tells nothing; it should not",
            ),
        ]
    facts += _directions(spectrum)
    caption = "Variance along each direction, largest first. A long, slow fall is good; a cliff is lost room."
    if sentences <= len(spectrum):
        caption += f" So few sentences show at most {sentences - 1:,} directions."
    head, above_zero = "Spectrum of the latent", max(spectrum) > 0
    drawing = profile(
        "latent-spectrum", head, spectrum, axis="direction, by variance", logarithmic=above_zero
    )
    figures = [Figure(head, drawing, caption)]
    if posterior is not None:
        head = "KL by dimension"
        drawing = profile("latent-kl", head, posterior.kl_nats_by_dimension, axis="dimension, by KL")
        caption = (
            "Nats that each dimension tells about a sentence, largest first. At zero a dimension is unused."
        )
        figures.append(Figure(head, drawing, caption))
    lead = "The vector as it reaches the decoder, after the bottleneck."
    return Section("latent", "The bottleneck", lead, facts, figures)


def _directions(spectrum: Sequence[float]) -> list[Fact]:
    """How many directions hold half, nine tenths and 99 % of the variance."""
    total = sum(spectrum)
    if total <= 0:
        return []
    held = list(accumulate(spectrum))
    counts = [bisect_left(held, share * total * (1 - 1e-9)) + 1 for share in _SHARES]
    shares = " / ".join(f"{100 * share:g}" for share in _SHARES)
    value = " / ".join(f"{count:,}" for count in counts)
    return [Fact(f"Directions for {shares} %", value, "of the variance; more spreads wider")]


def likelihood_section(found: LikelihoodFigures) -> Section:
    """The bound on the likelihood of held-out text."""

    def fact(name: str, value: float, error: float | None, meaning: str) -> Fact:
        return Fact(name, form(value), meaning, "" if error is None else f"± {form(error)} (standard error)")

    facts = [
        fact(
            "NELBO, nats per token",
            found.nelbo_nats_per_token,
            found.standard_error,
            "upper bound on the surprise at a held-out token, given the vector; lower is better",
        ),
        fact(
            "Bits per byte",
            found.bits_per_byte,
            found.bits_per_byte_standard_error,
            "the same, whatever the vocabulary: comparable between tokenizers; lower is better",
        ),
    ]
    lead = "How well the model expects held-out text, as a proper bound over all mask ratios."
    return Section("likelihood", "Likelihood", lead, facts)
