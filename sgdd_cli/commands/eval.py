"""`sgdd eval`: how much of the meaning comes back, beside the controls."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgdd_cli.completion import complete_checkpoint, complete_corpus
from sgdd_cli.console import command_line, emit_json, say, warn
from sgdd_cli.flags import (
    AsJson,
    Assignments,
    Candidates,
    Cfg,
    ConfigFiles,
    Device,
    Encoder,
    Force,
    Gpu,
    Refine,
    Search,
    Shortlist,
    Steps,
    check_output,
    device_name,
    setting,
)
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.mini import MINI

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sgdd_cli.settings import Resolved
    from sgdd_engine.diagnosis.run import RunRecords
    from sgdd_engine.diffusion.config import SamplingConfig
    from sgdd_engine.evaluation.data import EvaluationSet
    from sgdd_engine.evaluation.guidance_search import GuidanceSearch
    from sgdd_engine.evaluation.report import EvaluationReport
    from sgdd_engine.evaluation.sampler_comparison import SamplerPoint
    from sgdd_engine.generation import SGDD


def evaluate(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="CHECKPOINT",
            envvar="SGDD_CHECKPOINT",
            help="Checkpoint or run folder, `mini`, or owner/name on the hub. Default: the newest run, else `mini`.",
            autocompletion=complete_checkpoint,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Corpus folder or text file. Default: the test split of the corpus of its training.",
            autocompletion=complete_corpus,
        ),
    ] = None,
    train_corpus: Annotated[
        Path | None,
        typer.Option(
            "--train-corpus",
            help="Corpus that the model was trained on, for the comparison with its sentences. Default: "
            "the one that the checkpoint names, if it is found.",
        ),
    ] = None,
    limit: Annotated[int | None, setting(EvalConfig, "limit")] = None,
    seed: Annotated[int | None, setting(EvalConfig, "seed")] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Take about a third of the time: half as many sentences (if --limit is not given), a rougher NELBO, "
            "no diversity of samples, and no comparison with writing without guidance.",
        ),
    ] = False,
    cfg: Cfg = None,
    find_cfg: Annotated[
        bool,
        typer.Option(
            "--find-cfg",
            help="First find the best guidance weight, and how far probabilities of tokens can be trusted, and record "
            "both in the checkpoint. This takes longer: 300 other sentences are written eight times.",
        ),
    ] = False,
    steps: Steps = None,
    candidates: Candidates = None,
    refine: Refine = None,
    shortlist: Shortlist = None,
    search: Search = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="KEY=VALUES",
            help="Instead of the evaluation, write the same sentences with each of these values, as in "
            "sample.steps=4,8,16, and compare them; time grows with the number of values. With several --vary, all "
            "combinations are compared. With --report, the evaluation is done too.",
        ),
    ] = None,
    calibrate_score: Annotated[
        int | None,
        typer.Option(
            "--calibrate-score",
            min=1,
            metavar="N",
            help="Instead of the evaluation, write N other sentences and learn from them to tell how likely a text is "
            "close to its source. The checkpoint records it, and `sgdd sample --json` then shows it as `confidence`.",
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Also write the results, with samples and charts, as one HTML page.",
        ),
    ] = None,
    force: Force = False,
    encoder: Encoder = None,
    gpu: Gpu = None,
    device: Device = None,
    as_json: AsJson = False,
    files: ConfigFiles = None,
    assignments: Assignments = None,
) -> None:
    """Measure how well held-out sentences are written from their vectors alone, beside controls.

    Decoding starts from a full mask. The controls are: the vector of another sentence, no vector, and the nearest
    training sentence. At the end come verdicts in words, and some sentences with what was written for them.

    Example: sgdd eval runs/tales --data unseen.txt --limit 500 --report report.html

    Example: sgdd eval runs/tales --data unseen.txt --calibrate-score 2000

    Example: sgdd eval mini --vary sample.steps=4,8,16 --vary sample.position_rule=confidence,margin --report front.html
    """
    from sgdd_cli.eval_settings import (  # noqa: PLC0415 - `sgdd --help` need not load them
        check_combination,
        options_again,
        quick_settings,
        say_what_is_left_out,
        varied_settings,
        warn_of_unused,
        with_generation,
    )
    from sgdd_cli.models import checkpoint_name, load_model, named_encoder  # noqa: PLC0415
    from sgdd_cli.settings import DEFAULT, load_settings  # noqa: PLC0415

    resolved = load_settings(
        files or (),
        [*quick_settings(quick), *(assignments or ())],
        [
            ("--encoder", "encoder.name", encoder),
            ("--limit", "eval.limit", limit),
            ("--seed", "eval.seed", seed),
            ("--find-cfg", "eval.find_cfg", find_cfg or None),
            ("--cfg", "sample.cfg", cfg),
            ("--steps", "sample.steps", steps),
            ("--candidates", "sample.candidates", candidates),
            ("--refine", "sample.refine", refine),
            ("--shortlist", "sample.shortlist", shortlist),
            ("--search", "sample.search", search),
        ],
    )
    from sgdd_cli.eval_inputs import load_eval_inputs  # noqa: PLC0415
    from sgdd_cli.eval_tables import draw_evaluation, draw_samplers  # noqa: PLC0415 - as above
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415
    from sgdd_engine.diagnosis.verdicts import with_causes  # noqa: PLC0415
    from sgdd_engine.evaluation.data import fitted  # noqa: PLC0415
    from sgdd_engine.evaluation.evaluate import evaluate as run_evaluation  # noqa: PLC0415
    from sgdd_engine.generation import complete_sampling  # noqa: PLC0415

    varied = varied_settings(vary or [], files or [], assignments or [])
    check_combination(vary, calibrate_score, page, resolved.settings.eval.find_cfg)
    if page is not None:
        check_output(page, "--report", force=force)
    warn_of_unused(resolved)
    if quick:
        say_what_is_left_out(resolved)
    model, folder = load_model(
        checkpoint,
        device_name(gpu, device),
        named_encoder(resolved),
        encoder_batch_tokens=resolved.settings.encoder.batch_tokens,
        mini_by=command_line("eval", MINI),
    )
    if resolved.settings.eval.find_cfg:
        _check_recordable(folder, "--find-cfg")
    config, sampling = with_generation(resolved), complete_sampling(resolved.given("sample"), model.info)
    if calibrate_score is not None:
        _calibrate(model, folder, data, calibrate_score, resolved, config, sampling, as_json=as_json)
        return
    with ProgressDisplay() as display:
        text = load_eval_inputs(data, train_corpus, model, folder, resolved.settings, display)
        scored = fitted(text.scored, model, display)
    points = _compare(model, scored, config, sampling, varied) if varied else None
    if points is not None and page is None:
        _show_points(points, len(scored), checkpoint_name(folder), sampling, as_json=as_json)
        return
    with ProgressDisplay() as display:
        report = run_evaluation(
            model,
            scored,
            config=config,
            sampling=sampling,
            training=text.training,
            search_on=text.search_on,
            keep_cfg=resolved.origin("sample.cfg") != DEFAULT,
            on_event=display,
        )
    name = checkpoint_name(folder)
    place = {"encoder": encoder, "gpu": gpu, "device": device}
    records = replace(
        _records(folder, name),
        options=options_again(resolved, files, assignments, data=data, train_corpus=train_corpus, **place),
    )
    report = with_causes(replace(report, samplers=points), records)
    try:
        _keep(report, folder, name, page, records)
    finally:
        if as_json:
            emit_json({"checkpoint": name, **report.to_dict()}, indent=2)
        else:
            draw_evaluation(report, name)
            if points is not None:
                draw_samplers(points, len(scored), name)


def _keep(
    report: "EvaluationReport", folder: Path, name: str, page: Path | None, records: "RunRecords"
) -> None:
    """Write the page and what the checkpoint records, before anything is shown.

    Standard output may be full, or a pipe that nobody reads.
    """
    from sgdd_engine.evaluation.page.write import write_page  # noqa: PLC0415 - as above

    if page is not None:
        write_page(report, name, page, records.curves)
        say(f"Report: {page}")
    if report.guidance_search is not None:
        _record_guidance(report.guidance_search, folder)
    _record_scores(report, folder)


def _records(folder: Path, name: str) -> "RunRecords":
    """What is recorded of a checkpoint and its run, to name the causes of bad results."""
    from sgdd_cli.default_paths import corpus_if_found  # noqa: PLC0415 - as above
    from sgdd_engine.checkpoint import checkpoints_of  # noqa: PLC0415
    from sgdd_engine.diagnosis.run import read_records  # noqa: PLC0415

    run = folder.parent.parent
    return read_records(run if folder in checkpoints_of(run) else Path(name), corpus_if_found(folder), folder)


def _record_scores(report: "EvaluationReport", folder: Path) -> None:
    """Record the scores in the checkpoint, for its card, `sgdd models` and `sgdd doctor`; a copy of others' is left."""
    from sgdd_cli.models import may_change  # noqa: PLC0415 - as above
    from sgdd_engine.checkpoint import record_evaluation  # noqa: PLC0415
    from sgdd_engine.errors import CheckpointError  # noqa: PLC0415

    if not may_change(folder):
        return
    try:
        record_evaluation(folder, report.to_record())
    except (CheckpointError, OSError) as error:
        # The run may have removed it meanwhile; the scores are shown all the same.
        reason = error.message if isinstance(error, CheckpointError) else error.strerror
        warn(f"The scores could not be recorded in {folder}: {reason}")


def _check_recordable(folder: Path, by: str) -> None:
    """Check, before long work, that what is found can be recorded in a checkpoint that may be changed."""
    from sgdd_cli.models import may_change  # noqa: PLC0415 - as above
    from sgdd_engine.atomic_files import HASHES, check_writable  # noqa: PLC0415

    if may_change(folder):
        check_writable(
            folder / HASHES,
            f"What is found is recorded there: leave out {by}, or evaluate a copy (sgdd export).",
        )


def _compare(
    model: "SGDD",
    scored: "EvaluationSet",
    config: EvalConfig,
    sampling: "SamplingConfig",
    varied: dict[str, list[Any]],
) -> "list[SamplerPoint]":
    """Compare ways of sampling (--vary)."""
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - as above
    from sgdd_engine.evaluation.sampler_comparison import compare_samplers  # noqa: PLC0415

    with ProgressDisplay() as display:
        return compare_samplers(
            model,
            scored,
            sampling=sampling,
            varied=varied,
            config=config,
            on_event=display,
        )


def _show_points(
    points: "Sequence[SamplerPoint]", sentences: int, name: str, sampling: "SamplingConfig", *, as_json: bool
) -> None:
    """The ways of sampling that were compared, as a table or as JSON."""
    from sgdd_cli.eval_tables import draw_samplers  # noqa: PLC0415 - as above

    found = {
        "checkpoint": name,
        "sentences": sentences,
        "sampling": asdict(sampling),
        "points": [point.to_dict() for point in points],
    }
    if as_json:
        emit_json(found, indent=2)
    else:
        draw_samplers(points, sentences, name)


def _calibrate(
    model: "SGDD",
    folder: Path,
    data: Path | None,
    count: int,
    resolved: "Resolved",
    config: EvalConfig,
    sampling: "SamplingConfig",
    *,
    as_json: bool,
) -> None:
    """Fit the confidence in sentences and record it (--calibrate-score) in a checkpoint that may be changed."""
    from sgdd_cli.eval_inputs import load_calibration_set  # noqa: PLC0415 - as above
    from sgdd_cli.eval_tables import draw_calibration  # noqa: PLC0415
    from sgdd_cli.models import checkpoint_name, may_change  # noqa: PLC0415
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415
    from sgdd_engine.checkpoint import record_confidence  # noqa: PLC0415
    from sgdd_engine.evaluation.confidence import calibrate_score, calibration_dict  # noqa: PLC0415

    _check_recordable(folder, "--calibrate-score")
    with ProgressDisplay() as display:
        judged = calibrate_score(
            model,
            load_calibration_set(data, count, model, folder, resolved.settings, display),
            sampling=sampling,
            config=config,
            on_event=display,
        )
    found = calibration_dict(judged)
    name = checkpoint_name(folder)
    try:
        if may_change(folder):
            record_confidence(folder, found["confidence"])
            say(f"Recorded in {folder}: sgdd sample --json and sgdd read --json have it as `confidence`.")
        else:
            say(f"`{name}` is not changed; record it in a copy: {command_line('export', name, 'my-copy')}")
    finally:
        if as_json:
            emit_json({"checkpoint": name, **found}, indent=2)
        else:
            draw_calibration(judged, name)


def _record_guidance(search: "GuidanceSearch", folder: Path) -> None:
    """Write what was found into the checkpoint, for `sgdd sample`; `mini` is never changed."""
    from sgdd_cli.models import checkpoint_name, may_change  # noqa: PLC0415 - as above
    from sgdd_engine.checkpoint import record_sampling  # noqa: PLC0415

    if not may_change(folder):
        say(
            f"The best guidance weight is {search.best:g}. `{checkpoint_name(folder)}` is not changed; use the weight "
            f"with --cfg {search.best:g}"
        )
        return
    record_sampling(folder, {"cfg": search.best}, token_temperature=search.token_temperature)
    say(
        f"The best guidance weight, {search.best:g}, is recorded in {folder}; it is used where --cfg is not given. "
        f"Recorded too: logits are divided by {search.token_temperature:.2f}, so that probabilities of tokens are "
        "right as often as they say."
    )
