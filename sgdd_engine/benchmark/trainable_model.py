"""A model in training: the whole step as `training.loop` takes it, with the loss in our way or in the plain way."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from sgdd_engine.benchmark.reference import Noise, PlainModel, plain_loss
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.diffusion.corruption import q_sample
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.diffusion.times import training_times
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.loss import batch_loss, step_generator
from sgdd_engine.training.optimizer_step import Ema, build_optimizer

Loss = Callable[[int], Tensor]
_SEED = 0


@dataclass(frozen=True)
class Batch:
    """Sentences of one length: tokens [B, n] and vectors [B, D]."""

    x: Tensor
    e: Tensor

    def padded(self, length: int) -> Tensor:
        """The tokens padded to `length` [B, length]."""
        return F.pad(self.x, (0, length - self.x.shape[1]))

    def first(self, rows: int) -> "Batch":
        """Its first sentences."""
        return Batch(self.x[:rows], self.e[:rows])


def awake_model(config: ModelConfig, device: torch.device) -> SemanticDecoder:
    """A model of random weights in which every part counts.

    Training starts with blocks that do nothing (AdaLN-Zero), and an untrained mask embedding drowns what differs
    between positions. To compare two ways of computing, both are changed: so every gradient is there, and different
    positions want different tokens.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(_SEED)
        model = SemanticDecoder(config)
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
        model.head.table[config.vocabulary.mask_id] *= 0.05
        # Vectors of unit length, as encoders give them.
        model.standardize.std.fill_(config.embedding_dim**-0.5)
    return model.to(device)


@dataclass
class Trainee:
    """A model with its optimiser and its average.

    Attributes:
        steps: Steps taken; the noise of a step follows from it.
    """

    model: SemanticDecoder
    device: torch.device
    dtype: torch.dtype
    train: TrainConfig = field(default_factory=TrainConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    steps: int = 0

    def __post_init__(self) -> None:
        self.model.train()
        self.optimizer = build_optimizer(self.model, self.train)
        self.ema = Ema.of(self.model, self.train.ema_decay)
        self.plain = PlainModel(
            self.model.config, {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        )

    def our_step(self, batch: Batch) -> None:
        """A step on sentences of one length."""
        self._step(lambda step: self.our_loss(batch, step))

    def plain_step(self, batch: Batch, padded: Tensor) -> None:
        """A step of the plain reference on the same sentences, padded."""
        self._step(lambda step: self.plain_loss(batch, padded, self._noise(batch, padded, step)))

    def our_loss(self, batch: Batch, step: int) -> Tensor:
        """The engine's own training loss."""
        return batch_loss(
            self.model,
            batch.x,
            batch.e,
            config=self.train,
            diffusion=self.diffusion,
            step=step,
            generator=step_generator(_SEED, step, self.device),
        ).total

    def plain_loss(self, batch: Batch, padded: Tensor, noise: Noise, step: int = 0) -> Tensor:
        """The plain reference's loss under given noise."""
        bottleneck = self.model.config.bottleneck
        return plain_loss(
            self.plain,
            padded,
            torch.full_like(batch.x[:, 0], batch.x.shape[1]),
            batch.e,
            noise,
            self.train.batch_tokens,
            bottleneck.beta * min(1.0, (step + 1) / max(1, bottleneck.anneal_steps)),
        )

    def _noise(self, batch: Batch, padded: Tensor, step: int) -> Noise:
        """Drawn as training draws it, for the true positions alone."""
        generator = step_generator(_SEED, step, self.device)
        rows, n = batch.x.shape
        mu = torch.randn(rows, self.model.bottleneck.output_dim, generator=generator, device=self.device)
        dropped = torch.rand(rows, generator=generator, device=self.device) < self.train.condition_dropout
        t = training_times(rows, self.diffusion.num_steps, self.diffusion.share_at_one, generator)
        schedule = build_schedule(self.diffusion.schedule)
        _, masked = q_sample(batch.x, t, schedule, self.model.config.vocabulary.mask_id, generator)
        return Noise(mu, dropped, t, F.pad(masked, (0, padded.shape[1] - n)))

    def _step(self, loss_at: Loss) -> None:
        with self.autocast():
            total = loss_at(self.steps)
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.train.grad_clip)
        # Training looks at both before it takes the step, which on a GPU waits for them.
        bool(torch.isfinite(total) & torch.isfinite(norm))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.model, self.steps)
        self.steps += 1

    def autocast(self) -> torch.autocast:
        """The arithmetic of the products."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
