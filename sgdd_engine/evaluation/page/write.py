"""The page as a file: the machine form of an evaluation goes in, one HTML file that needs no other comes out."""

import json
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from sgdd_engine import __version__
from sgdd_engine.atomic_files import write_bytes
from sgdd_engine.errors import SgddError
from sgdd_engine.evaluation.page.model import (
    calibration_section,
    latent_section,
    likelihood_section,
    mask_section,
)
from sgdd_engine.evaluation.page.naming import form, number
from sgdd_engine.evaluation.page.quality import (
    conditions_section,
    differences_section,
    guidance_section,
    headline,
    length_section,
)
from sgdd_engine.evaluation.page.samples import samples
from sgdd_engine.evaluation.page.variety import variety_section
from sgdd_engine.evaluation.page.view import mapping, rows_of

_SECTIONS = (
    conditions_section,
    differences_section,
    length_section,
    mask_section,
    guidance_section,
    calibration_section,
    latent_section,
    likelihood_section,
    variety_section,
)
_MARKS = {True: ("good", "✓", "yes"), False: ("bad", "✗", "no"), None: ("open", "–", "not judged")}


def write_page(result: Mapping[str, Any], path: Path) -> None:
    """Write an evaluation as one self-contained HTML page that is whole under its name or not there.

    Args:
        result: The machine form of an evaluation, as `EvaluationReport.to_dict` gives it; `checkpoint` may name
            what was evaluated. A part that is missing or null is left out.
        path: The file to write; its folder is made, an older file of that name is replaced.

    Raises:
        SgddError: The file cannot be written.
    """
    claim(path)
    try:
        # A path with bytes that are no text reaches here as a lone surrogate, which UTF-8 cannot write.
        write_bytes(path, render(result).encode(errors="xmlcharrefreplace"))
    except OSError as error:
        raise _unwritable(path, error) from error


def claim(path: Path) -> None:
    """Make the folder of a page and see that the page can stand there, before the long work whose fruit it is.

    Raises:
        SgddError: `path` is a folder, or its own folder cannot be made.
    """
    try:
        if path.is_dir():
            raise SgddError(f"`{path}` is a folder.", f"Name a file in it, such as `{path / 'report.html'}`.")
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def render(result: Mapping[str, Any]) -> str:
    """The page as text; every text in `result` is escaped."""
    settings = mapping(result.get("settings"))
    template = _environment().get_template("page.html.j2")
    return template.render(
        checkpoint=result.get("checkpoint"),
        sentences=form(number(result.get("sentences")), 0),
        verdicts=[_verdict(row) for row in rows_of(result.get("verdicts"))],
        headline=headline(result),
        facts=_made_with(settings),
        sections=[section for make in _SECTIONS if (section := make(result)) is not None],
        samples=samples(result),
        settings=json.dumps(settings, indent=2, ensure_ascii=False) if settings else "",
        version=mapping(settings.get("versions")).get("sgdd", __version__),
        today=date.today().isoformat(),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(lambda name: (files(__package__) / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # No line may end between a number and its per cent sign.
    environment.filters["unbroken"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment


def _verdict(row: Mapping[str, Any]) -> dict[str, str]:
    ok = row.get("ok")
    tone, mark, word = _MARKS[ok if isinstance(ok, bool) else None]
    return {
        "tone": tone,
        "mark": mark,
        "word": word,
        "sentence": str(row.get("sentence", row.get("name", ""))),
    }


def _made_with(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings a reader needs to judge the figures, in words; all of them stand at the page's end."""
    sampling, wanted = mapping(settings.get("sampling")), mapping(settings.get("eval"))
    data, model = mapping(settings.get("data")), mapping(settings.get("model"))
    encoder = mapping(model.get("encoder"))
    shown = {
        "data": data.get("path"),
        "split": data.get("split"),
        "encoder": encoder.get("name"),
        "steps": sampling.get("steps"),
        "guidance": sampling.get("cfg"),
        "temperature": sampling.get("temperature"),
        "candidates": wanted.get("candidates"),
        "refining rounds": wanted.get("refine"),
        "shortlist": wanted.get("shortlist"),
        "training step": model.get("step"),
        "device": model.get("device"),
        "seed": wanted.get("seed"),
    }
    return [
        (
            name,
            f"{value:,}"
            if name == "training step"
            else f"{value:g}"
            if isinstance(value, float)
            else str(value),
        )
        for name, value in shown.items()
        if value not in (None, "")
    ]


def _unwritable(path: Path, error: OSError) -> SgddError:
    why = (error.strerror or type(error).__name__).lower()
    return SgddError(f"The report cannot be written to `{path}`: {why}.", "Name another file with --report.")
