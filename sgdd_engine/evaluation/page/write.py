"""The page as a file: the report of an evaluation goes in, one HTML file that needs no other comes out."""

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path, PureWindowsPath
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from sgdd_engine.atomic_files import write_bytes
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.page import charts, drawings
from sgdd_engine.evaluation.page.charts import format_number, format_range
from sgdd_engine.evaluation.page.samples import compare
from sgdd_engine.evaluation.reconstruction import CONDITIONS
from sgdd_engine.evaluation.report import SAMPLE_SCORES, EvaluationReport
from sgdd_engine.visible_text import visible

_MARKS = {True: ("good", "✓", "yes"), False: ("bad", "✗", "no"), None: ("open", "–", "not judged")}


Curves = Mapping[str, Sequence[tuple[int, float]]]
"""Steps and values of the figures of a training, by name."""


def write_page(report: EvaluationReport, checkpoint: str, path: Path, curves: Curves | None = None) -> None:
    """Write an evaluation as one self-contained HTML page that is whole under its name or not there.

    Of folders and files it has the names and not where they are, so that it can be shown to others.

    Args:
        report: The evaluation.
        checkpoint: Name of what was evaluated.
        path: The file to write; an older file of that name is replaced.
        curves: Of the training, as far as it recorded them.

    Raises:
        OSError: The file cannot be written.
    """
    # A path with bytes that are no text reaches here as a lone surrogate, which UTF-8 cannot write.
    write_bytes(path, render(report, checkpoint, curves).encode(errors="xmlcharrefreplace"))


def render(report: EvaluationReport, checkpoint: str, curves: Curves | None = None) -> str:
    """The page as text; every text in the report is escaped, also what would turn the direction of a line."""
    settings = without_folders(report.settings)
    page = page_template("page.html.j2").render(
        report=report,
        checkpoint=checkpoint_title(checkpoint),
        made_with=_made_with(settings),
        training_curve=drawings.training(curves or {}),
        # A vocabulary without capitals writes none: then they are no difference.
        fold=str if any(sample.text != sample.text.lower() for sample in report.samples) else str.casefold,
        settings=json.dumps(settings, indent=2, ensure_ascii=False),
        today=date.today().isoformat(),
    )
    return visible(page, keep="\n\t")


@cache
def page_template(name: str, *packages: str) -> Template:
    """A template of one of these packages, which may include and import those of this one.

    Every text that is put into it is escaped; what `visible` changes is left to whoever renders it.
    """
    folders = [files(package) for package in (*packages, __package__)]

    def load(name: str) -> str:
        found = (folder / name for folder in folders)
        return next(file for file in found if file.is_file()).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(load),
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
        "without_folders": _command_without_folders,
        # No line may end between a number and its per cent sign.
        "unbroken": lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%"),
    }
    return environment.get_template(name)


def _label(name: str, prefix: str = "") -> str:
    """What a metric or a condition is called."""
    return prefix + (CONDITIONS[name].label if name in CONDITIONS else METRICS[name].label)


def _capital(text: str) -> str:
    """The text with a capital first letter, but for a name such as chrF."""
    return f"{text[:1].upper()}{text[1:]}" if text.partition(" ")[0].islower() else text


def checkpoint_title(checkpoint: str) -> str:
    """`/home/me/runs/tales/checkpoints/step-0002000` → `tales, step-0002000`; a name on the hub stays as it is."""
    parts = PureWindowsPath(checkpoint).parts
    if len(parts) > 2 and parts[-2] == "checkpoints":
        return f"{parts[-3]}, {parts[-1]}"
    return checkpoint if "@" in checkpoint or not parts else parts[-1]


def without_folders(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Settings in which folders and files are named without where they are."""
    if isinstance(value, Mapping):
        return {
            name: _name(part)
            if name in ("path", "folder") and isinstance(part, str)
            else without_folders(part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [without_folders(part) for part in value]
    return _name(value) if isinstance(value, str) and _is_absolute(value) else value


def _command_without_folders(command: str) -> str:
    return shlex.join(_name(word) if _is_absolute(word) else word for word in shlex.split(command))


def _is_absolute(text: str) -> bool:
    return text.startswith("/") or PureWindowsPath(text).is_absolute()


def _name(path: str) -> str:
    """The last part of a path of any system."""
    return PureWindowsPath(path).name or path


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
