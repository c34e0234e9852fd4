"""What the measures share: sizes, sentences and their tokens, model configurations, and progress."""

import heapq
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from sgdd_engine.benchmark.config import BenchConfig, Shapes
from sgdd_engine.benchmark.measurement import Machine, Timings, Work, race
from sgdd_engine.benchmark.trainable_model import Batch, TrainableModel, nonzero_model
from sgdd_engine.data.builtin import builtin_sentences
from sgdd_engine.data.cleaning import clean, rejection
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.sources import open_source
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.errors import DataError
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig, VocabularyConfig
from sgdd_engine.text.config import MINILM, EncoderConfig
from sgdd_engine.text.encoder import SentenceEncoder, load_encoder
from sgdd_engine.text.tiny import write_tiny_encoder
from sgdd_engine.text.tokenizer import TextTokenizer, train_unigram
from sgdd_engine.training.cost import mean_mask_share

_SEED = 0
# Fewer give neither a vocabulary nor lengths.
_FEWEST_SENTENCES = 50


def sample_sentences(text: Path | None, count: int) -> list[str]:
    """Up to `count` clean sentences of a text, drawn at random; of the built-in corpus where there is not a text.

    Raises:
        DataError: the text cannot be read, or holds too little.
    """
    if text is None:
        return list(builtin_sentences(count))
    generator = random.Random(_SEED)
    # The smallest of so many random numbers: a sample without replacement, in random order.
    kept = heapq.nsmallest(count, _usable(text), key=lambda _: generator.random())
    if len(kept) < _FEWEST_SENTENCES:
        raise DataError(
            f"`{text}` holds {len(kept)} usable sentences; the benchmark needs {_FEWEST_SENTENCES}.",
            "Give more text, one sentence per line, or leave out --text for the built-in corpus.",
        )
    return kept


def distinct_sentences(text: Path | None) -> Iterator[str]:
    """The sentences of a text, then those of the built-in corpus without end."""
    own = iter(()) if text is None else _usable(text)
    return itertools.chain(own, builtin_sentences(1 << 40))


def _usable(text: Path) -> Iterator[str]:
    config = DataConfig()
    for line in open_source(str(text), config).lines():
        sentence = clean(line)
        if rejection(sentence, config) is None:
            yield sentence


@dataclass(frozen=True)
class TokenSample:
    """Token ids of sentences that the decoder can hold, and their lengths."""

    rows: Sequence[Sequence[int]]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], longest: int) -> "TokenSample":
        """Those of at most `longest` tokens.

        Raises:
            DataError: there are none.
        """
        kept = [row for row in rows if 1 <= len(row) <= longest]
        if not kept:
            raise DataError(
                f"The text holds no sentence of at most {longest} tokens.", "Choose another --text."
            )
        return cls(kept, np.array([len(row) for row in kept]))

    def typical_lengths(self, count: int) -> list[int]:
        """The mean length of each of `count` equal parts of the sentences, shortest first.

        Sentences of these lengths have, together, the mean length of the text, and so its arithmetic.
        """
        parts = np.array_split(np.sort(self.lengths), count)
        return [max(1, round(float(part.mean()))) for part in parts if len(part)]

    def of_length(self, length: int, count: int) -> list[list[int]]:
        """`count` sentences of exactly one length, the nearest to `length` that there is; again where too few."""
        nearest = int(self.lengths[np.abs(self.lengths - length).argmin()])
        found = itertools.cycle(list(row) for row in self.rows if len(row) == nearest)
        return list(itertools.islice(found, count))


@dataclass(frozen=True)
class BenchContext:
    """One run of the benchmark.

    Attributes:
        config: What the user asked for.
        shapes: Sizes.
        device, dtype: Where training computes, and in which arithmetic its products are.
        machine: This machine.
        folder: For files; removed when the run is over.
        command: How `sgdd` is started as a process of its own.
        on_event: Told of the measures.
    """

    config: BenchConfig
    shapes: Shapes
    device: torch.device
    dtype: torch.dtype
    machine: Machine
    folder: Path
    command: tuple[str, ...]
    on_event: Listener

    def goal(self, value: float) -> float | None:
        """A goal; none where small shapes say nothing about it."""
        return None if self.config.quick else value

    def race(self, title: str, contestants: Mapping[str, Sequence[Work]]) -> Timings:
        """Time contestants in turns (see `measurement.race`), and report progress under `title`."""
        repeats = self.config.repeats
        self.on_event(StageStarted(title, repeats, "repetitions"))
        timings = race(
            contestants,
            repeats=repeats,
            device=self.device,
            on_repeat=lambda done: self.on_event(StageProgress(title, done)),
        )
        self.on_event(StageFinished(title))
        return timings

    @cached_property
    def sentences(self) -> list[str]:
        """A random sample of the text."""
        return sample_sentences(self.config.text, self.shapes.text_sentences)

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """A vocabulary made for the text."""
        return train_unigram(self.sentences, self.shapes.compact_vocab)

    @cached_property
    def tokens(self) -> TokenSample:
        """The sample in tokens, those left out that are longer than the decoder's canvas."""
        return TokenSample.of(self.tokenizer.encode_batch(self.sentences), self.shapes.padded)

    @cached_property
    def tiny_encoder(self) -> Path:
        """The folder of an encoder of one layer with random weights."""
        dim = self.shapes.compact_dim if self.config.quick else 32
        return write_tiny_encoder(self.folder / "tiny-encoder", self.sentences[:2000], dim=dim)

    def encoder(self) -> SentenceEncoder:
        """MiniLM; in a quick run the tiny encoder.

        Raises:
            EncoderError: MiniLM is not installed.
        """
        name = MINILM if self.shapes.minilm else str(self.tiny_encoder)
        return load_encoder(EncoderConfig(name=name), self.device)

    def model_config(self, vocabulary: int, embedding_dim: int) -> ModelConfig:
        """The decoder over some vocabulary and some encoder's vectors; ids of the text fit into either."""
        shapes = self.shapes
        return ModelConfig(
            embedding_dim=embedding_dim,
            max_tokens=shapes.padded,
            vocabulary=VocabularyConfig(size=vocabulary, mask_id=vocabulary - 1, bos_id=0, eos_id=2),
            bottleneck=BottleneckConfig(kind="vib"),
            decoder=DecoderConfig(layers=shapes.layers, width=shapes.width, heads=shapes.heads),
        )

    @property
    def reference_config(self) -> ModelConfig:
        """The reference configuration: the encoder's whole vocabulary, 1024-d vectors, a VIB."""
        return self.model_config(self.shapes.full_vocab, self.shapes.embedding_dim)

    def trainable(self, config: ModelConfig) -> TrainableModel:
        """A model of that shape, ready to be trained."""
        return TrainableModel(nonzero_model(config, self.device), self.device, self.dtype)

    def batches(self, rows: int) -> list[Batch]:
        """Batches of `rows` sentences of one length each; together they have the mean length of the text."""
        generator = torch.Generator().manual_seed(_SEED)
        found = []
        for length in self.tokens.typical_lengths(self.shapes.batches):
            x = torch.tensor(self.tokens.of_length(length, rows))
            e = F.normalize(torch.randn(rows, self.shapes.embedding_dim, generator=generator), dim=-1)
            found.append((x.to(self.device), e.to(self.device)))
        return found

    def typical_masked(self) -> int:
        """Masked positions of a batch of sentences of the text's mean length."""
        mean = float(self.tokens.lengths.mean())
        return round(self.shapes.batch_sentences * mean * mean_mask_share(DiffusionConfig()))
