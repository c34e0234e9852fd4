"""Sampling: a batch of sentences against the plain way, and one sentence alone."""

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from sgdd_engine.benchmark.clock import race, rate, ratios
from sgdd_engine.benchmark.context import Workbench
from sgdd_engine.benchmark.measurement import BenchmarkError, Row, spread
from sgdd_engine.benchmark.reference import PlainModel
from sgdd_engine.benchmark.reference_sampler import plain_sample
from sgdd_engine.benchmark.trainable_model import awake_model
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.generation import Decoder, DecodeRequest
from sgdd_engine.models.model import SemanticDecoder

Written = list[list[int]]
# Two ways of adding numbers up may put two nearly equal scores in another order, and a sentence goes on from there.
_EQUAL_SHARE = 0.95


class Sampler:
    """A batch of latents, and the two ways to write it."""

    def __init__(self, bench: Workbench, lengths: list[int]) -> None:
        config = bench.model_config(bench.shapes.compact_vocab, bench.shapes.compact_dim)
        self.model: SemanticDecoder = awake_model(config, bench.device).eval()
        self.lengths, self.padded = lengths, bench.shapes.padded
        self.sampling = SamplingConfig(steps=bench.shapes.steps)
        self.schedule = build_schedule("cosine")
        self.forbidden = (0, 1, 2, 3, config.vocabulary.mask_id)
        generator = torch.Generator().manual_seed(0)
        vectors = F.normalize(torch.randn(len(lengths), config.embedding_dim, generator=generator), dim=-1)
        with torch.inference_mode():
            self.z: Tensor = self.model.latent(vectors.to(bench.device)).z

    def ours(self) -> Written:
        """As `sgdd sample` does."""
        tasks = [DecodeRequest(row, length, row) for row, length in enumerate(self.lengths)]
        return Decoder(self.model, self.schedule, self.forbidden, self.sampling).decode(self.z, tasks)

    def plain(self) -> Written:
        """The plain way."""
        weights = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        return plain_sample(
            PlainModel(self.model.config, weights),
            self.z,
            torch.tensor(self.lengths, device=self.z.device),
            padded=self.padded,
            steps=self.sampling.steps,
            weight=self.sampling.cfg,
            schedule=self.schedule,
            forbidden=self.forbidden,
        )

    def equal_share(self) -> float:
        """Share of the sentences that both ways write alike, token for token.

        Raises:
            BenchmarkError: too many differ for rounding to be the reason.
        """
        pairs = list(zip(self.ours(), self.plain(), strict=True))
        share = sum(ours == plain for ours, plain in pairs) / len(pairs)
        if share < _EQUAL_SHARE:
            raise BenchmarkError(
                f"Ours and the plain reference write the same tokens in only {share:.0%} of the sentences, so neither "
                "was timed.",
                "Report it: either one of the two has a bug.",
            )
        return share


def measure_sampling(bench: Workbench, _: frozenset[str]) -> list[Row]:
    """The row `sampling`: a batch of sentences of the text's lengths."""
    sampler = Sampler(bench, bench.tokens.typical_lengths(bench.shapes.batch_sentences))
    report = bench.stage(f"sampling {len(sampler.lengths)} sentences")
    equal = sampler.equal_share()
    seconds = race(
        {"ours": [sampler.ours], "plain": [sampler.plain]},
        repeats=bench.config.repeats,
        device=bench.device,
        on_repeat=report,
    )
    times = ratios(seconds["plain"], seconds["ours"])
    return [
        Row(
            measure="sampling",
            title=f"sampling {len(sampler.lengths)} sentences, {sampler.sampling.steps} guided steps, against "
            "all-position logits and a separate null pass",
            value=median(times),
            unit="×",
            goal=bench.goal(2.0),
            details={
                "dtype": "fp32",
                "vocabulary": bench.shapes.compact_vocab,
                "repeats": bench.config.repeats,
                "sentences": len(sampler.lengths),
                "tokens": sum(sampler.lengths),
                "padded_to": bench.shapes.padded,
                "equal_sentences": equal,
                "ratio": spread(times),
                "ours": _speed(sampler.lengths, seconds["ours"]),
                "plain_reference": _speed(sampler.lengths, seconds["plain"]),
            },
        )
    ]


def measure_latency(bench: Workbench, _: frozenset[str]) -> list[Row]:
    """The row `latency`: one sentence of the text's mean length with the compact model."""
    length = round(float(bench.tokens.lengths.mean()))
    sampler = Sampler(bench, [length])
    work: Callable[[], object] = sampler.ours
    seconds = race(
        {"ours": [work] * 3},
        repeats=bench.config.repeats,
        device=bench.device,
        on_repeat=bench.stage("latency of one sentence"),
    )["ours"]
    milliseconds = [1000 * second / 3 for second in seconds]
    return [
        Row(
            measure="latency",
            title=f"one sentence of {length} tokens, {sampler.sampling.steps} guided steps, compact model",
            value=median(milliseconds),
            unit="ms",
            goal=bench.goal(20.0) if bench.device.type == "cuda" else None,
            at_most=True,
            details={
                "dtype": "fp32",
                "vocabulary": bench.shapes.compact_vocab,
                "repeats": bench.config.repeats,
                "milliseconds": spread(milliseconds),
            },
            note="From the latent to the tokens; the goal is for a GPU.",
        )
    ]


def _speed(lengths: list[int], seconds: list[float]) -> dict[str, object]:
    return {
        "sentences_per_second": rate(len(lengths), seconds),
        "tokens_per_second": rate(sum(lengths), seconds),
        "seconds": spread(seconds),
    }
