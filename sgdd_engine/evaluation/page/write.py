"""The page as a file: the report of an evaluation goes in, one HTML file that needs no other comes out."""

import json
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from sgdd_engine.atomic_files import write_bytes
from sgdd_engine.evaluation.page import model, quality
from sgdd_engine.evaluation.page.samples import shown_samples
from sgdd_engine.evaluation.page.view import Section
from sgdd_engine.evaluation.report import EvaluationReport

_MARKS = {True: ("good", "✓", "yes"), False: ("bad", "✗", "no"), None: ("open", "–", "not judged")}


def write_page(report: EvaluationReport, checkpoint: str, path: Path) -> None:
    """Write an evaluation as one self-contained HTML page that is whole under its name or not there.

    Args:
        report: The evaluation.
        checkpoint: Name of what was evaluated.
        path: The file to write; an older file of that name is replaced.

    Raises:
        OSError: The file cannot be written.
    """
    # A path with bytes that are no text reaches here as a lone surrogate, which UTF-8 cannot write.
    write_bytes(path, render(report, checkpoint).encode(errors="xmlcharrefreplace"))


def render(report: EvaluationReport, checkpoint: str) -> str:
    """The page as text; every text in the report is escaped."""
    return _template().render(
        checkpoint=checkpoint,
        sentences=f"{report.sentences:,}",
        verdicts=[(*_MARKS[verdict.ok], verdict.sentence) for verdict in report.verdicts],
        headline=quality.headline(report),
        facts=_made_with(report.settings),
        sections=_sections(report),
        samples=shown_samples(report.samples),
        settings=json.dumps(report.settings, indent=2, ensure_ascii=False),
        version=report.settings["versions"]["sgdd"],
        today=date.today().isoformat(),
    )


def _sections(report: EvaluationReport) -> list[Section]:
    search = report.guidance_search
    return [
        quality.conditions_section(report),
        quality.differences_section(report),
        quality.length_section(report.by_length),
        model.mask_section(report.likelihood),
        *([] if search is None else [quality.guidance_section(search)]),
        model.calibration_section(report.likelihood),
        model.latent_section(report.latent, report.sentences),
        model.likelihood_section(report.likelihood),
        quality.variety_section(report.diversity, report.memorisation, report.encoder_calls),
    ]


@cache
def _template() -> Template:
    environment = Environment(
        loader=FunctionLoader(lambda name: (files(__package__) / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # No line may end between a number and its per cent sign.
    environment.filters["unbroken"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment.get_template("page.html.j2")


def _made_with(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings a reader needs to judge the figures, in words; all of them stand at the page's end."""
    sampling, asked, made = settings["sampling"], settings["eval"], settings["model"]
    shown = {
        "data": settings["data"].get("path"),
        "split": settings["data"].get("split"),
        "encoder": made["encoder"]["name"],
        "steps": sampling["steps"],
        "guidance": f"{sampling['cfg']:g}",
        "temperature": f"{sampling['temperature']:g}",
        "candidates": asked["candidates"],
        "refining rounds": asked["refine"],
        "shortlist": asked["shortlist"],
        "training step": f"{made['step']:,}",
        "device": made["device"],
        "seed": asked["seed"],
    }
    return [(name, str(value)) for name, value in shown.items() if value is not None]
