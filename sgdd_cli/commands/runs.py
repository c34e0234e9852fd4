"""`sgdd runs`: what became of the runs on this machine, and how they differ."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgdd_cli.console import (
    command_line,
    emit,
    emit_json,
    emit_lines,
    emit_table,
    fit_table,
    new_table,
    say,
    stdout,
)
from sgdd_cli.default_paths import RUNS
from sgdd_cli.flags import AsJson
from sgdd_cli.formatting import duration, sparkline

if TYPE_CHECKING:
    from sgdd_engine.tracking.runs import RunSummary

_NUMBERS = ("steps", "time", "loss", "held-out", "token F1")
_NONE = "–"
# As wide as the longest curve is drawn; a longer one is drawn by means of neighbours.
_CURVE_WIDTH = 12


def runs(
    names: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN", help="Run folders, or their names under runs/. Default: all under runs/."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List runs with their figures and the curve of their held-out loss; compare those that are named.

    "loss" is the last one of training and "held-out" the best on held-out text, both in nats per masked token; "token
    F1" is that of the newest evaluation. With two or more names it also shows which settings differ.

    Example: sgdd runs

    Example: sgdd runs tales-20260101-120000 tales-20260102-120000
    """
    from sgdd_engine.tracking.runs import (  # noqa: PLC0415 - for quick help
        different_settings,
        find_run,
        list_runs,
        summarize,
    )

    found = [summarize(find_run(name, RUNS)) for name in names] if names else list_runs(RUNS)
    differences = different_settings(found) if names else {}
    if as_json:
        emit_json({"runs": [run.to_dict() for run in found], "differences": differences}, indent=2)
        return
    if not found:
        say(f"There is no run here. Start one: {command_line('train')}")
        return
    _show("run", [run.name for run in found], [_figures(run) for run in found])
    if differences:
        emit("Settings that differ:")
        rows = [
            {run.name: _shown(value) for run, value in zip(found, values, strict=True)}
            for values in differences.values()
        ]
        _show("setting", list(differences), rows)
    elif len(names or ()) > 1:
        emit("All settings are the same.")


def _figures(run: "RunSummary") -> dict[str, str]:
    # A run that its minutes ended was to take no more steps.
    ended = run.state == "finished" or run.max_steps is None
    steps = f"{run.step:,}" + ("" if ended else f" of {run.max_steps:,}")
    best = _NONE if run.best_validation is None else f"{run.best_validation:.3f}"
    return {
        "state": run.state,
        "steps": steps,
        "time": _NONE if run.seconds is None else duration(run.seconds),
        "loss": _NONE if run.loss is None else f"{run.loss:.3f}",
        "held-out": best,
        "token F1": _NONE if run.token_f1 is None else f"{run.token_f1:.3f}",
        "curve": sparkline([value for _, value in run.validation], _CURVE_WIDTH) or _NONE,
    }


def _shown(value: Any) -> str:  # noqa: ANN401 - a setting
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _show(head: str, names: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    """A table where the window has room for it; else a block of lines for each row."""
    table = new_table(head, *rows[0], numbers=_NUMBERS)
    for name, row in zip(names, rows, strict=True):
        table.add_row(name, *row.values())
    width = stdout().width
    fit_table(table, width)
    # As wide as it is where nothing is folded: a name in two parts cannot be copied.
    if stdout().measure(table, options=stdout().options.update(width=10 * width)).maximum <= width:
        emit_table(table)
        return
    emit_lines(line for name, row in zip(names, rows, strict=True) for line in _block(name, row))


def _block(name: str, row: dict[str, str]) -> Iterator[str]:
    yield name
    for label, value in row.items():
        if value != _NONE:
            yield f"  {label}: {value}"
