"""The drafts that a run learns to correct: written by the model that the run starts from, kept in the run's folder.

A corrector must see the mistakes it is to correct: the drafts are what that model writes from the sentences' vectors,
with guidance and without, in few steps and more, greedily and at a temperature, since later rounds of refining meet
drafts of every kind. Half of them are as long as their sentences; the others have the length that the model finds
likeliest, which is wrong more often than right. A model that can correct already corrects some of its drafts first
(`feedback.rounds`): the third correction is of another kind of mistakes than the first, since what is easily seen is
mended by then.

Each file of drafts records what wrote it. Drafts of other weights, another seed, corpus or kind are written again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sgdd_engine.atomic_files import remove_leftovers, sha256_of_json, write_bytes
from sgdd_engine.bounded_files import parse_json
from sgdd_engine.checkpoint import (
    CheckpointInfo,
    load_checkpoint,
    read_info,
    resolve_checkpoint,
    weights_sha256,
)
from sgdd_engine.data.corpus import Corpus, CorpusSplit
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.distributed import ALONE, World
from sgdd_engine.errors import CheckpointError, TrainingError
from sgdd_engine.events import Listener, Notice, StageFinished, StageProgress, StageStarted
from sgdd_engine.generation import RESAMPLING_TEMPERATURE, SGDD, encode_written
from sgdd_engine.models.device import compute_dtype
from sgdd_engine.text.reference import EncoderReference
from sgdd_engine.training.config import FeedbackConfig, TrainSpec
from sgdd_engine.training.dataloading import Drafts
from sgdd_engine.training.state import RunContext

DRAFTS = "drafts"
# Sentences of one file: some minutes of writing on a CPU, so that an interrupted run loses little.
SENTENCES_PER_FILE = 8192
# Few steps are nearly as good and much cheaper, and a corrector has to meet bad drafts too. The last is how `mini`
# writes, with the guidance of its first version: a corrector has to know the mistakes that it will meet.
FEW_STEPS = SamplingConfig(steps=4, cfg=1.0, kv_cache=True)
SAMPLINGS = (
    FEW_STEPS,
    replace(FEW_STEPS, temperature=RESAMPLING_TEMPERATURE),
    replace(FEW_STEPS, cfg=1.5),
    SamplingConfig(
        steps=8,
        cfg=1.75,
        position_rule="confidence:apart=1",
        unmasking="linear",
        null_every=3,
        kv_cache=True,
    ),
)
# The key of a file's metadata under which its origin stands, as a JSON object. (The library writes several keys in any
# order.) In the object, the SHA-256 of all else in it and of the tensors.
ORIGIN = "origin"
SHA256 = "sha256"
DTYPES = {
    "rows": np.int64,
    "lengths": np.int64,
    "tokens": np.int32,
    "vectors": np.float16,
}


def files_together(device: torch.device) -> int:
    """Files that a process writes together.

    On a GPU a step takes about as long for a few sentences as for thousands: one kernel after another is started. On a
    CPU a file alone fills its matrix products.
    """
    return 1 if device.type == "cpu" else 4


class DraftKind(NamedTuple):
    """How a draft is written: with which sampling, at its sentence's length or a predicted one, how often corrected."""

    sampling: SamplingConfig
    true_length: bool
    rounds: int


def draft_kinds(info: CheckpointInfo, rounds: Sequence[int]) -> tuple[DraftKind, ...]:
    """The kinds of drafts that a model writes in turn: without guidance if it has no trained null condition.

    Args:
        info: Of the model; one that does not correct writes first drafts.
        rounds: How often they are corrected, in turn.
    """
    samplings = [sampling if info.trained_null else replace(sampling, cfg=1.0) for sampling in SAMPLINGS]
    return tuple(
        DraftKind(sampling, true_length, corrected)
        for corrected in (rounds if info.model.decoder.feedback else (0,))
        for sampling in samplings
        for true_length in (True, False)
    )


@dataclass(frozen=True)
class DraftWriter:
    """The model that writes drafts; found and loaded only if some are missing.

    Args:
        checkpoint: As `train.start_from` names it.
        encoder: Its encoder as the corpus knows it: the same one, which is checked at the start, where it is now.
        device: Where it computes. dtype: Of its matrix products.
        encoder_batch_tokens: Tokens that the encoder computes at once.
        rounds: How often drafts are corrected, in turn; see `draft_kinds`.
    """

    checkpoint: str
    encoder: EncoderReference
    device: torch.device
    dtype: torch.dtype = torch.float32
    encoder_batch_tokens: int | None = None
    rounds: tuple[int, ...] = FeedbackConfig.rounds

    @cached_property
    def folder(self) -> Path:
        """The checkpoint folder."""
        return resolve_checkpoint(self.checkpoint)

    @cached_property
    def model(self) -> SGDD:
        """The loaded model."""
        checkpoint = load_checkpoint(self.folder, self.device)
        info = replace(checkpoint.info, encoder=self.encoder)
        model = SGDD(replace(checkpoint, info=info), self.device)
        model.encoder_batch_tokens = self.encoder_batch_tokens
        return model

    @cached_property
    def kinds(self) -> tuple[DraftKind, ...]:
        """The kinds of drafts that it writes in turn."""
        return draft_kinds(read_info(self.folder), self.rounds)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What its drafts follow from, besides their sentences and the seed; JSON values."""
        info = read_info(self.folder)
        kinds = [[asdict(kind.sampling), *kind[1:]] for kind in self.kinds]
        # Files of older versions, which knew no other temperature, have no key for it.
        warmer = {} if info.token_temperature == 1 else {"token_temperature": info.token_temperature}
        return {"weights_sha256": weights_sha256(self.folder), "kinds": kinds, **warmer}


def drafts_for_run(
    corpus: Corpus, spec: TrainSpec, context: RunContext, on_event: Listener, *, resumed: bool
) -> dict[str, Drafts] | None:
    """The drafts that a run learns from, by split, written by all ranks where missing; None for a run without drafts.

    Every rank must call it.

    Raises:
        TrainingError: drafts of a resumed run are missing, and `train.start_from` is not the model of the others.
        CheckpointError, EncoderError: the model that writes them, or its encoder, cannot be loaded.
    """
    if not spec.decoder.feedback or not spec.feedback.share:
        return None
    assert spec.train.start_from is not None, "checked with the settings"
    dtype = compute_dtype(spec.train.precision, context.device)
    writer = DraftWriter(
        spec.train.start_from,
        corpus.encoder_reference,
        context.device,
        dtype,
        context.encoder_batch_tokens,
        spec.feedback.rounds,
    )
    counts = {"validation": spec.train.validation_sentences, "train": spec.feedback.sentences}
    return {
        name: prepare_drafts(
            writer,
            corpus,
            name,
            context.run / DRAFTS / name,
            sentences=count,
            seed=spec.train.seed,
            resumed=resumed,
            world=context.world,
            on_event=on_event,
        )
        for name, count in counts.items()
    }


def prepare_drafts(
    writer: DraftWriter,
    corpus: Corpus,
    split_name: str,
    folder: Path,
    *,
    sentences: int,
    seed: int,
    resumed: bool = False,
    world: World = ALONE,
    on_event: Listener,
) -> Drafts:
    """Drafts of random rows of a split: those in the folder, and the missing ones, which are written now.

    Several processes share the files that are missing; what is in them does not depend on who writes them. Every rank
    must call it.

    Args:
        writer: The model that writes them.
        corpus: Sentences and vectors.
        split_name: Which split.
        folder: Holds one file per `SENTENCES_PER_FILE` sentences, each written whole or not at all.
        sentences: How many; at most the split's size.
        seed: Which rows, and the noise of the writing.
        resumed: The run has been trained on the drafts in the folder: they stay, whatever the writer is now.
        world: The processes that write.
        on_event: Told of progress.

    Raises:
        TrainingError: drafts of a resumed run are missing, and the writer is not the model that wrote the others.
        CheckpointError, EncoderError: the writer, or its encoder, cannot be loaded.
    """
    split = corpus.split(split_name)
    chosen = np.random.default_rng([seed, 1]).permutation(len(split))[:sentences]
    if world.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, r"part-[0-9]{5}\.safetensors", locked=True)
    world.barrier()
    files = {
        folder / f"part-{start // SENTENCES_PER_FILE:05d}.safetensors": np.sort(
            chosen[start : start + SENTENCES_PER_FILE]
        )
        for start in range(0, len(chosen), SENTENCES_PER_FILE)
    }
    parts = {path: part for path in files if (part := _read(path)) is not None}
    identity = next((_identity(part.origin) for part in parts.values()), None) if resumed else writer.identity
    source = {"corpus": corpus.manifest.fingerprint(), "split": split_name, "seed": seed}
    usable = {
        path
        for path, part in parts.items()
        if part.origin == {**(identity or {}), **source} and np.array_equal(part.tensors["rows"], files[path])
    }
    if stale := [path for path in files if path.exists() and path not in usable]:
        on_event(
            Notice(
                f"The drafts in `{folder}` are damaged, or of another model, corpus, seed or choice of sentences; "
                f"{len(stale)} of its files are written again.",
                warning=True,
            )
        )
    stage = f"drafts ({folder.name})"
    on_event(StageStarted(stage, len(chosen)))
    missing = [path for path in files if path not in usable]
    done = len(chosen) - sum(len(files[path]) for path in missing)
    parts = {path: parts[path] for path in usable}
    if missing:
        _require_writer(writer, identity, folder)
    # All know what is missing before the first of it is written.
    world.barrier()
    # None waits while another has several.
    together = max(1, min(files_together(writer.device), -(-len(missing) // world.size)))
    for first in range(0, len(missing), world.size * together):
        turn = missing[first : first + world.size * together]
        if own := turn[world.rank * together : (world.rank + 1) * together]:
            origin = {**writer.identity, **source}
            for path, tensors in zip(
                own, _write(writer, split, [files[path] for path in own], seed), strict=True
            ):
                sealed = {**origin, SHA256: _hash(tensors, origin)}
                write_bytes(path, save(tensors, {ORIGIN: json.dumps(sealed)}))
                parts[path] = _Part(tensors, origin)
        # The others are about as far.
        done += sum(len(files[path]) for path in turn)
        on_event(StageProgress(stage, done))
    world.barrier()
    parts |= {path: part for path in missing if path not in parts and (part := _read(path)) is not None}
    if lost := [path for path in files if path not in parts]:
        raise TrainingError(
            f"`{lost[0]}` was written by another process and cannot be read.", "Go on with --resume."
        )
    on_event(StageFinished(stage))
    joined = {key: np.concatenate([parts[path].tensors[key] for path in files]) for key in DTYPES}
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(joined["lengths"], dtype=np.int64)])
    return Drafts(joined["rows"], joined["tokens"], starts, joined["vectors"])


def _require_writer(writer: DraftWriter, identity: dict[str, Any] | None, folder: Path) -> None:
    hint = f"Name the model that wrote them with train.start_from, or delete `{folder}`, to write all of them again."
    try:
        same = identity in (None, writer.identity)
    except CheckpointError as error:
        raise TrainingError(f"Drafts are missing in `{folder}`. {error.message}", hint) from None
    if not same:
        raise TrainingError(
            f"Drafts are missing in `{folder}`, and `{writer.folder}` is not the model that wrote the others.",
            hint,
        )


def _write(
    writer: DraftWriter, split: CorpusSplit, files: Sequence[npt.NDArray[np.int64]], seed: int
) -> list[dict[str, npt.NDArray[Any]]]:
    """The tensors of files of drafts, of these rows each; a file's do not depend on what is written beside it."""
    model, dtype = writer.model, writer.dtype
    rows = np.concatenate(files)
    vectors, lengths = split.embeddings(rows), split.lengths[rows]
    tokens: list[tuple[int, ...]] = [()] * len(rows)
    texts = [""] * len(rows)
    # By its place in its file.
    kind_of = np.concatenate([np.arange(len(each)) for each in files]) % len(writer.kinds)
    for number, (sampling, true_length, rounds) in enumerate(writer.kinds):
        indices = (kind_of == number).nonzero()[0]
        if not len(indices):
            continue
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
            generations = model.generate(
                vectors[torch.from_numpy(indices)],
                sampling=sampling,
                lengths=lengths[indices].tolist() if true_length else None,
                refine=rounds,
                shortlist=1,
                seed=seed,
            )
        for index, generation in zip(indices.tolist(), generations, strict=True):
            tokens[index], texts[index] = generation.tokens, generation.text
    encoded = encode_written(model.encoder, texts).numpy().astype(np.float16)
    ends = np.cumsum([len(each) for each in files]).tolist()
    return [
        {
            "rows": each,
            "lengths": np.asarray([len(ids) for ids in tokens[end - len(each) : end]], np.int64),
            "tokens": np.concatenate([np.asarray(ids, np.int32) for ids in tokens[end - len(each) : end]]),
            "vectors": encoded[end - len(each) : end],
        }
        for each, end in zip(files, ends, strict=True)
    ]


class _Part(NamedTuple):
    """A file of drafts, and what wrote it."""

    tensors: dict[str, npt.NDArray[Any]]
    origin: dict[str, Any]


def _identity(origin: dict[str, Any]) -> dict[str, Any]:
    return {key: origin[key] for key in ("weights_sha256", "kinds", "token_temperature") if key in origin}


def _read(path: Path) -> _Part | None:
    """A file of drafts; None if it is missing or damaged, or of a version that recorded no hash."""
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {key: file.get_tensor(key) for key in DTYPES}
            origin = parse_json((file.metadata() or {}).get(ORIGIN, "null"), path)
    except (OSError, SafetensorError, ValueError):
        return None
    if not isinstance(origin, dict) or origin.pop(SHA256, None) != _hash(tensors, origin):
        return None
    return _Part(tensors, origin)


def _hash(tensors: Mapping[str, npt.NDArray[Any]], origin: Mapping[str, Any]) -> str:
    """SHA-256 of an origin and of all tensors with their types and shapes, in hex."""
    digest = sha256(sha256_of_json(origin).encode())
    for key in DTYPES:
        array = np.ascontiguousarray(tensors[key])
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
