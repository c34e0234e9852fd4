"""Preparation: what it costs beyond its encoder, its memory as the text grows, and what its stored vectors save."""

import itertools
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgdd_engine.benchmark.command_line import peak_resident_bytes
from sgdd_engine.benchmark.context import BenchContext, distinct_sentences
from sgdd_engine.benchmark.measurement import Row, dtype_name
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.events import StageFinished, StageStarted
from sgdd_engine.text.config import TokenizerConfig


def measure_cached_epoch(bench: BenchContext) -> list[Row]:
    """The row `cached-epoch`: training from a prepared corpus against encoding the same sentences on the fly.

    Raises:
        EncoderError: MiniLM is not installed.
    """
    shapes, encoder = bench.shapes, bench.encoder()
    text, config = bench.folder / "epoch.txt", DataConfig(max_tokens=shapes.padded)
    _write(text, bench.sentences[: shapes.corpus_sentences])
    prepare(
        open_source(str(text), config),
        bench.folder / "epoch",
        encoder=encoder,
        config=config,
        tokenizer=TokenizerConfig(kind="unigram", vocab_size=shapes.compact_vocab),
        on_event=bench.on_event,
    )
    split = Corpus.open(bench.folder / "epoch").split("train")
    trainable = bench.trainable(bench.model_config(shapes.compact_vocab, encoder.dim))
    batches = full_batches(split.lengths, shapes.epoch_batches, shapes.batch_tokens)
    texts = [[split.text(int(row)) for row in rows] for rows in batches]

    def cached(number: int) -> None:
        x, e = split.batch(batches[number])
        trainable.our_step((x.to(bench.device), e.to(bench.device)))

    def on_the_fly(number: int) -> None:
        x, _ = split.batch(batches[number])
        e = encoder.encode(texts[number])
        trainable.our_step((x.to(bench.device), e.to(bench.device)))

    timings = bench.race(
        "cached vectors against encoding on the fly",
        {
            "cached": [partial(cached, number) for number in range(len(batches))],
            "on the fly": [partial(on_the_fly, number) for number in range(len(batches))],
        },
    )
    name = f"`{encoder.reference.name}`" if shapes.minilm else "a tiny encoder"
    return [
        Row.of_median(
            timings.ratios("on the fly", "cached"),
            measure="cached-epoch",
            title=f"epoch with cached vectors against encoding on the fly with {name}",
            unit="×",
            goal=bench.goal(3.0),
            details={
                "dtype": dtype_name(bench.dtype),
                "encoder_dtype": encoder.reference.dtype,
                "vocabulary": shapes.compact_vocab,
                "batch_tokens": shapes.batch_tokens,
                "batch_lengths": [int(split.lengths[rows[0]]) for rows in batches],
                **timings.details(sentences=sum(map(len, batches))),
            },
            note="Both read a prepared corpus; its batches are full, as those of a large corpus are.",
        )
    ]


def full_batches(
    lengths: npt.NDArray[np.integer], count: int, batch_tokens: int
) -> list[npt.NDArray[np.int64]]:
    """Row numbers of `count` batches of one length each, as an epoch of a large corpus holds them.

    Full ones: of a small corpus, whose rare lengths fill no batch, the order of training would give others. A length
    stands among them by its share of the tokens, shortest first.
    """
    ordered = np.sort(lengths)
    tokens = np.cumsum(ordered)
    middles = (np.arange(count) + 0.5) / count * tokens[-1]
    chosen = ordered[np.searchsorted(tokens, middles)]
    return [np.flatnonzero(lengths == length)[: max(1, batch_tokens // length)] for length in chosen]


def measure_prepare_overhead(bench: BenchContext) -> list[Row]:
    """The row `prepare-overhead`: reading, cleaning, tokenising, encoding and writing against encoding alone.

    Raises:
        EncoderError: MiniLM is not installed.
    """
    encoder, config = bench.encoder(), DataConfig()
    sentences = bench.sentences[: bench.shapes.overhead_sentences]
    text, out = bench.folder / "overhead.txt", bench.folder / "overhead"
    _write(text, sentences)

    def whole() -> None:
        shutil.rmtree(out, ignore_errors=True)
        # The encoder's own vocabulary: learning another one is no overhead of encoding.
        source = open_source(str(text), config)
        prepare(source, out, encoder=encoder, config=config, tokenizer=TokenizerConfig())

    timings = bench.race(
        f"preparing {len(sentences):,} sentences against a bare encoder loop",
        {"bare": [lambda: encoder.encode(sentences)], "whole": [whole]},
    )
    return [
        Row.of_median(
            [100 * (ratio - 1) for ratio in timings.ratios("whole", "bare")],
            measure="prepare-overhead",
            title="preparation: overhead over a bare encoder loop on the same sentences",
            unit="%",
            goal=bench.goal(10.0),
            at_most=True,
            details={"sentences": len(sentences), **timings.details(sentences=len(sentences))},
            note="The bare loop has all sentences at once, sorts them by length and keeps the vectors in memory; "
            "starting Python and loading the encoder are in neither.",
        )
    ]


def measure_prepare_memory(bench: BenchContext) -> list[Row]:
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


def _peak_of_preparing(bench: BenchContext, count: int) -> int:
    stage = f"peak memory of preparing {count:,} sentences"
    bench.on_event(StageStarted(stage, None, "sentences"))
    text, out = bench.folder / f"{count}.txt", bench.folder / f"{count}"
    _write(text, itertools.islice(distinct_sentences(bench.config.text), count))
    options = {"--out": out, "--encoder": bench.tiny_encoder, "--device": bench.device.type}
    arguments = [str(word) for option in options.items() for word in option]
    peak = peak_resident_bytes(
        [*bench.command, "--quiet", "prepare-data", str(text), *arguments], bench.folder
    )
    shutil.rmtree(out, ignore_errors=True)
    text.unlink()
    bench.on_event(StageFinished(stage, f"{peak / 1e6:,.0f} MB."))
    return peak


def _write(path: Path, sentences: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{sentence}\n" for sentence in sentences)
