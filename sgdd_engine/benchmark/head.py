"""The vocabulary head, forward and backward, against nothing but its three matrix products."""

from functools import partial
from statistics import median

import torch
from torch import Tensor

from sgdd_engine.benchmark.context import BenchContext
from sgdd_engine.benchmark.machine import dtype_name
from sgdd_engine.benchmark.measurement import Row, Work, timed
from sgdd_engine.models.head import VocabularyHead

# Positions at a time that the bare products try beside all at once; the quickest is the measure.
_CHUNKS = (256, 1024)


def measure_head(bench: BenchContext) -> list[Row]:
    """A row for each vocabulary, in the arithmetic of training and in fp32."""
    sizes = {"head-full": bench.shapes.full_vocab, "head-compact": bench.shapes.compact_vocab}
    dtypes = dict.fromkeys([bench.dtype, torch.float32])
    return [_row(bench, name, size, dtype) for dtype in dtypes for name, size in sizes.items()]


def _row(bench: BenchContext, name: str, vocabulary: int, dtype: torch.dtype) -> Row:
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
