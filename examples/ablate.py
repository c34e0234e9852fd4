"""Ablations by one command: the rows of a plan, each trained for the same processor time, in one table.

    python examples/ablate.py examples/ablations.toml --corpus data/fiction --out ablations --minutes 8

Each row is a run of `sgdd train` in a process of its own. Its steps are the base's, times the base's processor time
per step over its own, both measured in turns in one process: so the budget is equal also where other work shares the
machine. Stopped at any moment, the same command goes on; a finished row is not run again. Rows with
another vocabulary need --text, the text of the corpus: they cut it again and take its vectors from the corpus.

--budgets measures the steps alone. What OUT/budgets holds counts wherever the rows are trained: copied to a machine
with a GPU, it has each row trained there (--device cuda --jobs 8) for the steps that its minutes of the CPU are.

Results go to OUT/results.jsonl (with the scores of each sentence) and OUT/table.md.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from ablation_plan import BASE, Plan, Row, Setup, resolved_settings, without_settings
from ablation_table import Results, is_undecided, markdown

from sgdd_engine.atomic_files import write_json, write_text
from sgdd_engine.checkpoint import checkpoints_of
from sgdd_engine.child_process import run_child, tell
from sgdd_engine.counted import counted
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.manifest import MANIFEST
from sgdd_engine.errors import ConfigError, SgddError, require
from sgdd_engine.stop_signals import StopSignals

HERE = Path(__file__).parent
WEIGHTS = [1.0, 1.5, 2.0, 3.0]
# Below this the two costs per step are taken to be one: what was measured is noise.
SAME_COST = 0.03


class RowError(SgddError):
    """A row's process failed; the other rows can go on."""


class Ablation:
    """Runs the rows of a plan, `jobs` of them at once, and records their results."""

    def __init__(self, plan: Plan, setup: Setup, *, threads: int, keep: bool, jobs: int = 1) -> None:
        self.plan, self.setup, self.threads, self.keep, self.jobs = plan, setup, threads, keep, jobs
        self.results = Results.read(setup.out)
        self._recording = threading.Lock()
        # Two seeds of a row may want its corpus at the same time.
        self._preparing = {row.name: threading.Lock() for row in plan.rows}
        self._children: set[subprocess.Popen[Any]] = set()
        self._stopping = False

    def run(self, rows: Sequence[Row], most_seeds: int) -> None:
        """Run what is not finished: every row with the seeds it has at least, then those that need another."""
        if self.jobs > 1:
            # Beside each other they would disturb what is measured.
            self.measure(rows)
        least = max(row.seeds for row in rows)
        self._run_each(
            [(row, seed) for seed in range(least) for row in rows if self._wanted(row, seed, rows, 0)]
        )
        for seed in range(1, most_seeds):
            self._run_each([(row, seed) for row in rows if self._wanted(row, seed, rows, most_seeds)])

    def measure(self, rows: Sequence[Row]) -> None:
        """Measure the steps of every row that trains and has none yet, one after another."""
        for row in rows:
            if not row.trains or self._budget_file(row).is_file():
                continue
            try:
                self._prepare(row)
                say(f"{row.name}: {counted(self._budget(row)['steps'], 'step')}")
            except (RowError, ConfigError) as error:
                if row.name == BASE:
                    raise
                say(f"{row.name}: {error.message}")

    def _run_each(self, tasks: Sequence[tuple[Row, int]]) -> None:
        """Run rows with their seeds that are not finished."""
        left = [(row, seed) for row, seed in tasks if not self.results.has(row, seed)]
        if self.jobs == 1:
            for row, seed in left:
                self._run_one(row, seed)
            return
        # What trains nothing stands on the base's run.
        self._run_at_once([(row, seed) for row, seed in left if row.trains])
        self._run_at_once([(row, seed) for row, seed in left if not row.trains])

    def _run_at_once(self, tasks: Sequence[tuple[Row, int]]) -> None:
        """Run rows with their seeds, `jobs` at once.

        The first signal to stop is passed on to all their processes, which save; a second one ends these.
        """
        with StopSignals(on_first=self._stop), ThreadPoolExecutor(self.jobs) as pool:
            running = [pool.submit(self._run_in_thread, row, seed) for row, seed in tasks]
            try:
                wait(running)
            except KeyboardInterrupt:  # the second signal
                self._stop(signal.SIGTERM)
                raise
        for done in running:
            done.result()
        if self._stopping:
            raise KeyboardInterrupt

    def _run_in_thread(self, row: Row, seed: int) -> None:
        if self._stopping:
            return
        try:
            self._run_one(row, seed)
        except KeyboardInterrupt:  # its process was told to stop, perhaps it alone
            if not self._stopping:
                self._stop(signal.SIGINT)
        except BaseException:
            # Without the base the others have nothing to stand beside.
            self._stop(signal.SIGINT)
            raise

    def _stop(self, number: int) -> None:
        """Begin nothing more, and pass a signal on to all that runs."""
        self._stopping = True
        for child in list(self._children):
            tell(child, number)

    def _run_one(self, row: Row, seed: int) -> None:
        say(f"{row.name}, seed {seed}")
        try:
            result = self._result(row, seed)
        except (RowError, ConfigError) as error:
            if row.name == BASE:
                raise
            result = {"error": error.message}
            say(f"{row.name}, seed {seed}: {error.message}")
        with self._recording:
            self.results.add(row, seed, result)
            write_text(self.setup.out / "table.md", markdown(self.plan, self.setup, self.results))
        if "error" not in result:
            self._remove_weights(row, seed)

    def _wanted(self, row: Row, seed: int, rows: Sequence[Row], most_seeds: int) -> bool:
        if not seed:
            return True
        if row.name == BASE:
            return any(self._wanted(other, seed, rows, most_seeds) for other in rows if other.name != BASE)
        return seed < row.seeds or (seed < most_seeds and is_undecided(self.results, row))

    def _result(self, row: Row, seed: int) -> dict[str, Any]:
        script = self.plan.folder / row.script if row.script else None
        result: dict[str, Any] = {}
        if script is not None:
            result |= json.loads(self._call([*self.setup.script_command(seed, script), "--json"]))
        else:
            self._prepare(row)
            result |= self._train(row, seed) if row.trains else self._base_run(seed)
            result["score"] = self._score(row, seed)
        result["command"] = self.setup.shown_command(row, seed, result["steps"], script)
        return result

    def _remove_weights(self, row: Row, seed: int) -> None:
        """Remove the weights of a scored row; only the base's are needed again."""
        if row.trains and row.name != BASE and not self.keep:
            shutil.rmtree(self.setup.run_of(row, seed) / "checkpoints", ignore_errors=True)

    def _prepare(self, row: Row) -> None:
        # A finished corpus stays as it is, and an unfinished one is gone on with.
        with self._preparing[row.name]:
            if row.prepares and not (self.setup.corpus_of(row) / MANIFEST).is_file():
                encoder = Corpus.open(self.setup.corpus, verify=False).encoder_reference
                self._call(self.setup.prepare_command(row, encoder.config().precision))

    def _base_run(self, seed: int) -> dict[str, Any]:
        base = self.results.of(BASE, seed)
        return {key: base[key] for key in ("steps", "seconds_per_step", "base_seconds_per_step")}

    def _train(self, row: Row, seed: int) -> dict[str, Any]:
        budget = self._budget(row)
        run = self.setup.run_of(row, seed)
        command = self.setup.train_command(row, seed, budget["steps"])
        # What was trained before is gone on with, under the settings it was begun with.
        resumed = [*command[: command.index("--config")], "--resume"] if checkpoints_of(run) else command
        self._call(resumed)
        return budget

    def _budget(self, row: Row) -> dict[str, Any]:
        """Steps that take the row's processor time; measured once."""
        path = self._budget_file(row)
        if path.is_file():
            before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            require(
                before.pop("set") == row.assignments,
                f"The row `{row.name}` was begun with other settings.",
                f"Give it another name, or remove {path} and its runs.",
            )
            return before
        base = self.plan.rows[0]
        sides = {"base": self._training_job(base)} | (
            {"row": self._training_job(row)} if row is not base else {}
        )
        job = {"device": self.setup.device, "sides": sides}
        cost = json.loads(self._call(["python", str(HERE / "ablation_row.py"), "cost", json.dumps(job)]))
        own = cost.get("row", cost["base"])
        if row is base:
            steps = max(1, round(60 * self.setup.minutes / own))
        else:
            share = cost["base"] / own
            same = abs(share - 1) < SAME_COST
            steps = max(1, round(self._budget(base)["steps"] * (1.0 if same else share)))
        budget = {"steps": steps, "seconds_per_step": own, "base_seconds_per_step": cost["base"]}
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"set": row.assignments, **budget})
        return budget

    def _budget_file(self, row: Row) -> Path:
        return self.setup.out / "budgets" / f"{row.name}.json"

    def _training_job(self, row: Row) -> dict[str, Any]:
        corpus = str(self.setup.corpus_of(row))
        return {"corpus": corpus, "settings": resolved_settings(self.setup.config, row.assignments)}

    def _score(self, row: Row, seed: int) -> dict[str, Any]:
        job = {
            **self._training_job(row),
            "corpus": str(self.setup.corpus),
            "checkpoint": str(checkpoints_of(self.setup.run_of(row, seed))[-1]),
            "sentences": self.setup.sentences,
            "weights": [row.set["sample.cfg"]] if "sample.cfg" in row.set else WEIGHTS,
            "device": self.setup.device,
            "seed": 0,
        }
        scores: dict[str, Any] = json.loads(
            self._call(["python", str(HERE / "ablation_row.py"), "score", json.dumps(job)])
        )
        return scores

    def _call(self, command: Sequence[str]) -> str:
        """What a command prints to stdout; its stderr is that of this process, and a signal to stop reaches it too.

        Raises:
            RowError: it failed.
        """
        program = {"sgdd": [sys.executable, "-m", "sgdd_cli"], "python": [sys.executable]}[command[0]]
        environment = without_settings() | dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads)
        )
        started: list[subprocess.Popen[Any]] = []

        def on_start(child: subprocess.Popen[Any]) -> None:
            started.append(child)
            self._children.add(child)
            if self._stopping:
                tell(child, signal.SIGINT)

        try:
            done = run_child(
                [*program, *command[1:]],
                on_start=on_start,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        finally:
            self._children.difference_update(started)
        # A training that was told to stop saves and ends well, unfinished.
        if done.returncode > 128 or self._stopping:
            raise KeyboardInterrupt
        if done.returncode:
            raise RowError(f"`{command[0]} {command[1]}` failed with exit code {done.returncode}.")
        printed: str = done.stdout
        return printed


def say(text: str) -> None:
    """Write a line of progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the plan; returns the exit code."""
    given = parser().parse_args(arguments)
    try:
        plan = Plan.read(given.plan)
        rows = plan.chosen(given.only)
        setup = Setup(given.out, given.corpus, given.text, given.minutes, given.sentences, given.device)
        if given.list:
            for row in rows:
                print(f"{row.group:22} {row.name:26} {' '.join(row.assignments)}")
            return 0
        require(given.jobs >= 1, f"--jobs is {given.jobs}; it must be at least 1.")
        setup.record(plan)
        ablation = Ablation(plan, setup, threads=given.threads, keep=given.keep, jobs=given.jobs)
        if given.budgets:
            ablation.measure(rows)
            return 0
        if not given.table:
            ablation.run(rows, given.seeds)
        print(markdown(plan, setup, ablation.results))
    except SgddError as error:
        say(f"Error: {error.message}" + (f"\n{error.hint}" if error.hint else ""))
        return 1
    except KeyboardInterrupt:
        say("Stopped; the same command goes on.")
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    here = argparse.ArgumentParser(description="Train and score the rows of a plan; print their table.")
    here.add_argument("plan", type=Path, help="for example examples/ablations.toml")
    here.add_argument("--corpus", type=Path, required=True, help="prepared corpus")
    here.add_argument("--text", help="what it was prepared from; rows with another vocabulary need it")
    here.add_argument("--out", type=Path, default=Path("ablations"), help="results and runs")
    here.add_argument("--minutes", type=float, default=8.0, help="processor minutes of training per row")
    here.add_argument("--sentences", type=int, default=256, help="held-out sentences scored")
    here.add_argument(
        "--seeds", type=int, default=1, help="most seeds; rows that may equal or beat the base get them all"
    )
    here.add_argument("--only", nargs="+", default=[], metavar="NAME", help="rows or groups")
    here.add_argument("--threads", type=int, default=1, help="threads of each row")
    here.add_argument("--jobs", type=int, default=1, help="rows that are run at once")
    here.add_argument(
        "--device",
        default="cpu",
        help="on a GPU, budgets that are not measured yet are in minutes of its time",
    )
    here.add_argument(
        "--budgets", action="store_true", help="measure the steps of each row, and train nothing"
    )
    here.add_argument(
        "--keep", action="store_true", help="keep the weights of every row, not the base's alone"
    )
    here.add_argument("--table", action="store_true", help="print the table of what is finished")
    here.add_argument("--list", action="store_true", help="print the rows")
    return here


if __name__ == "__main__":
    # SIGTERM ends the child as well, which saves; the next call goes on.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
