"""A checkpoint is a folder that loads on its own: shapes, weights, tokenizer, encoder reference, model card.

Files: `config.json`, `model.safetensors` (the averaged weights), tokenizer files, `README.md`, `training/` (what
resuming needs), and `files.json` with the SHA-256 of each, written last. No pickle anywhere.

`info` holds what is no tensor, as `config.json` and as the model card; `folder` finds, writes and loads the folders.
"""

from sgdd_engine.checkpoint.folder import (
    STEP_NAME,
    Checkpoint,
    Dtype,
    checkpoint_damage,
    checkpoint_folder,
    checkpoints_of,
    load_checkpoint,
    load_training_state,
    newest_checkpoint,
    newest_run,
    read_info,
    record_confidence,
    record_sampling,
    resolve_checkpoint,
    save_checkpoint,
    weights_sha256,
)
from sgdd_engine.checkpoint.info import CheckpointInfo, model_card

__all__ = [
    "STEP_NAME",
    "Checkpoint",
    "CheckpointInfo",
    "Dtype",
    "checkpoint_damage",
    "checkpoint_folder",
    "checkpoints_of",
    "load_checkpoint",
    "load_training_state",
    "model_card",
    "newest_checkpoint",
    "newest_run",
    "read_info",
    "record_confidence",
    "record_sampling",
    "resolve_checkpoint",
    "save_checkpoint",
    "weights_sha256",
]
