"""Settings that train a tiny real model in seconds, and a program that tests start as a process of its own."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from sgdd_engine.data.corpus import Corpus
from sgdd_engine.events import CheckpointSaved
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig
from sgdd_engine.training.config import TrainConfig, TrainSpec
from sgdd_engine.training.loop import train

TINY = TrainSpec(
    train=TrainConfig(
        max_steps=12,
        batch_tokens=256,
        learning_rate=3e-3,
        warmup_steps=2,
        log_every=2,
        validate_every=6,
        validation_sentences=20,
        save_every=4,
        keep_checkpoints=2,
        precision="fp32",
        anneal_steps=5,
    ),
    bottleneck=BottleneckConfig(kind="vib", latent_dim=16, hidden_dim=16),
    decoder=DecoderConfig(layers=1, width=32, heads=2, memory_tokens=2, mlp_ratio=2.0),
)


def tiny(**changes: object) -> TrainSpec:
    return replace(TINY, train=replace(TINY.train, **changes))


def main() -> None:
    """`python tiny_training.py CORPUS RUN STEPS [--resume] [--hold]`: train until done or told to stop.

    With `--hold`, the run stands still at its first checkpoint, to be killed there.
    """
    # As the tests themselves run: sums over another number of threads round differently.
    torch.set_num_threads(1)
    corpus, run, steps = sys.argv[1:4]

    def on_event(event: object) -> None:
        print(type(event).__name__, flush=True)
        if "--hold" in sys.argv and isinstance(event, CheckpointSaved):
            sys.stdin.read()

    result = train(
        Corpus.open(Path(corpus)),
        Path(run),
        tiny(max_steps=int(steps)),
        device="cpu",
        resume="--resume" in sys.argv,
        on_event=on_event,
    )
    print(f"stopped={result.stopped} step={result.step} signal={result.signal}", flush=True)


if __name__ == "__main__":
    main()
