"""Several sentences where one is wanted, and the one kept that the model's own guess of its vector finds closest.

The encoder's word is final, but it is dear: BGE-M3 has eighty times the parameters of a small decoder. A surrogate of
it costs next to nothing, so several sentences are looked at for each one that the encoder reads. They must be written,
which for a small encoder takes longer than reading them: a shortlist saves encoder calls, not always time.
"""

import math
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from sgdd_engine.generation.correct import CorrectionProposer
from sgdd_engine.generation.decode import DecodeRequest
from sgdd_engine.generation.proposal import ProposalContext
from sgdd_engine.generation.refinement import Candidate, Proposer
from sgdd_engine.generation.remask import RemaskProposer
from sgdd_engine.generation.surrogate import REACH, gaussian_process_correction, predict_embeddings
from sgdd_engine.models.model import SemanticDecoder

Unread = dict[tuple[int, int], list[tuple[int, ...]]]
"""Sentences that were written and not read by the encoder, of each vector and seed."""


def top_by_cosine(cosines: Sequence[float], groups: Sequence[Hashable], keep: int) -> list[int]:
    """Of each group the `keep` members of the highest cosines, the first among equals.

    Args:
        cosines: How close each is guessed to come [N].
        groups: Which group each belongs to [N].
        keep: How many of each.

    Returns:
        Indices of those kept, in their order.
    """
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    best = (sorted(group, key=lambda i: -cosines[i])[:keep] for group in members.values())
    return sorted(index for group in best for index in group)


def select_shortlist(
    model: SemanticDecoder, e: Tensor, tasks: Sequence[DecodeRequest], ids: Sequence[Sequence[int]], keep: int
) -> list[int]:
    """Which tasks' sentences the encoder reads, of each vector and seed.

    Of several the first, which is written at the likeliest length, is always read, so that the closest of them is
    never further away than the sentence that is written without any choice; beside it those that are guessed to be
    closest. Where one alone is read, the guess decides. What was written twice is guessed and kept once.

    Args:
        model: Its surrogate guesses.
        e: The vectors that are to be matched [N, D], on the CPU.
        tasks: What was asked for, of each vector and seed the likeliest length first.
        ids: What was written.
        keep: How many of each.
    """
    first: dict[Hashable, int] = {}
    for index, (task, tokens) in enumerate(zip(tasks, ids, strict=True)):
        first.setdefault((task.row, task.seed, tuple(tokens)), index)
    different = list(first.values())
    groups = [(tasks[i].row, tasks[i].seed) for i in different]
    guesses = predict_embeddings(model, [ids[i] for i in different])
    cosines = torch.cosine_similarity(guesses, e[[tasks[i].row for i in different]], dim=-1).tolist()
    if keep > 1:
        foremost = {group: index for index, group in reversed(list(enumerate(groups)))}
        for index in foremost.values():
            cosines[index] = math.inf
    return [different[i] for i in top_by_cosine(cosines, groups, keep)]


def unread(tasks: Sequence[DecodeRequest], ids: Sequence[Sequence[int]], kept: Sequence[int]) -> Unread:
    """What is left of each vector and seed where only the sentences of some tasks are read."""
    left: Unread = {}
    for index in sorted(set(range(len(tasks))) - set(kept)):
        left.setdefault((tasks[index].row, tasks[index].seed), []).append(tuple(ids[index]))
    return left


def proposer(
    writer: ProposalContext,
    shortlist: int,
    spell: Callable[[Sequence[Sequence[int]]], list[str]],
    left: Unread | None = None,
) -> Proposer:
    """What a model can propose: of several the likeliest, half of them whole sentences if it can correct."""
    kinds: list[Proposer] = [RemaskProposer(writer)]
    if writer.model.draft_reader is not None:
        kinds.insert(0, CorrectionProposer(writer))
    if shortlist == 1:
        return kinds[0]
    asked = [kinds[number % len(kinds)] for number in range(shortlist)]
    return ShortlistProposer(asked, writer.model, writer.e, spell, left)


class ShortlistProposer:
    """Asks several proposers and passes on, for each draft, the sentence that is guessed to come closest.

    What was read on the way to a draft tells where the surrogate errs (`informed`). What is not passed on stays on the
    draft's list and is weighed again when more is known. Texts that were tried before are left out while there are
    others.

    Args:
        proposers: Asked in turn once a round, each for one sentence per draft; one may stand there several times.
        model: Its surrogate guesses.
        e: The vectors that are to be matched [N, D], on the CPU.
        spell: Texts of token ids.
        left: What was written before the first round and not read.
    """

    def __init__(
        self,
        proposers: Sequence[Proposer],
        model: SemanticDecoder,
        e: Tensor,
        spell: Callable[[Sequence[Sequence[int]]], list[str]],
        left: Unread | None = None,
    ) -> None:
        self._proposers, self._model, self._e, self._spell = proposers, model, e, spell
        self._lists = dict(left or {})

    def __call__(
        self, drafts: Sequence[Candidate], noise: Sequence[torch.Generator]
    ) -> Sequence[tuple[int, ...]]:
        """Token ids of one new sentence per draft."""
        answers = [propose(drafts, noise) for propose in self._proposers]
        lists = [
            self._listed(draft, new) for draft, new in zip(drafts, zip(*answers, strict=True), strict=True)
        ]
        rows = [row for row, listed in enumerate(lists) for _ in listed]
        sentences = [sentence for listed in lists for sentence in listed]
        targets = self._e[[drafts[row].row for row in rows]]
        estimates = self._estimates(drafts, [len(listed) for listed in lists], sentences)
        cosines = torch.cosine_similarity(estimates, targets, dim=-1).tolist()
        return [sentences[i] for i in top_by_cosine(cosines, rows, keep=1)]

    def _listed(self, draft: Candidate, new: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        """The draft's list with what is new on it and without what was tried; what is new where nothing is left."""
        listed = list(dict.fromkeys(map(tuple, [*self._lists.get((draft.row, draft.seed), ()), *new])))
        texts = self._spell(listed)
        untried = [tokens for tokens, text in zip(listed, texts, strict=True) if text not in draft.tried]
        self._lists[draft.row, draft.seed] = untried
        return untried or listed

    def _estimates(
        self, drafts: Sequence[Candidate], counts: Sequence[int], sentences: Sequence[tuple[int, ...]]
    ) -> Tensor:
        """What the vectors of so many sentences of each draft are taken to be [M, D]."""
        read = [list(draft.tried.values()) for draft in drafts]
        of_read = predict_embeddings(
            self._model, [reading.tokens for readings in read for reading in readings]
        )
        guesses = torch.split(predict_embeddings(self._model, sentences), list(counts))
        known = torch.split(of_read, [len(readings) for readings in read])
        found = []
        for draft, new, old, readings in zip(drafts, guesses, known, read, strict=True):
            vectors = torch.stack([reading.vector for reading in readings])
            found.append(
                gaussian_process_correction(new, old, vectors, REACH * float(self._e[draft.row].norm()))
            )
        return torch.cat(found)
