"""The vocabulary head, forward and backward, against nothing but its three matrix products."""

from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor

from sgdd_engine.benchmark.clock import race, ratios, timed
from sgdd_engine.benchmark.context import Workbench
from sgdd_engine.benchmark.machine import dtype_name
from sgdd_engine.benchmark.measurement import Row, spread
from sgdd_engine.models.head import VocabularyHead

_CHUNKS = (256, 1024)


def measure_head(bench: Workbench, _: frozenset[str]) -> list[Row]:
    """A row for each vocabulary, in the arithmetic of training and in fp32."""
    dtypes = dict.fromkeys([bench.dtype, torch.float32])
    return [
        _row(bench, name, vocabulary, dtype)
        for dtype in dtypes
        for name, vocabulary in (
            ("head-full", bench.shapes.full_vocab),
            ("head-compact", bench.shapes.compact_vocab),
        )
    ]


def _row(bench: Workbench, name: str, vocabulary: int, dtype: torch.dtype) -> Row:
    rows, width = bench.typical_masked(), bench.shapes.width
    inputs = torch.randn(rows, width, device=bench.device)
    bare = fastest_products(inputs.to(dtype), vocabulary, bench.device)
    ours = our_head(inputs.to(dtype), vocabulary)
    kind = dtype_name(dtype)
    seconds = race(
        {"bare": [bare], "ours": [ours]},
        repeats=bench.config.repeats,
        device=bench.device,
        on_repeat=bench.stage(f"head, {vocabulary:,} pieces, {kind}"),
    )
    shares = [100 * share for share in ratios(seconds["bare"], seconds["ours"])]
    products = 6.0 * rows * vocabulary * width
    return Row(
        measure=f"{name}-{kind}",
        title=f"head of {vocabulary:,} pieces, {kind}: forward and backward, share of its bare products' rate",
        value=median(shares),
        unit="%",
        goal=bench.goal(80.0),
        details={
            "dtype": kind,
            "repeats": bench.config.repeats,
            "positions": rows,
            "vocabulary": vocabulary,
            "width": width,
            "share": spread(shares),
            "ours_flops_per_second": products / median(seconds["ours"]),
            "bare_flops_per_second": products / median(seconds["bare"]),
            "machine_flops_per_second": bench.machine.matmul_flops_per_second[kind],
        },
        note="Positions: the masked ones of a batch of sentences of the text's mean length.",
    )


def our_head(hidden: Tensor, vocabulary: int) -> Callable[[], object]:
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


def fastest_products(hidden: Tensor, vocabulary: int, device: torch.device) -> Callable[[], object]:
    """The three products of the head, in the quickest of a few chunkings of the positions."""
    sizes = dict.fromkeys([*(min(chunk, len(hidden)) for chunk in _CHUNKS), len(hidden)])
    table = torch.randn(vocabulary, hidden.shape[1], device=device).to(hidden.dtype)
    ways = [partial(_products, hidden, table, _Results(hidden, table, size)) for size in sizes]
    return min(ways, key=lambda way: min(timed(way, device) for _ in range(3)))


class _Results:
    """Where the products go, so that allocation is not timed."""

    def __init__(self, hidden: Tensor, table: Tensor, chunk: int) -> None:
        self.chunk = chunk
        # Random, since a processor is quicker at zeros.
        self.logits = torch.randn(chunk, len(table), device=table.device).to(table.dtype)
        self.hidden, self.table = torch.empty_like(hidden), torch.empty_like(table)


def _products(hidden: Tensor, table: Tensor, out: _Results) -> None:
    """The products hidden · Tᵀ, grad · T and gradᵀ · hidden, with the logits standing in for their gradient."""
    for start in range(0, len(hidden), out.chunk):
        rows = hidden[start : start + out.chunk]
        logits = out.logits[: len(rows)]
        torch.mm(rows, table.T, out=logits)
        torch.mm(logits, table, out=out.hidden[start : start + len(rows)])
        torch.mm(logits.T, rows, out=out.table)
