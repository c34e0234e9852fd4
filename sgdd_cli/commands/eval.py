"""`sgdd eval`: how much of the meaning comes back, beside the controls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgdd_cli.console import emit, emit_json, emit_table, new_table
from sgdd_cli.flags import AsJson, Assignments, ConfigFiles, Device, Gpu, device_name

if TYPE_CHECKING:
    from sgdd_cli.progress import ProgressDisplay
    from sgdd_cli.schema import Settings
    from sgdd_engine.evaluation.data import EvaluationSet
    from sgdd_engine.generation import SGDD

_SCORES = ("exact_match", "token_f1", "bleu", "cosine")


def evaluate(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(envvar="SGDD_CHECKPOINT", help="Checkpoint or run folder. Default: the newest run."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Corpus folder or text file. Default: test split of its own corpus."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Sentences evaluated.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of sentences, masks and sampler.")] = None,
    cfg: Annotated[float | None, typer.Option("--cfg", help="Guidance weight; 1 is none.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps.")] = None,
    candidates: Annotated[
        int | None, typer.Option("--candidates", help="Likeliest lengths tried per sentence.")
    ] = None,
    gpu: Gpu = None,
    device: Device = None,
    as_json: AsJson = False,
    files: ConfigFiles = None,
    assignments: Assignments = None,
) -> None:
    """Reconstruct held-out sentences from their vectors alone, beside controls.

    Decoding starts from a full mask. `shuffled` is given another sentence's vector, `null` is given none.

    Example: sgdd eval runs/tales --data unseen.txt --limit 500
    """
    from sgdd_cli.models import load_model, sampling_for  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_cli.settings import load_settings  # noqa: PLC0415

    resolved = load_settings(
        files or (),
        assignments or (),
        [
            ("--limit", "eval.limit", limit),
            ("--seed", "eval.seed", seed),
            ("--candidates", "eval.candidates", candidates),
            ("--cfg", "sample.cfg", cfg),
            ("--steps", "sample.steps", steps),
        ],
    )
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - as above
    from sgdd_engine.evaluation.evaluate import evaluate as run_evaluation  # noqa: PLC0415

    model, folder = load_model(checkpoint, device_name(gpu, device))
    sampling = sampling_for(resolved, model)
    with ProgressDisplay() as display:
        report = run_evaluation(
            model,
            _held_out(data, model, folder, resolved.settings, display),
            config=resolved.settings.eval,
            sampling=sampling,
            on_event=display,
        )
    result = report.to_dict()
    if as_json:
        emit_json({"checkpoint": str(folder), **result}, indent=2)
    else:
        _draw(result, folder)


def _held_out(
    data: Path | None, model: "SGDD", checkpoint: Path, settings: "Settings", display: "ProgressDisplay"
) -> "EvaluationSet":
    from sgdd_cli.places import corpus_of  # noqa: PLC0415 - the engine loads torch
    from sgdd_engine.data.corpus import Corpus  # noqa: PLC0415
    from sgdd_engine.data.manifest import MANIFEST  # noqa: PLC0415
    from sgdd_engine.evaluation.data import from_corpus, from_text_file  # noqa: PLC0415

    limit, seed = settings.eval.limit, settings.eval.seed
    if data is None:
        data = corpus_of(checkpoint, model.info.facts, "Name it, or a text file, with --data.")
    if (data / MANIFEST).is_file():
        return from_corpus(Corpus.open(data), settings.eval.split, limit, seed)
    return from_text_file(data, model, limit, seed, config=settings.data, on_event=display)


def _draw(result: dict[str, Any], folder: Path) -> None:
    from sgdd_cli import figures  # noqa: PLC0415 - as above

    sampling = result["settings"]["sampling"]
    emit(
        f"{folder}: {result['sentences']:,} sentences from a full mask, {sampling['steps']} steps, "
        f"cfg {sampling['cfg']:g}"
    )
    scores = ("exact match", "token F1", "BLEU", "cosine")
    table = new_table("decoded from", *scores, numbers=scores)
    rows = {"reconstruction": "its own vector", "shuffled": "another sentence's", "null": "no vector"}
    for part, label in rows.items():
        table.add_row(label, *(_score(name, result[part].get(name)) for name in _SCORES))
    emit_table(table)
    ratios = result["accuracy_by_mask_ratio"]
    masked = new_table(
        "tokens masked", *(f"{ratio} %" for ratio in ratios), numbers=tuple(f"{ratio} %" for ratio in ratios)
    )
    masked.add_row("accuracy", *(figures.share(value) for value in ratios.values()))
    emit_table(masked)
    bound, error = result["nelbo_nats_per_token"], result.get("nelbo_standard_error")
    emit(f"NELBO {bound:.3f}{'' if error is None else f' ± {error:.3f}'} nats per token")
    if verdict := result.get("verdict"):
        emit(verdict)


def _score(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if name == "bleu" else f"{value:.3f}"
