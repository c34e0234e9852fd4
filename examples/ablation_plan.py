"""The rows of an ablation as a TOML file holds them: a base, and what each row changes in it."""

import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w

from sgdd_engine.atomic_files import write_json, write_text
from sgdd_engine.errors import ConfigError, require

BASE = "base"
Settings = dict[str, Any]
"""Values by dotted key, such as `decoder.layers`."""


def resolved_settings(file: Path | None = None, assignments: Sequence[str] = ()) -> Settings:
    """All settings, those that are not given at their defaults, as `sgdd config show` resolves them.

    Raises:
        ConfigError: a key does not exist, or a value cannot be.
    """
    command = [sys.executable, "-m", "sgdd_cli", "config", "show", "--json"]
    command += ["--config", str(file)] if file else []
    command += [word for text in assignments for word in ("--set", text)]
    done = subprocess.run(command, env=without_settings(), capture_output=True, text=True, check=False)
    if done.returncode:
        sentence, _, hint = done.stderr.strip().removeprefix("Error: ").partition("\n")
        raise ConfigError(sentence, hint.strip() or None)
    return {key: found["value"] for key, found in json.loads(done.stdout).items()}


def without_settings() -> dict[str, str]:
    """This process's environment without the settings of sgdd: a row has those of its plan alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}


@cache
def _known_settings() -> frozenset[str]:
    return frozenset(resolved_settings())


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row.

    Attributes:
        name: Unique; the run's folder is named after it.
        group: Rows of one question.
        why: What the row is there to show, one sentence.
        set: Settings that differ from the base's, by dotted key; a row of `sample.` keys alone trains nothing.
        script: A script beside the plan that trains and scores something else on the same corpus.
        seeds: How many seeds it is run with at least.
        long: Left out unless it is asked for by name.
    """

    name: str
    group: str
    why: str = ""
    set: dict[str, Any] = field(default_factory=dict)
    script: str | None = None
    seeds: int = 1
    long: bool = False

    def __post_init__(self) -> None:
        require(
            not (self.script and self.set),
            f"The row `{self.name}` has a script, which knows no settings.",
        )

    @property
    def assignments(self) -> list[str]:
        """`section.key=value` texts, as `--set` takes them."""
        return [f"{key}={_plain(value)}" for key, value in self.set.items()]

    @property
    def trains(self) -> bool:
        """Whether it has a run of its own; otherwise it is the base's run, sampled differently."""
        return self.name == BASE or any(not key.startswith("sample.") for key in self.set)

    @property
    def prepares(self) -> bool:
        """Whether it has a corpus of its own: the same sentences, cut otherwise."""
        return any(key.startswith(("tokenizer.", "data.")) for key in self.set)


@dataclass(frozen=True)
class Plan:
    """The rows in their order, the base first, and the base's settings by section."""

    folder: Path
    settings: dict[str, Any]
    rows: tuple[Row, ...]

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read a plan.

        Raises:
            ConfigError: it cannot be read, a setting is unknown, or two rows have one name.
        """
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
            base = found.pop(BASE)
            given = [Row(name=BASE, group=BASE, why=base.pop("why", ""))]
            given += [Row(**row) for row in found.pop("row", [])]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"The plan `{path}` cannot be read: {error}.",
                "It has [base] with settings by section, and [[row]] with name, group and set.",
            ) from None
        require(not found, f"The plan `{path}` has unknown parts: {', '.join(found)}.")
        names = [row.name for row in given]
        doubled = {name for name in names if names.count(name) > 1}
        require(not doubled, f"The plan `{path}` has two rows named {', '.join(sorted(doubled))}.")
        used = {key for row in given for key in row.set}
        used |= {f"{section}.{name}" for section, values in base.items() for name in values}
        unknown = sorted(used - _known_settings())
        require(
            not unknown,
            f"The plan `{path}` has settings that do not exist: {', '.join(unknown)}.",
            "All keys: sgdd config show",
        )
        return cls(path.parent, base, tuple(given))

    def chosen(self, names: list[str]) -> list[Row]:
        """The base and the rows or groups of these names; without names all but the long ones.

        Raises:
            ConfigError: no row and no group has one of the names.
        """
        known = {row.name for row in self.rows} | {row.group for row in self.rows}
        unknown = [name for name in names if name not in known]
        require(
            not unknown,
            f"The plan has no row and no group {', '.join(unknown)}.",
            f"It has {', '.join(sorted(known))}.",
        )
        return [
            row
            for row in self.rows
            if row.name == BASE or ({row.name, row.group} & set(names) if names else not row.long)
        ]


@dataclass(frozen=True)
class Setup:
    """What all rows of an ablation have in common, and the commands that follow from it.

    Attributes:
        out: The folder of the results.
        corpus: The prepared corpus. text: What it was prepared from, for rows with another vocabulary.
        minutes: Processor minutes of training of each row. sentences: Scored in each row.
        device: Where the rows compute.
    """

    out: Path
    corpus: Path
    text: str | None
    minutes: float
    sentences: int
    device: str

    @property
    def config(self) -> Path:
        """The base's settings as a file that `--config` takes."""
        return self.out / "base.toml"

    def record(self, plan: Plan) -> None:
        """Write down what all rows have in common, or check that it is what an earlier run wrote down.

        Raises:
            ConfigError: the folder holds rows of another base, corpus, budget or choice of sentences.
        """
        common = {
            "minutes": self.minutes,
            "sentences": self.sentences,
            "corpus": self.corpus.name,
            "base": plan.settings,
        }
        path = self.out / "common.json"
        if path.is_file():
            require(
                json.loads(path.read_text(encoding="utf-8")) == common,
                f"`{self.out}` holds rows of another base, corpus, budget or number of sentences.",
                "Name another folder with --out.",
            )
            return
        self.out.mkdir(parents=True, exist_ok=True)
        write_text(self.config, tomli_w.dumps(plan.settings))
        write_json(path, common)

    def corpus_of(self, row: Row) -> Path:
        """The corpus a row is trained on."""
        return self.corpus.with_name(f"{self.corpus.name}-{row.name}") if row.prepares else self.corpus

    def prepare_command(self, row: Row, precision: str) -> list[str]:
        """The command that prepares a row's own corpus; no sentence is encoded again.

        Args:
            row: The row.
            precision: In which the encoder made the vectors of the corpus: of another one none is taken.

        Raises:
            ConfigError: the text is not known.
        """
        require(
            self.text is not None,
            f"The row `{row.name}` cuts the text otherwise, and the text is not known.",
            "Name what the corpus was prepared from with --text.",
        )
        sets = [*row.assignments, f"data.vectors_from={self.corpus}", f"encoder.precision={precision}"]
        fixed = [str(self.text), "--out", str(self.corpus_of(row)), "--config", str(self.config)]
        return ["sgdd", "prepare-data", *fixed, *(word for text in sets for word in ("--set", text))]

    def run_of(self, row: Row, seed: int) -> Path:
        """The run a row is made of."""
        return self.out / "runs" / f"{row.name if row.trains else BASE}-{seed}"

    def train_command(self, row: Row, seed: int, steps: int) -> list[str]:
        """The command that trains a row."""
        sets = [
            word for text in row.assignments if not text.startswith("sample.") for word in ("--set", text)
        ]
        run, corpus = str(self.run_of(row, seed)), str(self.corpus_of(row))
        fixed = ["--config", str(self.config), "--seed", str(seed), "--max-steps", str(steps)]
        return ["sgdd", "train", corpus, "--out", run, *fixed, "--device", self.device, *sets]

    def script_command(self, seed: int, script: Path) -> list[str]:
        """The command of a row that is a script, which is given the base's run to stand beside."""
        base = self.out / "runs" / f"{BASE}-{seed}"
        budget = ["--minutes", f"{self.minutes:g}", "--seed", str(seed), "--sentences", str(self.sentences)]
        return ["python", str(script), str(self.corpus), str(base), *budget, "--device", self.device]

    def shown_command(self, row: Row, seed: int, steps: int, script: Path | None) -> str:
        """What a reader types to make a row again."""
        if script is not None:
            return shlex.join(self.script_command(seed, script))
        if row.trains:
            return shlex.join(self.train_command(row, seed, steps))
        sets = [word for text in row.assignments for word in ("--set", text)]
        return shlex.join(["sgdd", "eval", str(self.run_of(row, seed)), "--data", str(self.corpus), *sets])


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
