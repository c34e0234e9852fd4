"""Running figures between two reports, and their TensorBoard events."""

import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import torch
from torch.utils.tensorboard import SummaryWriter

from sgdd_engine.diffusion.objective import AccuracyByMaskRatio
from sgdd_engine.events import Event, TrainingProgress, Validated
from sgdd_engine.training.step import BatchLoss


class Meter:
    """Averages over the steps since the last report."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start a new interval."""
        self.steps = self.sentences = self.tokens = 0
        self.sums: dict[str, float] = {}
        self.accuracy = AccuracyByMaskRatio()
        self.began = time.perf_counter()

    def add(self, loss: BatchLoss, grad_norm: float) -> None:
        """Count one step."""
        self.steps += 1
        self.sentences += loss.masked.shape[0]
        self.tokens += loss.masked.numel()
        self.accuracy.add(loss.masked, loss.correct)
        terms = {
            "masked_nll": float(loss.nll.mean()) if len(loss.nll) else 0.0,
            "length_nats": float(loss.length_nats),
            "kl_nats": float(loss.kl_nats),
            "grad_norm": grad_norm,
        }
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def report(
        self,
        step: int,
        max_steps: int | None,
        fraction: float,
        learning_rate: float,
        seconds_left: float | None,
        device: torch.device,
    ) -> TrainingProgress:
        """The interval's averages; `loss` is nats per masked token."""
        terms = {name: total / max(1, self.steps) for name, total in self.sums.items()}
        elapsed = max(1e-9, time.perf_counter() - self.began)
        return TrainingProgress(
            step=step,
            max_steps=max_steps,
            fraction=fraction,
            loss=terms.pop("masked_nll", float("nan")),
            accuracy_by_mask_ratio=self.accuracy.result(),
            sentences_per_second=self.sentences / elapsed,
            tokens_per_second=self.tokens / elapsed,
            learning_rate=learning_rate,
            memory_bytes=memory_bytes(device),
            seconds_left=seconds_left,
            terms=terms,
        )


def memory_bytes(device: torch.device) -> int:
    """Most GPU memory allocated so far, or this process's resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


class TensorBoardLog:
    """Writes the run's events for TensorBoard; what an earlier attempt drew after `first_step` is dropped.

    Args:
        run: The run's folder.
        first_step: Steps that the run has taken already.
    """

    def __init__(self, run: Path, first_step: int) -> None:
        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=first_step + 1)

    def __call__(self, event: Event) -> None:
        """Record training and validation figures; other events are not drawn."""
        if isinstance(event, TrainingProgress):
            self._scalars(
                "train",
                event.step,
                {
                    "loss": event.loss,
                    "learning_rate": event.learning_rate,
                    "sentences_per_second": event.sentences_per_second,
                    "tokens_per_second": event.tokens_per_second,
                    "memory_bytes": event.memory_bytes,
                    **event.terms,
                },
            )
            self._scalars("train/accuracy_at_mask_percent", event.step, event.accuracy_by_mask_ratio)
        if isinstance(event, Validated):
            self._scalars(
                "validation",
                event.step,
                {
                    "loss": event.loss,
                    "nelbo_nats_per_token": event.nelbo_nats_per_token,
                },
            )
            self._scalars("validation/accuracy_at_mask_percent", event.step, event.accuracy_by_mask_ratio)

    def _scalars(self, group: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()
