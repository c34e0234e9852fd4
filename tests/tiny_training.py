"""Settings that train a tiny real model in seconds."""

from dataclasses import replace

from sgdd_engine.models.config import BottleneckConfig, DecoderConfig
from sgdd_engine.training.config import TrainConfig, TrainSpec

TINY = TrainSpec(
    train=TrainConfig(
        max_steps=12,
        batch_tokens=256,
        learning_rate=3e-3,
        warmup_steps=2,
        log_every=2,
        validate_every=6,
        validation_sentences=6,
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
