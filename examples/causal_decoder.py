"""The baseline: what one would pick instead of sgdd, a causal Transformer that reads the vector as a prefix.

    python examples/causal_decoder.py data/fiction runs/fiction --minutes 8

It is as wide as the sgdd run that is named, has as many parameters (without modulation a layer is smaller, so it has
more of them), starts from the same token table, sees the same batches under the same optimiser for the time that is
given, and writes greedily, token after token, with a cache of keys and values. Its scores and its latency are printed
beside the run's.
"""

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation_plan import resolved_settings
from ablation_row import config_of, mean, score, scores_of, sentences_of
from causal_model import CausalDecoder, like
from torch import Tensor

from sgdd_engine import SGDD
from sgdd_engine.benchmark.measurement import race
from sgdd_engine.data.corpus import Corpus, ExactLengthBatches
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.generation import encode_written
from sgdd_engine.models.device import compute_dtype
from sgdd_engine.text.embedding_init import initial_embedding
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.optimizer_step import Ema, build_optimizer, learning_rate


def train(
    model: CausalDecoder, corpus: Corpus, config: TrainConfig, seconds: float, device: torch.device
) -> int:
    """Train for so many seconds of processor time (of the clock, on a GPU); returns the steps taken."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    split, dtype = corpus.split("train"), compute_dtype(config.precision, device)
    order = ExactLengthBatches(split.lengths, batch_tokens=config.batch_tokens, seed=config.seed)
    optimizer, ema = build_optimizer(model, config), Ema.of(model, config.ema_decay)
    began, step = clock(), 0
    while (spent := clock() - began) < seconds or not step:
        x, e = (part.to(device) for part in split.batch(order.batch(step)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, spent / seconds, config)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss, _ = model.nll(e, x, 1.0 / config.batch_tokens, dtype)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(model, step)
        step += 1
        if step % 100 == 0:
            print(f"causal: step {step:,}, loss {loss.item():.3f}, {spent / seconds:.0%}", file=sys.stderr)
    model.load_state_dict(ema.weights, strict=False)
    return step


def scores(model: CausalDecoder, beside: SGDD, corpus: Corpus, count: int) -> dict[str, Any]:
    """What `ablation_row.score` says of an sgdd model; the bound is exact here, and includes the length."""
    texts, vectors = sentences_of(corpus, "test", count)
    ids = beside.tokenizer.encode_batch(texts)
    references, targets = beside.tokenizer.decode_batch(ids), vectors.to(beside.device)

    def written(vectors: Tensor) -> list[str]:
        rows = (model.write(part, beside.tokenizer.special_ids) for part in vectors.split(64))
        return beside.tokenizer.decode_batch(itertools.chain.from_iterable(rows))

    found = written(targets)
    again = encode_written(beside.encoder, found)
    own = scores_of(references, found, torch.cosine_similarity(again, vectors, dim=-1).tolist())
    others = scores_of(references, written(targets.roll(1, dims=0)), [0.0] * len(texts))
    with torch.inference_mode():
        one = [(vectors[i : i + 1], torch.tensor([row])) for i, row in enumerate(ids)]
        nats = [
            model.nll(e.to(beside.device), x.to(beside.device), 1.0, torch.float32)[1].item() for e, x in one
        ]
    size = sum(len(text.encode()) for text in references)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "best_cfg": 1.0,
        "plain": own,
        "best": own,
        "shuffled_f1": mean(others["f1"]),
        "nelbo_nats_per_token": sum(nats) / sum(map(len, ids)),
        "bits_per_byte": sum(nats) / math.log(2) / size,
    }


def latency(model: CausalDecoder, beside: SGDD, vectors: Tensor, repeats: int) -> dict[str, float]:
    """Milliseconds from vectors to texts, at batch 1 and 64, taken in turns."""

    def causal(e: Tensor) -> Callable[[], object]:
        ids = beside.tokenizer.special_ids
        return lambda: beside.tokenizer.decode_batch(model.write(e.to(beside.device), ids))

    def ours(e: Tensor, cfg: float) -> Callable[[], object]:
        return lambda: beside.generate(e, sampling=SamplingConfig(cfg=cfg))

    found: dict[str, float] = {}
    for size in (1, 64):
        e = vectors[torch.arange(size) % len(vectors)]
        contestants = {"causal": [causal(e)], "sgdd, w = 1": [ours(e, 1.0)]}
        if beside.info.trained_null:
            contestants["sgdd, guided"] = [ours(e, 2.0)]
        times = race(contestants, repeats=repeats, device=beside.device)
        found |= {
            f"{name}, batch {size}": 1000 * float(np.median(took)) for name, took in times.seconds.items()
        }
    return found


def main() -> None:
    given = parser().parse_args()
    beside, corpus = SGDD.from_pretrained(given.run, given.device), Corpus.open(given.corpus)
    changes = {"train.seed": given.seed, "train.learning_rate": given.learning_rate}
    assignments = [f"{key}={value}" for key, value in changes.items() if value is not None]
    settings = resolved_settings(given.run / "settings.toml", assignments)
    config = config_of(settings, "train", TrainConfig)
    parameters = sum(p.numel() for p in beside.model.parameters())
    torch.manual_seed(given.seed)
    model = CausalDecoder(beside.info.model, like(beside.info.model, parameters)).to(beside.device)
    mean_vector, deviation = corpus.statistics()
    model.standardize.mean.copy_(mean_vector)
    model.standardize.std.copy_(deviation)
    if config.table_init == "encoder":
        table = initial_embedding(beside.encoder, corpus.tokenizer, beside.info.model.decoder.width)
        model.head.table.data.copy_(table)
    steps = train(model, corpus, config, 60 * given.minutes, beside.device)
    model.eval()
    result = {
        "steps": steps,
        "layers": len(model.blocks),
        "score": scores(model, beside, corpus, given.sentences),
        "latency_ms": latency(model, beside, sentences_of(corpus, "test", 64)[1], given.repeats),
    }
    if given.json:
        print(json.dumps(result))
        return
    job: dict[str, Any] = {"checkpoint": str(given.run), "settings": settings}
    job |= {
        "corpus": str(given.corpus),
        "sentences": given.sentences,
        "weights": [1.0, 1.5, 2.0, 3.0],
        "device": given.device,
        "seed": 0,
    }
    print("\n".join(side_by_side(result, score(job))))


def side_by_side(causal: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Both side by side, in Markdown."""
    guided = f"sgdd, w = {ours['best_cfg']:g}"
    sides = {
        f"causal, {causal['layers']} layers": (causal["score"], "plain"),
        "sgdd, w = 1": (ours, "plain"),
        guided: (ours, "best"),
    }
    names = ("f1", "bleu", "exact", "cosine")
    lines = [
        "| | parameters | F1 | BLEU | exact | cosine | nats per token |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (found, at) in sides.items():
        values = " | ".join(f"{mean(found[at][part]):.3f}" for part in names)
        nats = found["nelbo_nats_per_token"]
        lines.append(f"| {name} | {found['parameters']:,} | {values} | {nats:.3f} |")
    return [*lines, "", *(f"- {name}: {ms:.1f} ms" for name, ms in causal["latency_ms"].items())]


def parser() -> argparse.ArgumentParser:
    here = argparse.ArgumentParser(description="Train a causal decoder and show it beside an sgdd run.")
    here.add_argument("corpus", type=Path, help="prepared corpus")
    here.add_argument("run", type=Path, help="run of sgdd on the same corpus")
    here.add_argument(
        "--minutes", type=float, default=8.0, help="minutes of training (processor time on a CPU)"
    )
    here.add_argument("--seed", type=int, default=0, help="seed of weights and order")
    here.add_argument("--learning-rate", type=float, help="peak; by default that of the run")
    here.add_argument("--sentences", type=int, default=256, help="held-out sentences scored")
    here.add_argument("--repeats", type=int, default=5, help="repetitions of the latency")
    here.add_argument("--device", default="cpu", help="auto, cpu, cuda")
    here.add_argument("--json", action="store_true", help="print the figures by sentence as JSON")
    return here


if __name__ == "__main__":
    main()
