"""What the network knows and how sure it is: guesses, calibration, latent, likelihood."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from sgdd_engine.evaluation.page.naming import MISSING, form, interval, number
from sgdd_engine.evaluation.page.plots import Series, lines
from sgdd_engine.evaluation.page.profiles import Bin, calibration, profile
from sgdd_engine.evaluation.page.view import Cell, Fact, Figure, Row, Section, Table, cell, mapping, rows_of

_LATENT = (
    ("kind", "Bottleneck", 0, ""),
    ("dimensions", "Dimensions", 0, "numbers in the vector that the decoder reads"),
    ("effective_rank", "Effective rank", 1, "how many directions share the variance; higher uses more of it"),
    ("kl_nats_per_sentence", "KL", 2, "nats that the vector tells about one sentence"),
    ("active_units", "Active units", 0, "dimensions that vary with the sentence; more is better"),
    ("collapsed", "Collapsed", 0, "whether the vector tells nothing any more; no is good"),
)
_SHARES = (0.5, 0.9, 0.99)


def mask_section(result: Mapping[str, Any]) -> Section | None:
    """Accuracy and NLL by the share of tokens that are masked."""
    rows = rows_of(result.get("by_mask_ratio"))
    if not rows:
        return None
    places = [str(row.get("masked", "?")).replace("-", "–") for row in rows]
    figures = []
    for name, title, caption in (
        ("accuracy", "Accuracy", "Share of masked tokens guessed right at the first try; higher is better."),
        ("nll_nats", "NLL", "Surprise at the true token, in nats per masked token; lower is better."),
    ):
        values = [interval(row.get(name)) for row in rows]
        if any(values):
            drawing = lines(
                f"mask-{name}", title, places, [Series(title, values, "own")], axis="tokens masked, %"
            )
            figures.append(Figure(title, drawing, caption))
    body = [
        Row(f"{place} %", [cell(interval(row.get("accuracy")), 3), cell(interval(row.get("nll_nats")), 3)])
        for place, row in zip(places, rows, strict=True)
    ]
    lead = (
        "The true sentence with some tokens hidden, and one guess at each. 100 % is where writing starts: there "
        "the vector alone must say which words come."
    )
    tables = [Table("By share masked", ["accuracy", "NLL, nats"], body, narrow=True)]
    return Section("masks", "Guessing masked tokens", lead, figures=figures, tables=tables)


def calibration_section(result: Mapping[str, Any]) -> Section | None:
    """Whether a confidence of 0.7 is right seven times in ten."""
    found = mapping(result.get("calibration"))
    bins = [row for row in rows_of(found.get("bins")) if number(row.get("count"))]
    error = number(found.get("ece"))
    if error is None and not bins:
        return None
    dots = [
        Bin(confidence, accuracy, int(row["count"]))
        for row in bins
        if (confidence := number(row.get("confidence"))) is not None
        and (accuracy := number(row.get("accuracy"))) is not None
    ]
    body = [
        Row(
            f"{form(number(row.get('low')), 2)}–{form(number(row.get('high')), 2)}",
            [
                Cell(form(number(row.get("confidence")))),
                Cell(form(number(row.get("accuracy")))),
                Cell(form(number(row.get("count")), 0)),
            ],
        )
        for row in bins
    ]
    facts = [
        Fact(
            "Expected calibration error", form(error), "", "mean distance from the diagonal; lower is better"
        )
    ]
    surplus = number(found.get("overconfidence"))
    if surplus is not None:
        meaning = "mean confidence less accuracy; above zero it is too sure, below too modest"
        facts.append(Fact("Overconfidence", form(surplus), "", meaning))
    figures = []
    if dots:
        title = "Confidence and accuracy"
        caption = (
            "On the diagonal a guess is right as often as it says. Circles grow with the number of tokens."
        )
        figures.append(Figure(title, calibration("calibration-plot", title, dots), caption))
    lead = "The decoder fills the positions it is surest of first, so its confidence has to mean something."
    tables = [Table("By confidence", ["confidence", "right", "tokens"], body, narrow=True)] if body else []
    return Section("calibration", "Does it know when it is right?", lead, facts, figures, tables)


def latent_section(result: Mapping[str, Any]) -> Section | None:
    """What the bottleneck lets through."""
    latent = mapping(result.get("latent"))
    if not latent:
        return None
    spectrum, kl = _numbers(latent.get("spectrum")), _numbers(latent.get("kl_nats_by_dimension"))
    facts = [
        Fact(title, _plain(latent[name], decimals), "", meaning)
        for name, title, decimals, meaning in _LATENT
        if latent.get(name) is not None
    ]
    figures = []
    if spectrum:
        title = "Spectrum of the latent"
        drawing = profile(
            "latent-spectrum",
            title,
            spectrum,
            axis="direction, by variance",
            logarithmic=min(spectrum) >= 0 < max(spectrum),
        )
        caption = (
            "Variance along each direction, largest first. A long, slow fall is good; a cliff is lost room."
        )
        sentences = number(result.get("sentences"))
        if sentences is not None and sentences <= len(spectrum):
            caption += f" So few sentences show at most {form(sentences - 1, 0)} directions."
        figures.append(Figure(title, drawing, caption))
    if kl:
        drawing = profile("latent-kl", "KL by dimension", kl, axis="dimension, by KL")
        caption = (
            "Nats that each dimension tells about a sentence, largest first. At zero a dimension is unused."
        )
        figures.append(Figure("KL by dimension", drawing, caption))
    lead = "The vector as it reaches the decoder, after the bottleneck."
    return Section("latent", "The bottleneck", lead, [*facts, *_held(spectrum)], figures)


def _held(spectrum: Sequence[float]) -> list[Fact]:
    """How many directions hold half, nine tenths and 99 % of the variance."""
    total = sum(spectrum)
    if total <= 0:
        return []
    held = list(accumulate(sorted(spectrum, reverse=True)))
    counts = [bisect_left(held, share * total * (1 - 1e-9)) + 1 for share in _SHARES]
    shares = " / ".join(f"{100 * share:g}" for share in _SHARES)
    name = f"Directions for {shares} %"
    return [
        Fact(name, " / ".join(f"{count:,}" for count in counts), "", "of the variance; more spreads wider")
    ]


def likelihood_section(result: Mapping[str, Any]) -> Section | None:
    """The bound on the likelihood of held-out text."""
    found = mapping(result.get("likelihood"))
    nats, bits = number(found.get("nelbo_nats_per_token")), number(found.get("bits_per_byte"))
    facts = []
    if nats is not None:
        error = number(found.get("standard_error"))
        meaning = "upper bound on the surprise at a held-out token, given the vector; lower is better"
        facts.append(Fact("NELBO, nats per token", form(nats), _error(error), meaning))
    if bits is not None:
        error = number(found.get("bits_per_byte_standard_error"))
        meaning = "the same, whatever the vocabulary: comparable between tokenizers; lower is better"
        facts.append(Fact("Bits per byte", form(bits), _error(error), meaning))
    lead = "How well the model expects held-out text, as a proper bound over all mask ratios."
    return Section("likelihood", "Likelihood", lead, facts) if facts else None


def _numbers(value: Any) -> list[float]:  # noqa: ANN401 - any JSON value
    if not isinstance(value, list | tuple):
        return []
    return [found for one in value if (found := number(one)) is not None]


def _plain(value: Any, decimals: int) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    found = number(value)
    return form(found, decimals) if found is not None else (str(value) if isinstance(value, str) else MISSING)


def _error(error: float | None) -> str:
    return "" if error is None else f"± {form(error)} (standard error)"
