"""Several sentences where one is wanted, and the one kept that the model's own guess of its vector finds closest.

The encoder's word is final, but it is dear: BGE-M3 has eighty times the parameters of a small decoder. A surrogate of
it costs next to nothing, so several sentences are looked at for each one that the encoder reads. They must be written,
which for a small encoder takes longer than reading them: a shortlist saves encoder calls, not always time.
"""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from sgdd_engine.correcting import Correcting
from sgdd_engine.decoding import Task
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.refining import Draft, Proposer
from sgdd_engine.remasking import Remasking
from sgdd_engine.writer import Writer

# Sentences of one length that are read together.
ROWS = 512


@torch.inference_mode()
def guessed(model: SemanticDecoder, texts: Sequence[Sequence[int]]) -> Tensor:
    """Vectors [N, D] that the model's surrogate of the encoder guesses for texts, on the CPU.

    Args:
        model: In evaluation mode, with `decoder.surrogate_width`.
        texts: Token ids of each text, at least one.
    """
    found = torch.empty(len(texts), model.config.embedding_dim)
    for length in sorted({len(tokens) for tokens in texts}):
        alike = [i for i, tokens in enumerate(texts) if len(tokens) == length]
        for part in (alike[start : start + ROWS] for start in range(0, len(alike), ROWS)):
            tokens = torch.tensor([list(texts[i]) for i in part], device=model.null.device)
            found[part] = model.guess(tokens).cpu()
    return found


def likeliest(guesses: Tensor, targets: Tensor, groups: Sequence[Hashable], keep: int) -> list[int]:
    """Of each group the `keep` members whose guessed vectors point closest to their targets.

    Args:
        guesses: [N, D].
        targets: [N, D].
        groups: Which group each belongs to [N].
        keep: How many of each.

    Returns:
        Indices of those kept, in their order.
    """
    cosines = torch.cosine_similarity(guesses, targets, dim=-1).tolist()
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    best = (sorted(group, key=lambda i: -cosines[i])[:keep] for group in members.values())
    return sorted(index for group in best for index in group)


def shortlisted(
    model: SemanticDecoder, e: Tensor, tasks: Sequence[Task], ids: Sequence[Sequence[int]], keep: int
) -> list[int]:
    """Which tasks' sentences the encoder reads: of each vector and seed the `keep` that are guessed to be closest.

    What was written twice is guessed and kept once.

    Args:
        model: Its surrogate guesses.
        e: The vectors that are to be matched [N, D], on the CPU.
        tasks: What was asked for.
        ids: What was written.
        keep: How many of each.
    """
    first: dict[Hashable, int] = {}
    for index, (task, tokens) in enumerate(zip(tasks, ids, strict=True)):
        first.setdefault((task.row, task.seed, tuple(tokens)), index)
    different = list(first.values())
    chosen = likeliest(
        guessed(model, [ids[i] for i in different]),
        e[[tasks[i].row for i in different]],
        [(tasks[i].row, tasks[i].seed) for i in different],
        keep,
    )
    return [different[i] for i in chosen]


def proposer(
    writer: Writer, shortlist: int, spell: Callable[[Sequence[Sequence[int]]], list[str]]
) -> Proposer:
    """What a model can propose: of several the likeliest, half of them whole sentences if it can correct."""
    kinds: list[Proposer] = [Remasking(writer)]
    if writer.model.draft_reader is not None:
        kinds.insert(0, Correcting(writer))
    if shortlist == 1:
        return kinds[0]
    asked = [kinds[number % len(kinds)] for number in range(shortlist)]
    return Shortlisting(asked, writer.model, writer.e, spell)


class Shortlisting:
    """Asks several proposers and passes on, for each draft, the proposal that is guessed to come closest.

    The draft's own vector is known, so only the difference is guessed: a proposal's vector is taken to be
    `v + g(proposal) − g(draft)`. Texts that were tried before are left out while there are others.

    Args:
        proposers: Asked in turn once a round, each for one sentence per draft; one may stand there several times.
        model: Its surrogate guesses.
        e: The vectors that are to be matched [N, D], on the CPU.
        spell: Texts of token ids.
    """

    def __init__(
        self,
        proposers: Sequence[Proposer],
        model: SemanticDecoder,
        e: Tensor,
        spell: Callable[[Sequence[Sequence[int]]], list[str]],
    ) -> None:
        self._proposers, self._model, self._e, self._spell = proposers, model, e, spell

    def __call__(
        self, drafts: Sequence[Draft], noise: Sequence[torch.Generator]
    ) -> Sequence[tuple[int, ...]]:
        """Token ids of one new sentence per draft."""
        asked = [propose(drafts, noise) for propose in self._proposers]
        proposals = [tuple(tokens) for answers in zip(*asked, strict=True) for tokens in answers]
        of = [row for row in range(len(drafts)) for _ in asked]
        texts = self._spell(proposals)
        tried = [text in drafts[row].tried for row, text in zip(of, texts, strict=True)]
        all_tried = [all(tried[start : start + len(asked)]) for start in range(0, len(tried), len(asked))]
        open_ = [i for i, row in enumerate(of) if not tried[i] or all_tried[row]]
        rows = [of[i] for i in open_]
        chosen = likeliest(
            self._estimates(drafts, rows, [proposals[i] for i in open_]),
            self._e[[drafts[row].row for row in rows]],
            rows,
            keep=1,
        )
        return [proposals[open_[i]] for i in chosen]

    def _estimates(
        self, drafts: Sequence[Draft], rows: Sequence[int], proposals: Sequence[tuple[int, ...]]
    ) -> Tensor:
        """What the proposals' vectors are taken to be [M, D]."""
        known = torch.stack([draft.vector for draft in drafts])
        offset = known - guessed(self._model, [draft.tokens for draft in drafts])
        estimates: Tensor = guessed(self._model, proposals) + offset[list(rows)]
        return estimates
