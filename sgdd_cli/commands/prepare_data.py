"""`sgdd prepare-data`: text in, a prepared corpus out."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgdd_cli import formatting
from sgdd_cli.completion import complete_corpus
from sgdd_cli.console import command_line, emit, emit_table, new_table, say, say_next, warn
from sgdd_cli.flags import Assignments, ConfigFiles, Device, Gpus, device_names, options_for

if TYPE_CHECKING:
    from sgdd_cli.settings import Resolved, Settings
    from sgdd_engine.data.dry_run import DryRun
    from sgdd_engine.distributed import World


def prepare_data(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A text file with one sentence per line, a table (.csv, .tsv, .jsonl, .json, .parquet, .arrow), a "
            "folder or a pattern of such files, `-` for standard input, a data set saved by `save_to_disk`, `builtin`, "
            "`bookcorpus`, or `hf:owner/name` for a data set of the hub.",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Corpus folder. Default: data/SOURCE.")] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Encoder: its Hugging Face name, its folder, or `minilm`.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            help="`encoder`: the vocabulary of the encoder. `unigram`: one trained on the corpus.",
        ),
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option("--vocab-size", help="Train a vocabulary of this many pieces on the corpus.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Leave out sentences with more tokens than this.")
    ] = None,
    embedding_dtype: Annotated[
        str | None,
        typer.Option(
            "--embedding-dtype",
            help="Number format of the stored vectors: fp32, fp16, or int8, half the size of fp16. Default: fp16.",
        ),
    ] = None,
    vectors_from: Annotated[
        Path | None,
        typer.Option(
            "--vectors-from",
            help="Folder of a prepared corpus; sentences that are in it too get its vectors, and only the others are "
            "encoded.",
            autocompletion=complete_corpus,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Read at most this many lines.")] = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            help="Column or key that holds the text; `a.b` for `b` inside `a`; in a table without a header its "
            "number, from 1. Default: text.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split of a data set. Default: train.")] = None,
    gpu: Gpus = None,
    device: Device = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only estimate the result from the first lines; write nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the corpus in --out and start from the beginning.")
    ] = False,
    files: ConfigFiles = None,
    assignments: Assignments = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the built-in corpus.")] = None,
) -> None:
    """Clean, split, tokenise and encode text into a corpus folder.

    After an interruption, the same command continues where it stopped. Several GPUs encode in parallel; on several
    machines, start the command with torchrun. Encoding takes most of the time: for another vocabulary or more text,
    --vectors-from takes the vectors from a prepared corpus and encodes only new sentences. Prints the folder.

    Example: sgdd prepare-data tales.txt --encoder minilm --vocab-size 16000
    """
    from sgdd_cli.launcher import join_world, launch, launched, silence_other_ranks  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_cli.settings import load_settings  # noqa: PLC0415 - as above

    silence_other_ranks()
    if vocab_size is not None and tokenizer == "encoder":
        raise typer.BadParameter(
            "--vocab-size trains a vocabulary; --tokenizer encoder uses the encoder's own."
        )
    trained = "unigram" if vocab_size is not None and tokenizer is None else tokenizer
    resolved = load_settings(
        files or (),
        assignments or (),
        [
            ("--encoder", "encoder.name", encoder),
            ("--tokenizer" if tokenizer else "--vocab-size", "tokenizer.kind", trained),
            ("--vocab-size", "tokenizer.vocab_size", vocab_size),
            ("--max-tokens", "data.max_tokens", max_tokens),
            ("--embedding-dtype", "data.embedding_dtype", embedding_dtype),
            ("--vectors-from", "data.vectors_from", None if vectors_from is None else str(vectors_from)),
            ("--limit", "data.limit", limit),
            ("--column", "data.column", column),
            ("--split", "data.split", split),
            ("--seed", "data.seed", seed),
        ],
    )
    from sgdd_cli.default_paths import corpus_folder  # noqa: PLC0415 - as above

    _warn_of_unused(source, resolved)
    folder = out or corpus_folder(source)
    devices = device_names(gpu, device)
    if len(devices) > 1 and not dry_run and not launched():
        raise typer.Exit(launch(devices))
    settings = _with_encoder_of_vectors(resolved)
    if dry_run:
        _dry_run(source, settings, folder)
        return
    with join_world(devices) as (world, own_device):
        _prepare(source, settings, folder, own_device, overwrite, world)
    options = options_for("train", files, assignments, gpu=gpu, device=device)
    say_next(command_line("train", folder, *options))
    emit(str(folder))


def _warn_of_unused(source: str, resolved: "Resolved") -> None:
    """Name the settings that were given and that this source, or this vocabulary, has no use for."""
    from sgdd_cli.settings import OPTIONS  # noqa: PLC0415 - `sgdd --help` need not load it

    unused = {"data.seed": "it is that of the built-in corpus"}
    if source == "builtin":
        unused = dict.fromkeys(
            ("data.column", "data.split", "data.revision"),
            "the built-in corpus has neither columns nor splits",
        )
    elif source == "-" or Path(source).is_file():
        unused["data.split"] = "a file has no splits"
    if resolved.settings.tokenizer.kind == "encoder":
        unused["tokenizer.vocab_size"] = (
            "the vocabulary is the encoder's; for one of its own: --tokenizer unigram"
        )
    for key, why in unused.items():
        if OPTIONS[key].of(resolved.settings) != OPTIONS[key].default:
            warn(f"{key} (from {resolved.origin(key)}) is not used: {why}.")


def _with_encoder_of_vectors(resolved: "Resolved") -> "Settings":
    """The settings; with --vectors-from and no named encoder, with the encoder that made those vectors."""
    from sgdd_cli.settings import DEFAULT  # noqa: PLC0415 - `sgdd --help` need not load it

    settings = resolved.settings
    if settings.data.vectors_from is None or resolved.origin("encoder.name") != DEFAULT:
        return settings
    from sgdd_engine.data.manifest import Manifest  # noqa: PLC0415 - as above
    from sgdd_engine.text.reference import EncoderReference  # noqa: PLC0415

    made_by = EncoderReference.from_dict(Manifest.read(Path(settings.data.vectors_from)).encoder)
    recorded = {
        name: value
        for name, value in asdict(made_by.config()).items()
        if resolved.origin(f"encoder.{name}") == DEFAULT and name != "batch_tokens"
    }
    say(f"Encoder: {made_by.name}, as in `{settings.data.vectors_from}`.")
    return settings.model_copy(update={"encoder": replace(settings.encoder, **recorded)})


def _prepare(
    source: str, settings: "Settings", folder: Path, device: str, overwrite: bool, world: "World"
) -> None:
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - the engine loads torch
    from sgdd_engine.data.prepare import prepare  # noqa: PLC0415
    from sgdd_engine.data.sources import open_source  # noqa: PLC0415
    from sgdd_engine.models.device import resolve_device  # noqa: PLC0415
    from sgdd_engine.text.encoder import load_encoder, load_encoder_lazily  # noqa: PLC0415

    # If the corpus of --vectors-from holds every vector, the weights are not needed.
    load = load_encoder if settings.data.vectors_from is None else load_encoder_lazily
    place = resolve_device(device)
    opened = open_source(source, settings.data)
    with ProgressDisplay() as display:
        manifest = prepare(
            opened,
            folder,
            encoder=lambda: load(settings.encoder, place),
            config=settings.data,
            tokenizer=settings.tokenizer,
            overwrite=overwrite,
            on_event=display,
            world=world,
        )
    splits = ", ".join(f"{name} {count:,}" for name, count in manifest.splits.items())
    say(f"Sentences: {splits}; vocabulary of {manifest.tokenizer['vocab_size']:,} pieces.")
    say(_effect_of_storing(manifest.embedding))


def _effect_of_storing(embedding: Mapping[str, Any]) -> str:
    """How far the stored vectors are from the encoder's; corpora of older versions do not record it."""
    text = f"Vectors are stored as {embedding['dtype']}"
    if "cosine_lowest" not in embedding:
        return f"{text}."
    mean, lowest = embedding["cosine_mean"], embedding["cosine_lowest"]
    return f"{text}; their cosine with the encoder's is {mean:.6f} on average and {lowest:.6f} at the lowest."


def _dry_run(source: str, settings: "Settings", folder: Path) -> None:
    from sgdd_engine.data.dry_run import dry_run  # noqa: PLC0415 - the engine loads torch
    from sgdd_engine.data.sources import open_source  # noqa: PLC0415
    from sgdd_engine.data.vector_reuse import open_reusable_corpus  # noqa: PLC0415

    if reused := settings.data.vectors_from:
        open_reusable_corpus(Path(reused), folder, settings.data.embedding_dtype)
    estimate = dry_run(
        open_source(source, settings.data),
        config=settings.data,
        encoder=settings.encoder,
        tokenizer=settings.tokenizer,
    )
    for text in estimate.notices:
        say(text)
    for text in (*estimate.missing, *estimate.lossy):
        warn(text)
    _draw(estimate, settings, folder)


def _draw(estimate: "DryRun", settings: "Settings", folder: Path) -> None:
    from sgdd_engine.data.cleaning import shown  # noqa: PLC0415 - as above

    def known(value: int | None) -> str:
        return "unknown" if value is None else f"about {value:,}"

    emit(f"Nothing is written. `{estimate.source}` would become `{folder}`:")
    table = new_table("what", "value")
    left_out = sum(estimate.left_out.values())
    tokens = "unknown" if estimate.tokens is None else f"{estimate.tokens / max(1, estimate.kept):.1f}"
    table.add_row("lines read for this", f"{estimate.sampled_lines:,}{' (all)' if estimate.complete else ''}")
    table.add_row("sentences kept of these", f"{estimate.kept:,} ({left_out:,} left out)")
    for reason, count in sorted(estimate.left_out.items(), key=lambda item: -item[1]):
        example = estimate.left_out_examples.get(reason)
        such_as = f", such as {shown(example)}" if example else ""
        table.add_row(f"  left out: {reason.replace('_', ' ')}", f"{count:,}{such_as}")
    table.add_row("words per sentence", f"{estimate.words_per_sentence:.1f}")
    table.add_row("tokens per sentence", tokens)
    if estimate.unknown_tokens:
        share = estimate.unknown_tokens / max(1, estimate.tokens or 0)
        table.add_row(
            "tokens unknown to the vocabulary",
            f"{estimate.unknown_tokens:,} of {estimate.tokens:,} ({share:.1%})",
        )
    table.add_row("lines in all", known(estimate.estimated_lines))
    table.add_row("sentences in all", known(estimate.estimated_sentences))
    on_disk = estimate.estimated_bytes
    table.add_row("size on disk", "unknown" if on_disk is None else f"about {formatting.size(on_disk)}")
    table.add_row("encoder", settings.encoder.name)
    if origin := settings.data.vectors_from:
        table.add_row("vectors are reused from", origin)
    kind = settings.tokenizer.kind
    table.add_row(
        "tokenizer", kind if kind == "encoder" else f"{kind}, {settings.tokenizer.vocab_size:,} pieces"
    )
    for text in estimate.examples:
        table.add_row("for example", text)
    emit_table(table)
