"""`sgdd sample`: text in, its vector, and text from that vector alone out."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.certainty import Trace, say_of_confidence, show_certainty
from sgdd_cli.console import emit, emit_json, say, warn
from sgdd_cli.decoding_options import SEARCHED, DecodingOptions, with_decoding_options
from sgdd_cli.flags import AsJson, Force, check_output
from sgdd_engine.counted import counted
from sgdd_engine.diffusion.config import SamplingConfig

if TYPE_CHECKING:
    from sgdd_engine.generation import SGDD, Generation
    from sgdd_engine.text.vocabulary_fit import VocabularyFit
    from sgdd_engine.vectors import NpyWriter

# Texts decoded at once: enough to fill a batch, few enough that lines of a pipe come back while it is still written.
BATCH = 32
# From this cosine on a text is as close as one can be, to the three digits that are shown.
_SAME = 0.9995


@with_decoding_options
def sample(
    texts: Annotated[
        list[str],
        typer.Argument(metavar="TEXT", help="Texts to write again; `-` for lines of standard input."),
    ],
    save_vector: Annotated[
        Path | None,
        typer.Option(
            "--save-vector",
            metavar="FILE.npy",
            help="Also write the vectors of the texts, in the same order, into this file; `sgdd read` reads it.",
        ),
    ] = None,
    *,
    decoding: DecodingOptions,
    as_json: AsJson = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show below each text how probable each of its pieces was when it was written, and the confidence.",
        ),
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Write the text after each denoising step into this file, as JSON lines.",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Turn each text into its vector and write it again from the vector alone.

    For up to 8 texts a search improves what was written: it changes a text, encodes it and keeps it if its vector is
    closer (--search). Texts from standard input are written once, without a search; so are several samples of a text
    (-n), texts that are drawn (--temperature), and all texts with --watch, --explain or --trace.

    Prints one line per sample, in the order of the texts. Put `--` before a text that begins with `-`. --json adds the
    cosine between the vectors of source and text, and the confidence: how likely the token F1 of the two is above 0.8,
    estimated without the source.

    Example: sgdd sample "The dog ran home." --cfg 2.0 --candidates 4 --refine 8
    """
    from sgdd_cli.input_texts import batches, read_texts  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_engine.data.cleaning import clean  # noqa: PLC0415

    load = decoding.resolve()
    _check_outputs(trace, save_vector, force=force)
    found = read_texts(texts, "sample")
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - as above

    writing = load()
    if len(texts) <= SEARCHED and "-" not in texts and not (explain or trace or writing.watch):
        writing = writing.searching()
        writing.say_of_search()
    model, config = writing.model, writing.config
    writing.warn_of_equal_samples("text")
    if as_json or explain:
        say_of_confidence(writing, encoded=as_json)
    traced = None if trace is None else Trace(trace)
    fit = model.vocabulary_fit()
    written = calls = read = repeating = 0
    further = False
    try:
        with nullcontext() if save_vector is None else _vector_file(model, save_vector) as saved:
            for batch in batches(found, BATCH):
                cleaned = [clean(text) for text in batch]
                fit.add(cleaned, model.tokenizer.encode_batch(cleaned))
                vectors = model.encode(batch)
                if saved is not None:
                    saved.add(vectors.numpy())
                with ProgressDisplay(watch=writing.watch) as display:
                    options = writing.options(display)
                    if traced is not None:
                        options["on_event"] = traced.listener(read, options["on_event"])
                    generations = model.generate(
                        vectors,
                        score=as_json,
                        explain=explain,
                        confidence=as_json or explain,
                        **options,
                    )
                repeating += writing.repeating(generations)
                for item in generations:
                    _show(item, batch[item.row], writing.sampling, as_json)
                read += len(batch)
                written += len(generations)
                calls += sum(item.encoder_calls for item in generations)
                further = further or any((item.cosine or 0.0) < _SAME for item in generations)
    finally:
        if traced is not None:
            traced.close()
        if written and (config.candidates > 1 or config.refine or config.search):
            hint = ""
            if decoding.search is None and config.search:
                hint = " Faster: --search 0." + (f" Closer: --search {4 * config.search}" if further else "")
            say(f"Encoder calls: {calls:,}, {calls / written:.1f} per text.{hint}")
        writing.warn_of_repetitions(repeating, "text")
        _warn_of_loss(model, fit)


def _check_outputs(trace: Path | None, save_vector: Path | None, *, force: bool) -> None:
    """Refuse files that cannot be written before anything is computed."""
    if trace is not None:
        check_output(trace, "--trace", force=force)
    if save_vector is None:
        return
    if save_vector.suffix != ".npy":
        raise typer.BadParameter(f"--save-vector {save_vector}: the name of the file must end in .npy.")
    check_output(save_vector, "--save-vector", force=force)
    if trace is not None and trace.resolve() == save_vector.resolve():
        raise typer.BadParameter(f"--trace and --save-vector both name {trace}.")


def _vector_file(model: "SGDD", path: Path) -> "NpyWriter":
    from sgdd_engine.vectors import NpyWriter  # noqa: PLC0415 - loads numpy

    return NpyWriter(path, model.info.model.embedding_dim)


def _warn_of_loss(model: "SGDD", fit: "VocabularyFit") -> None:
    """Say what of the texts the vocabulary, the length and the encoder leave out."""
    for message in fit.warnings():
        warn(message)
    if cut := model.encoder.truncated:
        verb, end = ("was", "its end was") if cut == 1 else ("were", "their ends were")
        warn(f"{counted(cut, 'text')} {verb} longer than the encoder reads (encoder.max_tokens); {end} cut.")


def _show(item: "Generation", source: str, sampling: SamplingConfig, as_json: bool) -> None:
    if not as_json:
        emit(item.text)
        if item.details:
            show_certainty(item)
        return
    described: dict[str, object] = {
        "source": source,
        "text": item.text,
        "cosine": item.cosine,
        "confidence": item.confidence,
        "steps": sampling.steps,
        "cfg": sampling.cfg,
        "temperature": sampling.temperature,
        "seed": item.seed,
        "encoder_calls": item.encoder_calls,
    }
    if item.details:
        described["tokens"] = [asdict(token) for token in item.details]
    emit_json(described)
