"""What one row of an ablation costs, and what it scores: `ablate.py` runs this in a process of its own.

A process of its own, so that its processor time is its own. One JSON object in, one JSON object out:

    python examples/ablation_row.py cost '{"device": "cpu", "sides": {"base": {…}, "row": {…}}}'
    python examples/ablation_row.py score '{"checkpoint": "runs/…", "corpus": "data/fiction", …}'
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sgdd_engine import SGDD
from sgdd_engine.benchmark.trainable_model import Batch, TrainableModel, nonzero_model
from sgdd_engine.data.corpus import Corpus, ExactLengthBatches
from sgdd_engine.diffusion.config import DiffusionConfig, SamplingConfig
from sgdd_engine.evaluation.data import EvaluationSet, fitted
from sgdd_engine.evaluation.likelihood import likelihood
from sgdd_engine.evaluation.metrics import exact_match, repetition, sentence_bleu, token_f1
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig
from sgdd_engine.models.device import compute_dtype, resolve_device
from sgdd_engine.training.build import model_config
from sgdd_engine.training.config import TrainConfig

# Batches of several lengths, each timed so often, in turns with the base's.
BATCHES, REPEATS = 6, 3
NELBO_SAMPLES = 4
Scores = dict[str, list[float]]
Config = TypeVar("Config", TrainConfig, BottleneckConfig, DecoderConfig, DiffusionConfig, SamplingConfig)


def config_of(settings: Mapping[str, Any], section: str, kind: type[Config]) -> Config:
    """The dataclass of a section from settings by dotted key (see `ablation_plan.resolved_settings`)."""
    given = {one.name: f"{section}.{one.name}" for one in fields(kind)}
    return kind(**{name: settings[key] for name, key in given.items() if key in settings})


def cost(job: Mapping[str, Any]) -> dict[str, float]:
    """Seconds per training step of each side; the sides take turns, so that other load on the machine slows all alike.

    On a CPU these are processor seconds of this process with all its threads; what else runs there counts little, and
    of a batch's repetitions the quickest counts, which was disturbed least.
    """
    device = resolve_device(job["device"])
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    models = {name: _trainable(side, device) for name, side in job["sides"].items()}
    seconds = {name: np.full((REPEATS + 1, BATCHES), np.inf) for name in models}
    for repeat in range(REPEATS + 1):
        for number in range(BATCHES):
            for name, (trainable, batches) in models.items():
                began = clock()
                trainable.our_step(batches[number])
                seconds[name][repeat, number] = clock() - began
    # The first round pays for what is done once.
    return {name: float(took[1:].min(axis=0).mean()) for name, took in seconds.items()}


def _trainable(side: Mapping[str, Any], device: torch.device) -> tuple[TrainableModel, list[Batch]]:
    settings, corpus = side["settings"], Corpus.open(Path(side["corpus"]))
    train = config_of(settings, "train", TrainConfig)
    bottleneck = config_of(settings, "bottleneck", BottleneckConfig)
    decoder = config_of(settings, "decoder", DecoderConfig)
    model = nonzero_model(model_config(corpus, bottleneck, decoder), device)
    split = corpus.split("train")
    order = ExactLengthBatches(split.lengths, batch_tokens=train.batch_tokens, seed=0)
    batches = [split.batch(order.batch(position)) for position in range(BATCHES)]
    dtype = compute_dtype(train.precision, device)
    return TrainableModel(model, device, dtype, train, config_of(settings, "diffusion", DiffusionConfig)), [
        (x.to(device), e.to(device)) for x, e in batches
    ]


def score(job: Mapping[str, Any]) -> dict[str, Any]:
    """Reconstruct held-out sentences from a full mask, without guidance and with the best guidance weight.

    The weight is the one of the highest token F1 + cosine on sentences of the validation split; the scores are those
    of sentences of the test split, the same for every row, whatever its vocabulary.
    """
    model = SGDD.from_pretrained(job["checkpoint"], job["device"])
    sampling = config_of(job["settings"], "sample", SamplingConfig)
    corpus, count, seed = Corpus.open(Path(job["corpus"])), job["sentences"], job["seed"]
    texts, vectors = sentences_of(corpus, "test", count)

    def write(cfg: float, texts: Sequence[str], vectors: Tensor) -> Scores:
        return _written(model, texts, vectors, replace(sampling, cfg=cfg), seed)

    weights = job["weights"] if model.info.trained_null else [1.0]
    grid = _grid(write, *sentences_of(corpus, "validation", max(2, count // 2)), weights)
    best = max(grid, key=lambda cfg: grid[cfg]["f1"] + grid[cfg]["cosine"]) if grid else weights[0]
    at = {cfg: write(cfg, texts, vectors) for cfg in dict.fromkeys([1.0, best])}
    own = EvaluationSet(
        sentences=texts,
        vectors=vectors,
        token_ids=model.tokenizer.encode_batch(texts),
        encoder=model.encoder_reference,
        tokenizer_fingerprint=model.tokenizer.fingerprint(),
    )
    bound = likelihood(model, fitted(own, model), samples=NELBO_SAMPLES, seed=seed)
    return {
        "parameters": sum(p.numel() for p in model.model.parameters()),
        "step": model.info.step,
        "best_cfg": best,
        "grid": grid,
        "plain": at[1.0],
        "best": at[best],
        "shuffled_f1": mean(write(best, texts, vectors.roll(1, dims=0))["f1"]),
        "nelbo_nats_per_token": bound.nelbo_nats_per_token,
        "nelbo_standard_error": bound.standard_error,
        "bits_per_byte": bound.bits_per_byte,
    }


def sentences_of(corpus: Corpus, split: str, count: int) -> tuple[list[str], Tensor]:
    """`count` held-out sentences of a corpus with their vectors [N, D], always the same ones."""
    rows = corpus.split(split)
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:count])
    return [rows.text(row) for row in chosen.tolist()], rows.embeddings(chosen)


def scores_of(references: Sequence[str], texts: Sequence[str], cosines: Sequence[float]) -> Scores:
    """Scores sentence by sentence."""
    pairs = list(zip(references, texts, strict=True))
    return {
        "f1": [round(token_f1(*pair), 4) for pair in pairs],
        "bleu": [round(sentence_bleu(*pair), 2) for pair in pairs],
        "exact": [float(exact_match(*pair)) for pair in pairs],
        "cosine": [round(cosine, 4) for cosine in cosines],
        "repetition": [round(repetition(text), 4) for text in texts],
    }


def mean(values: Sequence[float]) -> float:
    """The mean."""
    return sum(values) / len(values)


def _written(
    model: SGDD, texts: Sequence[str], vectors: Tensor, sampling: SamplingConfig, seed: int
) -> Scores:
    # A vocabulary without capitals is not scored on capitals.
    references = model.tokenizer.decode_batch(model.tokenizer.encode_batch(texts))
    written = model.generate(vectors, sampling=sampling, seed=seed, score=True)
    return scores_of(references, [item.text for item in written], [item.cosine or 0.0 for item in written])


def _grid(
    write: Callable[[float, Sequence[str], Tensor], Scores],
    texts: Sequence[str],
    vectors: Tensor,
    weights: Sequence[float],
) -> dict[float, dict[str, float]]:
    """Mean scores at each guidance weight; nothing where there is no choice."""
    if len(weights) == 1:
        return {}
    found = {cfg: write(cfg, texts, vectors) for cfg in weights}
    return {cfg: {name: mean(values) for name, values in scores.items()} for cfg, scores in found.items()}


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in {"cost", "score"}:
        sys.exit("Usage: python examples/ablation_row.py cost|score JOB, where JOB is JSON (see ablate.py)")
    print(json.dumps({"cost": cost, "score": score}[sys.argv[1]](json.loads(sys.argv[2]))))
