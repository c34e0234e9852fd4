"""Sampling: a batch of sentences against the plain reference, and one sentence alone."""

import torch
from torch import Tensor
from torch.nn import functional as F

from sgdd_engine.benchmark.context import BenchContext
from sgdd_engine.benchmark.measurement import BenchmarkError, Row
from sgdd_engine.benchmark.reference import PlainModel, plain_sample
from sgdd_engine.benchmark.trainable_model import nonzero_model
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.generation import Decoder, DecodeRequest

TokenRows = list[list[int]]
# Rounding may change the order of two nearly equal scores, and the rest of the sentence follows from it.
_EQUAL_SHARE = 0.95
# One sentence is written so often in a repetition.
_SINGLE = 3


class Sampler:
    """A batch of latents, and two ways to decode it."""

    def __init__(self, bench: BenchContext, lengths: list[int]) -> None:
        config = bench.model_config(bench.shapes.compact_vocab, bench.shapes.compact_dim)
        model = nonzero_model(config, bench.device).eval()
        self.lengths, self.padded_to = lengths, bench.shapes.padded
        self.sampling = SamplingConfig(steps=bench.shapes.steps)
        self.forbidden = (0, 1, 2, 3, config.vocabulary.mask_id)
        self.decoder = Decoder(model, build_schedule("cosine"), self.forbidden, self.sampling)
        generator = torch.Generator().manual_seed(0)
        vectors = F.normalize(torch.randn(len(lengths), config.embedding_dim, generator=generator), dim=-1)
        with torch.inference_mode():
            self.z: Tensor = model.latent(vectors.to(bench.device)).z

    def ours(self) -> TokenRows:
        """As `sgdd sample` decodes."""
        requests = [DecodeRequest(row, length, row) for row, length in enumerate(self.lengths)]
        return self.decoder.decode(self.z, requests)

    def plain(self) -> TokenRows:
        """As the plain reference decodes."""
        return plain_sample(
            PlainModel.of(self.decoder.model),
            self.z,
            torch.tensor(self.lengths, device=self.z.device),
            padded_to=self.padded_to,
            steps=self.sampling.steps,
            weight=self.sampling.cfg,
            schedule=self.decoder.schedule,
            forbidden=self.forbidden,
        )

    def equal_share(self) -> float:
        """Share of the sentences whose tokens are all equal.

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


def measure_sampling(bench: BenchContext) -> list[Row]:
    """The row `sampling`: a batch of sentences of the text's lengths."""
    sampler = Sampler(bench, bench.tokens.typical_lengths(bench.shapes.batch_sentences))
    equal, sentences = sampler.equal_share(), len(sampler.lengths)
    timings = bench.race(
        f"sampling {sentences} sentences", {"ours": [sampler.ours], "plain reference": [sampler.plain]}
    )
    return [
        Row.of_median(
            timings.ratios("plain reference", "ours"),
            measure="sampling",
            title=f"sampling {sentences} sentences, {sampler.sampling.steps} guided steps, against "
            "all-position logits and a separate null pass",
            unit="×",
            goal=bench.goal(2.0),
            details={
                "dtype": "fp32",
                "vocabulary": bench.shapes.compact_vocab,
                "padded_to": bench.shapes.padded,
                "equal_sentences": equal,
                **timings.details(sentences=sentences, tokens=sum(sampler.lengths)),
            },
        )
    ]


def measure_latency(bench: BenchContext) -> list[Row]:
    """The row `latency`: one sentence of the text's mean length with the compact model."""
    length = round(float(bench.tokens.lengths.mean()))
    sampler = Sampler(bench, [length])
    timings = bench.race("latency of one sentence", {"ours": [sampler.ours] * _SINGLE})
    return [
        Row.of_median(
            [1000 * seconds / _SINGLE for seconds in timings.seconds["ours"]],
            measure="latency",
            title=f"one sentence of {length} tokens, {sampler.sampling.steps} guided steps, compact model",
            unit="ms",
            goal=bench.goal(20.0) if bench.device.type == "cuda" else None,
            at_most=True,
            details={"dtype": "fp32", "vocabulary": bench.shapes.compact_vocab},
            note="From the latent to the tokens; the goal is for a GPU.",
        )
    ]
