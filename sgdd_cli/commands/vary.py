"""`sgdd vary`: other texts with nearly the same meaning."""

from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.console import emit, emit_json, say, warn
from sgdd_cli.decoding_options import DecodingOptions, with_decoding_options
from sgdd_cli.flags import AsJson

if TYPE_CHECKING:
    from sgdd_engine.generation import Generation


@with_decoding_options
def vary(
    texts: Annotated[
        list[str],
        typer.Argument(metavar="TEXT", help="Texts to vary; `-` for lines of standard input."),
    ],
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            min=0.0,
            help="How far the latent vectors are from that of the text, in standard deviations. Default: 1 with a "
            "variational bottleneck, which draws from its posterior; else 0.5.",
        ),
    ] = None,
    *,
    decoding: DecodingOptions,
    as_json: AsJson = False,
) -> None:
    """Write variations of each text: -n of them (default 5), one line each, different where possible.

    Each is written from a latent vector near that of the text. The last lines say how much they differ (self-BLEU; 100:
    all are the same) and how close they stay (the cosine between their vectors and that of the text). Put `--` before a
    text that begins with `-`.

    Example: sgdd vary "She closed the letter and looked out at the rain." -n 5 --strength 0.4
    """
    from sgdd_cli.input_texts import read_texts  # noqa: PLC0415 - `sgdd --help` need not load it

    load = decoding.resolve(num_samples=5, drawn=False)
    found = read_texts(texts, "vary")
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - as above

    writing = load()
    from sgdd_engine.data.cleaning import clean  # noqa: PLC0415 - as above
    from sgdd_engine.evaluation.diversity import compare_samples  # noqa: PLC0415 - loads torch

    model = writing.model
    fit = model.vocabulary_fit()
    for source in found:
        fit.add([clean(source)], model.tokenizer.encode_batch([clean(source)]))
        with ProgressDisplay(watch=writing.watch) as display:
            options = writing.options(display)
            count = options.pop("num_samples")
            items = model.vary(source, count, strength=strength, score=True, **options)
        figures = compare_samples([item.text for item in items])
        cosine = _mean_cosine(items)
        if as_json:
            emit_json(
                {
                    "source": source,
                    "variations": [
                        {"text": item.text, "cosine": item.cosine, "seed": item.seed} for item in items
                    ],
                    "cosine": cosine,
                    **figures._asdict(),
                }
            )
        else:
            for item in items:
                emit(item.text)
        different = len({item.text for item in items})
        if different < len(items):
            verb = "differs" if different == 1 else "differ"
            warn(f"Only {different} of {len(items)} texts {verb}; for more: a higher --strength.")
        say(
            f"Diversity: self-BLEU {figures.self_bleu:.0f}, different words {figures.distinct_1:.0%}, different pairs "
            f"of words {figures.distinct_2:.0%}. Faithfulness: cosine {cosine:.2f}."
        )
    for message in fit.warnings():
        warn(message)


def _mean_cosine(items: "list[Generation]") -> float:
    return sum(item.cosine or 0.0 for item in items) / len(items)
