"""What one of several processes does that prepare a corpus together, in forks of the process that tests."""

import os
from pathlib import Path

from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.manifest import WORK
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.distributed import CPU, LostProcessError, join
from sgdd_engine.errors import SgddError
from sgdd_engine.events import StageProgress
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.text.encoder import load_encoder

CONFIG = DataConfig(shard_sentences=256, validation_share=0.05)


def prepare_rank(book: Path, out: Path, encoder: Path, said: int, held: int | None = None) -> None:
    """Prepare `book` in `out`.

    Args:
        book: The text.
        out: The corpus.
        encoder: The encoder's folder.
        said: A descriptor that lines are written to, each in one piece.
        held: A descriptor that rank 0 reads once a training shard is finished: it stands still, to be killed.
    """

    def say(line: str) -> None:
        os.write(said, f"{line}\n".encode())

    def on_event(event: object) -> None:
        if held is not None and list((out / WORK).glob("train-*.json")):
            say("a shard stands")
            os.read(held, 1)
        if isinstance(event, StageProgress) and event.stage == "encoding":
            say(f"rank {world.rank}: {event.done}")

    with join(CPU) as world:
        try:
            manifest = prepare(
                open_source(str(book), CONFIG),
                out,
                encoder=lambda: load_encoder(EncoderConfig(name=str(encoder))),
                config=CONFIG,
                tokenizer=TokenizerConfig(),
                on_event=on_event,
                world=world,
            )
        except LostProcessError:
            raise SystemExit(1) from None
        except SgddError as error:
            say(f"rank {world.rank} says: {error.message}")
            raise SystemExit(1) from None
        say(f"rank {world.rank} has {manifest.counts['kept']} sentences")
