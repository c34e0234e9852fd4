"""A decoder that sees its draft: what it proposes, and that rows know nothing of each other."""

from dataclasses import replace

import pytest
import torch
from models_for_tests import EMBEDDING_DIM, SPECIALS, VOCABULARY, bound, generator, random_tokens, tiny_model
from tiny_sgdd import build

from sgdd_engine import SGDD
from sgdd_engine.checkpoint import Checkpoint
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.distributed import CPU
from sgdd_engine.generation.config import LengthRange
from sgdd_engine.generation.correct import CorrectionProposer
from sgdd_engine.generation.decode import Canvas, stream_generator
from sgdd_engine.generation.guided_denoiser import DraftInput, draft_of
from sgdd_engine.generation.refinement import Candidate, ProposalContext
from sgdd_engine.models.model import SemanticDecoder

COSINE, MASK = build_schedule("cosine"), VOCABULARY.mask_id
GUIDED = SamplingConfig(cfg=1.5, steps=4)
LENGTHS = (5, 7, 5, 3)
FIXED = [LengthRange(n, n) for n in LENGTHS]
E_VECTORS = torch.randn(4, EMBEDDING_DIM, generator=generator(7))


@pytest.fixture(scope="module")
def model():
    model = tiny_model(feedback=True)
    # Random weights are surer than any training makes them: hardly anything would be left to chance.
    with torch.no_grad():
        model.head.table.mul_(0.3)
    return model


def drafts_of(seed=0):
    vectors = torch.randn(4, EMBEDDING_DIM, generator=generator(seed + 50))
    return [
        Candidate(
            row, 0, tuple(random_tokens(1, n, seed + row)[0].tolist()), "", vectors[row], 0.1, frozenset()
        )
        for row, n in enumerate(LENGTHS)
    ]


def proposer(model, **options):
    return CorrectionProposer(ProposalContext(bound(model, GUIDED), E_VECTORS, **options))


def noise(count=4):
    return [stream_generator(seed) for seed in range(count)]


def test_the_first_proposal_is_the_best_guess_and_the_next_ones_are_drawn(model):
    propose, drafts = proposer(model, lengths=FIXED), drafts_of()
    first = propose(drafts, noise())
    assert [len(tokens) for tokens in first] == list(LENGTHS)
    assert first == proposer(model, lengths=FIXED)(drafts, [stream_generator(9) for _ in drafts])
    assert propose(drafts, noise()) != first
    # Another draft in its place is answered with the best guess again.
    other = drafts_of(seed=20)
    assert propose(other, noise()) == proposer(model, lengths=FIXED)(other, noise())


def test_drafts_and_their_meanings_change_what_is_proposed(model):
    drafts, others = drafts_of(), drafts_of(seed=20)
    base = proposer(model)(drafts, noise())
    swapped = [
        Candidate(d.row, d.seed, o.tokens, "", d.vector, d.cosine, d.tried)
        for d, o in zip(drafts, others, strict=True)
    ]
    assert proposer(model)(swapped, noise()) != base
    swapped = [
        Candidate(d.row, d.seed, d.tokens, "", o.vector, d.cosine, d.tried)
        for d, o in zip(drafts, others, strict=True)
    ]
    assert proposer(model)(swapped, noise()) != base


def test_a_proposal_does_not_depend_on_those_beside_it(model):
    drafts, propose = drafts_of(), proposer(model)
    together = [propose(drafts, noise()), propose(drafts, noise())]
    for row, draft in enumerate(drafts):
        alone = proposer(model)
        assert alone([draft], [noise()[row]]) == [together[0][row]]
        assert alone([draft], [noise()[row]]) == [together[1][row]]


@pytest.mark.slow
def test_lengths_are_the_likeliest_or_drawn_and_stay_within_what_is_allowed(model):
    drafts, z = drafts_of(), model.latent(E_VECTORS).z
    of_drafts = model.latent(torch.stack([draft.vector for draft in drafts])).z
    longer = [LengthRange(n, n + 1) for n in LENGTHS]
    for lengths in (FIXED, longer, None):
        propose = proposer(model, lengths=lengths)
        for seed in range(6):
            written = propose(drafts, [stream_generator(seed + 100 * row) for row in range(4)])
            if lengths is not None:
                assert all(len(tokens) in one for tokens, one in zip(written, lengths, strict=True))
            elif not seed:
                with torch.no_grad():
                    logits = model.length_logits(z, draft_of([d.tokens for d in drafts], of_drafts, given=4))
                assert [len(tokens) for tokens in written] == (logits.argmax(dim=1) + 1).tolist()
            assert not {token for tokens in written for token in tokens} & {*SPECIALS, MASK}


@pytest.mark.slow
def test_a_trained_corrector_is_what_refines(tiny_encoder, sentences):
    untrained = build(tiny_encoder, sentences[:12], steps=30)
    info = untrained.info
    config = replace(info.model, decoder=replace(info.model.decoder, feedback=True))
    network = SemanticDecoder(config)
    network.load_state_dict(untrained.model.state_dict(), strict=False)
    reading = SGDD(
        Checkpoint(replace(info, model=config), network.eval(), untrained.tokenizer), CPU, tiny_encoder
    )
    vectors = tiny_encoder.encode(sentences[20:26])
    once = reading.generate(vectors, refine=1)
    assert {item.encoder_calls for item in once} <= {1, 2}
    later = reading.generate(vectors, refine=6)
    assert all(new.cosine >= old.cosine for old, new in zip(once, later, strict=True))
    assert sum(item.cosine for item in later) > sum(item.cosine for item in once)


def test_the_null_branch_sees_no_draft(model):
    z = model.latent(E_VECTORS).z
    canvas = [MASK] * 5
    unguided = SamplingConfig(cfg=0.0, steps=4)

    def written(sight):
        return bound(model, unguided).fill(z, [Canvas(0, canvas, stream_generator(0), sight)])

    assert written(DraftInput(random_tokens(1, 5)[0].tolist(), z[1])) == written(None)
