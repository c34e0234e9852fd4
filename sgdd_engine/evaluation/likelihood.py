"""The probability of held-out sentences under the model: the bound, and guesses by mask ratio and by confidence."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sgdd_engine.data.corpus import ExactLengthBatches
from sgdd_engine.diffusion.objective import nelbo_nats, ratio_names, sums_by_mask_ratio
from sgdd_engine.evaluation.bootstrap import Floats, ratio_with_error
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation import SGDD
from sgdd_engine.models.decoder import Condition
from sgdd_engine.models.head import VocabularyHead
from sgdd_engine.models.model import SemanticDecoder

BATCH_TOKENS = 4096
# Logits held at once, in elements: 16 MiB in fp32.
CHUNK_ELEMENTS = 1 << 22
# Ranges of the share of masked tokens; the full mask is counted apart.
RATIO_PARTS = 10
# Ranges of confidence, of equal width.
BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """Guesses of confidence `low` … `high`: their mean confidence, the share that was right, and their count."""

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """Confidences of guesses, counted in bins of equal width.

    Attributes:
        count: Guesses in each bin [BINS].
        confidence: Sum of their confidences [BINS].
        right: How many were right [BINS].
    """

    count: Floats
    confidence: Floats
    right: Floats

    @classmethod
    def of(cls, confidence: Floats, correct: Floats) -> "Calibration":
        """Count guesses by confidence [M] in 0–1 and correctness [M]."""
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        sums = (
            np.bincount(bins, weights, BINS) for weights in (np.ones_like(confidence), confidence, correct)
        )
        return cls(*(part.astype(np.float64) for part in sums))

    def __add__(self, other: "Calibration") -> "Calibration":
        """The guesses of both."""
        return Calibration(
            self.count + other.count, self.confidence + other.confidence, self.right + other.right
        )

    @property
    def expected_error(self) -> float:
        """Expected calibration error: `Σ bins share · |accuracy − mean confidence|` (Guo et al. 2017, eq. 3)."""
        return float(np.abs(self.right - self.confidence).sum() / max(1.0, self.count.sum()))

    @property
    def overconfidence(self) -> float:
        """Mean confidence less accuracy over all guesses; above 0 where the model is too sure of itself."""
        return float((self.confidence - self.right).sum() / max(1.0, self.count.sum()))

    @property
    def bins(self) -> list[Bin]:
        """The bins that hold a guess."""
        return [
            Bin(
                low=index / BINS,
                high=(index + 1) / BINS,
                confidence=float(self.confidence[index] / self.count[index]),
                accuracy=float(self.right[index] / self.count[index]),
                count=int(self.count[index]),
            )
            for index in np.flatnonzero(self.count).tolist()
        ]

    def to_dict(self) -> dict[str, Any]:
        """`ece`, `overconfidence`, `tokens`, and the bins that hold a guess."""
        return {
            "ece": self.expected_error,
            "overconfidence": self.overconfidence,
            "tokens": int(self.count.sum()),
            "bins": [asdict(one) for one in self.bins],
        }


@dataclass(frozen=True, slots=True)
class MaskBucket:
    """Guesses at the tokens of canvases of which a like share is masked.

    Attributes:
        masked: The share, in percent: "0-10" … "90-100", and "100" for the full mask, where decoding starts.
        accuracy: Share of masked tokens guessed in one pass.
        nll_nats: Per masked token.
        tokens: Masked tokens.
    """

    masked: str
    accuracy: float
    nll_nats: float
    tokens: int


@dataclass(frozen=True, slots=True)
class LikelihoodFigures:
    """Figures of teacher-forced scoring; the sentence's own vector and its true length are given.

    Attributes:
        nelbo_nats_per_token: Negative evidence lower bound over all tokens.
        standard_error: Of that figure, over sentences and noise; None for a single sentence.
        bits_per_byte: The same bound per UTF-8 byte of the texts, as the tokenizer can write them.
        bits_per_byte_standard_error: Of that figure, likewise.
        by_mask_ratio: Guesses by the share of the canvas that is masked; buckets without a token are left out.
        calibration: Confidence in the likeliest token of each masked position, and whether it is the right one.
    """

    nelbo_nats_per_token: float
    standard_error: float | None
    bits_per_byte: float
    bits_per_byte_standard_error: float | None
    by_mask_ratio: Sequence[MaskBucket]
    calibration: Calibration


@torch.inference_mode()
def likelihood(
    model: SGDD, data: EvaluationSet, *, samples: int, seed: int, on_event: Listener = ignore
) -> LikelihoodFigures:
    """Score the sentences in batches of one exact length each.

    Args:
        model: A trained model; the latent is the posterior's mean.
        data: N sentences that fit the model.
        samples: Masks per sentence, of stratified sizes.
        seed: Seed of the masks.
        on_event: Told of each batch.
    """
    lengths = np.array([len(tokens) for tokens in data.token_ids], dtype=np.int64)
    batches = ExactLengthBatches(lengths, batch_tokens=BATCH_TOKENS, seed=seed)
    generator = torch.Generator(device=model.device).manual_seed(seed)
    nats, tally = np.empty(len(data), dtype=np.float64), _Tally()
    on_event(StageStarted("likelihood", len(data)))
    done = 0
    for position in range(len(batches)):
        rows = batches.batch(position)
        x = torch.tensor([list(data.token_ids[row]) for row in rows], device=model.device)
        z = model.model.latent(data.vectors[torch.from_numpy(rows)].to(model.device)).z
        scorer = _Scorer(model.model, x, model.model.condition(z), tally)
        mask_id = model.info.model.vocabulary.mask_id
        bounds = nelbo_nats(x, scorer, model.schedule, mask_id, samples, generator)
        # On the CPU first: Apple's GPUs have no float64.
        nats[rows] = bounds.cpu().double().mean(dim=1).numpy()
        scorer.guess_all(mask_id)
        done += len(rows)
        on_event(StageProgress("likelihood", done))
    per_token, error = ratio_with_error(nats, lengths.astype(np.float64))
    texts = model.tokenizer.decode_batch(data.token_ids)
    sizes = np.array([len(text.encode()) for text in texts], dtype=np.float64)
    spread = "" if error is None else f" ± {error:.3f}"
    on_event(StageFinished("likelihood", f"{per_token:.3f}{spread} nats per token"))
    return LikelihoodFigures(
        per_token,
        error,
        *ratio_with_error(nats / math.log(2), sizes),
        [
            MaskBucket(name, right / tokens, nats / tokens, int(tokens))
            for name, tokens, right, nats in zip(ratio_names(RATIO_PARTS), *tally.sums.tolist(), strict=True)
            if tokens
        ],
        tally.calibration,
    )


class Guesses(NamedTuple):
    """M masked positions, each scored once; all [M].

    Attributes:
        nll: Of the clean token, in nats.
        correct: Whether no token is likelier than the clean one.
        confidence: Probability of the likeliest token.
    """

    nll: Tensor
    correct: Tensor
    confidence: Tensor


def guess(head: VocabularyHead, hidden: Tensor, targets: Tensor) -> Guesses:
    """Score hidden states [M, width] against clean tokens [M], some rows of logits at a time."""
    rows = max(1, CHUNK_ELEMENTS // head.table.shape[0])
    parts = [
        _guess(head.logits(states), clean)
        for states, clean in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
    ]
    return Guesses(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _guess(logits: Tensor, targets: Tensor) -> Guesses:
    normaliser, highest = logits.logsumexp(dim=1), logits.amax(dim=1)
    clean = logits.gather(1, targets[:, None])[:, 0]
    return Guesses(normaliser - clean, clean >= highest, (highest - normaliser).exp())


class _Tally:
    """Running sums of guesses, by mask ratio (tokens, right guesses, nats: [3, parts + 1]) and by confidence."""

    def __init__(self) -> None:
        self.sums = torch.zeros(3, RATIO_PARTS + 1, dtype=torch.float64)
        self.calibration = Calibration.of(np.zeros(0), np.zeros(0))

    def add(self, masked: Tensor, guesses: Guesses) -> None:
        """Count the guesses at the masked tokens of `masked` [B, n]."""
        # On the CPU first: Apple's GPUs have no float64.
        nll, right, confidence = (part.float().cpu().double() for part in guesses)
        self.sums += sums_by_mask_ratio(masked.cpu(), torch.stack([right, nll]), parts=RATIO_PARTS)
        self.calibration += Calibration.of(confidence.clamp(0, 1).numpy(), right.numpy())


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Scores the clean tokens `x` [B, n] at masked positions, and counts the guesses."""

    model: SemanticDecoder
    x: Tensor
    condition: Condition
    tally: _Tally

    def __call__(self, z_t: Tensor, t: Tensor, masked: Tensor) -> Tensor:
        guesses = self._guesses(z_t, t, masked)
        # Full masks are counted once for every sentence in `guess_all`; chance would favour short ones.
        partly = ~masked.all(dim=1)
        counted = partly[:, None].expand(masked.shape)[masked]
        self.tally.add(masked[partly], Guesses(*(part[counted] for part in guesses)))
        return guesses.nll

    def guess_all(self, mask_id: int) -> None:
        """Count the guesses from the full mask at t = 1."""
        masked = torch.ones_like(self.x, dtype=torch.bool)
        t = torch.ones(len(self.x), device=self.x.device)
        self.tally.add(masked, self._guesses(torch.full_like(self.x, mask_id), t, masked))

    def _guesses(self, z_t: Tensor, t: Tensor, masked: Tensor) -> Guesses:
        positions = masked.flatten().nonzero().squeeze(1)
        hidden = self.model.hidden(z_t, t, self.condition, positions=positions)
        return guess(self.model.head, hidden, self.x[masked])
