"""`sgdd interpolate`: what lies between the meanings of two texts."""

from typing import Annotated

import typer

from sgdd_cli.console import emit, emit_json
from sgdd_cli.decoding_options import DecodingOptions, with_decoding_options
from sgdd_cli.flags import AsJson
from sgdd_engine.visible_text import visible


@with_decoding_options
def interpolate(
    start: Annotated[str, typer.Argument(metavar="TEXT", help="Where to start.")],
    end: Annotated[str, typer.Argument(metavar="TEXT", help="Where to end.")],
    points: Annotated[int, typer.Option("--points", min=2, help="Points to write, both ends included.")] = 7,
    *,
    decoding: DecodingOptions,
    as_json: AsJson = False,
) -> None:
    """Write texts at points between two texts, at equal angles between their vectors.

    Prints one line for each point: its place between the first text (0) and the second (1), a tab, and the text. The
    first and last lines are what `sgdd sample --search 0` writes for the two texts. Put `--` before a text that begins
    with `-`. --json adds the cosine between the vector of each text and its point, and both ends.

    Example: sgdd interpolate "The dog ran home." "The sea was calm that evening." --points 5
    """
    from sgdd_cli.input_texts import check_arguments  # noqa: PLC0415 - `sgdd --help` need not load it

    load = decoding.resolve()
    check_arguments([start, end], "interpolate")
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - as above

    writing = load()
    writing.warn_of_equal_samples("point")
    from sgdd_engine.generation import interpolation_shares  # noqa: PLC0415 - loads torch

    model = writing.model
    ends = model.encode([start, end])
    with ProgressDisplay(watch=writing.watch) as display:
        generations = model.interpolate(ends[0], ends[1], points, score=as_json, **writing.options(display))
    writing.warn_of_repetitions(writing.repeating(generations), "point")
    writing.say_of_search()
    shares = interpolation_shares(points)
    if not as_json:
        for item in generations:
            emit(f"{shares[item.row]:.2f}\t{visible(item.text)}")
        return
    from sgdd_engine.generation import cosines_with  # noqa: PLC0415 - as above

    cosines = cosines_with(model, [item.text for item in generations], ends)
    for item, (to_start, to_end) in zip(generations, cosines, strict=True):
        emit_json(
            {
                "share": shares[item.row],
                "text": item.text,
                "cosine": item.cosine,
                "cosine_to_start": to_start,
                "cosine_to_end": to_end,
                "seed": item.seed,
            }
        )
