"""What preparation costs beyond its encoder: time against a bare loop, and memory as the text grows."""

import itertools
import shutil
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from sgdd_engine.benchmark.clock import race, rate
from sgdd_engine.benchmark.context import Workbench
from sgdd_engine.benchmark.measurement import Row, spread
from sgdd_engine.benchmark.processes import peak_resident_bytes
from sgdd_engine.benchmark.text import distinct_sentences
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.events import StageFinished, StageStarted
from sgdd_engine.text.config import TokenizerConfig


def measure_prepare_overhead(bench: Workbench, _: frozenset[str]) -> list[Row]:
    """The row `prepare-overhead`: reading, cleaning, tokenising, encoding and writing against encoding alone.

    Raises:
        EncoderError: MiniLM is not installed.
    """
    encoder = bench.encoder()
    sentences = bench.sentences[: bench.shapes.overhead_sentences]
    text, out = bench.folder / "overhead.txt", bench.folder / "overhead"
    _write(text, sentences)
    config = DataConfig()

    def whole() -> None:
        shutil.rmtree(out, ignore_errors=True)
        # The encoder's own vocabulary: learning another one is no overhead of encoding.
        prepare(
            open_source(str(text), config), out, encoder=encoder, config=config, tokenizer=TokenizerConfig()
        )

    seconds = race(
        {"bare": [lambda: encoder.encode(sentences)], "whole": [whole]},
        repeats=bench.config.repeats,
        device=bench.device,
        on_repeat=bench.stage(f"preparing {len(sentences):,} sentences against a bare encoder loop"),
    )
    overheads = [100 * (w / b - 1) for w, b in zip(seconds["whole"], seconds["bare"], strict=True)]
    return [
        Row(
            measure="prepare-overhead",
            title="preparation: overhead over a bare encoder loop on the same sentences",
            value=median(overheads),
            unit="%",
            goal=bench.goal(10.0),
            at_most=True,
            details={
                "sentences": len(sentences),
                "repeats": bench.config.repeats,
                "overhead": spread(overheads),
                "bare_sentences_per_second": rate(len(sentences), seconds["bare"]),
                "prepared_sentences_per_second": rate(len(sentences), seconds["whole"]),
            },
            note="The bare loop has all sentences at once, sorts them by length and keeps the vectors in memory; "
            "starting Python and loading the encoder are in neither.",
        )
    ]


def measure_prepare_memory(bench: Workbench, _: frozenset[str]) -> list[Row]:
    """The row `prepare-memory`: the peak of the real command on a large text over that on a small one."""
    small, large = bench.shapes.memory_sentences
    peaks = {count: _peak_of_preparing(bench, count) for count in (small, large)}
    return [
        Row(
            measure="prepare-memory",
            title=f"peak memory of `sgdd prepare-data` at {large:,} sentences against {small:,}",
            value=peaks[large] / peaks[small],
            unit="×",
            goal=bench.goal(1.2),
            at_most=True,
            details={"resident_bytes": {str(count): peak for count, peak in peaks.items()}},
            note="The whole command as a process of its own, with a tiny encoder of one layer that the benchmark "
            "writes; sentences of the text, then of the built-in corpus.",
        )
    ]


def _peak_of_preparing(bench: Workbench, count: int) -> int:
    stage = f"peak memory of preparing {count:,} sentences"
    bench.on_event(StageStarted(stage, None, "sentences"))
    text, out = bench.folder / f"{count}.txt", bench.folder / f"{count}"
    _write(text, itertools.islice(distinct_sentences(bench.config.text), count))
    peak = peak_resident_bytes(
        [
            *bench.command,
            "--quiet",
            "prepare-data",
            str(text),
            "--out",
            str(out),
            "--encoder",
            str(bench.tiny_encoder),
            "--device",
            bench.device.type,
        ],
        bench.folder,
    )
    shutil.rmtree(out, ignore_errors=True)
    text.unlink()
    bench.on_event(StageFinished(stage, f"{peak / 1e6:,.0f} MB."))
    return peak


def _write(path: Path, sentences: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{sentence}\n" for sentence in sentences)
