"""What may be asked of a model, checked before it is: one clear sentence for each wish that cannot be met."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sgdd_engine.checkpoint import CheckpointInfo
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import GenerationError

# Sentences written for each one that the encoder reads, where the model can guess which one is worth it.
SHORTLIST = 4


def validate_vectors(vectors: Tensor | Sequence[Sequence[float]], info: CheckpointInfo) -> Tensor:
    """The vectors as a table [N, D] in float32 on the CPU.

    Raises:
        GenerationError: they are no such table, of another size than the model's encoder makes, or not finite.
    """
    try:
        e = torch.as_tensor(vectors, dtype=torch.float32).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise GenerationError(f"The vectors are no table of numbers: {error}.") from error
    dim = info.model.embedding_dim
    if e.ndim != 2 or e.shape[1] != dim:
        raise GenerationError(
            f"The vectors have shape {list(e.shape)}; "
            f"this model reads [N, {dim}], made by `{info.encoder.name}`.",
            "Encode with the encoder the model was trained with: SGDD.encode(texts).",
        )
    if not torch.isfinite(e).all():
        raise GenerationError("The vectors hold NaN or infinite numbers.")
    return e


def validate_counts(candidates: int, num_samples: int, refine: int, seed: int, unconditional: bool) -> None:
    """Check how often is written.

    Raises:
        GenerationError: a number is out of range, or there is no meaning to refine towards.
    """
    if candidates < 1 or num_samples < 1:
        raise GenerationError("The number of candidates and of samples must be at least 1.")
    if refine < 0:
        raise GenerationError(f"{refine} rounds of refining were asked for; there cannot be fewer than 0.")
    if refine and unconditional:
        raise GenerationError(
            "Refining goes towards the meaning of a vector, and the null condition has none.",
            "Leave out one of the two (refine, unconditional).",
        )
    if not 0 <= seed <= (1 << 63) - num_samples:
        raise GenerationError(f"The seed is {seed}; it must lie between 0 and 2^63 - 1.")


def validate_shortlist(shortlist: int | None, info: CheckpointInfo, reads: bool) -> int:
    """How many sentences are written for each one that goes on.

    Args:
        shortlist: As asked for; None for the default.
        info: Says whether the model can choose among them.
        reads: Whether the encoder reads what goes on, to choose in its turn; without that the default is 1.

    Raises:
        GenerationError: fewer than one, or several of a model that cannot choose among them.
    """
    chooses = info.model.decoder.surrogate_width > 0
    if shortlist is None:
        return SHORTLIST if chooses and reads else 1
    if shortlist < 1:
        raise GenerationError(f"A shortlist of {shortlist} was asked for; it must hold at least 1 sentence.")
    if shortlist > 1 and not chooses:
        raise GenerationError(
            f"A shortlist of {shortlist} was asked for, and this model has no surrogate of the encoder to choose with.",
            "Leave the shortlist out, or train with --set decoder.surrogate_width=64.",
        )
    return shortlist


def validate_lengths(
    lengths: int | Sequence[int], rows: int, candidates: int, info: CheckpointInfo
) -> list[int]:
    """The length of each row in tokens, as it was given for all or for each.

    Raises:
        GenerationError: they are too many or too few, out of range, or stand beside candidates.
    """
    if candidates > 1:
        raise GenerationError(
            "Candidates differ in their length, and a length was given.",
            "Leave out one of the two (--length, --candidates).",
        )
    longest = info.model.max_tokens
    given = [lengths] * rows if isinstance(lengths, int) else list(lengths)
    if len(given) != rows:
        raise GenerationError(f"{len(given)} lengths were given for {rows} vectors.")
    if bad := [n for n in given if not 1 <= n <= longest]:
        raise GenerationError(f"A length of {bad[0]} tokens was asked for; this model writes 1 to {longest}.")
    return given


def validate_sampling(sampling: SamplingConfig, unconditional: bool, info: CheckpointInfo) -> SamplingConfig:
    """The sampling as the model can do it.

    Raises:
        GenerationError: guidance is asked of a model without a trained null condition.
    """
    if unconditional:
        # The null branch guided by itself is itself.
        return replace(sampling, cfg=1.0)
    if sampling.cfg != 1.0 and not info.trained_null:
        raise GenerationError(
            f"Guidance (cfg = {sampling.cfg:g}) needs a null condition, and this model was trained without one.",
            "Use --cfg 1, or train with train.condition_dropout above 0.",
        )
    return sampling
