"""What the measures share: the text with its vocabulary, the configurations, and the way to the listener."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch.nn import functional as F

from sgdd_engine.benchmark.config import BenchConfig, Shapes
from sgdd_engine.benchmark.machine import Machine
from sgdd_engine.benchmark.text import Tokens, sample_sentences
from sgdd_engine.benchmark.trainable_model import Batch, Trainee, awake_model
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig, VocabularyConfig
from sgdd_engine.text.config import MINILM, EncoderConfig
from sgdd_engine.text.encoder import SentenceEncoder, load_encoder
from sgdd_engine.text.tiny import write_tiny_encoder
from sgdd_engine.text.tokenizer import TextTokenizer, train_unigram
from sgdd_engine.training.cost import mean_mask_share


@dataclass(frozen=True)
class Workbench:
    """The place of one run of the benchmark.

    Attributes:
        config: What the user asked for.
        shapes: Sizes.
        device, dtype: Where training computes, and in which arithmetic its products are.
        machine: This machine.
        folder: For whatever has to be written; gone when the run is over.
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

    def stage(self, title: str) -> Callable[[int], None]:
        """Announce a measure; call the result with each finished repetition."""
        self.on_event(StageStarted(title, self.config.repeats, "repetitions"))

        def report(done: int) -> None:
            self.on_event(StageProgress(title, done))
            if done == self.config.repeats:
                self.on_event(StageFinished(title))

        return report

    @cached_property
    def sentences(self) -> list[str]:
        """A random sample of the text."""
        return sample_sentences(self.config.text, self.shapes.text_sentences)

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """A vocabulary made for the text."""
        return train_unigram(self.sentences, self.shapes.compact_vocab)

    @cached_property
    def tokens(self) -> Tokens:
        """The sample in tokens, those left out that are longer than the decoder's canvas."""
        return Tokens.of(self.tokenizer.encode_batch(self.sentences), self.shapes.padded)

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

    def trainee(self, config: ModelConfig) -> Trainee:
        """A model of that shape, ready to be trained."""
        return Trainee(awake_model(config, self.device), self.device, self.dtype)

    def batches(self, rows: int) -> list[Batch]:
        """Batches of `rows` sentences of one length each; together they have the mean length of the text."""
        generator = torch.Generator().manual_seed(0)
        found = []
        for length in self.tokens.typical_lengths(self.shapes.batches):
            x = torch.tensor(self.tokens.of_length(length, rows))
            e = F.normalize(torch.randn(rows, self.shapes.embedding_dim, generator=generator), dim=-1)
            found.append(Batch(x.to(self.device), e.to(self.device)))
        return found

    def typical_masked(self) -> int:
        """Masked positions of a batch of sentences of the text's mean length."""
        mean = float(self.tokens.lengths.mean())
        return round(self.shapes.batch_sentences * mean * mean_mask_share(DiffusionConfig()))
