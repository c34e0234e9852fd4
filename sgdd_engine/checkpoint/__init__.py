"""A checkpoint is a folder that loads on its own: shapes, weights, tokenizer, encoder reference, model card.

Files: `config.json`, `model.safetensors` (the averaged weights), tokenizer files, `README.md`, `training/` (what
resuming needs), and `files.json` with the SHA-256 of each, written last. No pickle anywhere.

`info` holds what is no tensor, as `config.json`, and `card` makes the model card of it; `find` finds the folder that a
name means, `listing` all that there are; `folder` reads, verifies and amends one; `hub` fetches and shares one;
`weights` writes and loads whole ones. Names are imported on first use: only `weights` loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgdd_engine.checkpoint.card import CardFacts as CardFacts
    from sgdd_engine.checkpoint.card import model_card as model_card
    from sgdd_engine.checkpoint.card import states_license as states_license
    from sgdd_engine.checkpoint.card import with_metadata as with_metadata
    from sgdd_engine.checkpoint.find import STEP_NAME as STEP_NAME
    from sgdd_engine.checkpoint.find import checkpoint_folder as checkpoint_folder
    from sgdd_engine.checkpoint.find import checkpoints_of as checkpoints_of
    from sgdd_engine.checkpoint.find import hub_model as hub_model
    from sgdd_engine.checkpoint.find import newest_checkpoint as newest_checkpoint
    from sgdd_engine.checkpoint.find import newest_run as newest_run
    from sgdd_engine.checkpoint.find import require_pinned as require_pinned
    from sgdd_engine.checkpoint.find import resolve_checkpoint as resolve_checkpoint
    from sgdd_engine.checkpoint.folder import checkpoint_damage as checkpoint_damage
    from sgdd_engine.checkpoint.folder import read_info as read_info
    from sgdd_engine.checkpoint.folder import record_confidence as record_confidence
    from sgdd_engine.checkpoint.folder import record_evaluation as record_evaluation
    from sgdd_engine.checkpoint.folder import record_sampling as record_sampling
    from sgdd_engine.checkpoint.folder import weights_sha256 as weights_sha256
    from sgdd_engine.checkpoint.hub import Upload as Upload
    from sgdd_engine.checkpoint.hub import own_card as own_card
    from sgdd_engine.checkpoint.hub import pull as pull
    from sgdd_engine.checkpoint.hub import push as push
    from sgdd_engine.checkpoint.hub import upload_of as upload_of
    from sgdd_engine.checkpoint.hub_name import HubName as HubName
    from sgdd_engine.checkpoint.info import CheckpointInfo as CheckpointInfo
    from sgdd_engine.checkpoint.listing import ListedModel as ListedModel
    from sgdd_engine.checkpoint.listing import hides_cached_model as hides_cached_model
    from sgdd_engine.checkpoint.listing import list_models as list_models
    from sgdd_engine.checkpoint.listing import model_names as model_names
    from sgdd_engine.checkpoint.weights import Checkpoint as Checkpoint
    from sgdd_engine.checkpoint.weights import Dtype as Dtype
    from sgdd_engine.checkpoint.weights import load_checkpoint as load_checkpoint
    from sgdd_engine.checkpoint.weights import load_training_state as load_training_state
    from sgdd_engine.checkpoint.weights import save_checkpoint as save_checkpoint
    from sgdd_engine.checkpoint.weights import verify_checkpoint as verify_checkpoint

# Module of each name.
_MODULES = {
    "list_models": "listing",
    "model_names": "listing",
    "ListedModel": "listing",
    "states_license": "card",
    "with_metadata": "card",
    "CardFacts": "card",
    "hides_cached_model": "listing",
    "own_card": "hub",
    "upload_of": "hub",
    "pull": "hub",
    "push": "hub",
    "Upload": "hub",
    "HubName": "hub_name",
    "require_pinned": "find",
    "hub_model": "find",
    "STEP_NAME": "find",
    "checkpoint_folder": "find",
    "checkpoints_of": "find",
    "newest_checkpoint": "find",
    "newest_run": "find",
    "resolve_checkpoint": "find",
    "checkpoint_damage": "folder",
    "read_info": "folder",
    "record_confidence": "folder",
    "record_evaluation": "folder",
    "record_sampling": "folder",
    "weights_sha256": "folder",
    "CheckpointInfo": "info",
    "model_card": "card",
    "Checkpoint": "weights",
    "Dtype": "weights",
    "load_checkpoint": "weights",
    "load_training_state": "weights",
    "save_checkpoint": "weights",
    "verify_checkpoint": "weights",
}

__all__ = [
    "STEP_NAME",
    "CardFacts",
    "Checkpoint",
    "CheckpointInfo",
    "Dtype",
    "HubName",
    "ListedModel",
    "Upload",
    "checkpoint_damage",
    "checkpoint_folder",
    "checkpoints_of",
    "hides_cached_model",
    "hub_model",
    "list_models",
    "load_checkpoint",
    "load_training_state",
    "model_card",
    "model_names",
    "newest_checkpoint",
    "newest_run",
    "own_card",
    "pull",
    "push",
    "read_info",
    "record_confidence",
    "record_evaluation",
    "record_sampling",
    "require_pinned",
    "resolve_checkpoint",
    "save_checkpoint",
    "states_license",
    "upload_of",
    "verify_checkpoint",
    "weights_sha256",
    "with_metadata",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the signature that PEP 562 asks for
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
