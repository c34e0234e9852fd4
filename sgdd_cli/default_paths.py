"""Where corpora and runs are kept when none is named: `data/` and `runs/` in the current folder."""

import re
from collections.abc import Mapping
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from sgdd_engine.data.formats import without_ending
from sgdd_engine.data.manifest import MANIFEST, Manifest
from sgdd_engine.errors import CheckpointError, DataError, SgddError
from sgdd_engine.paths_and_shells import is_reserved, shell_line

CORPORA = Path("data")
RUNS = Path("runs")


def corpus_folder(source: str) -> Path:
    """The folder that a source is prepared in by default: `texts/tales.txt` → `data/tales`."""
    if source == "-" or re.fullmatch(r"/dev/fd/\d+|/proc/self/fd/\d+", source):  # `<(command)` is such a pipe
        return CORPORA / "stdin"
    name = source.removeprefix("hf:")
    if name == source:
        parts = [part for part in re.split(r"[\\/]", source) if part and not re.search(r"[*?\[]", part)]
        name = parts[-1] if parts else "texts"
        name = without_ending(name)
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "texts"
    return CORPORA / (f"text-{name}" if is_reserved(name) else name)


def prepared_corpora(folder: Path = CORPORA) -> list[Path]:
    """The prepared corpora in a folder, the newest first."""
    return sorted(
        (path.parent for path in folder.glob(f"*/{MANIFEST}")),
        key=lambda corpus: (corpus / MANIFEST).stat().st_mtime,
        reverse=True,
    )


def newest_corpus() -> Path:
    """The corpus that is taken when none is named.

    Raises:
        DataError: there is none.
    """
    if found := prepared_corpora():
        return found[0]
    raise DataError(
        f"No corpus was named, and there is none in `{CORPORA}`.",
        "Prepare one, for example: sgdd prepare-data builtin --encoder minilm",
    )


def new_run(corpus: Path, runs: Path = RUNS) -> Path:
    """Make the folder of a new run, named after its corpus and the time.

    Making it reserves the name: of two runs that begin in the same second, the name of the second ends in `-2`.
    """
    name = f"{corpus.resolve().name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(runs / name for name in names if _make_new(runs / name))


def _make_new(folder: Path) -> bool:
    """Make a folder; False if it exists."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def run_to_resume() -> Path:
    """The run that `--resume` takes when none is named: the one that was written last.

    Raises:
        CheckpointError: there is none.
    """
    from sgdd_engine.checkpoint import newest_run  # noqa: PLC0415 - `sgdd --help` need not load it

    if (run := newest_run(RUNS)) is None:
        raise CheckpointError(f"There is no run under `{RUNS}` to go on with.", "Start one: sgdd train")
    return run


def corpus_of_run(run: Path) -> Path:
    """The corpus that a run was started with, found again.

    Raises:
        CheckpointError: the run has no sound checkpoint.
        DataError: its corpus is not found.
    """
    from sgdd_engine.checkpoint import read_info  # noqa: PLC0415 - as above
    from sgdd_engine.training.checkpointing import newest_valid_checkpoint  # noqa: PLC0415

    checkpoint = newest_valid_checkpoint(run)
    return corpus_of(
        checkpoint,
        read_info(checkpoint).facts,
        f"Name it: {shell_line(['sgdd', 'train', 'DATA', '--resume', '--out', run])}",
    )


def corpus_if_found(checkpoint: Path) -> Path | None:
    """The corpus that a checkpoint was trained on, as `corpus_of` finds it; None where it is not here."""
    from sgdd_engine.checkpoint import read_info  # noqa: PLC0415 - as above

    try:
        return corpus_of(checkpoint, read_info(checkpoint).facts, "")
    except DataError:
        return None


def corpus_of(checkpoint: Path, facts: Mapping[str, Any], hint: str) -> Path:
    """The corpus that a checkpoint was trained on: where it was, under `data/`, or beside the run.

    It is known by its fingerprint, so that a moved one is found and another one under its name is not taken.

    Raises:
        DataError: it is in none of these places; `hint` says how to name it.
    """
    wanted = facts.get("corpus", {})
    recorded = [Path(wanted["folder"])] if "folder" in wanted else []
    # runs/NAME/checkpoints/step-N: three levels up is the folder of runs.
    beside = (
        prepared_corpora(checkpoint.resolve().parents[2]) if len(checkpoint.resolve().parents) > 2 else []
    )
    for folder in [*recorded, *prepared_corpora(), *beside]:
        try:
            if Manifest.read(folder).fingerprint() == wanted.get("fingerprint"):
                return folder
        except SgddError:
            continue
    raise DataError(
        f"The corpus that `{checkpoint}` was trained on ({wanted.get('name', 'unnamed')}) was not found.",
        hint,
    )
