"""Texts of one condition with all their scores, sentence by sentence, and how sure the scores' means are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgdd_engine.evaluation.bootstrap import Figures, Interval, Resampling, interval
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.metrics import (
    bleu_of_counts,
    bleu_of_sentence,
    chrf_counts,
    chrf_of_counts,
    exact_match,
    repetition,
    set_f1,
    token_f1,
)
from sgdd_engine.generation import SGDD

# Elements of the table of similarities held at once: 32 MiB.
CHUNK_ELEMENTS = 1 << 22
# Two vectors of one text differ by less, whatever batch they were computed in.
SAME_COSINE = 1e-6


@dataclass(frozen=True)
class Scores:
    """N texts written under one condition, with their scores.

    Attributes:
        texts: What was written.
        references: What it is compared with.
        values: Scores by name, sentence by sentence [N]; their means are the figures of the condition. Shares in
            0–1, BLEU and chrF in 0–100, `length_error` in tokens.
        ranks: Place of the source among all sources by cosine with the re-encoded text, from 1 [N].
        bleu_counts: What the corpus's BLEU is made of [N, 10].
        chrf_counts: What the corpus's chrF is made of [N, 18].
        encoder_calls: Texts that were encoded to write each [N].
    """

    texts: Sequence[str]
    references: Sequence[str]
    values: Mapping[str, Figures]
    ranks: Figures
    bleu_counts: Figures
    chrf_counts: Figures
    encoder_calls: Figures

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    def __getitem__(self, name: str) -> Figures:
        """A score by name, sentence by sentence [N]."""
        return self.values[name]

    def of(self, rows: npt.NDArray[np.int64]) -> "Scores":
        """The same of some of the sentences."""
        return Scores(
            [self.texts[row] for row in rows.tolist()],
            [self.references[row] for row in rows.tolist()],
            {name: values[rows] for name, values in self.values.items()},
            self.ranks[rows],
            self.bleu_counts[rows],
            self.chrf_counts[rows],
            self.encoder_calls[rows],
        )

    def figures(self, resampling: Resampling) -> dict[str, Figures]:
        """Every figure of the condition, for the sentences themselves and for each resample: [1 + R] each."""
        means = resampling.means(np.stack(list(self.values.values()), axis=1))
        return {
            **dict(zip(self.values, means.T, strict=True)),
            "corpus_bleu": bleu_of_counts(resampling.sums(self.bleu_counts)),
            "corpus_chrf": chrf_of_counts(resampling.sums(self.chrf_counts)),
            "retrieval_median_rank": resampling.medians(self.ranks),
        }


def intervals(figures: Mapping[str, Figures]) -> dict[str, Interval]:
    """Each figure [1 + R] with its 95 % interval."""
    return {name: interval(values) for name, values in figures.items()}


def differences(one: Mapping[str, Figures], other: Mapping[str, Figures]) -> dict[str, Interval]:
    """Each figure of one condition less that of the other, paired by sentence, with its 95 % interval."""
    return {name: interval(values - other[name]) for name, values in one.items()}


def score(
    model: SGDD,
    data: EvaluationSet,
    references: Sequence[str],
    texts: Sequence[str],
    lengths: Sequence[int],
    encoder_calls: Sequence[int] | None = None,
) -> Scores:
    """Score a text for each sentence of a set.

    Args:
        model: Its encoder reads the texts again.
        data: The sentences, N.
        references: What the texts are compared with [N].
        texts: What was written [N].
        lengths: Tokens of each text [N].
        encoder_calls: Texts that were encoded to write each [N]; none by default.
    """
    pairs = list(zip(references, texts, strict=True))
    bleu = [bleu_of_sentence(*pair) for pair in pairs]
    chrf = np.array([chrf_counts(*pair) for pair in pairs], dtype=np.float64)
    cosine, ranks = _compare_meaning(encode_again(model, texts), data.vectors)
    excess = np.array(lengths) - np.array([len(tokens) for tokens in data.token_ids])
    values = {
        "exact_match": [exact_match(*pair) for pair in pairs],
        "token_f1": [token_f1(*pair) for pair in pairs],
        "set_f1": [set_f1(*pair) for pair in pairs],
        "bleu": [value for value, _ in bleu],
        "chrf": chrf_of_counts(chrf),
        "cosine": cosine,
        "repetition": [repetition(text) for text in texts],
        "length_error": np.abs(excess),
        "length_exact": excess == 0,
        "retrieval_top1": ranks == 1,
        "retrieval_mrr": 1 / ranks,
    }
    return Scores(
        texts=texts,
        references=references,
        values={name: np.asarray(column, dtype=np.float64) for name, column in values.items()},
        ranks=ranks,
        bleu_counts=np.array([counts for _, counts in bleu], dtype=np.float64),
        chrf_counts=chrf,
        encoder_calls=np.asarray(encoder_calls or np.zeros(len(texts)), dtype=np.float64),
    )


def encode_again(model: SGDD, texts: Sequence[str]) -> Tensor:
    """Vectors of written texts [N, D]; equal texts are encoded once."""
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    # An empty text has no meaning to compare; a full stop stands for it, as in `SGDD.generate`.
    vectors = model.encoder.encode([text or "." for text in distinct])
    return vectors[torch.tensor([distinct[text] for text in texts])]


def _compare_meaning(again: Tensor, vectors: Tensor) -> tuple[Figures, Figures]:
    """Cosine of each text with its source [N], and the place of its source among all sources [N]."""
    again, sources = (torch.nn.functional.normalize(v.double(), dim=-1) for v in (again, vectors))
    cosine = (again * sources).sum(dim=-1)
    at_once = max(1, CHUNK_ELEMENTS // len(sources))
    closer = [
        (rows @ sources.T > own[:, None] + SAME_COSINE).sum(dim=1)
        for rows, own in zip(torch.split(again, at_once), torch.split(cosine, at_once), strict=True)
    ]
    return cosine.numpy(), 1.0 + torch.cat(closer).double().numpy()
