"""Texts of one condition with all their scores, sentence by sentence, and the intervals of the scores' means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgdd_engine.evaluation.bootstrap import Floats, Interval, Resampling, interval
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.metrics import METRICS, WrittenTexts
from sgdd_engine.generation import SGDD, Generation, encode_written

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
        values: By name of the metric: its value for each sentence [N], or counts that add up [N, C].
        encoder_calls: Texts that were encoded to write each [N].
    """

    texts: Sequence[str]
    references: Sequence[str]
    values: Mapping[str, Floats]
    encoder_calls: Floats

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    def __getitem__(self, name: str) -> Floats:
        """A metric by name, sentence by sentence [N]."""
        return self.values[name]

    def of(self, rows: npt.NDArray[np.int64]) -> "Scores":
        """The same of some of the sentences."""
        return Scores(
            [self.texts[row] for row in rows.tolist()],
            [self.references[row] for row in rows.tolist()],
            {name: values[rows] for name, values in self.values.items()},
            self.encoder_calls[rows],
        )

    def totals(self, resampling: Resampling) -> dict[str, Floats]:
        """Every metric of the condition, for the sentences themselves and for each resample: [1 + R] each."""
        averaged = [name for name in self.values if METRICS[name].total is None]
        means = resampling.means(np.stack([self.values[name] for name in averaged], axis=1))
        found = dict(zip(averaged, means.T, strict=True))
        for name, values in self.values.items():
            if (total := METRICS[name].total) is not None:
                found[name] = total(resampling, values)
        return {name: found[name] for name in self.values}


def intervals(totals: Mapping[str, Floats]) -> dict[str, Interval]:
    """Each metric [1 + R] with its 95 % interval."""
    return {name: interval(values) for name, values in totals.items()}


def differences(one: Mapping[str, Floats], other: Mapping[str, Floats]) -> dict[str, Interval]:
    """Each metric of one condition less that of the other, paired by sentence, with its 95 % interval."""
    return {name: interval(values - other[name]) for name, values in one.items()}


def references_of(model: SGDD, data: EvaluationSet) -> list[str]:
    """What the decoder's tokenizer can write of each sentence."""
    return model.tokenizer.decode_batch(data.token_ids)


def score(
    model: SGDD, data: EvaluationSet, written: Sequence[Generation], again: Tensor | None = None
) -> Scores:
    """Score what was written for each sentence of a set [N] by every metric.

    Args:
        model: Its tokenizer gives the references, and its encoder reads the texts again.
        data: The sentences, N.
        written: A text for each.
        again: The vectors of these texts [N, D], where they are known.
    """
    references, texts = references_of(model, data), [item.text for item in written]
    cosines, ranks = _cosine_and_rank(reencode(model, texts) if again is None else again, data.vectors)
    pairs = zip(written, data.token_ids, strict=True)
    excess = np.array([len(item.tokens) - len(tokens) for item, tokens in pairs], dtype=np.float64)
    compared = WrittenTexts(references, texts, cosines, ranks, excess)
    return Scores(
        texts=texts,
        references=references,
        values={name: metric.of(compared) for name, metric in METRICS.items()},
        encoder_calls=np.array([item.encoder_calls for item in written], dtype=np.float64),
    )


def reencode(model: SGDD, texts: Sequence[str]) -> Tensor:
    """Vectors of written texts [N, D]; equal texts are encoded once."""
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    vectors = encode_written(model.encoder, list(distinct))
    return vectors[torch.tensor([distinct[text] for text in texts])]


def _cosine_and_rank(again: Tensor, vectors: Tensor) -> tuple[Floats, Floats]:
    """Cosine of each text with its source [N], and the place of its source among all sources [N]."""
    again, sources = (torch.nn.functional.normalize(v.double(), dim=-1) for v in (again, vectors))
    cosine = (again * sources).sum(dim=-1)
    at_once = max(1, CHUNK_ELEMENTS // len(sources))
    closer = [
        (rows @ sources.T > own[:, None] + SAME_COSINE).sum(dim=1)
        for rows, own in zip(torch.split(again, at_once), torch.split(cosine, at_once), strict=True)
    ]
    return cosine.numpy(), 1.0 + torch.cat(closer).double().numpy()
