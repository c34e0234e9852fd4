"""One optimiser step: its pieces' gradients, one agreement of all processes, the new weights."""

from contextlib import nullcontext
from dataclasses import dataclass
from signal import SIGINT, SIGTERM

import torch
from torch import Tensor

from sgdd_engine.distributed import World
from sgdd_engine.training.distribution import SharedModel
from sgdd_engine.training.feed import Feed, Piece
from sgdd_engine.training.log import Meter
from sgdd_engine.training.loss import BatchLoss, batch_loss, dropout_noise, step_generator
from sgdd_engine.training.optim import Ema
from sgdd_engine.training.spec import TrainSpec

STOPPING = (SIGINT, SIGTERM)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What all processes know alike of a step before its new weights are computed.

    Attributes:
        sound: Every loss and the gradient are finite.
        sentences: Of all pieces of the step.
        seconds: Training time on rank 0's clock, as the step began.
        signal: A signal that asked one of them to stop.
    """

    sound: bool
    sentences: int
    seconds: float
    signal: int | None


def agree(world: World, *, sound: Tensor, sentences: int, seconds: float, signal: int | None) -> Agreement:
    """Put together what each process knows, in one exchange; the only time in a step that the host waits."""
    if world.size == 1:
        return Agreement(bool(sound), sentences, seconds, signal)
    own = [
        0.0,
        sentences,
        seconds if world.is_main else 0.0,
        *(float(signal == number) for number in STOPPING),
    ]
    numbers = torch.tensor(own, dtype=torch.float64, device=world.device)
    numbers[0] = (~sound).double()
    unsound, total, clock, *asked = world.sum(numbers).tolist()
    signals = [int(number) for number, count in zip(STOPPING, asked, strict=True) if count]
    return Agreement(not unsound, int(total), clock, signals[0] if signals else None)


class Update:
    """Takes the steps of a run.

    Args:
        shared: The model.
        optimizer: Of its parameters.
        ema: Their average.
        feed: This process's pieces, in order.
        spec: The run's settings.
        pieces: How many pieces of a step are this process's.
        device: Where they are computed. dtype: Of matrix products.
    """

    def __init__(
        self,
        shared: SharedModel,
        optimizer: torch.optim.Optimizer,
        ema: Ema,
        feed: Feed,
        spec: TrainSpec,
        *,
        pieces: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._shared, self._optimizer, self._ema, self._feed = shared, optimizer, ema, feed
        self._spec, self._pieces, self._device, self._dtype = spec, pieces, device, dtype

    def gradient(self, step: int, meter: Meter) -> tuple[Tensor, int]:
        """Add up the gradient of a step and clip it.

        Returns:
            Whether this process's losses and the gradient are finite, a scalar on the device; and how many sentences
            this process has seen in the step.
        """
        losses, sentences = [], 0
        for number in range(self._pieces):
            piece = self._feed.next()
            with self._shared.adding_up(last=number == self._pieces - 1):
                loss = self._loss(piece, step)
                loss.total.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.total.detach())
            sentences += len(piece.x)
            meter.add_piece(loss)
        norm = self._shared.clip(self._spec.train.grad_clip)
        meter.add_step(norm)
        return torch.isfinite(torch.stack([*losses, norm])).all(), sentences

    def apply(self, step: int, rate: float) -> None:
        """Take the step that the gradient asks for."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._ema.update(self._shared.model, step)

    def _loss(self, piece: Piece, step: int) -> BatchLoss:
        noise = (self._spec.train.seed, piece.position, self._device)
        with (
            torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32),
            dropout_noise(*noise) if self._spec.decoder.dropout else nullcontext(),
        ):
            return self._shared.loss(
                lambda model: batch_loss(
                    model,
                    piece.x,
                    piece.e,
                    config=self._spec.train,
                    diffusion=self._spec.diffusion,
                    step=step,
                    generator=step_generator(*noise),
                    drafts=piece.drafts,
                )
            )
