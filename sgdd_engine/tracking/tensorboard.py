"""TensorBoard's event files, written from the log of the run.

Training and validation are two runs of TensorBoard, in the folders `train` and `validation`, so that it draws what both
measure in one chart. A session writes them anew from the log: TensorBoard reads files in the order of their names and
drops points whose steps go back, so that after a jump of the clock, which its own writer names files by, points were
lost.
"""

import html
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgdd_engine.tracking.log import read_log
from sgdd_engine.tracking.tracker import FINAL, TRACKERS, Ending, TrackedRun, Tracker

# Charts stand together by what is before the first `/` of their name.
_CHARTS = {
    "loss": "loss/nats_per_masked_token",
    "nelbo_nats_per_token": "loss/nelbo_nats_per_token",
    "length_nats": "loss/length_nats",
    "kl_nats": "loss/kl_nats",
    "surrogate_error": "loss/surrogate_error",
    "learning_rate": "optimizer/learning_rate",
    "grad_norm": "optimizer/grad_norm",
    "sentences_per_second": "speed/sentences_per_second",
    "tokens_per_second": "speed/tokens_per_second",
    "memory_bytes": "speed/memory_bytes",
}
# The x-axis of other charts.
_NOT_DRAWN = frozenset({"seconds"})


@TRACKERS.register("tensorboard")
class TensorBoard(Tracker):
    """Draws the run's curves, texts and settings: `tensorboard --logdir runs`."""

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self._folder = run.folder / "tensorboard"
        self._writers: dict[str, _EventFile] = {}

    def start(self, step: int) -> None:  # noqa: ARG002 - the log was cut to it already
        """Draw what the log holds, in new files, and remove the old ones."""
        old = list(self._folder.rglob("*tfevents*"))
        self._number = 1 + max((_number(path) for path in old), default=0)
        self._settings()
        for record in read_log(self.run.folder).records:
            self._scalars(record["step"], record.get("scalars", {}), record["time"])
            if "texts" in record:
                self._texts(record["step"], record["texts"], record["time"])
        for path in old:
            path.unlink()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Draw one point of each chart."""
        self._scalars(step, values, time.time())

    def texts(self, step: int, pairs: Sequence[tuple[str, str]]) -> None:
        """Show the pairs as a table."""
        self._texts(step, pairs, time.time())

    def end(self, step: int, ending: Ending, metrics: Mapping[str, float]) -> None:  # noqa: ARG002 - it has the curves
        """Record how the session ended, beside the settings."""
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2  # noqa: PLC0415 - slow to load

        status = {"finished": api_pb2.STATUS_SUCCESS, "stopped": api_pb2.STATUS_UNKNOWN}[ending]
        closing = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        data = plugin_data_pb2.HParamsPluginData(session_end_info=closing)
        shown = {"tag": metadata.SESSION_END_INFO_TAG, "metadata": metadata.create_summary_metadata(data)}
        self._write("", step, time.time(), [shown])
        for writer in self._writers.values():
            writer.close()

    def _scalars(self, step: int, values: Mapping[str, float], drawn: float) -> None:
        charts: dict[str, list[dict[str, Any]]] = {}
        # The loss of a run that trains the surrogate alone is its error, which has a chart, and is no nats.
        alone = self.run.settings.get("train.part") == "surrogate"
        not_drawn = _NOT_DRAWN | {"loss"} if alone else _NOT_DRAWN
        for name, value in values.items():
            split, _, quantity = name.partition("/")
            if quantity not in not_drawn:
                chart = _CHARTS.get(quantity, quantity)
                charts.setdefault(split, []).append({"tag": chart, "simple_value": value})
        for split, points in charts.items():
            self._write(split, step, drawn, points)

    def _texts(self, step: int, pairs: Sequence[tuple[str, str]], drawn: float) -> None:
        from tensorboard.compat.proto import tensor_pb2, tensor_shape_pb2, types_pb2  # noqa: PLC0415 - slow to load
        from tensorboard.plugins.text import metadata  # noqa: PLC0415

        shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
        table = tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING, string_val=[written_table(pairs).encode()], tensor_shape=shape
        )
        about = metadata.create_summary_metadata(display_name="", description="")
        self._write("validation", step, drawn, [{"tag": "written", "metadata": about, "tensor": table}])

    def _settings(self) -> None:
        """The settings of the run and the curves whose last values stand beside them (the tab HPARAMS)."""
        from google.protobuf import struct_pb2  # noqa: PLC0415 - slow to load
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2  # noqa: PLC0415

        known, session = [], plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        for name, value in self.run.settings.items():
            if isinstance(value, bool):
                kind, setting = api_pb2.DATA_TYPE_BOOL, struct_pb2.Value(bool_value=value)
            elif isinstance(value, int | float):
                kind, setting = api_pb2.DATA_TYPE_FLOAT64, struct_pb2.Value(number_value=value)
            else:
                text = "none" if value is None else str(value)
                kind, setting = api_pb2.DATA_TYPE_STRING, struct_pb2.Value(string_value=text)
            session.hparams[name].CopyFrom(setting)
            known.append(api_pb2.HParamInfo(name=name, type=kind))
        metrics = [
            api_pb2.MetricInfo(
                name=api_pb2.MetricName(group=split, tag=_CHARTS.get(quantity, quantity)), display_name=name
            )
            for name in FINAL
            for split, _, quantity in [name.partition("/")]
        ]
        experiment = api_pb2.Experiment(hparam_infos=known, metric_infos=metrics)
        for tag, data in (
            (metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment)),
            (metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=session)),
        ):
            shown = {"tag": tag, "metadata": metadata.create_summary_metadata(data)}
            self._write("", 0, time.time(), [shown])

    def _write(self, split: str, step: int, drawn: float, values: Sequence[Mapping[str, Any]]) -> None:
        """Write values of one step, drawn at a time in seconds since 1970, for one of TensorBoard's runs."""
        if split not in self._writers:
            folder = self._folder / split
            folder.mkdir(parents=True, exist_ok=True)
            self._writers[split] = _EventFile(folder / f"events.out.tfevents.{self._number:010d}.sgdd")
        self._writers[split].write(step, drawn, values)


class _EventFile:
    """A file of TensorBoard's events, each in the file when `write` returns."""

    def __init__(self, path: Path) -> None:
        from tensorboard.compat.proto import event_pb2  # noqa: PLC0415 - slow to load
        from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415

        self._event = event_pb2.Event
        self._records = RecordWriter(path.open("wb", buffering=0))
        self._records.write(
            self._event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString()
        )

    def write(self, step: int, drawn: float, values: Sequence[Mapping[str, Any]]) -> None:
        """Add values of one step."""
        event = self._event(wall_time=drawn, step=step, summary={"value": values})
        self._records.write(event.SerializeToString())

    def close(self) -> None:
        """Close the file."""
        self._records.close()


def _number(path: Path) -> int:
    """The number in the name of a file of events; of other writers it is a time in seconds."""
    found = re.search(r"tfevents\.(\d+)", path.name)
    return int(found[1]) if found else 0


def written_table(pairs: Sequence[tuple[str, str]]) -> str:
    """Sources and what was written of them, as a table of Markdown, which TensorBoard draws."""

    def cell(text: str) -> str:
        # The text is data: neither a column's end nor HTML.
        return html.escape(text).replace("|", "&#124;")

    rows = [f"| {cell(source)} | {cell(written)} |" for source, written in pairs]
    return "\n".join(["| source | written |", "|---|---|", *rows])
