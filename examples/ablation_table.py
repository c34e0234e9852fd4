"""What the rows of an ablation found, beside the base: a Markdown table and the command of each row."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ablation_plan import BASE, Plan, Row, Setup

from sgdd_engine.errors import ConfigError
from sgdd_engine.evaluation.bootstrap import Interval, bootstrap_interval

Result = dict[str, Any]
Figures = npt.NDArray[np.float64]
HEAD = (
    "row", "steps", "parameters", "F1, w = 1", "w", "F1", "difference (95 %)", "BLEU", "exact", "cosine",
    "F1, another's vector", "NELBO", "bits/byte", "seeds",
)  # fmt: skip
LEGEND = (
    "▲ and ▼: outside the paired 95 % bootstrap interval over sentences (and the mean over seeds) of the difference "
    "to the base, over the seeds that both have. The interval knows nothing of another seed's luck; `by seed` shows "
    "some of it. "
    "w is the guidance weight that suits the row best on other held-out sentences; from `F1` on, scores are those "
    "at w. NELBO is in nats per token, given the length, ± its standard error."
)


@dataclass
class Results:
    """The finished rows, in a file of one JSON object a line; the newest line of a row and seed counts."""

    path: Path
    found: dict[tuple[str, int], Result]

    @classmethod
    def read(cls, out: Path) -> "Results":
        """Read what is there; a line that was cut short by a crash is passed over."""
        results = cls(out / "results.jsonl", {})
        lines = results.path.read_text(encoding="utf-8").splitlines() if results.path.is_file() else []
        for line in lines:
            try:
                result = json.loads(line)
            except ValueError:
                continue
            results.found[result["row"], result["seed"]] = result
        return results

    def has(self, row: Row, seed: int) -> bool:
        """Whether a row is finished.

        Raises:
            ConfigError: a row of that name was run with other settings.
        """
        result = self.found.get((row.name, seed))
        if result is None or "error" in result:
            return False
        if result["set"] != row.assignments:
            raise ConfigError(
                f"The row `{row.name}` was run with {' '.join(result['set']) or 'the base'} before.",
                f"Give the row another name, or take its lines out of {self.path}.",
            )
        return True

    def add(self, row: Row, seed: int, result: Result) -> None:
        """Append a row's result; it stands on the disk when this returns."""
        whole = {"row": row.name, "seed": seed, "set": row.assignments, **result}
        with self.path.open("a", encoding="utf-8") as file:
            # Behind half a line of an earlier crash a new one begins.
            file.write(("\n" if file.tell() else "") + json.dumps(whole))
            file.flush()
            os.fsync(file.fileno())
        self.found[row.name, seed] = whole

    def of(self, name: str, seed: int) -> Result:
        """A finished row's result."""
        return self.found[name, seed]

    def seeds(self, name: str) -> list[int]:
        """The seeds a row is finished with."""
        return sorted(
            seed for (row, seed), result in self.found.items() if row == name and "error" not in result
        )


def difference(results: Results, row: Row, score: str, at: str = "best") -> Interval | None:
    """Row less base, paired by sentence, each the mean over the seeds that both have; None without any."""
    seeds = _shared_seeds(row.name, results)
    if not seeds:
        return None
    values = _values(results, row.name, seeds, score, at) - _values(results, BASE, seeds, score, at)
    return bootstrap_interval(values, 0)


def is_undecided(results: Results, row: Row) -> bool:
    """Whether another seed could decide something: the row's token F1 does not lie below the base's for certain.

    A winner counts: it would become the default, so it has to win again.
    """
    found = difference(results, row, "f1")
    return found is not None and not found.below_zero


def markdown(plan: Plan, setup: Setup, results: Results) -> str:
    """The table of the finished rows by group, the question of each, and their commands."""
    rows = [row for row in plan.rows if results.seeds(row.name)]
    lines = [
        f"{setup.minutes:g} processor minutes of training per row, {setup.sentences} held-out sentences.",
        "",
        _line(HEAD),
        _line(["---"] * len(HEAD)),
    ]
    for group, members in groupby(rows, key=lambda row: row.group):
        lines.append(_line([f"**{group}**", *[""] * (len(HEAD) - 1)]))
        lines += [_line(_cells(row, results)) for row in members]
    lines += ["", LEGEND, ""]
    lines += [f"- **{row.name}**: {row.why}" for row in rows if row.why]
    lines += [
        "",
        "```sh",
        *(results.of(row.name, results.seeds(row.name)[0])["command"] for row in rows),
        "```",
    ]
    for result in results.found.values():
        lines += [f"- {name}: {ms:.1f} ms" for name, ms in result.get("latency_ms", {}).items()]
    failed = [result for result in results.found.values() if "error" in result]
    lines += [f"\n{result['row']}, seed {result['seed']}, failed: {result['error']}" for result in failed]
    return "\n".join(lines)


def _cells(row: Row, results: Results) -> list[str]:
    found = [results.of(row.name, seed) for seed in results.seeds(row.name)]
    scores = [result["score"] for result in found]
    own = bootstrap_interval(_mean_of(scores, "best", "f1"), 0)

    def shown(score: str, digits: int, at: str = "best") -> str:
        value = _mean_of(scores, at, score).mean()
        return f"{value:.{digits}f}{_mark(row, results, score, at)}"

    return [
        row.name,
        f"{found[0]['steps']:,}",
        f"{scores[0]['parameters'] / 1e6:.1f} M",
        shown("f1", 3, "plain"),
        ", ".join(f"{score['best_cfg']:g}" for score in scores),
        shown("f1", 3) + (f" ({own.low:.3f}–{own.high:.3f})" if own.ends else ""),
        _difference_shown(row, results),
        shown("bleu", 1),
        shown("exact", 3),
        shown("cosine", 3),
        _average(scores, "shuffled_f1", 3),
        _bound(scores),
        _average(scores, "bits_per_byte", 2),
        str(len(found)),
    ]


def _difference_shown(row: Row, results: Results) -> str:
    change = difference(results, row, "f1") if row.name != BASE else None
    if change is None:
        return ""
    seeds = _shared_seeds(row.name, results)
    each = [_values(results, row.name, [seed]) - _values(results, BASE, [seed]) for seed in seeds]
    by_seed = f"; by seed {', '.join(f'{values.mean():+.3f}' for values in each)}" if len(seeds) > 1 else ""
    ends = f"{change.low:+.3f} to {change.high:+.3f}" if change.ends else "one sentence"
    return f"{change.mean:+.3f} ({ends}{by_seed})"


def _mark(row: Row, results: Results, score: str, at: str) -> str:
    found = difference(results, row, score, at) if row.name != BASE else None
    if found is None or not (found.above_zero or found.below_zero):
        return ""
    return " ▲" if found.above_zero else " ▼"


def _shared_seeds(name: str, results: Results) -> list[int]:
    return sorted(set(results.seeds(name)) & set(results.seeds(BASE)))


def _values(
    results: Results, name: str, seeds: Sequence[int], score: str = "f1", at: str = "best"
) -> Figures:
    """A row's scores by sentence [N], each the mean over `seeds`."""
    return _mean_of([results.of(name, seed)["score"] for seed in seeds], at, score)


def _mean_of(scores: Sequence[Result], at: str, name: str) -> Figures:
    """Scores by sentence [N], each the mean over seeds."""
    found: Figures = np.asarray([score[at][name] for score in scores], dtype=np.float64)
    return np.asarray(found.mean(axis=0))


def _bound(scores: Sequence[Result]) -> str:
    """The mean bound over seeds, with the standard error of that mean over sentences and masks."""
    errors = [
        score["nelbo_standard_error"] for score in scores if score.get("nelbo_standard_error") is not None
    ]
    error = f" ± {float(np.linalg.norm(errors)) / len(errors):.2f}" if errors else ""
    return _average(scores, "nelbo_nats_per_token", 2) + error


def _average(scores: Iterable[Result], name: str, digits: int) -> str:
    values = [score[name] for score in scores if score.get(name) is not None]
    return f"{sum(values) / len(values):.{digits}f}" if values else "–"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
