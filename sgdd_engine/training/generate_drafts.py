"""Writing the drafts that a run learns to correct.

A corrector must see the mistakes it is to correct: the drafts are what the model that the run starts from writes from
the sentences' vectors: with guidance and without, in few steps and more, greedily and with some chance, since later
rounds meet drafts of every kind. Half of them are as long as their sentences; the others have the length that the model
found likeliest, which is wrong more often than right, and are made as long afterwards by a mask or a gap somewhere.
A model that can correct already corrects half of its drafts once: those are what later rounds meet.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from sgdd_engine.atomic_files import write_bytes
from sgdd_engine.checkpoint import load_checkpoint, resolve_checkpoint
from sgdd_engine.data.corpus import Corpus, CorpusSplit
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import TrainingError
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted
from sgdd_engine.generation import RESAMPLING_TEMPERATURE, SGDD, encode_written
from sgdd_engine.models.device import compute_dtype
from sgdd_engine.training.config import TrainSpec
from sgdd_engine.training.dataloading import Drafts, DraftSplits
from sgdd_engine.training.state import RunContext

DRAFTS = "drafts"
# Sentences of one file: some minutes of writing, so an interrupted run loses little.
PART = 4096
# Few steps are nearly as good and much cheaper, and a corrector has to meet bad drafts too.
QUICK = SamplingConfig(steps=4, cfg=1.0)
STYLES = (
    QUICK,
    replace(QUICK, temperature=RESAMPLING_TEMPERATURE),
    replace(QUICK, cfg=1.5),
    SamplingConfig(steps=8, cfg=1.5),
)


class Kind(NamedTuple):
    """How a draft is written: with what, whether as long as its sentence, and how often it is corrected."""

    style: SamplingConfig
    true_length: bool
    rounds: int


def kinds(corrects: bool) -> tuple[Kind, ...]:
    """All kinds of drafts of a model that can correct, or of one that cannot."""
    return tuple(
        Kind(style, true_length, rounds)
        for rounds in ((0, 1) if corrects else (0,))
        for style in STYLES
        for true_length in (True, False)
    )


def drafts_for_run(
    corpus: Corpus, spec: TrainSpec, context: RunContext, tell: Listener
) -> DraftSplits | None:
    """The drafts that a run learns from, written by rank 0 where they are missing; None where it reads none.

    Raises:
        TrainingError: drafts on disk are damaged.
        CheckpointError, EncoderError: the model that writes them, or its encoder, cannot be loaded.
    """
    if not spec.decoder.feedback:
        return None
    assert spec.train.start_from is not None, "checked with the settings"
    dtype = compute_dtype(spec.train.precision, context.device)
    counts = {"validation": spec.train.validation_sentences, "train": spec.feedback.sentences}

    @cache
    def writer() -> SGDD:
        folder = resolve_checkpoint(str(spec.train.start_from))
        checkpoint = load_checkpoint(folder, context.device)
        # The same encoder as the corpus's, which is checked at the start; the corpus knows where it is now.
        info = replace(checkpoint.info, encoder=corpus.encoder_reference)
        return SGDD(replace(checkpoint, info=info), context.device)

    def all_drafts() -> DraftSplits:
        return DraftSplits(
            **{
                name: prepare_drafts(
                    writer,
                    corpus.split(name),
                    context.run / DRAFTS / name,
                    sentences=count,
                    seed=spec.train.seed,
                    dtype=dtype,
                    tell=tell,
                )
                for name, count in counts.items()
            }
        )

    # Rank 0 writes, the others read what it wrote.
    drafts = all_drafts() if context.world.is_main else None
    context.world.barrier()
    return drafts or all_drafts()


def prepare_drafts(
    writer: Callable[[], SGDD],
    split: CorpusSplit,
    folder: Path,
    *,
    sentences: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    tell: Listener,
) -> Drafts:
    """The drafts of so many random rows of a split: those in the folder, and the missing ones written now.

    Args:
        writer: Gives the model that writes them; asked only where some are missing.
        split: BatchSource with their vectors.
        folder: One file per 4,096 sentences, each written whole or not at all.
        sentences: How many; at most the split's size.
        seed: Which rows.
        dtype: Of the writer's matrix products.
        tell: Told of progress.

    Raises:
        TrainingError: a file in the folder is damaged.
        EncoderError: the encoder, which re-encodes the drafts, cannot be loaded.
    """
    chosen = np.random.default_rng([seed, 1]).permutation(len(split))[:sentences]
    folder.mkdir(parents=True, exist_ok=True)
    stage = f"drafts ({folder.name})"
    tell(StageStarted(stage, len(chosen)))
    parts = []
    for start in range(0, len(chosen), PART):
        path = folder / f"part-{start // PART:05d}.safetensors"
        rows = np.sort(chosen[start : start + PART])
        if not path.is_file():
            write_bytes(path, save(_written(writer(), split, rows, seed, dtype)))
        parts.append(_read(path, rows))
        tell(StageProgress(stage, start + len(rows)))
    tell(StageFinished(stage))
    lengths = np.concatenate([part["lengths"] for part in parts])
    return Drafts(
        np.concatenate([part["rows"] for part in parts]),
        np.concatenate([part["tokens"] for part in parts]),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]),
        np.concatenate([part["vectors"] for part in parts]),
        np.concatenate([part["whole"] for part in parts]),
    )


def _written(
    model: SGDD, split: CorpusSplit, rows: npt.NDArray[np.int64], seed: int, dtype: torch.dtype
) -> dict[str, npt.NDArray[Any]]:
    vectors, lengths = split.embeddings(rows), split.lengths[rows]
    tokens: list[tuple[int, ...]] = [()] * len(rows)
    texts = [""] * len(rows)
    whole = np.zeros(len(rows), np.bool_)
    all_kinds = kinds(corrects=model.model.draft_reader is not None)
    for number, (sampling, true_length, rounds) in enumerate(all_kinds):
        which = np.arange(number, len(rows), len(all_kinds))
        if not len(which):
            continue
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
            written = model.generate(
                vectors[torch.from_numpy(which)],
                sampling=sampling if model.info.trained_null else replace(sampling, cfg=1.0),
                lengths=lengths[which].tolist() if true_length else None,
                refine=rounds,
                shortlist=1,
                seed=seed,
            )
        mask_id = model.model.config.vocabulary.mask_id
        for place, item in zip(which.tolist(), written, strict=True):
            noise = np.random.default_rng([seed, 2, int(rows[place])])
            tokens[place] = fitted(item.tokens, int(lengths[place]), mask_id, noise)
            texts[place], whole[place] = item.text, len(item.tokens) == lengths[place]
    again = encode_written(model.encoder, texts)
    return {
        "rows": rows,
        "lengths": lengths.astype(np.int64),
        "tokens": np.concatenate([np.asarray(ids, np.int32) for ids in tokens]),
        "vectors": again.numpy().astype(np.float16),
        "whole": whole,
    }


def fitted(tokens: Sequence[int], length: int, mask_id: int, noise: np.random.Generator) -> tuple[int, ...]:
    """A draft as long as its sentence: masks put in, or tokens left out, at random places."""
    draft = list(tokens)
    for _ in range(length - len(draft)):
        draft.insert(int(noise.integers(len(draft) + 1)), mask_id)
    for _ in range(len(draft) - length):
        del draft[int(noise.integers(len(draft)))]
    return tuple(draft)


def _read(path: Path, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    try:
        part: dict[str, npt.NDArray[Any]] = load_file(path)
        sound = np.array_equal(part["rows"], rows) and len(part["whole"]) == len(rows)
    except (OSError, SafetensorError, KeyError):
        sound = False
    if not sound:
        raise TrainingError(
            f"The drafts in `{path}` are damaged, or of other sentences.",
            f"Remove `{path.parent}`, and they are written anew.",
        )
    return part
