"""Shortlists: several sentences are written for each one that the encoder reads, and a surrogate chooses.

The encoder decides in the end, but a call of it is expensive: BGE-M3 has eighty times the parameters of a small
decoder. The surrogate, a small network beside the decoder, predicts a text's vector at little cost; how likely the
decoder finds the text counts a little beside it, as in a search. The sentences have to be written, which for a small
encoder takes longer than encoding them: a shortlist saves encoder calls, not always time.
"""

import math
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from sgdd_engine.errors import GenerationError
from sgdd_engine.generation.decode import DecodeRequest
from sgdd_engine.generation.refinement import (
    PROPOSERS,
    Candidate,
    EncodedText,
    ProposalContext,
    Proposer,
    score_of,
)
from sgdd_engine.models.model import SemanticDecoder

# Sentences of one length whose vectors are predicted together.
BATCH_ROWS = 512
# The Gaussian process of the surrogate's errors: its length scale, as a share of the target's norm, and the variance of
# an error that belongs to one text alone. Of ten settings the one that told encoded sentences best from each other, on
# 160 validation sentences of a corpus of novels.
LENGTH_SCALE, NOISE_VARIANCE = 0.3, 0.05

NotEncoded = dict[tuple[int, int], list[tuple[int, ...]]]
"""Sentences that were written and not encoded, by vector and seed."""


@torch.inference_mode()
def predict_embeddings(model: SemanticDecoder, texts: Sequence[Sequence[int]]) -> Tensor:
    """Vectors [N, D] that the model's surrogate of the encoder predicts for texts, on the CPU.

    Args:
        model: In evaluation mode, with `decoder.surrogate_width`.
        texts: Token ids of each text, at least one.
    """
    predictions = torch.empty(len(texts), model.config.embedding_dim)
    for length in sorted({len(tokens) for tokens in texts}):
        same_length = [i for i, tokens in enumerate(texts) if len(tokens) == length]
        for part in (
            same_length[start : start + BATCH_ROWS] for start in range(0, len(same_length), BATCH_ROWS)
        ):
            tokens = torch.tensor([list(texts[i]) for i in part], device=model.null.device)
            predictions[part] = model.predict_embedding(tokens).cpu()
    return predictions


def gaussian_process_correction(
    predictions: Tensor, encoded_predictions: Tensor, encoded_vectors: Tensor, length_scale: float
) -> Tensor:
    """Predictions corrected by the surrogate's errors on texts that were encoded, the more the closer they are.

    The surrogate's error is taken to be a Gaussian process over its prediction, with a Gaussian kernel:
    `p* + K(p*, p) (K(p, p) + σ² I)⁻¹ (v − p)`. Source: Rasmussen & Williams 2006, Gaussian Processes for Machine
    Learning, eq. 2.25.

    Args:
        predictions: [N, D], p* of the texts that may be encoded.
        encoded_predictions: [K, D], p of those that were.
        encoded_vectors: [K, D], v, their vectors.
        length_scale: Of the kernel.

    Returns:
        [N, D]; of a text that was encoded nearly its vector, of one far from all of them its prediction.
    """

    def kernel(left: Tensor, right: Tensor) -> Tensor:
        # A target of norm 0 has a length scale of 0: its texts then tell nothing of each other.
        return (torch.cdist(left, right).square() / (-2 * max(length_scale, 1e-6) ** 2)).exp()

    gram = kernel(encoded_predictions, encoded_predictions) + NOISE_VARIANCE * torch.eye(
        len(encoded_predictions)
    )
    corrected: Tensor = predictions + kernel(predictions, encoded_predictions) @ torch.linalg.solve(
        gram, encoded_vectors - encoded_predictions
    )
    return corrected


def corrected_predictions(
    model: SemanticDecoder,
    targets: Tensor,
    encoded: Sequence[Sequence[EncodedText]],
    sentences: Sequence[Sequence[Sequence[int]]],
) -> list[Tensor]:
    """Predicted vectors of sentences for each target [M, D], corrected by what was encoded for it.

    Args:
        model: With a surrogate.
        targets: Vectors that are written from [N, D], on the CPU.
        encoded: What was encoded for each, at least one text.
        sentences: Token ids of new sentences for each.
    """
    of_encoded = predict_embeddings(model, [text.tokens for texts in encoded for text in texts])
    of_new = torch.split(
        predict_embeddings(model, [s for each in sentences for s in each]), [*map(len, sentences)]
    )
    of_each = torch.split(of_encoded, [*map(len, encoded)])
    corrected = []
    for target, new, old, texts in zip(targets, of_new, of_each, encoded, strict=True):
        vectors = torch.stack([text.vector for text in texts])
        corrected.append(gaussian_process_correction(new, old, vectors, LENGTH_SCALE * float(target.norm())))
    return corrected


def top_of_each(scores: Sequence[float], groups: Sequence[Hashable], keep: int) -> list[int]:
    """Of each group the `keep` members of the highest scores, the first among equals.

    Args:
        scores: Of each [N].
        groups: Which group each belongs to [N].
        keep: How many of each.

    Returns:
        Indices of those kept, in their order.
    """
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    best = (sorted(group, key=lambda i: -scores[i])[:keep] for group in members.values())
    return sorted(index for group in best for index in group)


def predicted_scores(
    context: ProposalContext, rows: Sequence[int], texts: Sequence[Sequence[int]], predictions: Tensor
) -> list[float]:
    """Scores of texts as `score_of` says, with predicted vectors [N, D] in the place of the encoder's.

    Args:
        context: The decoder and the target vectors.
        rows: The vector that each text belongs to.
        texts: Token ids of each.
        predictions: The predicted vector of each.
    """
    cosines = torch.cosine_similarity(predictions, context.e[list(rows)], dim=-1).tolist()
    return [*map(score_of, cosines, context.log_probs(rows, texts))]


def select_shortlist(
    context: ProposalContext,
    requests: Sequence[DecodeRequest],
    ids: Sequence[Sequence[int]],
    keep: int,
) -> tuple[list[int], NotEncoded]:
    """Which requests' sentences the encoder reads, of each vector and seed.

    Of several the first, which is written at the likeliest length, is always read, so that the closest of them is
    never further away than the sentence that is written without any choice; beside it those whose predicted score is
    highest. Where one alone is read, the prediction decides. What was written twice is predicted and kept once.

    Args:
        context: Its model has a surrogate.
        requests: What was asked for, of each vector and seed the likeliest length first.
        ids: What was written.
        keep: How many of each.

    Returns:
        Indices of the requests that are read; and the sentences that are not.
    """
    first: dict[Hashable, int] = {}
    for index, (request, tokens) in enumerate(zip(requests, ids, strict=True)):
        first.setdefault((request.row, request.seed, tuple(tokens)), index)
    distinct = list(first.values())
    groups = [(requests[i].row, requests[i].seed) for i in distinct]
    rows, texts = [requests[i].row for i in distinct], [ids[i] for i in distinct]
    scores = predicted_scores(context, rows, texts, predict_embeddings(context.decoder.model, texts))
    if keep > 1:
        likeliest_length = {group: index for index, group in reversed(list(enumerate(groups)))}
        for index in likeliest_length.values():
            scores[index] = math.inf
    kept = [distinct[i] for i in top_of_each(scores, groups, keep)]
    not_encoded: NotEncoded = {}
    for index in sorted(set(range(len(requests))) - set(kept)):
        not_encoded.setdefault((requests[index].row, requests[index].seed), []).append(tuple(ids[index]))
    return kept, not_encoded


def build_proposer(
    context: ProposalContext,
    kinds: Sequence[str],
    shortlist: int,
    decode_batch: Callable[[Sequence[Sequence[int]]], list[str]],
    not_encoded: NotEncoded | None = None,
) -> Proposer:
    """A proposer of the first kind; with a shortlist, of that many proposals by the kinds in turn the best one.

    Args:
        context: What they are made with.
        kinds: Names in `PROPOSERS`, all of which the model can make.
        shortlist: Proposals per candidate and round; 1 for no choice.
        decode_batch: Texts of token ids.
        not_encoded: What was written before the first round and not encoded.

    Raises:
        GenerationError: there is no kind.
    """
    if not kinds:
        raise GenerationError(
            "This model can make none of these kinds of proposals.",
            f"Leave `proposals` out, or name others: {', '.join(PROPOSERS.names())}.",
        )
    made: list[Proposer] = [PROPOSERS.build(kind)(context) for kind in kinds]
    if shortlist == 1:
        return made[0]
    in_turn = [made[number % len(made)] for number in range(shortlist)]
    return ShortlistProposer(in_turn, context, decode_batch, not_encoded)


class ShortlistProposer:
    """Makes several proposals and returns, for each candidate, the sentence whose predicted score is highest.

    What was encoded on the way to a candidate corrects the predictions (`gaussian_process_correction`). What is not
    returned stays on the candidate's list and is weighed again in later rounds. Texts that were tried before are left
    out while there are others.

    Args:
        proposers: Called in turn once a round, each for one sentence per candidate; one may stand there several times.
        context: Its model has a surrogate.
        decode_batch: Texts of token ids.
        not_encoded: What was written before the first round and not encoded.
    """

    def __init__(
        self,
        proposers: Sequence[Proposer],
        context: ProposalContext,
        decode_batch: Callable[[Sequence[Sequence[int]]], list[str]],
        not_encoded: NotEncoded | None = None,
    ) -> None:
        self._proposers, self._context, self._decode_batch = proposers, context, decode_batch
        self._lists = dict(not_encoded or {})

    def __call__(
        self, candidates: Sequence[Candidate], generators: Sequence[torch.Generator]
    ) -> Sequence[tuple[int, ...]]:
        """Token ids of one new sentence per candidate."""
        proposals = [propose(candidates, generators) for propose in self._proposers]
        lists = [
            self._listed(candidate, new)
            for candidate, new in zip(candidates, zip(*proposals, strict=True), strict=True)
        ]
        owners = [number for number, listed in enumerate(lists) for _ in listed]
        sentences = [sentence for listed in lists for sentence in listed]
        predictions = corrected_predictions(
            self._context.decoder.model,
            self._context.e[[candidate.row for candidate in candidates]],
            [list(candidate.tried.values()) for candidate in candidates],
            lists,
        )
        rows = [candidates[number].row for number in owners]
        scores = predicted_scores(self._context, rows, sentences, torch.cat(predictions))
        return [sentences[i] for i in top_of_each(scores, owners, keep=1)]

    def _listed(self, candidate: Candidate, new: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        """The candidate's list with what is new and without what was tried; what is new where nothing is left."""
        key = candidate.row, candidate.seed
        listed = list(dict.fromkeys(map(tuple, [*self._lists.get(key, ()), *new])))
        texts = self._decode_batch(listed)
        untried = [tokens for tokens, text in zip(listed, texts, strict=True) if text not in candidate.tried]
        self._lists[key] = untried
        return untried or listed
