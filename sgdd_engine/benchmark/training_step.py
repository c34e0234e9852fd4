"""The training step: against the plain reference, with a compact vocabulary, and as a share of the machine."""

from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

from sgdd_engine.benchmark.clock import Work, race, rate, ratios
from sgdd_engine.benchmark.context import Workbench
from sgdd_engine.benchmark.machine import dtype_name, free_memory, product_flops, square_product
from sgdd_engine.benchmark.measurement import Row, spread
from sgdd_engine.benchmark.trainable_model import Batch, Trainee
from sgdd_engine.training.cost import Component, cost_of

OURS, PLAIN, COMPACT, PRODUCTS = "ours", "plain reference", "compact vocabulary", "bare matrix products"
# Of the machine's rate, which is measured among the steps, so that a slow moment strikes it too.
_PRODUCTS = 8
# Log-probabilities and two gradients in fp32, and a copy in bf16, are there at once.
_PLAIN_BYTES_PER_LOGIT = 15
_OTHER_BYTES_PER_PARAMETER = 12


def measure_steps(bench: Workbench, wanted: frozenset[str]) -> list[Row]:
    """The rows `train-step`, `compact-vocabulary` and `mfu`, as wanted, from one race."""
    full = bench.trainee(bench.reference_config)
    rows = sentences_that_fit(bench, full) if "train-step" in wanted else bench.shapes.batch_sentences
    batches = bench.batches(rows)
    contestants: dict[str, Sequence[Work]] = {OURS: [partial(full.our_step, batch) for batch in batches]}
    if "train-step" in wanted:
        padded = [batch.padded(bench.shapes.padded) for batch in batches]
        contestants[PLAIN] = [partial(full.plain_step, *pair) for pair in zip(batches, padded, strict=True)]
    if "compact-vocabulary" in wanted:
        small = bench.trainee(bench.model_config(bench.shapes.compact_vocab, bench.shapes.embedding_dim))
        contestants[COMPACT] = [partial(small.our_step, batch) for batch in batches]
    if "mfu" in wanted:
        contestants[PRODUCTS] = [
            square_product(bench.machine.matmul_size, bench.dtype, bench.device)
        ] * _PRODUCTS
    seconds = race(
        contestants,
        repeats=bench.config.repeats,
        device=bench.device,
        on_repeat=bench.stage(f"training step: {', '.join(contestants)}"),
    )
    found = []
    if "train-step" in wanted:
        found.append(_against_plain(bench, seconds, batches))
    if "compact-vocabulary" in wanted:
        found.append(_compact(bench, seconds, batches))
    if "mfu" in wanted:
        found.append(_mfu(bench, full, seconds, batches))
    return found


def sentences_that_fit(bench: Workbench, trainee: Trainee) -> int:
    """Sentences per batch, fewer than wanted where the plain reference's logits would not fit into memory."""
    rows, shapes = bench.shapes.batch_sentences, bench.shapes
    parameters = sum(parameter.numel() for parameter in trainee.model.parameters())
    free = free_memory(bench.device) - _OTHER_BYTES_PER_PARAMETER * parameters
    while rows > 1 and rows * shapes.padded * shapes.full_vocab * _PLAIN_BYTES_PER_LOGIT > free:
        rows //= 2
    return rows


def shrunk(bench: Workbench, rows: int) -> str:
    """What a row says whose batches are smaller than they should be."""
    wanted = bench.shapes.batch_sentences
    if rows == wanted:
        return ""
    return f"Batches of {rows} sentences instead of {wanted}, for both: the plain reference's logits need the memory."


def _against_plain(bench: Workbench, seconds: dict[str, list[float]], batches: Sequence[Batch]) -> Row:
    times = ratios(seconds[PLAIN], seconds[OURS])
    return Row(
        measure="train-step",
        title="training step, reference configuration, against the plain reference: sentences/s",
        value=median(times),
        unit="×",
        goal=bench.goal(5.0),
        details={
            **_of_batches(bench, batches),
            "ratio": spread(times),
            "ours": _speed(seconds[OURS], batches),
            "plain_reference": {
                **_speed(seconds[PLAIN], batches),
                "padded_to": bench.shapes.padded,
            },
        },
        note=shrunk(bench, len(batches[0].x)),
    )


def _compact(bench: Workbench, seconds: dict[str, list[float]], batches: Sequence[Batch]) -> Row:
    times = ratios(seconds[OURS], seconds[COMPACT])
    return Row(
        measure="compact-vocabulary",
        title=f"vocabulary of {bench.shapes.compact_vocab:,} pieces against {bench.shapes.full_vocab:,}: sentences/s",
        value=median(times),
        unit="×",
        goal=bench.goal(6.0),
        details={
            **_of_batches(bench, batches),
            "ratio": spread(times),
            "full": _speed(seconds[OURS], batches),
            "compact": _speed(seconds[COMPACT], batches),
        },
        note="Both read the same token ids, those of the compact vocabulary.",
    )


def _mfu(
    bench: Workbench, trainee: Trainee, seconds: dict[str, list[float]], batches: Sequence[Batch]
) -> Row:
    nothing_frozen = Component("encoder", 0, trainable=False)
    cost = cost_of(trainee.model.config, nothing_frozen, trainee.train, trainee.diffusion)
    flops = cost.flops_per_token * sum(batch.x.numel() for batch in batches)
    bare = _PRODUCTS * product_flops(bench.machine.matmul_size)
    shares = [
        100 * (flops / ours) / (bare / products)
        for ours, products in zip(seconds[OURS], seconds[PRODUCTS], strict=True)
    ]
    on_gpu = bench.device.type == "cuda"
    return Row(
        measure="mfu",
        title="training step, reference configuration: share of the measured matrix-multiply rate (MFU)",
        value=median(shares),
        unit="%",
        goal=bench.goal(45.0) if on_gpu and dtype_name(bench.dtype) == "bf16" else None,
        details={
            **_of_batches(bench, batches),
            "share": spread(shares),
            "flops_per_token": cost.flops_per_token,
            "achieved_flops_per_second": rate(flops, seconds[OURS]),
            "machine_flops_per_second": rate(bare, seconds[PRODUCTS]),
            **_speed(seconds[OURS], batches),
        },
        note="Counts the products of masked positions only, forward and backward. The goal is for a GPU.",
    )


def _of_batches(bench: Workbench, batches: Sequence[Batch]) -> dict[str, Any]:
    return {
        "dtype": dtype_name(bench.dtype),
        "repeats": bench.config.repeats,
        "batch_sentences": len(batches[0].x),
        "batch_lengths": [batch.x.shape[1] for batch in batches],
    }


def _speed(seconds: Sequence[float], batches: Sequence[Batch]) -> dict[str, Any]:
    return {
        "sentences_per_second": rate(sum(len(batch.x) for batch in batches), seconds),
        "tokens_per_second": rate(sum(batch.x.numel() for batch in batches), seconds),
        "seconds": spread(seconds),
    }
