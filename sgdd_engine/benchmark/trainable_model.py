"""A model with its optimiser: one training step, with the engine's loss or with the plain reference's."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from sgdd_engine.benchmark.measurement import BenchmarkError
from sgdd_engine.benchmark.reference import Noise, PlainModel, plain_loss
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.diffusion.corruption import q_sample
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.diffusion.times import training_times
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.loss import annealed_beta, batch_loss, step_generator
from sgdd_engine.training.optimizer_step import Ema, build_optimizer

# Largest relative difference by rounding; bf16 keeps eight bits, and the two computations round at different places.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
# Gradients below this share of the whole gradient's norm are compared relative to that instead of to themselves.
_SMALL_GRADIENT = 1e-3
_SEED = 0

Batch = tuple[Tensor, Tensor]
"""Sentences of one length: tokens `x` [B, n] and vectors `e` [B, D]."""


def nonzero_model(config: ModelConfig, device: torch.device) -> SemanticDecoder:
    """A model of random weights without zeros, in which every part counts.

    Training starts with blocks that do nothing (AdaLN-Zero), and an untrained mask embedding drowns what differs
    between positions. To compare two computations, both are changed: so every gradient is there, and different
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
class TrainableModel:
    """A model with its optimiser and its average.

    Attributes:
        plain: The plain reference on the same weights.
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
        self.plain = PlainModel.of(self.model)

    def our_step(self, batch: Batch) -> None:
        """A step with the engine's own loss."""
        self._update(self.our_loss(batch, self.steps))

    def plain_step(self, batch: Batch, padded_to: int) -> None:
        """A step of the plain reference on the same sentences, padded."""
        self._update(self.plain_loss(batch, padded_to, self.steps))

    def our_loss(self, batch: Batch, step: int) -> Tensor:
        """The engine's own training loss."""
        generator = step_generator(_SEED, step, self.device)
        with self._autocast():
            return batch_loss(
                self.model,
                *batch,
                config=self.train,
                diffusion=self.diffusion,
                step=step,
                generator=generator,
            ).total

    def plain_loss(self, batch: Batch, padded_to: int, step: int) -> Tensor:
        """The plain reference's loss under the same noise."""
        x, e = batch
        with self._autocast():
            return plain_loss(
                self.plain,
                F.pad(x, (0, padded_to - x.shape[1])),
                torch.full_like(x[:, 0], x.shape[1]),
                e,
                self._noise(x, padded_to, step),
                self.train.batch_tokens,
                annealed_beta(step, self.train),
                self.train.free_bits,
            )

    def _noise(self, x: Tensor, padded_to: int, step: int) -> Noise:
        """What `batch_loss` draws, in its order, for the true positions alone."""
        generator = step_generator(_SEED, step, self.device)
        rows = len(x)
        posterior = torch.randn(
            rows, self.model.bottleneck.output_dim, generator=generator, device=self.device
        )
        dropped = torch.rand(rows, generator=generator, device=self.device) < self.train.condition_dropout
        diffusion = self.diffusion
        t = training_times(rows, diffusion.num_steps, diffusion.share_at_one, generator, diffusion.times)
        schedule = build_schedule(diffusion.schedule)
        _, masked = q_sample(x, t, schedule, self.model.config.vocabulary.mask_id, generator)
        return Noise(posterior, dropped, t, F.pad(masked, (0, padded_to - x.shape[1])))

    def _update(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.train.grad_clip)
        # Training looks at both before it takes the step, which on a GPU waits for them.
        bool(torch.isfinite(loss) & torch.isfinite(norm))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.model, self.steps)
        self.steps += 1

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def check_agreement(trainable: TrainableModel, batch: Batch, padded_to: int) -> dict[str, float]:
    """Compare one batch's loss and gradients, computed by the engine and by the plain reference.

    Returns:
        Relative differences: `loss`, and the largest `gradient` of a parameter.

    Raises:
        BenchmarkError: they differ by more than rounding, so that no time would mean anything.
    """
    ours, our_gradients = _differentiated(trainable, trainable.our_loss(batch, step=0))
    plain, plain_gradients = _differentiated(trainable, trainable.plain_loss(batch, padded_to, step=0))
    loss, gradient = _relative(ours, plain), _largest(our_gradients, plain_gradients)
    limit = TOLERANCE[trainable.dtype]
    if not (loss <= limit and gradient <= limit):
        raise BenchmarkError(
            f"Ours and the plain reference do not agree: the loss differs by {loss:.1e} and the gradients by "
            f"{gradient:.1e} (relative; at most {limit:.0e} is rounding), so nothing was timed.",
            "Report it: either one of the two has a bug.",
        )
    return {"loss": loss, "gradient": gradient}


def _differentiated(trainable: TrainableModel, loss: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in trainable.model.named_parameters() if p.grad is not None}
    trainable.optimizer.zero_grad(set_to_none=True)
    return loss.detach(), gradients


def _largest(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> float:
    if ours.keys() != plain.keys():
        return float("inf")
    whole = torch.stack([gradient.norm() for gradient in plain.values()]).norm()
    return max(_relative(ours[name], plain[name], floor=_SMALL_GRADIENT * float(whole)) for name in plain)


def _relative(one: Tensor, other: Tensor, floor: float = 0.0) -> float:
    return float((one - other).norm() / other.norm().clamp_min(floor))
