"""`sgdd doctor`: what is wrong with this machine's installation, or with the results of a run."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sgdd_cli.completion import complete_run
from sgdd_cli.console import CliExit, command_line, emit_command, emit_json, emit_text, say
from sgdd_cli.default_paths import CORPORA, RUNS, corpus_if_found
from sgdd_cli.flags import AsJson
from sgdd_engine.errors import ConfigError
from sgdd_engine.visible_text import without_secrets

# Variables that change what sgdd and its libraries do.
_ACTING = re.compile(
    r"(SGDD|HF|HUGGINGFACE|TORCH|CUDA|OMP|MKL|TOKENIZERS|TRANSFORMERS)_\w+|NO_COLOR|FORCE_COLOR|COLUMNS|HTTPS?_PROXY|ALL_PROXY",
    re.IGNORECASE,
)
_SECRET = re.compile(r"TOKEN$|SECRET|PASSWORD|KEY$|CREDENTIAL", re.IGNORECASE)
_MARKS = {"ok": "ok", "note": "note", "broken": "BROKEN"}


def doctor(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Run folder with bad results, or a model. Default: check this machine.",
            autocompletion=complete_run,
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the hub.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find what is broken on this machine and how to fix it; with a run, why its results may be bad.

    Without a run it checks packages, processor, encoders, corpora, models, disk, hub and the environment variables that
    have an effect; the exit code is 1 if something is broken. With a run it lists causes that the run's records point
    to, the most likely first, each with a figure and a command. No cause is called certain; what is not recorded is
    shown as unknown.

    Example: sgdd doctor --offline

    Example: sgdd doctor runs/tales
    """
    if run is None:
        _machine(offline, as_json)
    else:
        _run(run, as_json)


def _machine(offline: bool, as_json: bool) -> None:
    from sgdd_engine.diagnosis.machine import Check, broken, examine_machine  # noqa: PLC0415 - for quick help

    checks = examine_machine(CORPORA, RUNS, offline=offline)
    variables = acting_variables()
    shown = ", ".join(f"{name}={value}" for name, value in variables.items()) or "none"
    checks.append(Check("variables", "ok", f"Set: {shown}."))
    try:
        from sgdd_cli.settings import load_settings  # noqa: PLC0415

        resolved = load_settings()
        sentence = f"{len(resolved.origins)} settings are given by files or variables here."
        checks.append(Check("settings", "ok", sentence, "sgdd config show" if resolved.origins else None))
    except ConfigError as error:
        checks.append(Check("settings", "broken", error.message, error.hint))
    if as_json:
        emit_json(
            {
                "broken": broken(checks),
                "checks": [check.to_dict() for check in checks],
                "variables": variables,
            },
            indent=2,
        )
    else:
        for check in checks:
            emit_text(f"{check.name}: {check.sentence}", f"{_MARKS[check.state]:<6}  ", " " * 8)
            if check.command and check.state != "ok":
                for line in check.command.splitlines():
                    emit_text(line, " " * 10, " " * 12)
    if broken(checks):
        raise CliExit(1)


def acting_variables() -> dict[str, str]:
    """The variables of the environment that change what happens; what is secret in them is not shown."""
    found = {}
    for name, value in sorted(os.environ.items()):
        if _ACTING.fullmatch(name) and value:
            secret = _SECRET.search(name) is not None
            found[name] = "(set)" if secret else without_secrets(value)
    return found


def _run(name: str, as_json: bool) -> None:
    from sgdd_engine.checkpoint import read_info, resolve_checkpoint  # noqa: PLC0415 - as above
    from sgdd_engine.diagnosis.run import examine_run  # noqa: PLC0415

    checkpoint = resolve_checkpoint(name)
    # `mini`, or a model on the hub, lies elsewhere.
    run = path if (path := Path(name)).exists() else checkpoint
    causes = examine_run(run, corpus_if_found(checkpoint))
    evaluations = read_info(checkpoint).evaluations
    if as_json:
        emit_json(
            {
                "run": name,
                "checkpoint": str(checkpoint),
                "evaluation": next(iter(evaluations), None),
                "causes": [cause.to_dict() for cause in causes],
            },
            indent=2,
        )
        return
    say(_results(evaluations, name))
    for cause in causes:
        emit_text(f"{cause.likelihood}: {cause.name}. {cause.sentence}", later="  ")
        if cause.likelihood != "unlikely":
            emit_command(cause.command, "  ")


def _results(evaluations: Sequence[Mapping[str, Any]], run: str) -> str:
    """How good the results are, where that was measured."""
    if not evaluations:
        return f"How good the results are is not recorded; to measure it: {command_line('eval', run)}"
    newest = evaluations[0]
    own = next(one for one in newest["conditions"] if one["name"] == "true")["scores"]
    shown = ", ".join(
        f"{newest['metrics'][name]} {own[name]['mean']:.3f}" for name in ("token_f1", "cosine") if name in own
    )
    return f"Newest evaluation, {newest['sentences']:,} sentences: {shown}."
