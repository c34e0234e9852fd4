"""`sgdd blend`: texts added and subtracted by their vectors, and what the sum says."""

import math
import re
from typing import Annotated, Any, NamedTuple

import typer

from sgdd_cli.console import emit, emit_json
from sgdd_cli.decoding_options import DecodingOptions, with_decoding_options
from sgdd_cli.flags import AsJson
from sgdd_engine.errors import DataError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Term(NamedTuple):
    """A text of the sum and its weight."""

    text: str
    weight: float


@with_decoding_options
def blend(
    terms: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT",
            help="Texts to add; the weight is the number after the last colon, 1 if there is none. A negative weight, "
            "or a `-` before the text, subtracts. `-` alone for lines of standard input.",
        ),
    ],
    decoding: DecodingOptions,
    as_json: AsJson = False,
) -> None:
    """Write what a weighted sum of the vectors of texts says: "A:0.7" "B:0.3" "-C:0.2".

    Put `--` before a text that begins with `-` and has no weight. If a text itself ends in a colon and a number, add a
    weight: "At 10:30:1". Only the direction of the sum counts: "A:1" gives what `sgdd sample --search 0` writes for A.
    --json prints the text, and the cosine between its vector and the sum, and between its vector and each term.

    Example: sgdd blend "The dog ran home.:0.7" "The sea was calm.:0.3" "-A cat slept.:0.2"
    """
    from sgdd_cli.input_texts import read_texts  # noqa: PLC0415 - `sgdd --help` need not load it

    load = decoding.resolve()
    found = [parse_term(text) for text in read_texts(terms, "blend")]
    if not found:
        raise DataError(
            "Standard input holds no text to blend.", 'Give each on a line of its own: "A text.:0.7"'
        )
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - as above

    writing = load()
    writing.warn_of_equal_samples("blend")
    model = writing.model
    vectors = model.encode([term.text for term in found])
    with ProgressDisplay(watch=writing.watch) as display:
        generations = model.blend(
            vectors, [term.weight for term in found], score=as_json, **writing.options(display)
        )
    writing.warn_of_repetitions(writing.repeating(generations), "blend")
    writing.say_of_search()
    if not as_json:
        for item in generations:
            emit(item.text)
        return
    from sgdd_engine.generation import cosines_with  # noqa: PLC0415 - loads torch

    cosines = cosines_with(model, [item.text for item in generations], vectors)
    for item, to_terms in zip(generations, cosines, strict=True):
        parts: list[dict[str, Any]] = [
            {**term._asdict(), "cosine": cosine} for term, cosine in zip(found, to_terms, strict=True)
        ]
        emit_json({"text": item.text, "cosine": item.cosine, "terms": parts, "seed": item.seed})


def parse_term(given: str) -> Term:
    """A text and its weight: the number behind the last colon, 1 where there is none; a leading `-` subtracts.

    Raises:
        DataError: there is no text, or the weight is not finite.
    """
    text = given.strip()
    sign = 1.0
    if text.startswith("-"):
        sign, text = -1.0, text[1:].lstrip()
    weight = 1.0
    before, colon, last = text.rpartition(":")
    if colon and _NUMBER.fullmatch(last.strip()):
        text, weight = before.rstrip(), float(last)
    if not text:
        raise DataError(f"`{given}` has no text to blend.", 'A term is a text and its weight: "A text.:0.7"')
    if not math.isfinite(weight):
        raise DataError(f"The weight of `{given}` is too large.", "Weights count relative to each other.")
    return Term(text, sign * weight)
