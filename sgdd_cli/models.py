"""Finding and loading the model that a command needs, and the text it is scored on."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdd_cli.console import say
from sgdd_cli.default_paths import RUNS, corpus_of
from sgdd_engine.bounded_files import UnreadableError, read_text
from sgdd_engine.counted import counted
from sgdd_engine.errors import ConfigError, DataError, EncoderError
from sgdd_engine.mini import MINI, SENTENCES, is_mini, mini_is_here

if TYPE_CHECKING:
    from sgdd_cli.settings import Resolved
    from sgdd_engine.generation import SGDD

# A quarter of the 7,000 steps that `mini` took until its sentences were good; see `diagnosis.run`.
_FEW_STEPS = 1750


def load_model(
    checkpoint: str | Path | None,
    device: str,
    encoder: str | None = None,
    *,
    encoder_batch_tokens: int | None = None,
    mini_by: str = f"--checkpoint {MINI}",
) -> tuple["SGDD", Path]:
    """The named model, or the default one, and the folder of its checkpoint; see `find_checkpoint`.

    Args:
        checkpoint: What was named; None for the default.
        device: As `SGDD.from_pretrained` takes it.
        encoder: Where the model's encoder is, if not where it was (`named_encoder`).
        encoder_batch_tokens: Tokens that it computes at once.
        mini_by: How the command is told to take `mini`.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: no such device.
    """
    from sgdd_engine.generation import SGDD  # noqa: PLC0415 - loads torch

    folder = find_checkpoint(checkpoint, mini_by=mini_by)
    model = SGDD.from_pretrained(folder, device, encoder)
    model.encoder_batch_tokens = encoder_batch_tokens
    if not model.info.trained_null:
        say("This model was trained without a null condition, so it is sampled without guidance (cfg 1).")
    return model, folder


def named_encoder(resolved: "Resolved") -> str | None:
    """Where this command line says that the encoder of a model or corpus is; None where it says nothing.

    Files and the environment say what the next preparation uses, whichever model is read meanwhile.

    Raises:
        ConfigError: another setting is given that changes vectors: what made the vectors cannot be chosen any more.
    """
    given = [key for key, origin in resolved.origins.items() if origin in ("--set", "--encoder")]
    for key in given:
        if key.startswith("encoder.") and key not in ("encoder.name", "encoder.batch_tokens"):
            raise ConfigError(
                f"{key} cannot be set here: the vectors were made by an encoder, and it is used as it was then.",
                "encoder.name may be set, to say where the encoder is now, and encoder.batch_tokens.",
            )
    return resolved.settings.encoder.name if "encoder.name" in given else None


def find_checkpoint(
    named: str | Path | None, *, revision: str | None = None, mini_by: str = f"--checkpoint {MINI}"
) -> Path:
    """The folder of the named checkpoint, of the newest run's best, or of `mini` where there is no run.

    Unless the name was the folder itself, a note says which one was taken; of a run that nobody named, how long it was
    trained, too.

    Args:
        named: A folder, `mini`, or a model on the hub.
        revision: Of a model on the hub.
        mini_by: How the command is told to take `mini`.

    Raises:
        CheckpointError: there is none.
    """
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - as above
    from sgdd_engine.checkpoint import (  # noqa: PLC0415
        HubName,
        hides_cached_model,
        newest_checkpoint,
        newest_run,
        read_info,
        resolve_checkpoint,
    )

    if named is None and (newest_run(RUNS) is not None or not mini_is_here()):
        with ProgressDisplay() as display:
            folder = newest_checkpoint(RUNS, display)
        info = read_info(folder)
        loss = f", held-out loss {info.validation_loss:.3f}" if isfinite(info.validation_loss) else ""
        few = ", which are few" if info.step < _FEW_STEPS else ""
        steps = counted(info.step, "step")
        say(f"Checkpoint: {folder}, the best of the newest run: {steps}{few}{loss}.")
        if mini_is_here():
            say(f"For the model that comes with sgdd: {mini_by}; `sgdd models` lists all there are.")
        return folder
    with ProgressDisplay() as display:
        folder = resolve_checkpoint(MINI if named is None else named, revision, display)
    if (on_hub := HubName.of_folder(folder)) is not None:
        say(f"Checkpoint: {on_hub.name} from the hub; to use exactly these weights again: {on_hub}")
    elif named is not None and Path(named).is_dir() and hides_cached_model(str(named)):
        say(f"Checkpoint: {folder}, from a folder here; for the model of this name on the hub: hf:{named}")
    elif is_mini(folder):
        why = f"; there is no run in `{RUNS}`" if named is None else ""
        say(f"Checkpoint: {MINI}, the small English model that comes with sgdd{why}.")
    elif named == MINI:
        say(f"Checkpoint: {folder}, from the folder `{MINI}` here; not the `{MINI}` that comes with sgdd.")
    elif folder != Path(named or ""):
        say(f"Checkpoint: {folder}")
    return folder


def checkpoint_name(folder: Path) -> str:
    """What to call a checkpoint in a report: its folder, `mini`, or its name on the hub with the commit."""
    from sgdd_engine.checkpoint import HubName  # noqa: PLC0415 - as above

    return MINI if is_mini(folder) else str(HubName.of_folder(folder) or folder)


def may_change(folder: Path) -> bool:
    """Whether something may be recorded in a checkpoint: not in `mini`, nor in the hub's cache."""
    from sgdd_engine.checkpoint import HubName  # noqa: PLC0415 - as above

    return not is_mini(folder) and HubName.of_folder(folder) is None


def model_to_share(folder: Path) -> "SGDD":
    """Load a checkpoint on the CPU, with what earlier versions did not record of its encoder, where that is here."""
    from sgdd_engine.generation import SGDD  # noqa: PLC0415

    model = SGDD.from_pretrained(folder, "cpu")
    encoder = model.info.encoder
    if encoder.probes is not None:
        return model
    lacks = (
        "This older checkpoint records no vectors of probe sentences, which show if its encoder has changed"
    )
    if encoder.revision is not None:  # the weights might have to be fetched
        say(f"{lacks}; they are not added, since its encoder is on the hub, where a commit identifies it.")
        return model
    try:
        _ = model.encoder
    except EncoderError as error:
        say(f"{lacks}; they cannot be added. {error.message}")
    else:
        say(f"{lacks}; they are added.")
    return model


def read_card(card: Path) -> str:
    """The text of a model card.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return read_text(card)
    except UnreadableError as error:
        raise DataError(f"The model card {error.message}") from None


def text_to_score(checkpoint: Path, facts: Mapping[str, Any]) -> Path:
    """What a checkpoint is evaluated on by default: the corpus it was trained on.

    The corpus of `mini` is not part of sgdd; sentences that were written for sgdd stand in for it.

    Raises:
        DataError: its corpus is not found.
    """
    try:
        return corpus_of(checkpoint, facts, "Name it, or a text file, with --data.")
    except DataError:
        if not is_mini(checkpoint):
            raise
    count = len(SENTENCES.read_text(encoding="utf-8").splitlines())
    say(
        f"Evaluated on {count} sentences that come with sgdd, written for it and in no book; for a text of your own: "
        "--data FILE"
    )
    return SENTENCES
