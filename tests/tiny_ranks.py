"""A few short runs, one after the other, in the same processes, each of which is a rank."""

import json
import signal
from dataclasses import replace
from pathlib import Path

from tiny_training import TINY, tiny

from sgdd_engine.data.corpus import Corpus
from sgdd_engine.distributed import CPU, join
from sgdd_engine.errors import TrainingError
from sgdd_engine.events import TrainingProgress
from sgdd_engine.training.config import TrainSpec
from sgdd_engine.training.loop import train

STOP_AFTER = 6
# The encoder's folder is not needed for what is tested here.
FOUR_PIECES = tiny(micro_batches=4, table_init="random")
BAD = replace(FOUR_PIECES, train=replace(FOUR_PIECES.train, learning_rate=1e30, warmup_steps=0, max_steps=50))


def with_mode(mode: str, *, micro_batches: int | None = None, **changes: object) -> TrainSpec:
    train_config = replace(FOUR_PIECES.train, parallel=mode, micro_batches=micro_batches, **changes)
    return replace(TINY, train=train_config)


def surrogate_alone(mode: str, start_from: Path) -> TrainSpec:
    changes = {"part": "surrogate", "start_from": str(start_from), "parallel": mode, "learning_rate": 1e-2}
    return replace(
        FOUR_PIECES,
        train=replace(FOUR_PIECES.train, **changes),
        decoder=replace(FOUR_PIECES.decoder, surrogate_width=8),
    )


def short_runs(corpus: Corpus, folder: Path) -> None:
    """What one rank does; what happened is written to FOLDER/RANK.json."""
    happened: dict[str, object] = {}
    with join(CPU) as world:

        def run(name: str, spec: TrainSpec, listener=lambda event: None, resume: bool = False) -> str:
            result = train(
                corpus, folder / name, spec, device="cpu", resume=resume, on_event=listener, world=world
            )
            return f"{result.stopped} at {result.step}, best {result.best.name}"

        def stop(event: object) -> None:
            # Raised on rank 0, after the agreement of this step: all stop after the next one.
            if isinstance(event, TrainingProgress) and event.step == STOP_AFTER - 1:
                signal.raise_signal(signal.SIGINT)

        for mode in ("ddp", "fsdp"):
            happened[f"{mode} stopped"] = run(
                f"{mode}-stopped", with_mode(mode, micro_batches=4, log_every=1), stop
            )
            happened[f"{mode} resumed"] = run(f"{mode}-resumed", with_mode(mode), resume=True)
        for mode in ("ddp", "fsdp"):
            spec = surrogate_alone(mode, folder / "ddp-resumed")
            happened[f"{mode} surrogate"] = run(f"{mode}-surrogate", spec)
        happened["words"] = [
            world.broadcast_text(f"from {world.rank}"),
            world.broadcast_text(""),
            world.any(world.rank == 1),
        ]
        try:
            run("bad", BAD)
        except TrainingError as error:
            happened["error"] = error.message
        (folder / f"{world.rank}.json").write_text(json.dumps(happened))
