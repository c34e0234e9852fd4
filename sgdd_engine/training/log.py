"""Training metrics averaged between two reports."""

import time

import psutil
import torch
from torch import Tensor

from sgdd_engine.diffusion.objective import RATIO_PARTS, accuracy_by_mask_ratio, sums_by_mask_ratio
from sgdd_engine.distributed import ALONE, World
from sgdd_engine.events import TrainingProgress
from sgdd_engine.training.loss import BatchLoss


class MetricAccumulator:
    """Averages over the steps since the last report.

    Sums stay on the device until a report needs them: reading one would make the host wait for the device.

    Args:
        world: The processes whose steps are counted; all of them report at the same steps.
        absent: Terms of the loss that the model does not have, and so would report as 0.
    """

    def __init__(self, world: World = ALONE, absent: frozenset[str] = frozenset()) -> None:
        self._world, self._absent = world, absent
        self.reset()

    def reset(self) -> None:
        """Start a new interval."""
        self.micro_batches = self.sentences = self.tokens = 0
        self.terms: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.guesses: list[Tensor] = []
        self.began = time.perf_counter()

    def add_micro_batch(self, loss: BatchLoss) -> None:
        """Count one micro-batch."""
        self.micro_batches += 1
        self.sentences += loss.masked.shape[0]
        self.tokens += loss.masked.numel()
        self.terms.append(torch.stack([loss.shown, loss.length_nats, loss.kl_nats, loss.surrogate_error]))
        self.guesses.append(sums_by_mask_ratio(loss.masked, loss.correct.long()[None], loss.positions))

    def add_step(self, grad_norm: Tensor) -> None:
        """Count one step, after all of its micro-batches."""
        self.norms.append(grad_norm)

    def forget_step(self, micro_batches: int) -> None:
        """Leave the newest step, which was not taken, out of the averages; its time stays."""
        self.micro_batches -= micro_batches
        del self.terms[-micro_batches:], self.guesses[-micro_batches:], self.norms[-1:]

    def report(
        self,
        step: int,
        max_steps: int | None,
        fraction: float,
        learning_rate: float,
        seconds: float,
        seconds_left: float | None,
        device: torch.device,
    ) -> TrainingProgress:
        """The averages over all processes; `loss` as `BatchLoss.shown`. Every rank must call it."""
        elapsed = max(1e-9, time.perf_counter() - self.began)
        sentences, tokens, count, shown, length, kl, surrogate, *guesses = self._sums()
        count = max(1.0, count)
        norm = float(torch.stack(self.norms).mean()) if self.norms else float("nan")
        terms = {
            "length_nats": length / count,
            "kl_nats": kl / count,
            "surrogate_error": surrogate / count,
            "grad_norm": norm,
        }
        return TrainingProgress(
            step=step,
            max_steps=max_steps,
            fraction=fraction,
            loss=shown / count,
            accuracy_by_mask_ratio=accuracy_by_mask_ratio(
                torch.tensor(guesses, dtype=torch.float64).view(2, -1)
            ),
            sentences_per_second=sentences / elapsed,
            tokens_per_second=tokens / elapsed,
            learning_rate=learning_rate,
            memory_bytes=memory_bytes(device),
            seconds_left=seconds_left,
            terms={name: value for name, value in terms.items() if name not in self._absent},
            seconds=seconds,
        )

    def _sums(self) -> list[float]:
        """Sentences, tokens, micro-batches; the terms of the loss; all and right guesses by mask ratio."""
        counts = torch.tensor([self.sentences, self.tokens, self.micro_batches], dtype=torch.float64)
        terms = torch.stack(self.terms).cpu().double().sum(dim=0) if self.terms else torch.zeros(4).double()
        guesses = (
            torch.stack(self.guesses).sum(dim=0).cpu() if self.guesses else torch.zeros(2, RATIO_PARTS + 1)
        )
        own = torch.cat([counts, terms, guesses.double().flatten()])
        sums: list[float] = self._world.all_reduce(own.to(self._world.device)).tolist()
        return sums


def memory_bytes(device: torch.device) -> int:
    """Most GPU memory allocated so far; on a CPU what this process holds, without maps of files where that is known.

    The pages of a mapped corpus belong to the system, which takes them back when it needs memory.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))
