"""Search: a beam of texts for each vector is changed in several ways and encoded, and the best are kept.

The score of a text is `cosine + λ · mean log-probability of its tokens under the decoder`, in nats: by cosine alone a
search ends in texts that nobody would write. The budget is counted in encoder calls. Kinds of changes are proposed as
often as they have improved the best text so far.

Source: the loop and the beam over sentences of vec2text (arXiv 2310.06816 §3.2), with a masked-diffusion decoder as
the prior. The decoder's say, and changes by kinds that compete, are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation.decode import noise_keys, stream_generator
from sgdd_engine.generation.first_drafts import DISTINCT_LENGTHS
from sgdd_engine.generation.moves import (
    GRADIENT_MOVES,
    MOVES,
    UNWRITTEN_MOVES,
    Move,
    MoveContext,
    Tokens,
    usable_moves,
)
from sgdd_engine.generation.refinement import (
    CLOSE_ENOUGH,
    ROUNDING,
    Candidate,
    EncodedText,
    EncoderScorer,
    score_of,
)
from sgdd_engine.generation.shortlist import NotEncoded, corrected_predictions
from sgdd_engine.registry import load_extensions
from sgdd_engine.text.reference import EncoderReference

STAGE = "searching"
# Streams of a seed below this one are those of first drafts and of refining.
SEARCH_STREAM = 1 << 33
# Texts that are kept for each vector. A first choice, not compared.
BEAM_WIDTH = 6
# A search has about so many rounds, each of which learns from those before it, and encodes no more than so many texts
# together, which is quicker.
ROUNDS, LARGEST_ROUND = 16, 16
# Share of a round's changes that are made of the best text; the others are made of the rest of the beam.
BEST_SHARE = 0.5
# Changes that are made for each that is encoded, where the model has a surrogate of the encoder to choose by: by moves
# that the decoder need not write, and by others. On 60 held-out sentences of novels with 64 calls, in rounds of 16 and
# without a choice: token F1 .695, BLEU 31.4, cosine .892, 2.0 s of processor time for each; of 8 and 2: .694, 32.1,
# .900, 2.4 s; in rounds of 8: .707, 33.7, .908, 2.6 s; in rounds of 4 and of 8 and 4: .720, 34.9, .911, 3.6 s.
UNWRITTEN_PER_CALL, WRITTEN_PER_CALL = 8, 4
# Times as many where a call is a round: fewer wait from earlier ones. On 150 such sentences with 8 calls: as many,
# token F1 .753, BLEU 36.2, cosine .914; twice as many, .753, 38.0, .917; four times, .752, 36.5, .916.
SHORT_SEARCH_FACTOR = 2
# Of what a beam has made and not encoded, how many texts wait for later rounds, and of how many of the closest, for
# each text that is encoded, the decoder is asked how likely they are. On the same 150 sentences: nothing waiting,
# chosen by cosine alone, drafts of the likeliest lengths, token F1 .746, BLEU 35.4, cosine .908; drafts chosen among
# all lengths, .747, 36.4, .913; and texts waiting, and their likelihoods, .753, 36.2, .914.
MOST_WAITING, RATED_PER_CALL = 64, 4
# The kind of a first draft that was not encoded.
DRAFT = "draft"
# What each kind of move is taken to have achieved before it was tried: one improvement in four calls.
PRIOR_GAINS, PRIOR_CALLS = 1.0, 4.0
# Calls of a budget for each first draft, up to as many drafts as there are lengths to try.
CALLS_PER_DRAFT = 4
# Calls for one sentence of an encoder of at most so many parameters (MiniLM has 23 million: 2 to 4 ms a call on one
# core), and of a larger one on a CPU (BGE-M3 has 568 million). Writing the texts takes longer than encoding them: with
# `mini`, 60 sentences of novels in one batch took .13 s of processor time a call on one busy core (16 calls: token F1
# .749, BLEU 36.0, cosine .898, 2.0 s for each; 64: .774, 43.7, .930, 6.7 s), and one sentence alone up to .3 s a call.
LARGEST_SMALL_ENCODER = 150_000_000
SMALL_ENCODER_CALLS, LARGE_ENCODER_CALLS = 32, 8


def affordable_calls(encoder: EncoderReference, device: torch.device) -> int:
    """Calls of a search that one sentence may wait for: some seconds with a small encoder, or on a GPU."""
    small = encoder.parameters <= LARGEST_SMALL_ENCODER
    return SMALL_ENCODER_CALLS if small or device.type != "cpu" else LARGE_ENCODER_CALLS


def default_drafts(calls: int) -> int:
    """With how many drafts a search of so many calls begins."""
    return max(1, min(DISTINCT_LENGTHS, calls // CALLS_PER_DRAFT))


@dataclass(frozen=True, slots=True)
class _Member:
    """A text in a beam."""

    candidate: Candidate
    score: float


@dataclass(frozen=True, slots=True)
class _Change:
    """A text to be encoded: of which beam, by which kind of move."""

    beam: "_Beam"
    kind: str
    tokens: Tokens
    text: str


class _Beam:
    """The search for one vector and seed."""

    def __init__(
        self, members: Sequence[_Member], calls: int, kinds: Sequence[str], key: Sequence[int]
    ) -> None:
        first = members[0].candidate
        self.row = first.row
        self.first = members[0]
        self._drafts = members
        self.members = sorted(members, key=lambda member: -member.score)[:BEAM_WIDTH]
        self.tried: dict[str, EncodedText] = {}
        for member in members:
            self.tried |= member.candidate.tried
        self.waiting: dict[str, _Change] = {}
        self.generator = stream_generator(first.seed, SEARCH_STREAM, key)
        self.used, self._calls, self._gradients = len(self.tried), calls, 0
        self.round = max(1, min(LARGEST_ROUND, calls // ROUNDS))
        self._gains = dict.fromkeys(kinds, PRIOR_GAINS)
        self._tries = dict.fromkeys(kinds, PRIOR_CALLS)

    @property
    def best(self) -> Candidate:
        return self.members[0].candidate

    @property
    def left(self) -> int:
        """Encoder calls left."""
        return max(0, self._calls - self.used)

    @property
    def finished(self) -> bool:
        return not self.left or self.best.cosine >= CLOSE_ENOUGH

    def plan(self) -> dict[str, int]:
        """How many changes of each kind are made in a round."""
        kinds = list(self._gains)
        odds = torch.tensor([self._gains[kind] / self._tries[kind] for kind in kinds])
        count = min(self.round, self.left)
        drawn = torch.multinomial(odds, count, replacement=True, generator=self.generator).tolist()
        return {kind: drawn.count(number) for number, kind in enumerate(kinds)}

    def parents(self, count: int) -> dict[int, int]:
        """How many of `count` changes are made of which member, by its place in the beam."""
        of_best = max(1, round(BEST_SHARE * count)) if len(self.members) > 1 else count
        others = torch.randint(1, max(2, len(self.members)), (count - of_best,), generator=self.generator)
        shares = {0: of_best}
        for place in others.tolist():
            shares[place] = shares.get(place, 0) + 1
        return shares

    def add(self, change: _Change, vector: torch.Tensor, cosine: float) -> Candidate | None:
        """Note a text that was encoded; it is given back where it may yet enter the beam."""
        encoded = EncodedText(change.tokens, vector)
        self.tried[change.text] = encoded
        if change.kind in self._tries:
            self._tries[change.kind] += 1
        # Log-probabilities are negative: with a cosine below the lowest score no text enters.
        if len(self.members) == BEAM_WIDTH and cosine <= self.members[-1].score:
            return None
        return replace(
            self.best,
            tokens=change.tokens,
            text=change.text,
            vector=vector,
            cosine=cosine,
            tried={change.text: encoded},
        )

    def enter(self, kind: str, member: _Member) -> None:
        """Take a text into the beam if it is among the best."""
        if kind in self._gains and member.score > self.members[0].score + ROUNDING:
            self._gains[kind] += 1
        self.members = sorted([*self.members, member], key=lambda member: -member.score)[:BEAM_WIDTH]

    def count_gradients(self, count: int) -> None:
        """Charge gradients to the budget."""
        self.used += count
        self._gradients += count

    def stop_at(self, calls: int) -> None:
        """Set how many calls may be spent in all."""
        self._calls = calls

    def result(self) -> Candidate:
        """The best text so far whose cosine is not below that of the first draft."""
        members, tried = self.members, dict(self.tried)
        if self._calls < len(self._drafts):  # the others were encoded for a later stop
            paid = self._drafts[: self._calls]
            members = sorted(paid, key=lambda member: -member.score)
            tried = {text: encoded for member in paid for text, encoded in member.candidate.tried.items()}
        closer = [m for m in members if m.candidate.cosine >= self.first.candidate.cosine - ROUNDING]
        best = (closer or [self.first])[0]
        return replace(best.candidate, tried=tried, gradients=self._gradients)


def search(
    drafts: Sequence[Candidate],
    calls: int,
    context: MoveContext,
    scorer: EncoderScorer,
    *,
    gradient: bool = True,
    stops: Sequence[int] = (),
    not_encoded: NotEncoded | None = None,
    on_event: Listener = ignore,
) -> list[Candidate]:
    """Search better texts for vectors, in batches over all of them.

    A result does not depend on the vectors beside it, and its cosine is never below that of its first draft.

    Args:
        drafts: One or more for each (row, seed), encoded already; the first of each is the one that is never undercut.
        calls: Encoder calls for each (row, seed), those of the drafts included. The gradient of a text counts as one.
        context: What changes are made with.
        scorer: The encoder.
        gradient: Whether the encoder's gradient is used.
        stops: Smaller numbers of calls, rising, at which the best text so far is noted (`Candidate.earlier`).
        not_encoded: Other first drafts of each (row, seed), which may be encoded in later rounds.
        on_event: Told of each round.

    Returns:
        The best text found for each (row, seed), in the order in which these first come.
    """
    load_extensions()  # a package's moves are among those that are tried
    kinds = usable_moves(context.proposals.decoder.model, gradient=gradient)
    moves = {kind: MOVES.build(kind)(context) for kind in kinds}
    grouped: dict[tuple[int, int], list[_Member]] = {}
    log_probs = context.proposals.log_probs(
        [draft.row for draft in drafts], [draft.tokens for draft in drafts]
    )
    for draft, log_prob in zip(drafts, log_probs, strict=True):
        grouped.setdefault((draft.row, draft.seed), []).append(
            _Member(draft, score_of(draft.cosine, log_prob))
        )
    keys = noise_keys(context.proposals.z)
    beams = [_Beam(members, calls, kinds, keys[row]) for (row, _), members in grouped.items()]
    for beam in beams:
        drafts_left = (not_encoded or {}).get((beam.row, beam.best.seed), [])
        for tokens, text in zip(drafts_left, scorer.text(drafts_left), strict=True):
            if text and text not in beam.tried:
                beam.waiting[text] = _Change(beam, DRAFT, tokens, text)
    on_event(StageStarted(STAGE, calls, "encoder calls"))
    earlier: list[tuple[Candidate, ...]] = [() for _ in beams]
    for stop in (*stops, calls):
        for beam in beams:
            beam.stop_at(stop)
        while active := [beam for beam in beams if not beam.finished]:
            changes = _changes(active, moves, scorer, context)
            _encode(changes, scorer, context)
            done = min(calls, *(beam.used for beam in active))
            on_event(StageProgress(STAGE, done, f"cosine {_mean_cosine(beams):.3f}"))
        if stop < calls:
            earlier = [(*before, beam.result()) for before, beam in zip(earlier, beams, strict=True)]
    start = sum(beam.first.candidate.cosine for beam in beams) / max(1, len(beams))
    on_event(StageFinished(STAGE, f"cosine {start:.3f} → {_mean_cosine(beams):.3f}."))
    return [replace(beam.result(), earlier=before) for beam, before in zip(beams, earlier, strict=True)]


def _changes(
    beams: Sequence[_Beam], moves: Mapping[str, Move], scorer: EncoderScorer, context: MoveContext
) -> list[_Change]:
    """Texts of a round that are new and fit the budget, the best by the surrogate where there are more."""
    plans = [beam.plan() for beam in beams]
    chosen_from = context.proposals.decoder.model.surrogate is not None

    def made_per_call(kind: str, beam: _Beam) -> int:
        if not chosen_from:
            return 1
        made = UNWRITTEN_PER_CALL if kind in UNWRITTEN_MOVES else WRITTEN_PER_CALL
        return made * (SHORT_SEARCH_FACTOR if beam.round == 1 else 1)

    changes: list[_Change] = []
    seen: set[tuple[int, str]] = set()
    left = [beam.left for beam in beams]
    # Gradients first: what they cost is no longer there for texts.
    for kind, move in sorted(moves.items(), key=lambda item: item[0] not in GRADIENT_MOVES):
        parents = []
        for number, (beam, plan) in enumerate(zip(beams, plans, strict=True)):
            places = list(beam.parents(plan[kind]).items()) if plan[kind] else []
            if kind in GRADIENT_MOVES:  # a gradient is worth its call where a text can still be encoded
                places = places[: left[number] // 2]
            parents += [(number, beam.members[place].candidate, count) for place, count in places]
        if not parents:
            continue
        owners = [number for number, _, _ in parents]
        proposed = move(
            [candidate for _, candidate, _ in parents],
            [count * made_per_call(kind, beams[number]) for number, _, count in parents],
            [beams[number].generator for number in owners],
        )
        for number, (texts, used) in zip(owners, proposed, strict=True):
            beam = beams[number]
            beam.count_gradients(used)
            left[number] -= used
            for tokens, text in zip(texts, scorer.text(texts), strict=True):
                key = number, text
                new = text and text not in beam.tried and key not in seen
                if new and context.allows(beam.row, len(tokens)):
                    seen.add(key)
                    changes.append(_Change(beam, kind, tokens, text))
    for number, beam in enumerate(beams):
        for text, change in beam.waiting.items():
            if text not in beam.tried and (number, text) not in seen:
                seen.add((number, text))
                changes.append(change)
    with_changes = {number for number, _ in seen}
    for number, beam in enumerate(beams):
        # A beam whose changes are all known would go on for ever: the round counts as one call.
        beam.used += number not in with_changes
    return _chosen(beams, changes, context)


def _chosen(beams: Sequence[_Beam], changes: Sequence[_Change], context: MoveContext) -> list[_Change]:
    """Of each beam's changes as many as a round encodes: those of the highest predicted scores. The others wait."""
    of_beams = [[change for change in changes if change.beam is beam] for beam in beams]
    counts = [min(beam.round, beam.left) for beam in beams]
    model = context.proposals.decoder.model
    crowded = [i for i, made in enumerate(of_beams) if len(made) > counts[i]]
    if crowded and model.surrogate is not None:
        targets = context.proposals.e[[beams[i].row for i in crowded]]
        predicted = corrected_predictions(
            model,
            targets,
            [list(beams[i].tried.values()) for i in crowded],
            [[change.tokens for change in of_beams[i]] for i in crowded],
        )
        cosines: dict[int, float] = {}
        for i, target, vectors in zip(crowded, targets, predicted, strict=True):
            of_texts = torch.cosine_similarity(vectors, target[None]).tolist()
            cosines |= {id(change): cosine for change, cosine in zip(of_beams[i], of_texts, strict=True)}
            of_beams[i].sort(key=lambda change: -cosines[id(change)])
        closest = {i: of_beams[i][: RATED_PER_CALL * counts[i]] for i in crowded}
        rated = [change for made in closest.values() for change in made]
        log_probs = _log_probs(rated, context)
        scores = {
            id(change): score_of(cosines[id(change)], log_prob)
            for change, log_prob in zip(rated, log_probs, strict=True)
        }
        for i, made in closest.items():
            made.sort(key=lambda change: -scores[id(change)])
            of_beams[i][: len(made)] = made
            beams[i].waiting = {change.text: change for change in of_beams[i][counts[i] :][:MOST_WAITING]}
    return [change for made, count in zip(of_beams, counts, strict=True) for change in made[:count]]


def _encode(changes: Sequence[_Change], scorer: EncoderScorer, context: MoveContext) -> None:
    """Encode changed texts and take them into their beams."""
    if not changes:
        return
    vectors, cosines = scorer.score(
        [change.beam.row for change in changes], [change.text for change in changes]
    )
    entering: list[tuple[_Change, Candidate]] = []
    for change, vector, cosine in zip(changes, vectors, cosines, strict=True):
        change.beam.used += 1
        candidate = change.beam.add(change, vector, cosine)
        if candidate is not None:
            entering.append((change, candidate))
    log_probs = _log_probs([change for change, _ in entering], context)
    for (change, candidate), log_prob in zip(entering, log_probs, strict=True):
        change.beam.enter(change.kind, _Member(candidate, score_of(candidate.cosine, log_prob)))


def _log_probs(changes: Sequence[_Change], context: MoveContext) -> list[float]:
    """How likely the decoder finds texts: mean log-probabilities of their tokens, in nats."""
    rows, texts = [change.beam.row for change in changes], [change.tokens for change in changes]
    return context.proposals.log_probs(rows, texts)


def _mean_cosine(beams: Sequence[_Beam]) -> float:
    # Not that of the highest score, which may lie below the first draft's and is then not given back.
    return sum(beam.result().cosine for beam in beams) / max(1, len(beams))
