"""Changes that a search proposes for a text: written anew, one token replaced, words added, left out or moved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sgdd_engine.generation.decode import Canvas
from sgdd_engine.generation.refinement import PROPOSERS, Candidate, ProposalContext
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.registry import Registry
from sgdd_engine.text.embedding_init import spelled_embeddings
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.tokenizer import TextTokenizer

# τ, nats per unit of cosine: what the encoder's gradient weighs beside the decoder's log-probability.
GRADIENT_WEIGHT = 30.0
# Replacements of a text that are kept, the best first; a search asks for a few of them in each round.
RANKED = 64
# Denoising steps of a text that is written anew: a search proposes many, and keeps few.
REWRITE_STEPS = 6
# Most tokens that are added at a place, and most words that are moved together.
LONGEST_INSERTION, LONGEST_MOVE = 2, 3

Tokens = tuple[int, ...]
Word = tuple[int, ...]


class Proposed(NamedTuple):
    """Changed texts of one candidate, and how many encoder calls it took to find them."""

    texts: list[Tokens]
    calls: int = 0


class Move(Protocol):
    """Proposes changes of texts."""

    def __call__(
        self, candidates: Sequence[Candidate], counts: Sequence[int], generators: Sequence[torch.Generator]
    ) -> list[Proposed]:
        """Of each candidate at most so many changed texts, drawn from its own generator."""
        ...


@dataclass(frozen=True)
class MoveContext:
    """What every kind of move is made with.

    Attributes:
        proposals: The decoder, the target vectors, the lengths allowed.
        encoder: The encoder, for its gradient.
        tokenizer: The decoder's vocabulary.
    """

    proposals: ProposalContext
    encoder: SentenceEncoder
    tokenizer: TextTokenizer

    def words(self, tokens: Sequence[int]) -> list[Word]:
        """The tokens of each word; a mark is a word."""
        words: list[list[int]] = []
        for token in tokens:
            if words and self.tokenizer.continues_word[token]:
                words[-1].append(token)
            else:
                words.append([token])
        return [tuple(word) for word in words]

    def allows(self, row: int, length: int) -> bool:
        """Whether a text of this vector may have so many tokens."""
        lengths = self.proposals.lengths
        longest = self.proposals.decoder.model.config.max_tokens
        return 1 <= length <= longest and (lengths is None or length in lengths[row])


class MoveKind(Protocol):
    """A class of moves."""

    def __call__(self, context: MoveContext) -> Move:
        """A move for one search."""
        ...


MOVES: Registry[MoveKind] = Registry("kind of move")
# Those that ask for the encoder's gradient.
GRADIENT_MOVES = frozenset({"replace"})
# Those whose texts the decoder does not write: many more cost little.
UNWRITTEN_MOVES = frozenset({"order", "delete", "replace"})
# Those of a decoder that was trained to read drafts.
DRAFT_MOVES = frozenset({"correct"})


def usable_moves(model: SemanticDecoder, *, gradient: bool) -> list[str]:
    """The kinds of moves that can be made for this model, with or without the encoder's gradient."""
    can_read_drafts = model.draft_reader is not None
    return [
        name
        for name in MOVES.names()
        if (gradient or name not in GRADIENT_MOVES) and (can_read_drafts or name not in DRAFT_MOVES)
    ]


class _Rewrite:
    """Proposals of refining, several for each text."""

    def __init__(self, kind: str, context: MoveContext) -> None:
        decoder = context.proposals.decoder.with_steps(REWRITE_STEPS)
        self._propose = PROPOSERS.build(kind)(replace(context.proposals, decoder=decoder))

    def __call__(
        self, candidates: Sequence[Candidate], counts: Sequence[int], generators: Sequence[torch.Generator]
    ) -> list[Proposed]:
        owners = [i for i, count in enumerate(counts) for _ in range(count)]
        written = iter(self._propose([candidates[i] for i in owners], [generators[i] for i in owners]))
        return [Proposed([tuple(next(written)) for _ in range(count)]) for count in counts]


@MOVES.register("remask")
def remask(context: MoveContext) -> Move:
    """The least likely tokens written again."""
    return _Rewrite("remask", context)


@MOVES.register("correct")
def correct(context: MoveContext) -> Move:
    """The whole text written again by a decoder that reads it as a draft."""
    return _Rewrite("correct", context)


class _WordMove:
    """Changes of single texts, word by word."""

    def __init__(self, context: MoveContext) -> None:
        self._context = context

    def __call__(
        self, candidates: Sequence[Candidate], counts: Sequence[int], generators: Sequence[torch.Generator]
    ) -> list[Proposed]:
        return [
            Proposed(
                [
                    tokens
                    for _ in range(count)
                    if (tokens := tuple(chain.from_iterable(self.change(words, generator))))
                    and self._context.allows(candidate.row, len(tokens))
                ]
            )
            for candidate, count, generator in zip(candidates, counts, generators, strict=True)
            for words in [self._context.words(candidate.tokens)]
        ]

    def change(self, words: Sequence[Word], generator: torch.Generator) -> list[Word]:
        """One change, drawn; the words themselves where there is none."""
        raise NotImplementedError


@MOVES.register("order")
class Reorder(_WordMove):
    """Two words change places, or one to three go elsewhere."""

    def change(self, words: Sequence[Word], generator: torch.Generator) -> list[Word]:
        """One of the two, equally often."""
        changed = list(words)
        first, second = torch.randint(len(words), (2,), generator=generator).tolist()
        count = int(torch.randint(LONGEST_MOVE + 1, (), generator=generator))
        if int(torch.randint(2, (), generator=generator)):
            changed[first], changed[second] = changed[second], changed[first]
            return changed
        moved = changed[first : first + max(1, count)]
        del changed[first : first + len(moved)]
        changed[second:second] = moved
        return changed


@MOVES.register("delete")
class Delete(_WordMove):
    """A word is left out."""

    def change(self, words: Sequence[Word], generator: torch.Generator) -> list[Word]:
        """Any word, equally often."""
        index = int(torch.randint(len(words), (), generator=generator))
        return [*words[:index], *words[index + 1 :]]


@MOVES.register("insert")
class Insert:
    """One or two tokens are added between two words, as the decoder finds them likely."""

    def __init__(self, context: MoveContext) -> None:
        self._context = context
        self._decoder = context.proposals.decoder.resampling(steps=LONGEST_INSERTION)

    def __call__(
        self, candidates: Sequence[Candidate], counts: Sequence[int], generators: Sequence[torch.Generator]
    ) -> list[Proposed]:
        """Of each candidate at most so many changed texts, drawn from its own generator."""
        owners = [
            i
            for i, (candidate, count) in enumerate(zip(candidates, counts, strict=True))
            for _ in range(count)
            if self._context.allows(candidate.row, len(candidate.tokens) + LONGEST_INSERTION)
        ]
        canvases = [self._canvas(candidates[i], generators[i]) for i in owners]
        proposed = [Proposed([]) for _ in candidates]
        proposals = self._context.proposals
        for i, tokens in zip(owners, proposals.fill(self._decoder, proposals.z, canvases), strict=True):
            proposed[i].texts.append(tokens)
        return proposed

    def _canvas(self, candidate: Candidate, generator: torch.Generator) -> Canvas:
        words = self._context.words(candidate.tokens)
        at = int(torch.randint(len(words) + 1, (), generator=generator))
        count = 1 + int(torch.randint(LONGEST_INSERTION, (), generator=generator))
        open_tokens = [self._decoder.mask_id] * count
        return Canvas(candidate.row, [*chain(*words[:at]), *open_tokens, *chain(*words[at:])], generator)


@MOVES.register("replace")
class Replace:
    """One token is replaced by one that the decoder finds likely and the encoder's gradient calls closer.

    A token v at a position is scored by `log p(v | the other tokens, z) + τ g · (W_v − W_u)`: u is the token that
    stands there, W_v the mean of the encoder's word embeddings that spell v, and g the gradient of the text's cosine
    at the word embeddings of that position. One gradient a text; the best replacements are proposed in their order.
    Each sample that holds a text pays for its gradient, which is computed once, so that none depends on the others.
    The first-order search of HotFlip (arXiv 1712.06751 §3) under the decoder's own prior.
    """

    def __init__(self, context: MoveContext) -> None:
        self._context = context
        self._decoder = context.proposals.decoder.unguided()
        self._ranked: dict[tuple[int, Tokens], list[Tokens]] = {}
        # How many of them were proposed, by the seed too: what one sample has had is new to another.
        self._proposed: dict[tuple[int, int, Tokens], int] = {}

    def __call__(
        self,
        candidates: Sequence[Candidate],
        counts: Sequence[int],
        generators: Sequence[torch.Generator],  # noqa: ARG002 - of the protocol
    ) -> list[Proposed]:
        """Of each candidate at most so many changed texts; nothing is drawn."""
        texts = {(candidate.row, candidate.tokens): candidate for candidate in candidates}
        new = [candidate for text, candidate in texts.items() if text not in self._ranked]
        self._ranked.update(
            zip([(one.row, one.tokens) for one in new], self._rank(new), strict=True),
        )
        proposed = []
        for candidate, count in zip(candidates, counts, strict=True):
            key = candidate.row, candidate.seed, candidate.tokens
            first = self._proposed.get(key, 0)
            ranked = self._ranked[candidate.row, candidate.tokens]
            proposed.append(Proposed(ranked[first : first + count], int(key not in self._proposed)))
            self._proposed[key] = first + count
        return proposed

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """W [V, d_word] on the CPU, and which pieces have no row [V]."""
        rows, known = spelled_embeddings(self._context.encoder, self._context.tokenizer)
        return rows, ~known

    def _rank(self, candidates: Sequence[Candidate]) -> list[list[Tokens]]:
        """Changed texts of each candidate, the best first."""
        if not candidates:
            return []
        table, unknown = self._table
        context = self._context.proposals
        tokens = [candidate.tokens for candidate in candidates]
        gradients = self._position_gradients(candidates)
        scored: list[list[tuple[float, int, int]]] = [[] for _ in candidates]
        for of_text, positions, logits in self._decoder.token_logits(
            context.z, [candidate.row for candidate in candidates], tokens
        ):
            at = list(zip(of_text.tolist(), positions.tolist(), strict=True))
            g = torch.stack([gradients[i][position] for i, position in at])
            current = torch.tensor([tokens[i][position] for i, position in at])
            gain = g @ table.T - (g * table[current]).sum(dim=1, keepdim=True)
            score = logits.cpu().log_softmax(dim=-1).add_(gain, alpha=GRADIENT_WEIGHT)
            score[:, unknown] = -torch.inf
            score.scatter_(1, current[:, None], -torch.inf)
            best, ids = score.topk(min(RANKED, score.shape[1]), dim=1)
            for (i, position), row, row_ids in zip(at, best.tolist(), ids.tolist(), strict=True):
                scored[i] += [(value, position, token) for value, token in zip(row, row_ids, strict=True)]
        return [
            [
                (*row[:position], token, *row[position + 1 :])
                for _, position, token in sorted(options, reverse=True)[:RANKED]
            ]
            for row, options in zip(tokens, scored, strict=True)
        ]

    def _position_gradients(self, candidates: Sequence[Candidate]) -> list[Tensor]:
        """The gradient at each token of each candidate [n, d_word]: that of the encoder's tokens of its letters."""
        context = self._context
        targets = context.proposals.e[[candidate.row for candidate in candidates]]
        found = context.encoder.input_gradients([candidate.text for candidate in candidates], targets)
        prefixes = [c.tokens[: k + 1] for c in candidates for k in range(len(c.tokens))]
        ends = map(len, context.tokenizer.decode_batch(prefixes))
        gradients = []
        for candidate, (gradient, spans) in zip(candidates, found, strict=True):
            of_token = torch.zeros(len(candidate.tokens), gradient.shape[1])
            start = 0
            for position in range(len(of_token)):
                end = next(ends)
                overlapping = [i for i, (first, last) in enumerate(spans) if first < end and last > start]
                of_token[position] = gradient[overlapping].sum(dim=0)
                start = max(start, end)
            gradients.append(of_token)
        return gradients
