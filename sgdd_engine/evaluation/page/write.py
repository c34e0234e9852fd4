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
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.page import charts, drawings
from sgdd_engine.evaluation.page.charts import format_number, format_range
from sgdd_engine.evaluation.page.samples import compare
from sgdd_engine.evaluation.reconstruction import CONDITIONS
from sgdd_engine.evaluation.report import SAMPLE_SCORES, EvaluationReport

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
        report=report,
        checkpoint=checkpoint,
        made_with=_made_with(report.settings),
        # A vocabulary without capitals writes none: then they are no difference.
        fold=str if any(sample.text != sample.text.lower() for sample in report.samples) else str.casefold,
        settings=json.dumps(report.settings, indent=2, ensure_ascii=False),
        today=date.today().isoformat(),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FunctionLoader(lambda name: (files(__package__) / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "METRICS": METRICS,
        "SAMPLE_SCORES": SAMPLE_SCORES,
        "charts": charts,
        "compare": compare,
        "draw": drawings,
        "marks": _MARKS,
    }
    environment.filters |= {
        "form": format_number,
        "range": format_range,
        "label": _label,
        "capital": _capital,
        # No line may end between a number and its per cent sign.
        "unbroken": lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%"),
    }
    return environment.get_template("page.html.j2")


def _label(name: str, prefix: str = "") -> str:
    """What a metric or a condition is called."""
    return prefix + (CONDITIONS[name].label if name in CONDITIONS else METRICS[name].label)


def _capital(text: str) -> str:
    """The text with a capital first letter, but for a name such as chrF."""
    return f"{text[:1].upper()}{text[1:]}" if text.partition(" ")[0].islower() else text


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
        "search": asked.get("search") or None,
        "training step": f"{made['step']:,}",
        "device": made["device"],
        "seed": asked["seed"],
    }
    return [(name, str(value)) for name, value in shown.items() if value is not None]
