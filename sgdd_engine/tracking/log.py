"""The log of a run: one JSON object a line, the same points in the same order as the run took its steps.

    {"step": 0, "time": …, "start": {"sgdd": "0.1.0", "settings": {"train.seed": 0, …}}}
    {"step": 20, "time": …, "scalars": {"train/loss": 5.1, …}}
    {"step": 500, "time": …, "texts": [["source", "written"], …]}
    {"step": 900, "time": …, "end": {"state": "finished", "metrics": {"validation/best_loss": 2.2, …}}}

`time` is in seconds since 1970, and nothing is ordered by it. Each line is written at once and whole, so a killed run
leaves at most one broken line, the last; readers pass over it, and the next session removes it.
"""

import errno
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sgdd_engine.bounded_files import MOST_BYTES, UnreadableError, open_regular, parse_json
from sgdd_engine.tracking.tracker import TRACKERS, Ending, Tracker
from sgdd_engine.version import __version__

LOG = "log.jsonl"
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class RunLog:
    """What the log of a run says.

    Attributes:
        records: The lines that are whole, as they stand.
        curves: Steps and values by name, steps ascending; held-out ones since what is validated on has last changed.
        settings: Those of the newest session.
        ending: How the newest session ended; None where it has not, or was killed.
    """

    records: Sequence[Mapping[str, Any]] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    ending: Ending | None = None


def read_log(run: Path) -> RunLog:
    """Read the log of a run; of a run from before there was one, the curves that it drew for TensorBoard."""
    file = run / LOG
    records = list(_records(file)) if file.is_file() else _records_of_tensorboard(run / "tensorboard")
    curves: dict[str, Curve] = {}
    newest_set: float = 0
    settings: Mapping[str, Any] = {}
    ending: Ending | None = None
    for record in records:
        scalars = record.get("scalars", {})
        if "validation/loss" in scalars and scalars.get("validation/set", 0) != newest_set:
            newest_set = scalars.get("validation/set", 0)
            curves = {name: curve for name, curve in curves.items() if not name.startswith("validation/")}
        for name, value in scalars.items():
            curves.setdefault(name, []).append((record["step"], value))
        if "start" in record:
            settings, ending = record["start"]["settings"], None
        if "end" in record:
            ending = record["end"]["state"]
    return RunLog(records, curves, settings, ending)


def _records(file: Path) -> Iterator[Mapping[str, Any]]:
    for line in _lines(file):
        try:
            record = parse_json(line, file)
        except UnreadableError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int) and _is_sound(record):
            yield record


def _is_sound(record: Mapping[str, Any]) -> bool:
    """Whether the parts of a line that are read are of the kinds that `Log` writes."""
    scalars, start, end = (record.get(name, {}) for name in ("scalars", "start", "end"))
    return (
        all(isinstance(part, dict) for part in (scalars, start, end))
        and all(isinstance(value, int | float) for value in scalars.values())
        and isinstance(start.get("settings", {}), dict)
        and ("start" not in record or "settings" in start)
        and ("end" not in record or isinstance(end.get("state"), str))
    )


def _lines(file: Path) -> Iterator[str]:
    with open_regular(file) as stream:
        while line := stream.readline(MOST_BYTES):
            yield line.decode("utf-8", "replace")


def _records_of_tensorboard(folder: Path) -> list[Mapping[str, Any]]:
    """The points that earlier versions drew, in the order of their steps."""
    if not any(folder.glob("*tfevents*")):
        return []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415 - slow to load

    # 0 keeps all: by default 10,000 of each are kept, chosen at random. Nothing is purged by the order of the files,
    # which is that of the clock: it is the steps that count, and of two points of one step the one drawn later.
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    points: dict[int, dict[str, tuple[float, float]]] = {}
    for tag in events.Tags()["scalars"]:
        for event in sorted(events.Scalars(tag), key=lambda event: event.wall_time):
            if math.isfinite(event.value):
                points.setdefault(event.step, {})[tag] = (event.wall_time, event.value)
    return [
        {
            "step": step,
            "time": max(drawn for drawn, _ in points[step].values()),
            "scalars": {tag: value for tag, (_, value) in points[step].items()},
        }
        for step in sorted(points)
    ]


@TRACKERS.register("jsonl")
class Log(Tracker):
    """Writes the log of a run, which it has whatever tracker is chosen."""

    _file: IO[bytes]

    def start(self, step: int) -> None:
        """Go on after the points of the steps that count."""
        from sgdd_engine.atomic_files import write_bytes  # noqa: PLC0415 - `sgdd --help` need not load it

        path = self.run.folder / LOG
        kept = [record for record in read_log(self.run.folder).records if record["step"] <= step]
        text = "".join(_line(record) for record in kept).encode()
        if not path.is_file() or path.read_bytes() != text:
            write_bytes(path, text)
        # Unbuffered: a line is one call to the system, so that it is in the file when the next step begins.
        self._file = path.open("ab", buffering=0)
        self._add(step, "start", {"sgdd": __version__, "settings": self.run.settings})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add one line."""
        self._add(step, "scalars", values)

    def texts(self, step: int, pairs: Sequence[tuple[str, str]]) -> None:
        """Add one line."""
        self._add(step, "texts", pairs)

    def flush(self) -> None:
        """Force the lines to the disk, so that a run which goes on from a checkpoint has all of them up to it."""
        os.fsync(self._file.fileno())

    def end(self, step: int, ending: Ending, metrics: Mapping[str, float]) -> None:
        """Add the last line of the session."""
        self._add(step, "end", {"state": ending, "metrics": metrics})
        self._file.close()

    def _add(self, step: int, kind: str, value: object) -> None:
        line = _line({"step": step, "time": round(time.time(), 3), kind: value}).encode()
        try:
            written = self._file.write(line)
            if written < len(line):  # the disk took a part; the next line would stand behind it
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        except OSError:  # nothing more is recorded
            self._file.close()
            raise


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
