"""What retrieval still finds among defended vectors, beside the neighbours that plain vectors have."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgdd_engine.evaluation.bootstrap import Floats, Interval, bootstrap_interval

# Neighbours that count.
DEPTH = 10
# Similarities held at once, in numbers: 32 MiB.
_CHUNK = 1 << 22

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RetrievalQuality:
    """How many of the nearest documents are found again.

    Attributes:
        recall: Mean share of the plain vectors' nearest documents among the defended vectors' nearest ones, 0–1.
        ndcg: The same with their order (see `ranking_gain`), 0–1.
    """

    recall: Interval
    ndcg: Interval


def neighbours(queries: Floats, documents: Floats, depth: int) -> Indices:
    """The documents nearest to each query by cosine, nearest first, without the query's own: [N, depth].

    Args:
        queries: [N, k]; query i is document i.
        documents: [M, k], M > depth.
        depth: How many.
    """
    unit = [
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30) for rows in (queries, documents)
    ]
    found = []
    at_once = max(1, _CHUNK // len(documents))
    for start in range(0, len(queries), at_once):
        cosines = unit[0][start : start + at_once] @ unit[1].T
        here = np.arange(len(cosines))
        cosines[here, start + here] = -np.inf
        # Rounding must not decide among equal documents: an orthogonal matrix changes nothing.
        found.append(np.argsort(-np.round(cosines, 9), axis=1, kind="stable")[:, :depth])
    return np.concatenate(found)


def depth_among(documents: int) -> int:
    """How many neighbours count: `DEPTH`, or all others where there are fewer."""
    return min(DEPTH, documents - 1)


def chance_among(documents: int) -> float:
    """The recall of vectors that have nothing to do with the plain ones: 1 where all others count."""
    return depth_among(documents) / (documents - 1)


def ranking_gain(wanted: Indices, found: Indices) -> Floats:
    """NDCG of found documents [N, K], of which the wanted ones [N, K] are worth K, K − 1 … 1 by their order: [N].

    `DCG = Σ gain / log2(1 + rank)`, over that of the wanted order (Järvelin and Kekäläinen 2002, "Cumulated gain-based
    evaluation of IR techniques"); 1 only for the same documents in the same order.
    """
    depth = wanted.shape[1]
    discounts = 1 / np.log2(2 + np.arange(depth))
    worth = np.arange(depth, 0, -1.0)
    gains = ((found[:, :, None] == wanted[:, None, :]) * worth).sum(axis=2)
    result: Floats = gains @ discounts / float(worth @ discounts)
    return result


def retrieval_quality(plain: Floats, queries: Floats, documents: Floats, seed: int) -> RetrievalQuality:
    """Compare the nearest documents under a defence with those of plain vectors.

    Args:
        plain: All vectors [M, D]; the first N are the queries.
        queries: The queries [N, k] as they are compared with what is stored.
        documents: What is stored of all [M, k].
        seed: Of the intervals, which are over queries.
    """
    depth = depth_among(len(plain))
    wanted = neighbours(plain[: len(queries)], plain, depth)
    found = neighbours(queries, documents, depth)
    recall = (found[:, :, None] == wanted[:, None, :]).any(axis=2).mean(axis=1)
    return RetrievalQuality(
        bootstrap_interval(recall, seed), bootstrap_interval(ranking_gain(wanted, found), seed)
    )
