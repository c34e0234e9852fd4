"""The likely cause of each bad verdict of an evaluation, and one command that cures it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sgdd_engine.diagnosis.run import Cause, RunRecords, causes_in
from sgdd_engine.evaluation.report import EvaluationReport
from sgdd_engine.evaluation.verdicts import FEWEST_SENTENCES, Verdict

# What can be behind a bad answer, of the causes of a run, in the order in which equally likely ones are named.
CAUSES: Mapping[str, Sequence[str]] = {
    "vector_used": ("training", "collapse", "language", "vocabulary", "loss still falls", "little text"),
    "posterior": ("collapse",),
    "guidance": ("guidance", "training"),
    "feedback": (),
    "retrieval": ("training", "loss still falls", "little text", "vocabulary", "language"),
    "calibration": ("overfitting", "training"),
    "memorisation": ("overfitting", "little text"),
    "repetition": ("training", "loss still falls", "length"),
}
# As many as an evaluation scores by default.
ENOUGH_SENTENCES = 1000


def with_causes(report: EvaluationReport, records: RunRecords) -> EvaluationReport:
    """The report with the likely cause of each bad verdict, and one command.

    A cause is one that the run's records speak for, this evaluation among them. Where they speak for none, it is what
    this evaluation itself can change.

    Args:
        report: The evaluation.
        records: Of what was evaluated.
    """
    causes = causes_in(replace(records, evaluation=report.to_record()))
    return replace(
        report, verdicts=[_with_cause(verdict, causes, records, report) for verdict in report.verdicts]
    )


def _with_cause(
    verdict: Verdict, causes: Sequence[Cause], records: RunRecords, report: EvaluationReport
) -> Verdict:
    if report.sentences < FEWEST_SENTENCES:
        command = records.command("eval", records.run, "--limit", ENOUGH_SENTENCES)
        return replace(verdict, cause=f"{report.sentences:,} sentences are few.", command=command)
    if verdict.ok is not False:
        return verdict
    names = CAUSES[verdict.name]
    likely = [cause for cause in causes if cause.name in names and cause.likelihood in ("likely", "possible")]
    if likely:
        # Sorting is stable: `causes` have the likeliest first.
        first = min(likely, key=lambda cause: (cause.likelihood != "likely", names.index(cause.name)))
        cause, command = first.sentence, first.command
    else:
        cause, command = _of_the_evaluation(verdict, records, report)
    return replace(verdict, cause=cause, command=command)


def _of_the_evaluation(verdict: Verdict, records: RunRecords, report: EvaluationReport) -> tuple[str, str]:
    """What to try where the run's records point to no cause."""
    weight, asked = report.settings["sampling"]["cfg"], report.settings["eval"]
    search = records.command("eval", records.run, "--find-cfg")
    match verdict.name:
        case "guidance":
            return f"The guidance weight {weight:g} is not the best one.", search
        case "repetition" if weight > 1:
            return f"The guidance weight {weight:g} may be too high.", search
        case "feedback":
            plain = records.command(
                "sample", "Some text.", "--checkpoint", records.run, "--candidates", 1, "--refine", 0
            )
            return "The texts with the highest cosine have fewer words of the source than others.", plain
        case "retrieval" if asked["candidates"] == 1 and not asked["refine"] and not asked.get("search"):
            more = records.command("eval", records.run, "--candidates", 4, "--refine", 8)
            return (
                "Only one text was written for each vector; the closest of several is better, and takes longer.",
                more,
            )
        case "calibration":
            fit = records.command("eval", records.run, "--calibrate-score", 2000)
            return (
                "The model's confidence in single tokens is wrong; a confidence in whole sentences can be fitted.",
                fit,
            )
    return "The records point to no cause.", records.command("doctor", records.run)
