"""A run's checkpoints: who may write the run, what a checkpoint records, which are kept, which one is resumed."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from filelock import Timeout

from sgdd_engine.atomic_files import exclusive_folder, remove_folder
from sgdd_engine.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    checkpoint_damage,
    checkpoint_folder,
    checkpoints_of,
    read_info,
    resolve_checkpoint,
    save_checkpoint,
)
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.errors import CheckpointError, DataError, SgddError, TrainingError
from sgdd_engine.events import CheckpointSaved, Listener, Notice, ignore
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.training.config import TrainSpec
from sgdd_engine.training.state import Progress, RunContext, Training, averaged_model, training_state
from sgdd_engine.training.validation import ValidationFigures

SETTINGS = "settings.toml"
# What the shapes of the weights, the meaning of t, or the optimiser's moments follow from. All other settings may
# change when a run is resumed.
FIXED_SECTIONS = ("bottleneck.", "decoder.")
FIXED = ("diffusion.schedule", "train.optimizer", "train.part")
NOT_OF_THE_WEIGHTS = ("decoder.dropout",)
# Read by the first session of a run alone.
READ_AT_START = ("train.start_from", "train.table_init")
ORDER = ("train.seed", "train.batch_tokens")
LOWER_RATE = "Lower train.learning_rate (--set train.learning_rate=0.0003), then go on with --resume."


@contextmanager
def exclusive_run(run: Path) -> Iterator[None]:
    """While entered, the run's folder exists and no other process writes it; one that stays unused is removed.

    Raises:
        TrainingError: another process is writing it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive_folder(run))
        except Timeout:
            raise TrainingError(
                f"The run `{run}` is being trained by another process.",
                "Wait for it, or name another folder with --out.",
            ) from None
        yield


def newest_valid_checkpoint(run: Path, on_event: Listener = ignore) -> Path:
    """The newest checkpoint of a run that verifies; damaged ones are passed over with a warning.

    Raises:
        CheckpointError: there is none.
    """
    for folder in reversed(checkpoints_of(run)):
        problem = checkpoint_damage(folder, training_state=True)
        if problem is None:
            return folder
        on_event(Notice(f"Skipping `{folder}`: {problem}.", warning=True))
    raise CheckpointError(
        f"`{run}` holds no undamaged checkpoint to go on from.", "Start a new run, without --resume."
    )


def check_resumable(
    checkpoint: Path, corpus: Corpus, spec: TrainSpec, model: ModelConfig, on_event: Listener = ignore
) -> None:
    """Check that a run can go on from its checkpoint with this corpus and these settings; report what changed.

    Raises:
        DataError: it was trained on another corpus.
        CheckpointError: it has another model, noise schedule or optimiser; the message names the settings that differ.
    """
    info, run = read_info(checkpoint), checkpoint.parents[1]
    if info.facts.get("corpus", {}).get("fingerprint") != corpus.manifest.fingerprint():
        raise DataError(
            f"The run `{run}` was trained on another corpus than `{corpus.folder}`.",
            "Name the corpus it was started with.",
        )
    changes = changed_settings(info, spec)
    fixed = [
        text
        for key, text in changes.items()
        if key in FIXED or (key.startswith(FIXED_SECTIONS) and key not in NOT_OF_THE_WEIGHTS)
    ]
    if fixed:
        raise CheckpointError(
            f"The run `{run}` cannot go on with other settings of its model or optimiser: {', '.join(fixed)}.",
            f"Leave them as they stand in `{run / SETTINGS}`; other values come from options, --set, --config or the "
            "environment.",
        )
    assert dataclasses.replace(model, decoder=info.model.decoder) == info.model, "one corpus gives one model"
    on_event(Notice(f"Going on from step {info.step:,} of `{checkpoint}`."))
    for key in ORDER:
        if text := changes.pop(key, None):
            message = f"{text}: the sentences come in another order from here on."
            on_event(Notice(message, warning=True))
    for key in READ_AT_START:
        if text := changes.pop(key, None):
            on_event(Notice(f"{text}, which changes nothing in a run that has begun.", warning=True))
    if changes:
        on_event(Notice(f"Settings that changed: {', '.join(changes.values())}."))


def changed_settings(info: CheckpointInfo, spec: TrainSpec) -> dict[str, str]:
    """Settings that differ from those a checkpoint was trained with, by key: "decoder.layers was 2 and is 3"."""
    before = {
        "bottleneck": asdict(info.model.bottleneck),
        "decoder": asdict(info.model.decoder),
        "diffusion": asdict(info.diffusion),
        "train": info.facts.get("settings", {}),
        "feedback": info.facts.get("feedback", {}),
    }
    changes = {}
    for section, values in before.items():
        now = asdict(getattr(spec, section))
        for name, value in values.items():
            if name in now and now[name] != value:
                changes[f"{section}.{name}"] = (
                    f"{section}.{name} was {_shown(value)} and is {_shown(now[name])}"
                )
    return changes


def _shown(value: object) -> str:
    """A setting's value as settings files write it."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def prune(run: Path, written: Path, keep: int) -> None:
    """Remove old checkpoints of a run: never the one just written, the `keep` newest up to it, or the best.

    Checkpoints of later steps are left from before: a run that is resumed passes over them only if they are damaged.
    """
    folders = checkpoints_of(run)
    old = folders[: folders.index(written) + 1][:-keep]
    if not old:
        return
    best = resolve_checkpoint(run)
    for folder in old:
        if folder != best:
            remove_folder(folder)


def _check_finite(folder: Path, *files: Mapping[str, torch.Tensor]) -> None:
    """Check the numbers of a checkpoint's files before it is written.

    Raises:
        TrainingError: one is not finite, which a finite step may lead to.
    """
    for tensors in files:
        for name, tensor in tensors.items():
            # In numpy: it needs no copy, and PyTorch would start threads of its own for this thread.
            values = tensor.numpy()
            if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
                raise TrainingError(
                    f"`{name}` is not finite after the step of `{folder.name}`, which is not saved. "
                    f"{describe_last(folder.parents[1])}",
                    LOWER_RATE,
                )


def describe_last(run: Path) -> str:
    """A sentence that names the newest undamaged checkpoint of a run."""
    try:
        return f"The last good checkpoint is `{newest_valid_checkpoint(run)}`."
    except CheckpointError:
        return "There is no checkpoint yet."


def _is_complete(folder: Path, validated: bool) -> bool:
    if checkpoint_damage(folder, training_state=True):
        return False
    # A run that is told to stop saves at once; resumed with nothing left to do, it has yet to be validated.
    return not validated or "validation" in read_info(folder).facts


@dataclass(frozen=True)
class _Write:
    """A checkpoint that the thread writes: its step and folder, when it began, how long training stood still."""

    step: int
    folder: Path
    began: float
    stopped_seconds: float
    done: Future[float]


class Checkpointer:
    """Writes the checkpoints of a run in a thread, one at a time, while the run goes on.

    What is written is a copy that is made between two steps. Every rank must call its methods in the same order; only
    rank 0 writes. When the context is left, what was being written is complete.

    Args:
        corpus: What is trained on. spec: The run's settings. context: Where it is trained and written.
        dtype: Of its matrix products.
        on_event: Told of each checkpoint, in the thread of the caller.
    """

    def __init__(
        self, corpus: Corpus, spec: TrainSpec, context: RunContext, dtype: torch.dtype, on_event: Listener
    ) -> None:
        self.corpus, self.spec, self.context, self.dtype = corpus, spec, context, dtype
        self._on_event = on_event
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._write: _Write | None = None

    def has(self, step: int, *, validated: bool) -> bool:
        """Whether an undamaged checkpoint of this step is there already, with held-out figures if `validated`."""
        self.wait()
        folder = checkpoint_folder(self.context.run, step)
        world = self.context.world
        return world.any(world.is_main and folder.exists() and _is_complete(folder, validated))

    def save(self, training: Training, figures: ValidationFigures | None) -> None:
        """Have a checkpoint of this step written, and those removed that are no longer kept.

        The checkpoint before must be complete first, so that one copy of the state is held at most.

        Raises:
            CheckpointError, TrainingError, OSError: the one before could not be written.
        """
        began, is_main, progress = time.perf_counter(), self.context.world.is_main, training.progress
        self.wait()
        model = training.shared.model
        state = training_state(model, training.optimizer, progress, is_main=is_main)
        averaged = averaged_model(model, training.ema, is_main=is_main)
        if is_main:
            folder = checkpoint_folder(self.context.run, progress.step)
            info = self._info(averaged.config, training, figures)
            checkpoint = Checkpoint(info, averaged, self.corpus.tokenizer)
            done = self._thread.submit(self._complete, folder, checkpoint, state)
            self._write = _Write(progress.step, folder, began, time.perf_counter() - began, done)

    def prune(self, step: int) -> None:
        """Remove checkpoints that are no longer kept beside that of this step, which is complete."""
        if self.context.world.is_main:
            folder = checkpoint_folder(self.context.run, step)
            prune(self.context.run, folder, self.spec.train.keep_checkpoints)

    def check(self) -> None:
        """Report a checkpoint that was completed meanwhile; raises as `save` where it could not be."""
        if self._write is not None and self._write.done.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the checkpoint that is being written, and report it; raises as `save` where it could not be."""
        if (write := self._write) is None:
            return
        # Interrupted here by a second signal, it is still waited for when the context is left.
        completed = write.done.result()
        self._write = None
        self._on_event(
            CheckpointSaved(write.step, write.folder, completed - write.began, write.stopped_seconds)
        )

    def finish(self) -> None:
        """Wait on all ranks: none may end while rank 0 writes, since the launcher would end rank 0 too."""
        self.wait()
        self.context.world.barrier()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        try:
            self.wait()
        except (SgddError, OSError) as unwritten:
            if error is None:
                raise
            # The run ends by the first error, and this one is told beside it.
            self._on_event(Notice(f"The last checkpoint could not be written: {unwritten}", warning=True))

    def _complete(self, folder: Path, checkpoint: Checkpoint, state: dict[str, Any]) -> float:
        """Write a checkpoint, then remove old ones; returns when it was complete."""
        tensors = [value for name, value in state.items() if not name.endswith(".json")]
        _check_finite(folder, checkpoint.model.state_dict(), *tensors)
        save_checkpoint(folder, checkpoint, state)
        completed = time.perf_counter()
        prune(self.context.run, folder, self.spec.train.keep_checkpoints)
        return completed

    def best(self) -> Path:
        """The checkpoint of the lowest held-out loss, among those on the newest validation set."""
        run, world = self.context.run, self.context.world
        return Path(world.broadcast_text(str(resolve_checkpoint(run)) if world.is_main else ""))

    def _info(
        self, config: ModelConfig, training: Training, figures: ValidationFigures | None
    ) -> CheckpointInfo:
        progress = training.progress
        return CheckpointInfo(
            model=config,
            diffusion=self.spec.diffusion,
            encoder=self.corpus.encoder_reference,
            trained_null=progress.null_rows > 0,
            step=progress.step,
            facts=self._facts(progress, figures),
            **training.records,
        )

    def _facts(self, progress: Progress, figures: ValidationFigures | None) -> dict[str, Any]:
        """Corpus, training and held-out figures as JSON values."""
        manifest = self.corpus.manifest
        facts: dict[str, Any] = {
            "corpus": {
                "name": self.corpus.folder.name,
                "folder": str(self.corpus.folder.resolve()),
                "source": manifest.source,
                "fingerprint": manifest.fingerprint(),
                "train_sentences": len(self.corpus.split("train")),
            },
            "training": {
                "seconds": round(progress.seconds, 1),
                "sentences_seen": progress.sentences,
                "null_rows": progress.null_rows,
                "device": str(self.context.device),
                "precision": str(self.dtype).removeprefix("torch."),
                "torch": torch.__version__,
            },
            "settings": asdict(self.spec.train),
        }
        if self.spec.decoder.feedback:
            facts["feedback"] = asdict(self.spec.feedback)
        if figures is not None:
            facts["validation"] = {**asdict(figures), "set": progress.validation_set}
        return facts
