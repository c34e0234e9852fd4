"""Training metrics averaged between two reports, and their TensorBoard events."""

import html
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from sgdd_engine.diffusion.objective import RATIO_PARTS, accuracy_by_mask_ratio, sums_by_mask_ratio
from sgdd_engine.distributed import ALONE, World
from sgdd_engine.events import Event, SamplesWritten, TrainingProgress, Validated
from sgdd_engine.training.loss import BatchLoss


class MetricAccumulator:
    """Averages over the steps since the last report.

    Sums stay on the device until a report needs them: reading one would make the host wait for the device.

    Args:
        world: The processes whose steps are counted; all of them report at the same steps.
    """

    def __init__(self, world: World = ALONE) -> None:
        self._world = world
        self.reset()

    def reset(self) -> None:
        """Start a new interval."""
        self.micro_batches = self.sentences = self.tokens = 0
        self.terms: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.guesses: Tensor | None = None
        self.began = time.perf_counter()

    def add_micro_batch(self, loss: BatchLoss) -> None:
        """Count one micro-batch."""
        self.micro_batches += 1
        self.sentences += loss.masked.shape[0]
        self.tokens += loss.masked.numel()
        nll = loss.nll.sum() / max(1, len(loss.nll))
        self.terms.append(torch.stack([nll, loss.length_nats, loss.kl_nats, loss.surrogate_error]))
        guesses = sums_by_mask_ratio(loss.masked, loss.correct.long()[None], loss.positions)
        self.guesses = guesses if self.guesses is None else self.guesses + guesses

    def add_step(self, grad_norm: Tensor) -> None:
        """Count one step, after all of its micro-batches."""
        self.norms.append(grad_norm)

    def report(
        self,
        step: int,
        max_steps: int | None,
        fraction: float,
        learning_rate: float,
        seconds_left: float | None,
        device: torch.device,
    ) -> TrainingProgress:
        """The averages over all processes; `loss` is in nats per masked token. Every rank must call it."""
        elapsed = max(1e-9, time.perf_counter() - self.began)
        sentences, tokens, count, nll, length, kl, surrogate, *guesses = self._sums()
        count = max(1.0, count)
        norm = float(torch.stack(self.norms).mean()) if self.norms else float("nan")
        return TrainingProgress(
            step=step,
            max_steps=max_steps,
            fraction=fraction,
            loss=nll / count,
            accuracy_by_mask_ratio=accuracy_by_mask_ratio(
                torch.tensor(guesses, dtype=torch.float64).view(2, -1)
            ),
            sentences_per_second=sentences / elapsed,
            tokens_per_second=tokens / elapsed,
            learning_rate=learning_rate,
            memory_bytes=memory_bytes(device),
            seconds_left=seconds_left,
            terms={
                "length_nats": length / count,
                "kl_nats": kl / count,
                "surrogate_error": surrogate / count,
                "grad_norm": norm,
            },
        )

    def _sums(self) -> list[float]:
        """Sentences, tokens, micro-batches; the terms of the loss; all and right guesses by mask ratio."""
        counts = torch.tensor([self.sentences, self.tokens, self.micro_batches], dtype=torch.float64)
        terms = torch.stack(self.terms).cpu().double().sum(dim=0) if self.terms else torch.zeros(4).double()
        guesses = torch.zeros(2, RATIO_PARTS + 1) if self.guesses is None else self.guesses.cpu()
        own = torch.cat([counts, terms, guesses.double().flatten()])
        sums: list[float] = self._world.all_reduce(own.to(self._world.device)).tolist()
        return sums


def memory_bytes(device: torch.device) -> int:
    """Most GPU memory allocated so far, or this process's resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


class TensorBoardLog:
    """Writes the run's metrics for TensorBoard; what an earlier session wrote after `first_step` is dropped.

    Args:
        run: The run's folder.
        first_step: Steps that the run has taken already.
    """

    def __init__(self, run: Path, first_step: int) -> None:
        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=first_step + 1)

    def __call__(self, event: Event) -> None:
        """Record the metrics of training and validation, and the texts written; other events are ignored."""
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

        if isinstance(event, SamplesWritten):
            self._writer.add_text("validation/written", written_table(event.pairs), event.step)

    def _scalars(self, group: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()


def written_table(pairs: Sequence[tuple[str, str]]) -> str:
    """Sources and what was written of them, as a table of Markdown, which TensorBoard draws."""

    def cell(text: str) -> str:
        # The text is data: neither a column's end nor HTML.
        return html.escape(text).replace("|", "&#124;")

    rows = [f"| {cell(source)} | {cell(written)} |" for source, written in pairs]
    return "\n".join(["| source | written |", "|---|---|", *rows])
