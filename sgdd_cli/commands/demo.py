"""`sgdd demo`: prepares, trains, samples and evaluates, by running the commands that a user would type."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from sgdd_cli.console import command_line, output_options, say, say_command, stderr
from sgdd_engine.child_process import run_child

# Chosen so that two cores take about five minutes in all; each number is shown in the command that is printed.
SENTENCES = 30_000
TRAINING_MINUTES = 3.0
MODEL = ("decoder.width=192",)
TRAINING = (
    "train.batch_tokens=1024",
    "train.learning_rate=0.003",
    "train.ema_decay=0.99",
    "train.validate_every=400",
    "train.save_every=400",
)
TEXTS = (
    "The old farmer sold two brown horses at the market.",
    "My sister was happy because the train arrived early.",
)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the corpus and the run.")] = Path(
        "sgdd-demo"
    ),
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.01, help="Minutes of training; more give better texts.")
    ] = TRAINING_MINUTES,
    sentences: Annotated[
        int,
        typer.Option("--sentences", min=1000, help="Number of sentences to prepare; the time grows with it."),
    ] = SENTENCES,
) -> None:
    """Prepare a corpus, train, sample and evaluate; takes about five minutes on two free cores, and no model hub.

    Each step prints the command that it runs. After an interruption, the same command continues.
    """
    began = time.monotonic()
    for number, (title, command) in enumerate(steps(out, minutes, sentences), start=1):
        _announce(f"\n{number}. {title}", "bold")
        _run(command)
    say(
        f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes. Everything is in {out}. Now try your own text:\n"
    )
    for line in (
        command_line("sample", "Your own sentence.", "--checkpoint", out / "run", "--watch"),
        command_line("prepare-data", "your-text.txt", "--encoder", "minilm", "--vocab-size", 16000),
        command_line("train", "data/your-text", "--max-minutes", 60),
    ):
        say_command(line)


def steps(out: Path, minutes: float, sentences: int) -> list[tuple[str, list[str]]]:
    """The title of each step and its command, as arguments of `sgdd`."""
    data, run = str(out / "data"), out / "run"
    prepare = ["prepare-data", "builtin", "--encoder", "minilm", "--vocab-size", "4000", "--max-tokens", "32"]
    settings = [argument for setting in (*MODEL, *TRAINING) for argument in ("--set", setting)]
    from sgdd_engine.checkpoint import checkpoints_of  # noqa: PLC0415 - loads torch

    started = bool(checkpoints_of(run))
    train = ["train", data, "--out", str(run), "--max-minutes", f"{minutes:g}", *settings]
    sample = ["sample", *TEXTS, "--checkpoint", str(run), "--cfg", "2.0", "--candidates", "8"]
    return [
        (
            f"Prepare {sentences:,} synthetic sentences: clean, split, tokenise, encode each one once",
            [*prepare, "--limit", str(sentences), "--out", data],
        ),
        ("Train a small decoder to write a sentence from its vector", train + ["--resume"] * started),
        ("Write two sentences again, from their vectors alone", sample),
        (
            "Evaluate on sentences it has never seen, beside its controls",
            ["eval", str(run), "--limit", "200", "--cfg", "2.0", "--set", "eval.diversity_samples=0"],
        ),
    ]


def _announce(text: str, style: str) -> None:
    if not output_options.quiet:
        stderr().print(text, style=style, soft_wrap=True)


def _run(command: list[str]) -> None:
    """Print a command and run it as a process of its own, as the user would."""
    say_command(command_line(*command), "$ ", "cyan")
    options = ["--no-hints", *["--quiet"] * output_options.quiet, *["--debug"] * output_options.debug]
    sys.stdout.flush()
    code = run_child([sys.executable, "-m", "sgdd_cli", *options, *command]).returncode
    if code:
        # The command has said why, an interruption too; `CliExit` would say that again.
        raise SystemExit(code if code > 0 else 128 - code)
