"""What callers give to `SGDD`, normalised or refused with one clear sentence."""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgdd_engine.checkpoint import CheckpointInfo
from sgdd_engine.data.cleaning import clean
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import GenerationError
from sgdd_engine.events import Listener, Notice, ignore
from sgdd_engine.generation.config import LengthRange
from sgdd_engine.generation.decode import RESAMPLING_TEMPERATURE
from sgdd_engine.registry import Registry

# Sentences written for each one that the encoder reads, where the model has a surrogate to choose with. One correction
# of 1,000 held-out sentences of novels by `mini` after seven stages: without a choice +3.0 BLEU over one shot, with 4
# +6.5. Of 300 others 8 brought no more than 4.
DEFAULT_SHORTLIST = 4
# Of vectors of length 1. Rounding to bfloat16 changes their lengths by at most 0.04 %.
LENGTH_TOLERANCE = 0.01
# Most that a number of a latent may be. Those of the training vectors have a standard deviation of about 1; beyond
# 1e19 their products leave the range of float32, and what is written says nothing long before.
LARGEST_LATENT = 1e6

TextsLike = str | Iterable[str]
"""One text, or any iterable of texts: a list, a tuple, a generator, a numpy array, a pandas Series."""
VectorsLike = Tensor | np.ndarray[Any, Any] | Iterable[Any]
"""Vectors [N, D], or one [D]: a tensor, an array of any layout and number type, or nested sequences of these."""
LengthsLike = int | str | Iterable[int | str]
"""A number of tokens or a range such as "6-9": one for all, or one for each."""


def texts_or_vectors(given: TextsLike | VectorsLike) -> tuple[Any, bool]:
    """What was given, unused iterators as lists, and whether it is texts."""
    if isinstance(given, str):
        return given, True
    # The rows of a table of pandas are in its array; iterating it would give the names of its columns.
    as_array = getattr(given, "to_numpy", None)
    if callable(as_array):
        given = as_array()
    if not isinstance(given, Tensor | np.ndarray | bytes) and isinstance(given, Iterable):
        given = list(given)
    rows = given if isinstance(given, list) or (isinstance(given, np.ndarray) and given.ndim) else []
    return given, len(rows) > 0 and isinstance(rows[0], str)


def validate_texts(texts: TextsLike) -> list[str]:
    """Texts as a list of cleaned sentences; a lone text is a list of one.

    Raises:
        GenerationError: an item is not a text, or holds nothing.
    """
    if isinstance(texts, str):
        texts = [texts]
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise GenerationError(
            f"Texts are needed, and this is of type {type(texts).__name__}.",
            'Give a list of texts: ["A sentence."]',
        )
    cleaned = []
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise GenerationError(
                f"Item {number} of the texts is of type {type(text).__name__}: {_shorten(text)}.",
                "Every item must be a text (str).",
            )
        cleaned.append(clean(str(text)))
        if not cleaned[-1]:
            raise GenerationError(f"There is nothing to encode in {_shorten(text)}.", "Give a sentence.")
    return cleaned


def validate_vectors(vectors: VectorsLike, info: CheckpointInfo) -> Tensor:
    """The vectors as a table [N, D] in float32 on the CPU; a single vector [D] is a table of one.

    Raises:
        GenerationError: they are no such table, of another size than the model's encoder makes, or not finite.
    """
    try:
        e = _as_float32(vectors)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise GenerationError(f"The vectors are not a table of numbers: {reason}.") from error
    dim = info.model.embedding_dim
    if e.ndim == 1 and len(e) == dim:
        e = e[None]
    if e.numel() == 0 and e.ndim <= 2:
        return torch.empty(0, dim)
    if e.ndim != 2 or e.shape[1] != dim:
        raise GenerationError(
            f"The vectors have shape {list(e.shape)}; "
            f"this model reads [N, {dim}], made by `{info.encoder.name}`.",
            "Encode with the encoder the model was trained with: SGDD.encode(texts).\n"
            "Vectors of another encoder are mapped to it: sgdd align PAIRS --out FILE\n"
            "Then in Python: load_map(FILE)(vectors)",
        )
    if not torch.isfinite(e).all():
        row = int((~torch.isfinite(e)).any(dim=1).nonzero()[0])
        raise GenerationError(f"Vector {row} holds NaN or infinite numbers.")
    return e


def scale_to_unit(e: Tensor, on_event: Listener = ignore) -> Tensor:
    """Vectors [N, D] with those of another length than 1 scaled to it; a vector of zeros has no direction and stays.

    Each is looked at by itself, so that what is written of it does not depend on those beside it.

    Args:
        e: Finite.
        on_event: Told if any was scaled.
    """
    # In float64: the squares of large numbers overflow in float32.
    lengths = e.double().norm(dim=1)
    other = ((lengths - 1).abs() > LENGTH_TOLERANCE) & (lengths > 0)
    if not other.any():
        return e
    row = int(other.nonzero()[0])
    on_event(
        Notice(
            f"Vector {row} has the length {float(lengths[row]):.3g}, and this model's encoder makes vectors of length "
            "1; such vectors are scaled to it.",
            warning=True,
        )
    )
    scaled = e.clone()
    scaled[other] = (e[other].double() / lengths[other, None]).float()
    return scaled


def _as_float32(vectors: VectorsLike) -> Tensor:
    """Numbers of any layout as a float32 tensor of its own on the CPU.

    Raises:
        TypeError, ValueError, RuntimeError: they are no numbers, or rows of different lengths.
    """
    if isinstance(vectors, Tensor):
        return vectors.detach().to("cpu", torch.float32)
    if not isinstance(vectors, np.ndarray):
        if isinstance(vectors, str | bytes) or not isinstance(vectors, Iterable):
            raise TypeError(f"they are of type {type(vectors).__name__}")
        # A DataFrame's rows are in its array; iterating it would give the names of its columns.
        as_array = getattr(vectors, "to_numpy", None)
        vectors = as_array() if callable(as_array) else list(vectors)
    if isinstance(vectors, list):
        vectors = [row.detach().cpu().float().numpy() if isinstance(row, Tensor) else row for row in vectors]
        array = np.asarray(vectors) if vectors else np.empty(0, np.float32)
    else:
        array = vectors
    if array.dtype == object:
        array = np.stack([np.asarray(row) for row in array]) if len(array) else np.empty(0, np.float32)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"their items are of type {array.dtype}")
    # A copy in native byte order and row by row, whatever strides the array has.
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which the caller refuses
        return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def validate_count(value: Any, name: str, minimum: int) -> int:  # noqa: ANN401 - whatever the caller gave
    """A whole number of at least `minimum`, as an `int`; numpy's integers are taken.

    Raises:
        GenerationError: it is not one.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise GenerationError(f"{name} is {_shorten(value)}; it must be a whole number.") from None
    if number < minimum:
        raise GenerationError(f"{name} is {number}; it must be at least {minimum}.")
    return number


def validate_seed(seed: Any, num_samples: int) -> int:  # noqa: ANN401 - as above
    """The seed of the first sample; sample k uses `seed + k`.

    Raises:
        GenerationError: it is out of range.
    """
    number = validate_count(seed, "seed", 0)
    if number > (1 << 63) - num_samples:
        raise GenerationError(f"The seed is {number}; it must lie between 0 and 2^63 - 1.")
    return number


def validate_latents(latents: Tensor, like: Tensor, unconditional: bool) -> Tensor:
    """Latents [N, latent_dim] on the model's device, as the null condition's `like` are.

    Raises:
        GenerationError: they have another shape, cannot be computed with, or no latents are to be used.
    """
    if unconditional:
        raise GenerationError(
            "Latents were given, and the null condition uses none.", "Leave out one of the two."
        )
    if latents.shape != like.shape:
        raise GenerationError(
            f"The latents have shape {list(latents.shape)}; these vectors have {list(like.shape)}."
        )
    return check_latents(latents.to(like))


def check_latents(z: Tensor) -> Tensor:
    """Latents [N, latent_dim] that can be computed with, as they are.

    Raises:
        GenerationError: one is not finite, or so large that what is computed from it would not be.
    """
    usable = (z.abs() <= LARGEST_LATENT).all(dim=1)  # NaN is not
    if not usable.all():
        row = int((~usable).nonzero()[0])
        raise GenerationError(
            f"Vector {row} is too far from those that the model was trained with: its numbers are too large.",
            "Encode with the encoder the model was trained with: SGDD.encode(texts).",
        )
    return z


def validate_weights(weights: Sequence[float] | None, parts: int) -> list[float]:
    """One finite weight for each part; 1 each where none are given.

    Raises:
        GenerationError: there are more or fewer, or one is no finite number.
    """
    if weights is None:
        return [1.0] * parts
    given = list(weights)
    if len(given) != parts:
        raise GenerationError(f"{len(given)} weights were given for {parts} texts or vectors.")
    return [_finite(weight, "A weight") for weight in given]


def validate_strength(strength: Any) -> float:  # noqa: ANN401 - as above
    """A finite number of at least 0.

    Raises:
        GenerationError: it is not one.
    """
    number = _finite(strength, "strength")
    if number < 0:
        raise GenerationError(f"strength is {number:g}; it must not be negative.")
    return number


def _finite(value: Any, name: str) -> float:  # noqa: ANN401 - as above
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise GenerationError(f"{name} is {_shorten(value)}; it must be a finite number.")
    return number


def validate_shortlist(shortlist: int | None, info: CheckpointInfo, encodes: bool) -> int:
    """How many sentences are written for each one that goes on.

    Args:
        shortlist: As given; None for the default.
        info: Says whether the model has a surrogate to choose with.
        encodes: Whether the encoder reads what goes on, to choose in its turn; without that the default is 1.

    Raises:
        GenerationError: fewer than one, or several of a model that cannot choose among them.
    """
    has_surrogate = info.model.decoder.surrogate_width > 0
    if shortlist is None:
        return DEFAULT_SHORTLIST if has_surrogate and encodes else 1
    shortlist = validate_count(shortlist, "shortlist", 1)
    if shortlist > 1 and not has_surrogate:
        raise GenerationError(
            f"A shortlist of {shortlist} was asked for, and this model has no surrogate of the encoder to choose with.",
            "Leave the shortlist out, or train with --set decoder.surrogate_width=64.",
        )
    return shortlist


def validate_search(
    search: int,
    candidates: int,
    refine: int,
    shortlist: int | None,
    *,
    unconditional: bool,
    stops: Sequence[int] = (),
) -> int:
    """Encoder calls of a search; 0 for none.

    Raises:
        GenerationError: fewer than 0, fewer than there are candidates, refining or a shortlist beside them,
            refining or searching without a condition, or stops that do not rise from 1 to less than the calls.
    """
    search = validate_count(search, "search", 0)
    if (refine or search) and unconditional:
        raise GenerationError(
            "Refining and searching go towards a vector, and the null condition has none.",
            "Leave out one of the two (refine or search, unconditional).",
        )
    if search and (refine or (shortlist or 1) > 1):
        raise GenerationError(
            "A search takes the place of refining and of shortlists.",
            "Leave out one of them (search, or refine and shortlist).",
        )
    if search and candidates > search:
        raise GenerationError(
            f"{candidates} candidates were asked for, and a search of {search} encoder calls.",
            "Each candidate costs a call: give fewer, or more calls.",
        )
    numbers = [validate_count(stop, "A stop", 1) for stop in stops]
    if numbers != sorted(set(numbers)) or (numbers and numbers[-1] >= search):
        raise GenerationError(
            f"The stops are {', '.join(map(str, numbers))}, of a search of {search} encoder calls; they must rise and "
            "lie below it.",
            "Leave out those that are not below the calls of the search.",
        )
    return search


def validate_lengths(
    lengths: LengthsLike, rows: int, candidates: int, info: CheckpointInfo
) -> list[LengthRange]:
    """The lengths in tokens that each row may have, given once for all or for each.

    Raises:
        GenerationError: they are too many or too few, out of range, or one length for several candidates.
    """
    if isinstance(lengths, Iterable) and not isinstance(lengths, str):
        given = [_length_range(length, "A length") for length in lengths]
    else:
        given = [_length_range(lengths, "The length")] * rows
    if candidates > 1 and any(allowed.exact for allowed in given):
        raise GenerationError(
            "Candidates differ in their length, and one length was given.",
            "Leave out one of the two (--length, --candidates), or give a range such as --length 6-9.",
        )
    max_tokens = info.model.max_tokens
    if len(given) != rows:
        raise GenerationError(f"{len(given)} lengths were given for {rows} vectors.")
    if bad := [allowed.longest for allowed in given if allowed.longest > max_tokens]:
        raise GenerationError(
            f"A length of {bad[0]} tokens was asked for; this model writes 1 to {max_tokens}."
        )
    return given


def _length_range(value: Any, name: str) -> LengthRange:  # noqa: ANN401 - as above
    if not isinstance(value, str):
        length = validate_count(value, name, 1)
        return LengthRange(length, length)
    found = LengthRange.parse(value)
    if found is None:
        raise GenerationError(
            f'{name} is {_shorten(value)}; it must be a whole number of at least 1, or a range such as "6-9".'
        )
    return found


def complete_sampling(
    given: Mapping[str, Any], info: CheckpointInfo, *, num_samples: int = 1
) -> SamplingConfig:
    """The sampling of a model: what was given, else what its checkpoint records, else the defaults.

    Guidance compares with the null condition. Where that was not trained and no weight is given, `cfg` is 1. Several
    samples of one vector are drawn at `RESAMPLING_TEMPERATURE` where no temperature is given and nothing else makes
    them differ.

    Args:
        given: Fields of `SamplingConfig` that somebody chose, such as `{"steps": 8}`.
        info: Of the model's checkpoint.
        num_samples: Texts wanted of each vector.

    Raises:
        ConfigError: a value is out of range.
    """
    without_null: Mapping[str, Any] = {} if info.trained_null else {"cfg": 1.0}
    chosen = {**without_null, **info.sampling, **with_remasking(given)}
    sampling = SamplingConfig(**chosen)
    return sampling if "temperature" in chosen else draw_samples(sampling, num_samples)


def with_remasking(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `SamplingConfig` that were given: who masks tokens again has said that they are to be read again."""
    return {**({"kv_cache": False} if given.get("remask") else {}), **given}


def draw_samples(sampling: SamplingConfig, num_samples: int) -> SamplingConfig:
    """The sampling of so many texts of a vector where nobody gave a temperature: several are made to differ."""
    if num_samples > 1 and not sampling.stochastic:
        return replace(sampling, temperature=RESAMPLING_TEMPERATURE)
    return sampling


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


def validate_names(given: Any, name: str, registry: Registry[Any]) -> Sequence[str]:  # noqa: ANN401 - as above
    """Names of a registry; None stands for all of them.

    Raises:
        GenerationError: it is no list of texts.
    """
    if given is None:
        return registry.names()
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise GenerationError(f"{name} is {_shorten(given)}; it must be a list of names.")
    names = list(given)
    if not all(isinstance(one, str) for one in names):
        raise GenerationError(f"{name} is {_shorten(given)}; it must be a list of names.")
    return names


def _shorten(value: object) -> str:
    """A value as a short text for a message."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
