"""`sgdd fill`: a text with blanks in, the text with something written in them out."""

from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.console import emit, emit_json, say, warn
from sgdd_cli.decoding_options import DecodingOptions, Writing, with_decoding_options
from sgdd_cli.flags import AsJson

if TYPE_CHECKING:
    from sgdd_engine.generation import FilledText

# Texts filled at once: each is written at up to `LENGTHS_TRIED` lengths.
BATCH = 8


@with_decoding_options
def fill(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT",
            help="Texts with blanks: [MASK], [MASK:3] of 3 tokens, [MASK:2-4]; `-` for lines of standard input.",
        ),
    ],
    meaning: Annotated[
        str | None,
        typer.Option(
            "--meaning", metavar="TEXT", help="What the whole text should mean. Default: no meaning is given."
        ),
    ] = None,
    *,
    decoding: DecodingOptions,
    as_json: AsJson = False,
) -> None:
    """Fill the blanks of each text so that it has a given meaning; the other words stay as they are.

    The text is cleaned first (Unicode form NFC, single spaces). If a blank gives no length, several lengths are tried
    and the most likely text is kept; --length is the length of the whole text. With --candidates, this many texts are
    written and the one closest to the meaning is kept.

    Example: sgdd fill "The [MASK] opened the [MASK:3] and left." --meaning "a thief enters a house"
    """
    from sgdd_cli.input_texts import batches, read_texts  # noqa: PLC0415 - `sgdd --help` need not load it

    load = decoding.resolve(fills=True)
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - as above
    from sgdd_engine.events import ignore  # noqa: PLC0415

    writing = load()
    from sgdd_engine.generation import check_blanks, validate_lengths  # noqa: PLC0415 - loads torch

    model, config = writing.model, writing.config
    max_tokens = model.info.model.max_tokens
    (allowed,) = validate_lengths(config.length or f"1-{max_tokens}", 1, 1, model.info)
    found = read_texts(texts, "fill", lambda text: check_blanks(text, model.tokenizer, allowed, max_tokens))
    vector = None if meaning is None else model.encode(meaning)
    _warn_of_unused(writing, meaning is not None)
    writing.warn_of_equal_samples("text")
    calls = repeating = 0
    try:
        for batch in batches(found, BATCH):
            with ProgressDisplay(watch=writing.watch) as display:
                filled = model.fill(
                    batch,
                    vectors=vector,
                    sampling=writing.sampling,
                    lengths=config.length,
                    candidates=config.candidates,
                    num_samples=config.num_samples,
                    seed=config.seed,
                    score=as_json and vector is not None,
                    on_event=display if writing.watch else ignore,
                )
            for item in filled:
                _show(item, batch[item.row], as_json)
            calls += sum(item.encoder_calls for item in filled)
            repeating += writing.repeating(filled)
    finally:
        writing.warn_of_repetitions(repeating, "text")
        if calls and config.candidates > 1:
            say(f"Encoder calls: {calls:,}.")


def _warn_of_unused(writing: Writing, has_meaning: bool) -> None:
    """Name the settings of `sample` that were given and have no meaning here."""
    if not has_meaning and writing.chosen.cfg != writing.model.recommended_sampling.cfg:
        warn("sample.cfg is not used in filling without a meaning; to give one: --meaning TEXT")
    for key, given in (
        ("sample.refine", writing.config.refine > 0),
        ("sample.shortlist", (writing.config.shortlist or 1) > 1),
        ("sample.search", (writing.config.search or 0) > 0),
    ):
        if given:
            warn(
                f"{key} is not used in filling: it writes whole texts again. For a choice by cosine: --candidates 4"
            )


def _show(item: "FilledText", source: str, as_json: bool) -> None:
    if not as_json:
        emit(item.text)
        return
    emit_json(
        {
            "source": source,
            "text": item.text,
            "blanks": list(item.blanks),
            "cosine": item.cosine,
            "score": item.score,
            "seed": item.seed,
            "encoder_calls": item.encoder_calls,
        }
    )
