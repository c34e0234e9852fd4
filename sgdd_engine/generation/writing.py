"""Texts of vectors, from drafts to what is kept: what `SGDD.generate` does when all that was asked for is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.events import Listener
from sgdd_engine.generation.arguments import check_latents, validate_latents
from sgdd_engine.generation.confidence import ConfidenceFit, recorded_fits, way_of, with_confidence
from sgdd_engine.generation.config import LengthRange
from sgdd_engine.generation.decode import Check, Decoder, DecodeRequest
from sgdd_engine.generation.first_drafts import (
    DISTINCT_LENGTHS,
    canvas_listener,
    draft_requests,
    write_drafts,
)
from sgdd_engine.generation.moves import MoveContext
from sgdd_engine.generation.pretrained import PretrainedModel
from sgdd_engine.generation.refinement import (
    Candidate,
    EncoderScorer,
    ProposalContext,
    closest_of_each,
    encode_distinct,
    refine,
)
from sgdd_engine.generation.search import default_drafts, search
from sgdd_engine.generation.shortlist import NotEncoded, build_proposer, select_shortlist
from sgdd_engine.generation.written import Generation, Traces, generation_of, with_details


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What `SGDD.generate` is asked for, checked and completed; see there.

    Attributes:
        sampling: Steps, guidance, position rule, temperature.
        lengths: Allowed lengths for each vector; None for all.
        candidates: First drafts that are encoded.
        refine: Rounds.
        shortlist: Texts written for each that is encoded.
        proposals: Kinds of proposals of refining.
        search: Encoder calls.
        gradient: Whether a search uses the encoder's gradient.
        stops: Smaller numbers of calls at which a search tells what it has found.
        num_samples: Texts for each vector.
        seed: Of the first one.
        score: Whether what was written is encoded.
        unconditional: Whether the vectors are ignored.
        explain: Whether each token's certainty is told.
        confidence: Whether each text's confidence is told.
        latents: [N, latent_dim] to write from.
    """

    sampling: SamplingConfig
    lengths: Sequence[LengthRange] | None
    candidates: int
    refine: int
    shortlist: int
    proposals: Sequence[str]
    search: int
    gradient: bool
    stops: tuple[int, ...]
    num_samples: int
    seed: int
    score: bool
    unconditional: bool
    explain: bool
    confidence: bool
    latents: Tensor | None

    def of(self, rows: Sequence[int], seed: int) -> "GenerationRequest":
        """The same for some of the vectors, with another seed."""
        return replace(
            self,
            lengths=None if self.lengths is None else [self.lengths[row] for row in rows],
            latents=None if self.latents is None else self.latents[list(rows)],
            seed=seed,
        )

    @property
    def drafts(self) -> int:
        """First drafts that are encoded."""
        return default_drafts(self.search) if self.search and self.candidates == 1 else self.candidates

    @property
    def at_once(self) -> bool:
        """Whether nothing is encoded."""
        return self.candidates == 1 and not (self.score or self.refine or self.search)


def write_texts(
    sgdd: PretrainedModel, e: Tensor, asked: GenerationRequest, on_event: Listener, check: Check
) -> list[Generation]:
    """Write texts for vectors [N ≥ 1, D], all samples of the first vector first."""
    decoder = Decoder(sgdd.model, sgdd.schedule, sgdd.tokenizer.special_ids, asked.sampling, check)
    if asked.latents is not None:
        z = validate_latents(asked.latents, sgdd.model.null_latent(len(e)), asked.unconditional)
    elif asked.unconditional or asked.sampling.cfg == 0:
        z = sgdd.model.null_latent(len(e))
    else:
        z = check_latents(decoder.latents(e))
    chosen_from = asked.drafts * asked.shortlist
    if asked.search and asked.drafts > 1 and sgdd.model.surrogate is not None:
        # All lengths are written, and the surrogate chooses which are encoded beside the likeliest; that one is what is
        # written without a search, and no search ends further from the vector.
        chosen_from = max(chosen_from, DISTINCT_LENGTHS)
    requests = draft_requests(
        sgdd.model,
        z,
        asked.lengths,
        chosen_from,
        asked.num_samples,
        asked.seed,
        asked.sampling.temperature,
    )
    fit = _confidence_fit(sgdd, asked)
    traces: Traces | None = {} if asked.explain or fit is not None else None
    on_step = canvas_listener(sgdd.tokenizer, on_event)
    ids, not_encoded = write_drafts(decoder, z, requests, on_step, traces), NotEncoded()
    context = ProposalContext(decoder, e, lengths=asked.lengths, on_step=on_step)
    if chosen_from > asked.drafts:
        kept, not_encoded = select_shortlist(context, requests, ids, asked.drafts)
        requests, ids = [requests[i] for i in kept], [ids[i] for i in kept]
    if asked.at_once:
        texts = sgdd.tokenizer.decode_batch(ids)
        written = [
            Generation(text, tuple(tokens), request.row, request.seed)
            for text, tokens, request in zip(texts, ids, requests, strict=True)
        ]
    else:
        best = _closest(sgdd, asked, context, requests, ids, not_encoded, on_event)
        written = [generation_of(candidate, e) for candidate in best]
    if traces is not None:
        written = with_details(decoder, sgdd.tokenizer, z, written, traces)
    if fit is not None:
        written = with_confidence(fit, sgdd.model, z, written)
    return written if asked.explain else [replace(item, details=()) for item in written]


def _closest(
    sgdd: PretrainedModel,
    asked: GenerationRequest,
    context: ProposalContext,
    requests: Sequence[DecodeRequest],
    ids: Sequence[Sequence[int]],
    not_encoded: NotEncoded,
    on_event: Listener,
) -> list[Candidate]:
    """Encode drafts and keep the closest, of each vector and sample, after the search or the rounds asked for."""
    scorer = EncoderScorer(sgdd.encoder, sgdd.tokenizer, context.e, context.decoder.check)
    drafts = encode_distinct(
        scorer, [request.row for request in requests], [request.seed for request in requests], ids
    )
    if asked.search:
        # The canvases of changes say nothing to who watches a text being written.
        moves = MoveContext(replace(context, on_step=None), sgdd.encoder, sgdd.tokenizer)
        return search(
            drafts,
            asked.search,
            moves,
            scorer,
            gradient=asked.gradient,
            stops=asked.stops,
            not_encoded=not_encoded,
            on_event=on_event,
        )
    best = closest_of_each(drafts)
    if not asked.refine:
        return best
    propose = build_proposer(
        context, asked.proposals, asked.shortlist, sgdd.tokenizer.decode_batch, not_encoded
    )
    return refine(best, asked.refine, propose, scorer, context.z, on_event)


def _confidence_fit(sgdd: PretrainedModel, asked: GenerationRequest) -> ConfidenceFit | None:
    """The recorded fit for texts that are written in this way, where a confidence was asked for."""
    # What a search found was chosen by the cosine more often than the sentences of any fit.
    if not asked.confidence or asked.unconditional or asked.latents is not None or asked.search:
        return None
    chosen = asked.candidates > 1 or asked.refine > 0
    way = way_of(feedback=chosen or asked.shortlist > 1, encoded=asked.score or chosen)
    return None if way is None else recorded_fits(sgdd.info).get(way)
