"""`sgdd sample`: text in, its vector, and text from that vector alone out."""

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.console import emit, emit_json, say, warn
from sgdd_cli.flags import AsJson, Assignments, ConfigFiles, Device, Gpu, device_name

if TYPE_CHECKING:
    from sgdd_engine.generation import Generation

# Lines of standard input decoded at once: enough to fill a batch, few enough that a stream flows.
CHUNK = 32
STDIN = "-"


def sample(
    texts: Annotated[
        list[str],
        typer.Argument(metavar="TEXT...", help="Texts to write again; `-` for lines of standard input."),
    ],
    cfg: Annotated[float | None, typer.Option("--cfg", help="Guidance weight; 1 is none.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps.")] = None,
    candidates: Annotated[
        int,
        typer.Option(
            "--candidates",
            min=1,
            help="Sentences read again, likeliest lengths first; the closest in meaning is kept.",
        ),
    ] = 1,
    refine: Annotated[
        int,
        typer.Option(
            "--refine",
            min=0,
            help="Rounds that write anew, in part or whole, and keep what comes closer in meaning.",
        ),
    ] = 0,
    shortlist: Annotated[
        int | None,
        typer.Option(
            "--shortlist",
            min=1,
            help="Sentences written for each one that goes on, chosen without the encoder. Default: 4 beside "
            "--candidates and --refine where the model can choose.",
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="0 takes the likeliest token.")
    ] = None,
    length: Annotated[
        int | None, typer.Option("--length", min=1, help="Tokens to write. Default: as predicted.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the first sample.")] = 0,
    count: Annotated[int, typer.Option("-n", min=1, help="Samples per text.")] = 1,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show the canvas while it fills in.")] = False,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            envvar="SGDD_CHECKPOINT",
            help="Checkpoint or run folder, or `mini`. Default: the newest run, else `mini`.",
        ),
    ] = None,
    gpu: Gpu = None,
    device: Device = None,
    files: ConfigFiles = None,
    assignments: Assignments = None,
) -> None:
    """Turn each text into its vector and write it again from the vector alone.

    One line per sample, in the order of the texts.

    Example: sgdd sample "The dog ran home." --cfg 2.0 --candidates 4 --refine 8
    """
    from sgdd_cli.settings import load_settings  # noqa: PLC0415 - `sgdd --help` need not load it

    resolved = load_settings(
        files or (),
        assignments or (),
        [
            ("--cfg", "sample.cfg", cfg),
            ("--steps", "sample.steps", steps),
            ("--temperature", "sample.temperature", temperature),
        ],
    )
    from sgdd_cli.models import load_model, sampling_for  # noqa: PLC0415 - as above
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415
    from sgdd_engine.events import ignore  # noqa: PLC0415

    model, _ = load_model(checkpoint, device_name(gpu, device))
    sampling = sampling_for(resolved, model)
    if count > 1 and not (sampling.stochastic or refine or model.draws_candidates(candidates, shortlist)):
        warn(f"All {count} samples of a text will be alike; for different ones: --temperature 0.7")
    sentences = calls = 0
    for chunk in _chunks(texts):
        with ProgressDisplay(watch=watch) as display:
            written = model.reconstruct(
                chunk,
                sampling=sampling,
                lengths=length,
                candidates=candidates,
                refine=refine,
                shortlist=shortlist,
                num_samples=count,
                seed=seed,
                score=as_json,
                on_event=display if watch or refine else ignore,
            )
        sentences, calls = sentences + len(written), calls + sum(item.encoder_calls for item in written)
        for item in written:
            _show(item, chunk[item.row], sampling.steps, sampling.cfg, as_json)
    if candidates > 1 or refine:
        say(f"Encoder calls: {calls:,}, {calls / max(1, sentences):.1f} per sentence.")
    if cut := model.encoder.truncated:
        warn(f"{cut:,} texts were longer than the encoder reads (encoder.max_tokens); their ends were cut.")


def _show(item: "Generation", source: str, steps: int, cfg: float, as_json: bool) -> None:
    if not as_json:
        emit(item.text)
        return
    emit_json(
        {
            "source": source,
            "text": item.text,
            "cosine": item.cosine,
            "steps": steps,
            "cfg": cfg,
            "seed": item.seed,
            "encoder_calls": item.encoder_calls,
        }
    )


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in batches, standard input in the place of `-`."""
    stream = _all(texts)
    while chunk := list(islice(stream, CHUNK)):
        yield chunk


def _all(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        if text == STDIN:
            yield from _stdin()
        else:
            yield text


def _stdin() -> Iterator[str]:
    """The lines of standard input that hold something.

    Raises:
        DataError: it is binary or not UTF-8.
    """
    from sgdd_engine.data.lines import decode_lines  # noqa: PLC0415 - as above

    for _, line in decode_lines(sys.stdin.buffer, "standard input"):
        if line.strip():
            yield line
