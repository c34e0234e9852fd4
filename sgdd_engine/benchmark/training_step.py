"""The training step: its speed and memory against the plain reference, its share of the machine's rate, its head."""

from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from sgdd_engine.benchmark.context import BenchContext
from sgdd_engine.benchmark.measurement import (
    Row,
    Timings,
    Work,
    dtype_name,
    free_memory,
    peak_bytes,
    product_flops,
    square_product,
    timed,
)
from sgdd_engine.benchmark.trainable_model import Batch, TrainableModel
from sgdd_engine.events import StageFinished, StageStarted
from sgdd_engine.models.head import VocabularyHead
from sgdd_engine.training.cost import Component, cost_of

OURS, PLAIN, COMPACT, PRODUCTS = "ours", "plain reference", "compact vocabulary", "bare matrix products"
# Square products per repetition: the machine's rate is measured among the steps, so that a slow moment affects it too.
_PRODUCTS = 8
# Log-probabilities and two gradients in fp32, and a copy in bf16, exist at once.
_PLAIN_BYTES_PER_LOGIT = 15
# Gradient and two moments in fp32.
_OTHER_BYTES_PER_PARAMETER = 12
# Positions at a time that the bare products of the head try beside all at once; the quickest is the measure.
_CHUNKS = (256, 1024)
_MEMORY_STAGE = "peak memory of a training step"
_MEMORY_NOTE = (
    "Above parameters, optimiser state and average, as PyTorch allocates; the gradients, which both need alike, are "
    "counted in the value and left out in the details. A matrix library's own scratch space is in neither."
)


def measure_training_step(bench: BenchContext) -> list[Row]:
    """The rows `train-step`, `compact-vocabulary` and `mfu`, those that are wanted, from one race."""
    wanted, shapes = bench.config.wanted, bench.shapes
    full = bench.trainable(bench.reference_config)
    rows = sentences_that_fit(bench, full) if "train-step" in wanted else shapes.batch_sentences
    batches = bench.batches(rows)
    contestants: dict[str, Sequence[Work]] = {OURS: [partial(full.our_step, batch) for batch in batches]}
    if "train-step" in wanted:
        contestants[PLAIN] = [partial(full.plain_step, batch, shapes.padded) for batch in batches]
    if "compact-vocabulary" in wanted:
        small = bench.trainable(bench.model_config(shapes.compact_vocab, shapes.embedding_dim))
        contestants[COMPACT] = [partial(small.our_step, batch) for batch in batches]
    if "mfu" in wanted:
        product = square_product(bench.machine.matmul_size, bench.dtype, bench.device)
        contestants[PRODUCTS] = [product] * _PRODUCTS
    timings = bench.race(f"training step: {', '.join(contestants)}", contestants)
    steps = Timings({name: seconds for name, seconds in timings.seconds.items() if name != PRODUCTS})
    details = _details(bench, batches) | steps.details(
        sentences=rows * len(batches), tokens=sum(batch[0].numel() for batch in batches)
    )
    found = []
    if "train-step" in wanted:
        found.append(
            Row.of_median(
                timings.ratios(PLAIN, OURS),
                measure="train-step",
                title="training step, reference configuration, against the plain reference: sentences/s",
                unit="×",
                goal=bench.goal(5.0),
                details=details | {"plain_reference_padded_to": shapes.padded},
                note=_smaller_batches(bench, rows),
            )
        )
    if "compact-vocabulary" in wanted:
        found.append(
            Row.of_median(
                timings.ratios(OURS, COMPACT),
                measure="compact-vocabulary",
                title=f"vocabulary of {shapes.compact_vocab:,} pieces against {shapes.full_vocab:,}: sentences/s",
                unit="×",
                goal=bench.goal(6.0),
                details=details,
                note="Both read the same token ids, those of the compact vocabulary.",
            )
        )
    if "mfu" in wanted:
        found.append(_mfu(bench, full, timings, batches, details))
    return found


def _mfu(
    bench: BenchContext,
    trainable: TrainableModel,
    timings: Timings,
    batches: Sequence[Batch],
    details: dict[str, Any],
) -> Row:
    nothing_frozen = Component("encoder", 0, trainable=False)
    cost = cost_of(trainable.model.config, nothing_frozen, trainable.train, trainable.diffusion)
    flops = cost.flops_per_token * sum(batch[0].numel() for batch in batches)
    machine_flops = _PRODUCTS * product_flops(bench.machine.matmul_size)
    has_goal = bench.device.type == "cuda" and dtype_name(bench.dtype) == "bf16"
    return Row.of_median(
        [100 * flops / machine_flops * ratio for ratio in timings.ratios(PRODUCTS, OURS)],
        measure="mfu",
        title="training step, reference configuration: share of the measured matrix-multiply rate (MFU)",
        unit="%",
        goal=bench.goal(45.0) if has_goal else None,
        details=details
        | {
            "flops_per_token": cost.flops_per_token,
            "achieved_flops_per_second": flops / median(timings.seconds[OURS]),
            "machine_flops_per_second": machine_flops / median(timings.seconds[PRODUCTS]),
        },
        note="Counts the products of masked positions only, forward and backward. The goal is for a GPU.",
    )


def measure_step_memory(bench: BenchContext) -> list[Row]:
    """The row `step-memory`: our peak over the plain reference's."""
    bench.on_event(StageStarted(_MEMORY_STAGE, 1, "steps"))
    trainable = bench.trainable(bench.reference_config)
    rows = sentences_that_fit(bench, trainable)
    batches = bench.batches(rows)
    # The moments are allocated at the first step.
    trainable.our_step(batches[0])
    ours = max(peak_bytes(partial(trainable.our_step, batch), bench.device) for batch in batches)
    plain = peak_bytes(partial(trainable.plain_step, batches[-1], bench.shapes.padded), bench.device)
    gradients = sum(p.numel() * p.element_size() for p in trainable.model.parameters())
    bench.on_event(StageFinished(_MEMORY_STAGE))
    return [
        Row(
            measure="step-memory",
            title="same: peak memory above parameters and optimiser state, over the plain reference's",
            value=ours / plain,
            unit="×",
            goal=bench.goal(1 / 8),
            at_most=True,
            details=_details(bench, batches)
            | {
                "ours_peak_bytes": ours,
                "plain_reference_peak_bytes": plain,
                "gradient_bytes": gradients,
                "value_without_gradients": max(0, ours - gradients) / max(1, plain - gradients),
            },
            note=f"{_MEMORY_NOTE} {_smaller_batches(bench, rows)}".strip(),
        )
    ]


def sentences_that_fit(bench: BenchContext, trainable: TrainableModel) -> int:
    """Sentences per batch, fewer than wanted where the plain reference's logits would not fit into memory."""
    rows, shapes = bench.shapes.batch_sentences, bench.shapes
    parameters = sum(parameter.numel() for parameter in trainable.model.parameters())
    free = free_memory(bench.device) - _OTHER_BYTES_PER_PARAMETER * parameters
    while rows > 1 and rows * shapes.padded * shapes.full_vocab * _PLAIN_BYTES_PER_LOGIT > free:
        rows //= 2
    return rows


def _smaller_batches(bench: BenchContext, rows: int) -> str:
    wanted = bench.shapes.batch_sentences
    if rows == wanted:
        return ""
    return f"Batches of {rows} sentences instead of {wanted}, for both: the plain reference's logits need the memory."


def _details(bench: BenchContext, batches: Sequence[Batch]) -> dict[str, Any]:
    return {
        "dtype": dtype_name(bench.dtype),
        "batch_sentences": len(batches[0][0]),
        "batch_lengths": [batch[0].shape[1] for batch in batches],
    }


def measure_head(bench: BenchContext) -> list[Row]:
    """A row for each vocabulary, in the arithmetic of training and in fp32."""
    sizes = {"head-full": bench.shapes.full_vocab, "head-compact": bench.shapes.compact_vocab}
    dtypes = dict.fromkeys([bench.dtype, torch.float32])
    return [_head(bench, name, size, dtype) for dtype in dtypes for name, size in sizes.items()]


def _head(bench: BenchContext, name: str, vocabulary: int, dtype: torch.dtype) -> Row:
    positions, width, kind = bench.typical_masked(), bench.shapes.width, dtype_name(dtype)
    hidden = torch.randn(positions, width, device=bench.device).to(dtype)
    timings = bench.race(
        f"head, {vocabulary:,} pieces, {kind}",
        {
            "bare": [fastest_products(hidden, vocabulary, bench.device)],
            "ours": [our_head(hidden, vocabulary)],
        },
    )
    products = 6.0 * positions * vocabulary * width
    return Row.of_median(
        [100 * share for share in timings.ratios("bare", "ours")],
        measure=f"{name}-{kind}",
        title=f"head of {vocabulary:,} pieces, {kind}: forward and backward, share of its bare products' rate",
        unit="%",
        goal=bench.goal(80.0),
        details={
            "dtype": kind,
            "positions": positions,
            "vocabulary": vocabulary,
            "width": width,
            "ours_flops_per_second": products / median(timings.seconds["ours"]),
            "bare_flops_per_second": products / median(timings.seconds["bare"]),
            "machine_flops_per_second": bench.machine.matmul_flops_per_second[kind],
        },
        note="Positions: the masked ones of a batch of sentences of the text's mean length.",
    )


def our_head(hidden: Tensor, vocabulary: int) -> Work:
    """Cross-entropy and its gradients as training takes them."""
    head = VocabularyHead(vocabulary, hidden.shape[1]).to(hidden.device)
    # As it comes from the decoder, so that its gradient is wanted too.
    hidden = hidden.clone().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(vocabulary, (len(hidden),), generator=generator).to(hidden.device)
    weights = torch.full((len(hidden),), 1 / len(hidden), device=hidden.device)

    def work() -> None:
        head.zero_grad(set_to_none=True)
        hidden.grad = None
        head.cross_entropy(hidden, targets, weights).loss.backward()  # type: ignore[no-untyped-call]

    return work


def fastest_products(hidden: Tensor, vocabulary: int, device: torch.device) -> Work:
    """The three products of the head, hidden · Tᵀ, grad · T and gradᵀ · hidden, in the quickest of a few chunkings."""
    table = torch.randn(vocabulary, hidden.shape[1], device=device).to(hidden.dtype)
    # Outputs stand ready, so that allocation is not timed.
    grad_hidden, grad_table = torch.empty_like(hidden), torch.empty_like(table)

    def products(logits: Tensor) -> None:
        # The logits stand in for their gradient.
        size = len(logits)
        for rows, grad_rows in zip(torch.split(hidden, size), torch.split(grad_hidden, size), strict=True):
            chunk = logits[: len(rows)]
            torch.mm(rows, table.T, out=chunk)
            torch.mm(chunk, table, out=grad_rows)
            torch.mm(chunk.T, rows, out=grad_table)

    sizes = dict.fromkeys(min(size, len(hidden)) for size in (*_CHUNKS, len(hidden)))
    # Random, since a processor is quicker at zeros.
    ways = [
        partial(products, torch.randn(size, vocabulary, device=device).to(hidden.dtype)) for size in sizes
    ]
    return min(ways, key=lambda way: min(timed(way, device) for _ in range(3)))
