"""The settings of an evaluation: what `--quick` and `--vary` mean, what cannot be together, and what is not used."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sgdd_cli.console import say, warn
from sgdd_cli.flags import options_for
from sgdd_cli.settings import OPTIONS, RENAMED, Resolved, load_settings, sampler_settings
from sgdd_engine.errors import ConfigError
from sgdd_engine.evaluation.config import QUICK, EvalConfig


def quick_settings(quick: bool) -> list[str]:
    """What `--quick` sets, as `--set` takes it; what is given there or as an option counts more."""
    return [f"eval.{name}={value}" for name, value in QUICK.items()] if quick else []


def say_what_is_left_out(resolved: Resolved) -> None:
    """What `--quick` leaves out and makes smaller, as far as nothing else was asked for."""
    config, usual = resolved.settings.eval, EvalConfig()
    said = {
        "diversity_samples": "without the diversity of samples",
        "compare_guidance": "without a comparison to w = 1",
        "limit": f"at most {config.limit:,} sentences instead of {usual.limit:,}",
        "nelbo_samples": f"{config.nelbo_samples} masks for each instead of {usual.nelbo_samples}",
    }
    if parts := [text for name, text in said.items() if getattr(config, name) == QUICK[name]]:
        say(f"Quick: {', '.join(parts)}. Intervals are wider; for all of it, leave out --quick.")


def check_combination(
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


def varied_settings(vary: list[str], files: list[Path], assignments: list[str]) -> dict[str, list[Any]]:
    """Values by fields of `SamplingConfig`, as `--vary` names them: `sample.steps=4,8,16`.

    A comma before `name=` belongs to the parameters of a name, as in `interval:start=0,end=0.5`.
    """
    varied: dict[str, list[Any]] = {}
    for text in vary:
        named, separator, values = text.partition("=")
        key = RENAMED.get(named.strip(), named.strip())
        if not separator or not values:
            raise ConfigError(f"--vary {text} has no values.", "Write --vary sample.steps=4,8,16")
        for value in re.split(r",(?!\w+=)", values):
            settings = load_settings(files, [*assignments, f"{key}={value}"]).settings
            if OPTIONS[key].part != "sample":
                raise ConfigError(
                    f"--vary {key}: only settings of the sampler can be compared.",
                    f"These are: {sampler_settings()}.",
                )
            varied.setdefault(OPTIONS[key].name, []).append(OPTIONS[key].of(settings))
    return varied


def with_generation(resolved: Resolved) -> EvalConfig:
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


def warn_of_unused(resolved: Resolved) -> None:
    """Name the settings of `sample` that were given and have no meaning here."""
    for key, instead in (
        ("sample.length", "lengths are predicted"),
        ("sample.num_samples", "one text is written for each sentence (see eval.diversity_samples)"),
        ("sample.seed", "the seed is eval.seed"),
    ):
        if OPTIONS[key].of(resolved.settings) != OPTIONS[key].default:
            warn(f"{key} (from {resolved.origin(key)}) is not used in an evaluation: {instead}.")


def options_again(
    resolved: Resolved,
    files: Sequence[Path] | None,
    assignments: Sequence[str] | None,
    *,
    data: Path | None,
    train_corpus: Path | None,
    **place: str | None,
) -> dict[str, list[tuple[str, str]]]:
    """The options of this command that the commands of its verdicts need too, by command."""
    sampler = [
        (origin, str(OPTIONS[key].of(resolved.settings)))
        for key, origin in resolved.origins.items()
        if key.startswith("sample.") and origin.startswith("--") and origin != "--set"
    ]
    same = options_for("eval", files, assignments, data=data, train_corpus=train_corpus, **place)
    return {"eval": [*same, *sampler], "sample": options_for("sample", files, assignments, **place)}
