"""`sgdd eval`: how much of the meaning comes back, beside the controls."""

import re
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
    options_for,
    setting,
)
from sgdd_engine.errors import ConfigError
from sgdd_engine.evaluation.config import QUICK, EvalConfig
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
            help="First find the best guidance weight and record it in the checkpoint. This takes longer: 300 other "
            "sentences are written eight times.",
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
    from sgdd_cli.models import checkpoint_name, load_model, named_encoder  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_cli.settings import DEFAULT, load_settings  # noqa: PLC0415

    resolved = load_settings(
        files or (),
        [*_quick_settings(quick), *(assignments or ())],
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
    from sgdd_engine.evaluation.evaluate import evaluate as run_evaluation  # noqa: PLC0415
    from sgdd_engine.evaluation.page.write import write_page  # noqa: PLC0415
    from sgdd_engine.generation import complete_sampling  # noqa: PLC0415

    varied = _varied(vary or [], files or [], assignments or [])
    _check_combination(vary, calibrate_score, page, find_cfg)
    if page is not None:
        check_output(page, "--report", force=force)
    _warn_of_unused(resolved)
    if quick:
        _say_what_is_left_out(resolved)
    model, folder = load_model(
        checkpoint,
        device_name(gpu, device),
        named_encoder(resolved),
        encoder_batch_tokens=resolved.settings.encoder.batch_tokens,
        mini_by=command_line("eval", MINI),
    )
    if resolved.settings.eval.find_cfg:
        _check_recordable(folder, "--find-cfg")
    sampling = complete_sampling(resolved.given("sample"), model.info)
    if calibrate_score is not None:
        _calibrate(model, folder, data, calibrate_score, resolved, sampling, as_json=as_json)
        return
    with ProgressDisplay() as display:
        text = load_eval_inputs(data, train_corpus, model, folder, resolved.settings, display)
    points = _compare(model, text.scored, resolved, sampling, varied) if varied else None
    if points is not None and page is None:
        _show_points(points, len(text.scored), checkpoint_name(folder), sampling, as_json=as_json)
        return
    with ProgressDisplay() as display:
        report = run_evaluation(
            model,
            text.scored,
            config=_with_generation(resolved),
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
        options=_options_again(resolved, files, assignments, data=data, train_corpus=train_corpus, **place),
    )
    report = with_causes(replace(report, samplers=points), records)
    # First what stays: standard output may be full, or a pipe that nobody reads.
    try:
        if page is not None:
            write_page(report, name, page, records.curves)
            say(f"Report: {page}")
        if report.guidance_search is not None:
            _record(report.guidance_search, folder)
        _keep(report, folder)
    finally:
        if as_json:
            emit_json({"checkpoint": name, **report.to_dict()}, indent=2)
        else:
            draw_evaluation(report, name)
            if points is not None:
                draw_samplers(points, len(text.scored), name)


def _options_again(
    resolved: "Resolved",
    files: "Sequence[Path] | None",
    assignments: "Sequence[str] | None",
    *,
    data: Path | None,
    train_corpus: Path | None,
    **place: str | None,
) -> dict[str, list[tuple[str, str]]]:
    """The options of this command that the commands of its verdicts need too, by command."""
    from sgdd_cli.settings import OPTIONS  # noqa: PLC0415 - as above

    sampler = [
        (origin, str(OPTIONS[key].of(resolved.settings)))
        for key, origin in resolved.origins.items()
        if key.startswith("sample.") and origin.startswith("--") and origin != "--set"
    ]
    same = options_for("eval", files, assignments, data=data, train_corpus=train_corpus, **place)
    return {"eval": [*same, *sampler], "sample": options_for("sample", files, assignments, **place)}


def _quick_settings(quick: bool) -> list[str]:
    """What `--quick` sets, as `--set` takes it; what is given there or as an option counts more."""
    return [f"eval.{name}={value}" for name, value in QUICK.items()] if quick else []


def _say_what_is_left_out(resolved: "Resolved") -> None:
    """What `--quick` leaves out and makes smaller, as far as nothing else was asked for."""
    config, usual = resolved.settings.eval, EvalConfig()
    parts = [
        "without the diversity of samples" * (not config.diversity_samples),
        "without a comparison to w = 1" * (not config.compare_guidance),
        f"at most {config.limit:,} sentences instead of {usual.limit:,}" * (config.limit != usual.limit),
        f"{config.nelbo_samples} masks for each instead of {usual.nelbo_samples}"
        * (config.nelbo_samples != usual.nelbo_samples),
    ]
    say(f"Quick: {', '.join(filter(None, parts))}. Intervals are wider; for all of it, leave out --quick.")


def _records(folder: Path, name: str) -> "RunRecords":
    """What is recorded of a checkpoint and its run, to name the causes of bad results."""
    from sgdd_cli.default_paths import corpus_if_found  # noqa: PLC0415 - as above
    from sgdd_engine.checkpoint import checkpoints_of  # noqa: PLC0415
    from sgdd_engine.diagnosis.run import read_records  # noqa: PLC0415

    run = folder.parent.parent
    return read_records(run if folder in checkpoints_of(run) else Path(name), corpus_if_found(folder), folder)


def _keep(report: "EvaluationReport", folder: Path) -> None:
    """Record the scores in the checkpoint, for its card, `sgdd models` and `sgdd doctor`; a copy of others' is left."""
    from sgdd_cli.models import may_change  # noqa: PLC0415 - as above
    from sgdd_engine.checkpoint import record_evaluation  # noqa: PLC0415
    from sgdd_engine.errors import CheckpointError  # noqa: PLC0415

    if not may_change(folder):
        return
    try:
        record_evaluation(folder, report.to_record())
    except (CheckpointError, OSError) as error:
        # The run may have removed it meanwhile; the scores have been shown.
        reason = error.message if isinstance(error, CheckpointError) else error.strerror
        warn(f"The scores could not be recorded in {folder}: {reason}")


def _check_combination(
    vary: list[str] | None, calibrate_score: int | None, page: Path | None, find_cfg: bool
) -> None:
    """Refuse options that do not belong together."""
    if vary and find_cfg:
        raise ConfigError(
            "--vary compares ways of sampling, and --find-cfg records one.", "Leave out one of the two."
        )
    if calibrate_score is not None and (vary or page is not None or find_cfg):
        raise ConfigError(
            "--calibrate-score writes other sentences than those scored, and has no report.",
            "Leave out --report, --find-cfg and --vary.",
        )


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
    resolved: "Resolved",
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
            config=_with_generation(resolved),
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
            config=_with_generation(resolved),
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


def _varied(vary: list[str], files: list[Path], assignments: list[str]) -> dict[str, list[Any]]:
    """Values by fields of `SamplingConfig`, as `--vary` names them: `sample.steps=4,8,16`.

    A comma before `name=` belongs to the parameters of a name, as in `interval:start=0,end=0.5`.
    """
    from sgdd_cli.settings import OPTIONS, load_settings  # noqa: PLC0415 - as above

    varied: dict[str, list[Any]] = {}
    for text in vary:
        key, separator, values = text.partition("=")
        if not separator or not values:
            raise ConfigError(f"--vary {text} has no values.", "Write --vary sample.steps=4,8,16")
        for value in re.split(r",(?!\w+=)", values):
            settings = load_settings(files, [*assignments, f"{key}={value}"]).settings
            if OPTIONS[key].part != "sample":
                raise ConfigError(f"--vary {key}: only settings of the sampler can be compared.")
            varied.setdefault(OPTIONS[key].name, []).append(OPTIONS[key].of(settings))
    return varied


def _with_generation(resolved: "Resolved") -> EvalConfig:
    """The settings of the evaluation, with those of `sample` that it shares."""
    config, generation = resolved.settings.eval, resolved.settings.generation
    return replace(
        config,
        candidates=generation.candidates,
        refine=generation.refine,
        shortlist=generation.shortlist,
        search=generation.search or 0,
        gradient=generation.gradient,
    )


def _warn_of_unused(resolved: "Resolved") -> None:
    """Name the settings of `sample` that were given and have no meaning here."""
    from sgdd_cli.settings import OPTIONS  # noqa: PLC0415 - as above

    for key, instead in (
        ("sample.length", "lengths are predicted"),
        ("sample.num_samples", "one text is written for each sentence (see eval.diversity_samples)"),
        ("sample.seed", "the seed is eval.seed"),
    ):
        if OPTIONS[key].of(resolved.settings) != OPTIONS[key].default:
            warn(f"{key} (from {resolved.origin(key)}) is not used in an evaluation: {instead}.")


def _record(search: "GuidanceSearch", folder: Path) -> None:
    """Write the weight that was found into the checkpoint, for `sgdd sample`; `mini` is never changed."""
    from sgdd_cli.models import checkpoint_name, may_change  # noqa: PLC0415 - as above
    from sgdd_engine.checkpoint import record_sampling  # noqa: PLC0415

    if not may_change(folder):
        say(
            f"The best guidance weight is {search.best:g}. `{checkpoint_name(folder)}` is not changed; use the weight "
            f"with --cfg {search.best:g}"
        )
        return
    record_sampling(folder, {"cfg": search.best})
    say(
        f"The best guidance weight, {search.best:g}, is recorded in {folder}; it is used where --cfg is not given."
    )
