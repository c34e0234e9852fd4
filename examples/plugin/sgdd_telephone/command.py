"""`sgdd telephone`: what is left of a text after it went through its vector again and again."""

from typing import Annotated

import typer

from sgdd_cli.plugin_api import (
    AsJson,
    DecodingOptions,
    ProgressDisplay,
    batches,
    emit_json,
    emit_lines,
    read_texts,
    say,
    with_decoding_options,
)


@with_decoding_options
def telephone(
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="Texts; `-` for lines of standard input.")
    ],
    rounds: Annotated[int, typer.Option(min=1, help="How often each text is encoded and written again.")] = 3,
    *,
    decoding: DecodingOptions,
    as_json: AsJson = False,
) -> None:
    """Write each text from its vector, what was written from its own vector, and so on.

    Example: sgdd telephone "The old man opened the door." --rounds 5
    """
    # Settings and texts are checked before the model is loaded, and torch is not loaded for `--help`.
    load = decoding.resolve()
    found = read_texts(texts, "telephone")
    writing = load()
    for batch in batches(found, 32):
        chains = [[text] for text in batch]
        for number in range(1, rounds + 1):
            say(f"Round {number} of {rounds}.")
            with ProgressDisplay(watch=writing.watch) as display:
                options = writing.options(display) | {"num_samples": 1}
                vectors = writing.model.encode([chain[-1] for chain in chains])
                for written in writing.model.generate(vectors, **options):
                    chains[written.row].append(written.text)
        for source, *texts_written in chains:
            if as_json:
                emit_json({"source": source, "rounds": texts_written})
            else:
                emit_lines(texts_written)
