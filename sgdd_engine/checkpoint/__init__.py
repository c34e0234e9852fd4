"""A checkpoint is a folder that loads on its own: shapes, weights, tokenizer, encoder reference, model card.

Layout: `config.json`, `model.safetensors` (the averaged weights), tokenizer files, `README.md`, `training/` (what
resuming needs), and `files.json` with the SHA-256 of each, written last. No pickle anywhere.

`info` is what is no tensor, `weights` the tensors, `folder` reads and writes both, `naming` finds the folder that a
name means, `card` says it to people.
"""

from sgdd_engine.checkpoint.card import model_card
from sgdd_engine.checkpoint.folder import (
    Checkpoint,
    load_checkpoint,
    load_training_state,
    read_info,
    record_sampling,
    save_checkpoint,
)
from sgdd_engine.checkpoint.info import CheckpointInfo
from sgdd_engine.checkpoint.naming import checkpoints_of, newest_checkpoint, newest_run, resolve_checkpoint
from sgdd_engine.checkpoint.weights import Dtype

__all__ = [
    "Checkpoint",
    "CheckpointInfo",
    "Dtype",
    "checkpoints_of",
    "load_checkpoint",
    "load_training_state",
    "model_card",
    "newest_checkpoint",
    "newest_run",
    "read_info",
    "record_sampling",
    "resolve_checkpoint",
    "save_checkpoint",
]
