"""Before anything is timed: ours and the plain reference are the same function, with the same gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgdd_engine.benchmark.measurement import BenchmarkError
from sgdd_engine.benchmark.reference import Noise
from sgdd_engine.benchmark.trainable_model import Batch, Trainee

# Relative; bf16 keeps eight bits, and the two ways round at different places.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
# Gradients below this share of the whole gradient's length are compared with that instead of with themselves.
_SMALL = 1e-3


@dataclass(frozen=True)
class Agreement:
    """How far the two ways are apart, relative; the gradient of the worst parameter."""

    loss: float
    gradient: float


def check_agreement(trainee: Trainee, batch: Batch, padded: int) -> Agreement:
    """Compare one batch's loss and gradients, computed both ways from one draw of the noise.

    Raises:
        BenchmarkError: they differ by more than rounding, so that no time would mean anything.
    """
    with _overheard(trainee.model) as heard, trainee.autocast():
        ours = trainee.our_loss(batch, 0)
    our_gradients = _gradients(trainee, ours)
    with trainee.autocast():
        plain = trainee.plain_loss(batch, batch.padded(padded), heard.noise(trainee, batch, padded))
    plain_gradients = _gradients(trainee, plain)
    found = Agreement(_apart(ours.detach(), plain.detach()), _worst(our_gradients, plain_gradients))
    limit = TOLERANCE[trainee.dtype]
    if not (found.loss <= limit and found.gradient <= limit):
        raise BenchmarkError(
            f"Ours and the plain reference do not agree: the loss differs by {found.loss:.1e} and the gradients by "
            f"{found.gradient:.1e} (relative; at most {limit:.0e} is rounding), so nothing was timed.",
            "Report it: either one of the two has a bug.",
        )
    return found


@dataclass
class _Overheard:
    """What passed between the parts of a model during one loss."""

    latent: list[Tensor] = field(default_factory=list)
    condition: list[Tensor] = field(default_factory=list)
    canvas: list[Tensor] = field(default_factory=list)
    t: list[Tensor] = field(default_factory=list)

    def noise(self, trainee: Trainee, batch: Batch, padded: int) -> Noise:
        """The noise that explains it."""
        z, given, z_t = (torch.cat(parts).detach() for parts in (self.latent, self.condition, self.canvas))
        with torch.no_grad(), trainee.autocast():
            mu, logvar = trainee.plain.posterior(batch.e)
        masked = z_t == trainee.model.config.vocabulary.mask_id
        return Noise(
            posterior=(z - mu) / (0.5 * logvar).exp(),
            dropped=(given != z).any(dim=1),
            t=torch.cat(self.t),
            masked=F.pad(masked, (0, padded - masked.shape[1])),
        )


@contextmanager
def _overheard(model: nn.Module) -> Iterator[_Overheard]:
    """Listen at the doors of the bottleneck, the conditioner and the denoiser.

    The noise is thus known whatever order the engine draws it in.
    """
    heard = _Overheard()

    def denoiser(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        heard.canvas.append(inputs[0])
        heard.t.append(inputs[1])

    hooks = [
        model.get_submodule("bottleneck").register_forward_hook(
            lambda _, __, latent: heard.latent.append(latent.z)
        ),
        model.get_submodule("conditioner").register_forward_pre_hook(
            lambda _, inputs: heard.condition.append(inputs[0])
        ),
        model.get_submodule("denoiser").register_forward_pre_hook(denoiser),
    ]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _gradients(trainee: Trainee, loss: Tensor) -> dict[str, Tensor]:
    loss.backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad for name, p in trainee.model.named_parameters() if p.grad is not None}
    trainee.optimizer.zero_grad(set_to_none=True)
    return found


def _worst(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> float:
    if ours.keys() != plain.keys():
        return float("inf")
    whole = torch.stack([gradient.norm() for gradient in plain.values()]).norm()
    return max(_apart(ours[name], plain[name], floor=_SMALL * float(whole)) for name in plain)


def _apart(one: Tensor, other: Tensor, floor: float = 0.0) -> float:
    return float((one - other).norm() / other.norm().clamp_min(floor))
