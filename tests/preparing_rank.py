"""One of several processes that prepare a corpus together; `torchrun` starts it for tests."""

import sys
from pathlib import Path

import torch

from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.manifest import WORK
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.distributed import LostProcessError, join
from sgdd_engine.errors import SgddError
from sgdd_engine.events import StageProgress
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.text.encoder import load_encoder

CONFIG = DataConfig(shard_sentences=256, validation_share=0.05)


def say(line: str) -> None:
    # In one piece: the launcher's processes are not buffered and share one pipe.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(book: str, out: str, encoder: str, hold: str = "") -> None:
    """Prepare `book` in `out`; with `hold`, rank 0 stands still once a training shard is finished, to be killed."""
    torch.set_num_threads(1)

    def on_event(event: object) -> None:
        if hold and list((Path(out) / WORK).glob("train-*.json")):
            say("a shard stands")
            sys.stdin.read()
        if isinstance(event, StageProgress) and event.stage == "encoding":
            say(f"rank {world.rank}: {event.done}")

    with join(torch.device("cpu")) as world:
        try:
            manifest = prepare(
                open_source(book, CONFIG),
                Path(out),
                encoder=lambda: load_encoder(EncoderConfig(name=encoder)),
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


if __name__ == "__main__":
    main(*sys.argv[1:])
