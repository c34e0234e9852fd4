"""`sgdd sample`: text in, its vector, and text from that vector alone out."""

from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.console import emit, emit_json, say, warn
from sgdd_cli.flags import (
    AsJson,
    Assignments,
    Candidates,
    Cfg,
    ConfigFiles,
    Device,
    Encoder,
    Gpu,
    Refine,
    Shortlist,
    Steps,
    device_name,
    setting,
)
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.generation.config import GenerationConfig

if TYPE_CHECKING:
    from sgdd_engine.generation import SGDD, Generation

# Texts decoded at once: enough to fill a batch, few enough that lines of a pipe come back while it is still written.
BATCH = 32


def sample(
    texts: Annotated[
        list[str],
        typer.Argument(metavar="TEXT...", help="Texts to write again; `-` for lines of standard input."),
    ],
    cfg: Cfg = None,
    steps: Steps = None,
    candidates: Candidates = None,
    refine: Refine = None,
    shortlist: Shortlist = None,
    temperature: Annotated[float | None, setting(SamplingConfig, "temperature")] = None,
    length: Annotated[int | None, setting(GenerationConfig, "length")] = None,
    seed: Annotated[int | None, setting(GenerationConfig, "seed")] = None,
    num_samples: Annotated[int | None, setting(GenerationConfig, "num_samples", "-n")] = None,
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
    encoder: Encoder = None,
    gpu: Gpu = None,
    device: Device = None,
    files: ConfigFiles = None,
    assignments: Assignments = None,
) -> None:
    """Turn each text into its vector and write it again from the vector alone.

    One line per sample, in the order of the texts. A text that begins with `-` is written after `--`.

    Example: sgdd sample "The dog ran home." --cfg 2.0 --candidates 4 --refine 8
    """
    from sgdd_cli.input_texts import batches, read_texts  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_cli.settings import load_settings  # noqa: PLC0415

    resolved = load_settings(
        files or (),
        assignments or (),
        [
            ("--encoder", "encoder.name", encoder),
            ("--cfg", "sample.cfg", cfg),
            ("--steps", "sample.steps", steps),
            ("--temperature", "sample.temperature", temperature),
            ("--candidates", "sample.candidates", candidates),
            ("--refine", "sample.refine", refine),
            ("--shortlist", "sample.shortlist", shortlist),
            ("--length", "sample.length", length),
            ("--seed", "sample.seed", seed),
            ("-n", "sample.num_samples", num_samples),
        ],
    )
    config, place = resolved.settings.generation, device_name(gpu, device)
    found = read_texts(texts, "sample")
    from sgdd_cli.models import load_model, named_encoder  # noqa: PLC0415 - as above
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415
    from sgdd_engine.events import ignore  # noqa: PLC0415
    from sgdd_engine.generation import complete_sampling  # noqa: PLC0415

    model, _ = load_model(checkpoint, place, named_encoder(resolved))
    sampling = complete_sampling(resolved.given("sample"), model.info)
    if config.num_samples > 1 and not _differ(model, sampling, config):
        warn(
            f"All {config.num_samples} samples of a text will be alike; for different ones: --temperature 0.7"
        )
    written = calls = 0
    too_long: list[int] = []
    for batch in batches(found, BATCH):
        too_long += _lengths_beyond(model, batch)
        with ProgressDisplay(watch=watch) as display:
            generations = model.reconstruct(
                batch,
                sampling=sampling,
                lengths=config.length,
                candidates=config.candidates,
                refine=config.refine,
                shortlist=config.shortlist,
                num_samples=config.num_samples,
                seed=config.seed,
                score=as_json,
                on_event=display if watch or config.refine else ignore,
            )
        for item in generations:
            _show(item, batch[item.row], sampling, as_json)
        written, calls = written + len(generations), calls + sum(item.encoder_calls for item in generations)
    if config.candidates > 1 or config.refine:
        say(f"Encoder calls: {calls:,}, {calls / max(1, written):.1f} per sentence.")
    _warn_of_lengths(model, too_long)


def _differ(model: "SGDD", sampling: SamplingConfig, config: GenerationConfig) -> bool:
    """Whether two seeds may give two texts."""
    return bool(
        sampling.stochastic or config.refine or model.draws_candidates(config.candidates, config.shortlist)
    )


def _lengths_beyond(model: "SGDD", texts: list[str]) -> list[int]:
    """The numbers of tokens of those texts that have more than the model can write."""
    from sgdd_engine.data.cleaning import clean  # noqa: PLC0415 - as above

    lengths = map(len, model.tokenizer.encode_batch([clean(text) for text in texts]))
    return [length for length in lengths if length > model.info.model.max_tokens]


def _warn_of_lengths(model: "SGDD", too_long: list[int]) -> None:
    if too_long:
        longest = model.info.model.max_tokens
        which = "The text has" if len(too_long) == 1 else f"{len(too_long):,} texts have up to"
        warn(
            f"{which} {max(too_long):,} tokens, and this model writes at most {longest}: what it wrote is shorter. "
            "Give it one sentence per text."
        )
    if cut := model.encoder.truncated:
        warn(f"{cut:,} texts were longer than the encoder reads (encoder.max_tokens); their ends were cut.")


def _show(item: "Generation", source: str, sampling: SamplingConfig, as_json: bool) -> None:
    if not as_json:
        emit(item.text)
        return
    emit_json(
        {
            "source": source,
            "text": item.text,
            "cosine": item.cosine,
            "steps": sampling.steps,
            "cfg": sampling.cfg,
            "seed": item.seed,
            "encoder_calls": item.encoder_calls,
        }
    )
