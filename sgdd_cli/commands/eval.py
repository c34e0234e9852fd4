"""`sgdd eval`: how much of the meaning comes back, beside the controls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.console import emit_json, say
from sgdd_cli.flags import AsJson, Assignments, ConfigFiles, Device, Gpu, device_name

if TYPE_CHECKING:
    from sgdd_engine.evaluation.guidance_search import GuidanceSearch


def evaluate(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            envvar="SGDD_CHECKPOINT",
            help="Checkpoint or run folder, or `mini`. Default: the newest run, else `mini`.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Corpus folder or text file. Default: test split of its own corpus."),
    ] = None,
    train_corpus: Annotated[
        Path | None,
        typer.Option("--train-corpus", help="Corpus it was trained on. Default: found by its fingerprint."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Sentences evaluated.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of sentences, masks and sampler.")] = None,
    cfg: Annotated[float | None, typer.Option("--cfg", help="Guidance weight; 1 is none.")] = None,
    find_cfg: Annotated[
        bool, typer.Option("--find-cfg", help="Find the best guidance weight first, and record it.")
    ] = False,
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps.")] = None,
    candidates: Annotated[
        int | None, typer.Option("--candidates", help="Candidates per sentence; the closest is kept.")
    ] = None,
    refine: Annotated[int | None, typer.Option("--refine", help="Rounds of feedback per sentence.")] = None,
    shortlist: Annotated[
        int | None, typer.Option("--shortlist", help="Sentences written for each one that goes on.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Also write everything as one HTML page.")
    ] = None,
    gpu: Gpu = None,
    device: Device = None,
    as_json: AsJson = False,
    files: ConfigFiles = None,
    assignments: Assignments = None,
) -> None:
    """Reconstruct held-out sentences from their vectors alone, beside controls.

    Decoding starts from a full mask. The controls are another sentence's vector, none, and the nearest training
    sentence. Verdicts in words come last.

    Example: sgdd eval runs/tales --data unseen.txt --limit 500 --report report.html
    """
    from sgdd_cli.models import checkpoint_name, load_model, sampling_for  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_cli.settings import DEFAULT, load_settings  # noqa: PLC0415

    resolved = load_settings(
        files or (),
        assignments or (),
        [
            ("--limit", "eval.limit", limit),
            ("--seed", "eval.seed", seed),
            ("--candidates", "eval.candidates", candidates),
            ("--refine", "eval.refine", refine),
            ("--shortlist", "eval.shortlist", shortlist),
            ("--find-cfg", "eval.find_cfg", find_cfg or None),
            ("--cfg", "sample.cfg", cfg),
            ("--steps", "sample.steps", steps),
        ],
    )
    from sgdd_cli.eval_inputs import load_eval_inputs  # noqa: PLC0415
    from sgdd_cli.eval_tables import draw_evaluation  # noqa: PLC0415 - as above
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415
    from sgdd_engine.evaluation.evaluate import evaluate as run_evaluation  # noqa: PLC0415
    from sgdd_engine.evaluation.page import claim, write_page  # noqa: PLC0415

    if page is not None:
        claim(page)
    model, folder = load_model(checkpoint, device_name(gpu, device))
    sampling = sampling_for(resolved, model)
    with ProgressDisplay() as display:
        text = load_eval_inputs(data, train_corpus, model, folder, resolved.settings, display)
        report = run_evaluation(
            model,
            text.scored,
            config=resolved.settings.eval,
            sampling=sampling,
            training=text.training,
            search_on=text.search_on,
            keep_cfg=resolved.origin("sample.cfg") != DEFAULT,
            on_event=display,
        )
    result = {"checkpoint": checkpoint_name(folder), **report.to_dict()}
    if as_json:
        emit_json(result, indent=2)
    else:
        draw_evaluation(result)
    if page is not None:
        write_page(result, page)
        say(f"Report: {page}")
    if report.guidance_search is not None:
        _record(report.guidance_search, folder)


def _record(search: "GuidanceSearch", folder: Path) -> None:
    """Leave the weight that was found with the checkpoint, for `sgdd sample`; `mini` stays as it is."""
    from sgdd_engine.checkpoint import record_sampling  # noqa: PLC0415 - as above
    from sgdd_engine.mini import is_mini  # noqa: PLC0415

    if is_mini(folder):
        say(
            f"The best guidance weight is {search.best:g}; what comes with sgdd stays as it is: --cfg {search.best:g}"
        )
        return
    record_sampling(folder, {"cfg": search.best})
    say(
        f"The best guidance weight, {search.best:g}, is recorded in {folder}; it is used where --cfg is not given."
    )
