"""Training from a prepared corpus against encoding the same sentences on the fly."""

from functools import partial
from statistics import median

import numpy as np
import numpy.typing as npt

from sgdd_engine.benchmark.clock import race, rate, ratios
from sgdd_engine.benchmark.context import Workbench
from sgdd_engine.benchmark.machine import dtype_name
from sgdd_engine.benchmark.measurement import Row, spread
from sgdd_engine.benchmark.trainable_model import Batch, Trainee
from sgdd_engine.data.batching import Rows
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus, CorpusSplit
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.text.config import TokenizerConfig
from sgdd_engine.text.encoder import SentenceEncoder


class Epoch:
    """A prepared corpus, a model of the compact configuration, and the encoder that made the vectors."""

    def __init__(self, bench: Workbench, encoder: SentenceEncoder) -> None:
        self.encoder, self.device = encoder, bench.device
        self.split = _prepared(bench, encoder)
        self.trainee: Trainee = bench.trainee(bench.model_config(bench.shapes.compact_vocab, encoder.dim))
        self.batches = full_batches(self.split.lengths, bench.shapes.epoch_batches, bench.shapes.batch_tokens)
        self.texts = [[self.split.text(int(row)) for row in rows] for rows in self.batches]

    def cached(self, rows: Rows) -> None:
        """A step on tokens and vectors read from the corpus."""
        x, e = self.split.batch(rows)
        self.trainee.our_step(Batch(x.to(self.device), e.to(self.device)))

    def on_the_fly(self, rows: Rows, texts: list[str]) -> None:
        """The same step, with the vectors made now."""
        x, _ = self.split.batch(rows)
        e = self.encoder.encode(texts)
        self.trainee.our_step(Batch(x.to(self.device), e.to(self.device)))


def full_batches(lengths: npt.NDArray[np.integer], count: int, batch_tokens: int) -> list[Rows]:
    """Rows of `count` batches of one length each, as an epoch of a large corpus holds them.

    Full ones: of a small corpus, whose rare lengths fill no batch, the order of training would give others. A length
    stands among them by its share of the tokens, shortest first.
    """
    ordered = np.sort(lengths)
    tokens = np.cumsum(ordered)
    middles = (np.arange(count) + 0.5) / count * tokens[-1]
    chosen = ordered[np.searchsorted(tokens, middles)]
    return [np.flatnonzero(lengths == length)[: max(1, batch_tokens // length)] for length in chosen]


def _prepared(bench: Workbench, encoder: SentenceEncoder) -> CorpusSplit:
    text = bench.folder / "epoch.txt"
    text.write_text("\n".join(bench.sentences[: bench.shapes.corpus_sentences]) + "\n", encoding="utf-8")
    config = DataConfig(max_tokens=bench.shapes.padded)
    folder = bench.folder / "epoch"
    prepare(
        open_source(str(text), config),
        folder,
        encoder=encoder,
        config=config,
        tokenizer=TokenizerConfig(kind="unigram", vocab_size=bench.shapes.compact_vocab),
        on_event=bench.on_event,
    )
    return Corpus.open(folder).split("train")


def measure_cached_epoch(bench: Workbench, _: frozenset[str]) -> list[Row]:
    """The row `cached-epoch`.

    Raises:
        EncoderError: MiniLM is not installed.
    """
    epoch = Epoch(bench, bench.encoder())
    seconds = race(
        {
            "cached": [partial(epoch.cached, rows) for rows in epoch.batches],
            "on the fly": [
                partial(epoch.on_the_fly, *pair) for pair in zip(epoch.batches, epoch.texts, strict=True)
            ],
        },
        repeats=bench.config.repeats,
        device=bench.device,
        on_repeat=bench.stage("cached vectors against encoding on the fly"),
    )
    times = ratios(seconds["on the fly"], seconds["cached"])
    sentences = sum(map(len, epoch.batches))
    return [
        Row(
            measure="cached-epoch",
            title=f"epoch with cached vectors against encoding on the fly with `{epoch.encoder.reference.name}`"
            if bench.shapes.minilm
            else "epoch with cached vectors against encoding on the fly with a tiny encoder",
            value=median(times),
            unit="×",
            goal=bench.goal(3.0),
            details={
                "dtype": dtype_name(bench.dtype),
                "encoder_dtype": epoch.encoder.reference.dtype,
                "repeats": bench.config.repeats,
                "vocabulary": bench.shapes.compact_vocab,
                "batch_tokens": bench.shapes.batch_tokens,
                "batch_lengths": [int(epoch.split.lengths[rows[0]]) for rows in epoch.batches],
                "sentences": sentences,
                "ratio": spread(times),
                "cached_sentences_per_second": rate(sentences, seconds["cached"]),
                "on_the_fly_sentences_per_second": rate(sentences, seconds["on the fly"]),
            },
            note="Both read a prepared corpus; its batches are full, as those of a large corpus are.",
        )
    ]
