"""Shortlists: the surrogate learns the encoder's vectors, and what it finds closest is what the encoder reads."""

import math

import pytest
import torch
from models_for_tests import random_tokens, scatter, tiny_model
from tiny_sgdd import as_set, build

from sgdd_engine import SGDD
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.errors import ConfigError, GenerationError
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.evaluate import evaluate
from sgdd_engine.generation import writing
from sgdd_engine.generation.correct import CorrectionProposer
from sgdd_engine.generation.decode import Decoder, DecodeRequest
from sgdd_engine.generation.refinement import (
    LOG_PROB_WEIGHT,
    PROPOSERS,
    Candidate,
    EncodedText,
    ProposalContext,
)
from sgdd_engine.generation.shortlist import (
    LENGTH_SCALE,
    NOISE_VARIANCE,
    ShortlistProposer,
    build_proposer,
    gaussian_process_correction,
    predict_embeddings,
    select_shortlist,
    top_of_each,
)
from sgdd_engine.models.config import DecoderConfig

GUIDED = SamplingConfig(cfg=1.5, steps=4)


@pytest.fixture(scope="module")
def model(tiny_encoder, sentences):
    """Its decoder has learnt a little, its surrogate those sentences."""
    return build(tiny_encoder, sentences[:40], steps=80, surrogate_width=32)


@pytest.fixture(scope="module")
def corrector(tiny_encoder, sentences):
    """It can correct as well, as `mini` can; its reader says something at random."""
    model = build(tiny_encoder, sentences[:40], steps=80, surrogate_width=32, feedback=True)
    scatter(model.model.draft_reader)
    return model


@pytest.fixture
def encoded(tiny_encoder, monkeypatch):
    """All texts that are encoded from here on."""
    texts, encode = [], tiny_encoder.encode
    monkeypatch.setattr(tiny_encoder, "encode", lambda new, *rest: texts.extend(new) or encode(new, *rest))
    return texts


@pytest.fixture(scope="module")
def vectors(model, sentences):
    return model.encode(sentences[100:108])


def written(model, vectors, **options):
    return model.generate(vectors, **{"sampling": GUIDED, **options})


def guessed_of_lengths(model, vector, lengths):
    """Sentences of these lengths, each written alone, and their scores as they are guessed."""
    items = [model.generate(vector, sampling=GUIDED, lengths=[n])[0] for n in lengths]
    texts = [item.tokens for item in items]
    decoder = Decoder(model.model, model.schedule, model.tokenizer.special_ids, GUIDED).unguided()
    log_probs = decoder.token_log_probs(decoder.latents(vector), [0] * len(texts), texts)
    likely = torch.stack([of_text.mean() for of_text in log_probs])
    cosines = torch.cosine_similarity(predict_embeddings(model.model, texts), vector, dim=-1)
    return items, cosines + LOG_PROB_WEIGHT * likely


@pytest.mark.slow
def test_the_surrogate_learns_what_the_encoder_says(model, sentences):
    known = sentences[:40]
    guesses = predict_embeddings(model.model, model.tokenizer.encode_batch(known))
    vectors = model.encode(known)
    missed = (guesses - vectors).square().sum(-1).mean()
    spread = (vectors - vectors.mean(0)).square().sum(-1).mean()
    assert missed < 0.7 * spread


@pytest.mark.slow
def test_a_guess_does_not_depend_on_those_beside_it():
    model = tiny_model(surrogate_width=8)
    texts = [random_tokens(1, n, seed=n)[0].tolist() for n in (3, 1, 3, 7, 16)]
    together = predict_embeddings(model, texts)
    assert together.shape == (5, model.config.embedding_dim)
    for text, vector in zip(texts, together, strict=True):
        torch.testing.assert_close(predict_embeddings(model, [text])[0], vector, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_order_of_tokens_matters():
    model = tiny_model(surrogate_width=8)
    assert not torch.allclose(*predict_embeddings(model, [[5, 6, 7], [7, 6, 5]]), atol=1e-3)


@pytest.mark.slow
def test_the_token_table_learns_nothing_from_it():
    model = tiny_model(surrogate_width=8)
    model.predict_embedding(random_tokens(2, 5)).sum().backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in model.named_parameters() if name.startswith("surrogate.")}


@pytest.mark.slow
def test_of_each_group_the_closest_are_kept_in_their_order():
    cosines = [0.0, 1.0, 0.9, -1.0, 0.7]
    assert top_of_each(cosines, [0, 0, 0, 1, 1], keep=2) == [1, 2, 3, 4]
    assert top_of_each(cosines, [0, 0, 0, 1, 1], keep=1) == [1, 4]
    assert top_of_each(cosines, [7, 7, 7, 7, 7], keep=9) == [0, 1, 2, 3, 4]
    assert top_of_each([0.5, 0.5], "aa", keep=1) == [0]


def a_draft(row, tokens, vector, others=(), seed=0):
    """A draft whose own vector is known, after other readings."""
    text = spell([tokens])[0]
    readings = {spell([reading.tokens])[0]: reading for reading in others}
    return Candidate(
        row, seed, tuple(tokens), text, vector, 0.5, readings | {text: EncodedText(tuple(tokens), vector)}
    )


class Indifferent(ProposalContext):
    """A decoder that finds all texts equally likely."""

    def log_probs(self, rows, texts):
        return [-1.0] * len(texts)


def context_of(model, e, kind=Indifferent):
    return kind(Decoder(model, build_schedule("cosine"), (), GUIDED), e)


def spell(texts):
    return [" ".join(map(str, tokens)) for tokens in texts]


def as_guessed(model, *texts):
    """Readings of texts whose vectors are just what the surrogate predicts, so that they correct nothing."""
    return [EncodedText(tokens, predict_embeddings(model, [tokens])[0]) for tokens in texts]


def answering(proposals):
    return lambda drafts, noise: [proposals[draft.row] for draft in drafts]


@pytest.mark.slow
def test_a_guess_is_corrected_by_what_was_read_as_a_gaussian_process_says():
    generator = torch.Generator().manual_seed(0)
    new, read, said = (torch.randn(n, 5, generator=generator) for n in (3, 4, 4))
    reach = 1.5
    both = torch.cat([new, read])
    # The joint covariance of the errors, then the conditional mean of the new ones.
    joint = torch.tensor(
        [[math.exp(-float((x - y).square().sum()) / (2 * reach**2)) for y in both] for x in both]
    )
    weights = joint[:3, 3:] @ torch.linalg.inv(joint[3:, 3:] + NOISE_VARIANCE * torch.eye(4))
    found = gaussian_process_correction(new, read, said, reach)
    torch.testing.assert_close(found, new + weights @ (said - read), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        gaussian_process_correction(new, read.flip(0), said.flip(0), reach), found, atol=1e-4, rtol=1e-4
    )


@pytest.mark.slow
def test_what_was_read_tells_all_of_itself_and_nothing_of_what_is_far_away():
    read, said = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 1.0]])
    torch.testing.assert_close(
        gaussian_process_correction(read, read, said, 0.3), read + (said - read) / (1 + NOISE_VARIANCE)
    )
    far = torch.tensor([[9.0, 1.0]])
    torch.testing.assert_close(gaussian_process_correction(far, read, said, 0.3), far)
    assert torch.isfinite(gaussian_process_correction(read, read, said, 0.0)).all()


@pytest.mark.slow
def test_the_proposal_goes_on_that_is_guessed_to_come_closest_given_what_is_known_of_the_draft():
    model = tiny_model(surrogate_width=8)
    first, second = (7, 8, 9), (4, 5)
    proposals = [{0: (7, 8, 10), 1: (6, 5)}, {0: (11, 8, 9), 1: (4, 20, 5)}, {0: (7, 30), 1: (5, 4)}]
    # The draft's vector is nothing like its guess.
    known = [torch.full((12,), 3.0), torch.linspace(-2, 2, 12)]
    drafts = [a_draft(0, first, known[0]), a_draft(1, second, known[1])]
    for wanted in range(3):
        aims = [
            gaussian_process_correction(
                predict_embeddings(model, [proposals[wanted][row]]),
                predict_embeddings(model, [draft.tokens]),
                known[row][None],
                LENGTH_SCALE,
            )
            for row, draft in enumerate(drafts)
        ]
        e = torch.nn.functional.normalize(torch.cat(aims), dim=-1)
        choose = ShortlistProposer([answering(one) for one in proposals], context_of(model, e), spell)
        assert choose(drafts, [torch.Generator()] * 2) == [proposals[wanted][0], proposals[wanted][1]]
        # One draft is judged by itself, whatever stands beside it.
        assert choose(drafts[1:], [torch.Generator()]) == [proposals[wanted][1]]


@pytest.mark.slow
def test_of_two_equally_close_the_likelier_goes_on():
    model = tiny_model(surrogate_width=8)
    text = (7, 8, 9)
    # The surrogate is blind to all texts: its last layer says the same of each.
    with torch.no_grad():
        for parameter in model.surrogate.vector.parameters():
            parameter.zero_()
        model.surrogate.vector.bias.fill_(1.0)
    e = torch.linspace(-1, 1, 12)[None]
    context = context_of(model, e, ProposalContext)
    proposals = [(7, 8, 10), (11, 8, 9), (4, 4), (5, 20, 21)]
    likely = context.log_probs([0] * 4, proposals)
    best = max(range(4), key=likely.__getitem__)
    assert sorted(likely)[-1] - sorted(likely)[-2] > 1e-3
    draft = a_draft(0, text, predict_embeddings(model, [text])[0])
    choose = ShortlistProposer([answering([one]) for one in proposals], context, spell)
    assert choose([draft], [torch.Generator()]) == [proposals[best]]


@pytest.mark.slow
def test_what_was_not_read_is_weighed_again_beside_the_next_draft():
    model = tiny_model(surrogate_width=8)
    best, second, third, rest = (7, 8, 10), (11, 8, 9), (4, 4), (5,)

    def draft(tokens, *others, seed=0):
        return a_draft(0, tokens, predict_embeddings(model, [tokens])[0], as_guessed(model, *others), seed)

    for wanted, other in ((second, third), (third, second)):
        e = predict_embeddings(model, [wanted])
        asked = ShortlistProposer(
            [answering([best]), answering([second])], context_of(model, e), spell, {(0, 0): [third]}
        )
        # What stood before the first round, what is proposed in it, and what one of them leaves, are on one list.
        assert asked([draft(best, rest)], [torch.Generator()]) == [wanted]
        assert asked([draft(best, rest, wanted)], [torch.Generator()]) == [other]
        # Another seed has a list of its own.
        assert asked([draft(rest, best, seed=1)], [torch.Generator()]) == [second]


@pytest.mark.slow
def test_what_a_round_passes_over_is_still_there_in_the_next():
    model = tiny_model(surrogate_width=8)
    best, second, other, rest = (7, 8, 10), (11, 8, 9), (4, 4), (5,)
    draft = a_draft(0, rest, predict_embeddings(model, [rest])[0], as_guessed(model))
    later = a_draft(0, best, predict_embeddings(model, [best])[0], as_guessed(model, rest))
    changing = {0: second}
    asked = ShortlistProposer(
        [answering({0: best}), answering(changing)],
        context_of(model, predict_embeddings(model, [best])),
        spell,
    )
    assert asked([draft], [torch.Generator()]) == [best]
    # Nobody proposes it again.
    changing[0] = best
    assert asked([later], [torch.Generator()]) == [second]
    # Once it was tried as well, nothing is left.
    changing[0] = other
    last = a_draft(0, best, predict_embeddings(model, [best])[0], as_guessed(model, rest, second))
    assert asked([last], [torch.Generator()]) == [other]


@pytest.mark.slow
def test_first_drafts_that_are_not_read_stand_on_the_list_of_the_first_round(model, vectors, monkeypatch):
    lists, make = [], writing.build_proposer
    monkeypatch.setattr(writing, "build_proposer", lambda *given: lists.append(given[-1]) or make(*given))
    written(model, vectors, candidates=2, shortlist=2, refine=1)
    (left,) = lists
    lengths = model.likely_lengths(model.model.latent(vectors).z, 4)
    for row in range(len(vectors)):
        four, scores = guessed_of_lengths(model, vectors[row : row + 1], lengths[row].tolist())
        read = [0, 1 + int(scores[1:].argmax())]
        assert left[row, 0] == [four[i].tokens for i in range(4) if i not in read]


@pytest.mark.slow
def test_what_was_tried_is_passed_on_only_where_there_is_nothing_else():
    model = tiny_model(surrogate_width=8)
    best, other, tokens = (7, 8, 10), (11, 8, 9), (7, 8, 9)
    e = predict_embeddings(model, [best])
    choose = ShortlistProposer([answering([best]), answering([other])], context_of(model, e), spell)
    for tried, expected in (((), best), ((best,), other), ((best, other), best)):
        draft = a_draft(0, tokens, predict_embeddings(model, [tokens])[0], as_guessed(model, *tried))
        assert choose([draft], [torch.Generator()]) == [expected]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"refine": 4}, {"candidates": 3}, {"candidates": 2, "refine": 3}])
def test_a_shortlist_costs_no_more_of_the_encoder(model, corrector, vectors, encoded, options):
    calls = options.get("candidates", 1) + options.get("refine", 0)
    for able in (model, corrector):
        for shortlist in (1, 3, None):
            encoded.clear()
            items = written(able, vectors[:4], shortlist=shortlist, **options)
            assert all(1 <= item.encoder_calls <= calls for item in items)
            assert all(item.cosine is not None for item in items)
            assert sum(item.encoder_calls for item in items) == len(encoded)


@pytest.mark.slow
def test_a_shortlist_alone_costs_nothing_of_the_encoder(model, vectors, encoded):
    plain, chosen = written(model, vectors), written(model, vectors, shortlist=5)
    assert encoded == []
    lengths = model.likely_lengths(model.model.latent(vectors).z, 5)
    for row, item in enumerate(chosen):
        five, scores = guessed_of_lengths(model, vectors[row : row + 1], lengths[row].tolist())
        assert item.tokens == five[int(scores.argmax())].tokens
        assert item.encoder_calls == 0
    assert [item.tokens for item in plain] != [item.tokens for item in chosen]
    # Nothing is read again, so nothing is chosen unless it is asked for.
    assert written(model, vectors, shortlist=1) == plain


@pytest.mark.slow
def test_what_was_written_twice_fills_no_place_of_the_list(model, vectors):
    z = model.model.latent(vectors[:1]).z
    context = context_of(model.model, vectors[:1], ProposalContext)
    lengths = model.likely_lengths(z, 3)[0].tolist()
    tasks = [DecodeRequest(0, length, 0) for length in (*lengths, *lengths)]
    ids = [(5,) * length for length in (*lengths, *lengths)]
    assert select_shortlist(context, tasks, ids, keep=4)[0] == [0, 1, 2]
    # Another seed's sentence is another's, though it is the same.
    other = [*tasks[:3], DecodeRequest(0, lengths[0], 1)]
    assert 3 in select_shortlist(context, other, ids[:4], keep=1)[0]


@pytest.mark.slow
def test_half_of_the_proposals_are_whole_sentences_the_first_one_the_best_guess(corrector, vectors):
    seen = []

    def spell(texts):
        seen.append([tuple(tokens) for tokens in texts])
        return corrector.tokenizer.decode_batch(texts)

    writer = ProposalContext(
        Decoder(corrector.model, corrector.schedule, corrector.tokenizer.special_ids, GUIDED), vectors
    )
    drafts = [
        Candidate(
            item.row,
            0,
            item.tokens,
            item.text,
            vectors[item.row].roll(1),
            0.5,
            {item.text: EncodedText(item.tokens, vectors[item.row].roll(1))},
        )
        for item in written(corrector, vectors)
    ]

    def noise():
        return [torch.Generator().manual_seed(row) for row in range(len(drafts))]

    build_proposer(writer, PROPOSERS.names(), 4, spell)(drafts, noise())
    assert len(seen) == len(drafts)
    assert [listed[0] for listed in seen] == list(CorrectionProposer(writer)(drafts, noise()))
    # The second whole sentence is drawn by chance; what is written twice is listed once.
    assert max(map(len, seen)) == 4


@pytest.mark.slow
def test_the_encoder_reads_the_likeliest_sentence_and_those_guessed_to_be_closest(model, vectors):
    kept = written(model, vectors, candidates=3, shortlist=2)
    lengths = model.likely_lengths(model.model.latent(vectors).z, 6)
    for row, item in enumerate(kept):
        all_six, scores = guessed_of_lengths(model, vectors[row : row + 1], lengths[row].tolist())
        read = [0, *(i for i in scores.argsort(descending=True).tolist() if i)][:3]
        true = torch.cosine_similarity(
            model.encode([all_six[i].text for i in read]), vectors[row : row + 1], dim=-1
        )
        assert item.cosine == pytest.approx(float(true.max()), abs=1e-4)
        assert item.text in {all_six[i].text for i in read}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"candidates": 2}, {"candidates": 2, "refine": 2}, {"candidates": 5}])
def test_with_two_candidates_and_more_no_sentence_ends_below_the_one_written_at_once(
    model, corrector, vectors, options
):
    for able in (model, corrector):
        plain = written(able, vectors, score=True)
        for one, item in zip(plain, written(able, vectors, shortlist=4, **options), strict=True):
            assert item.cosine >= one.cosine - 1e-5


@pytest.mark.slow
def test_a_text_depends_on_its_vector_and_seed_and_not_on_its_batch(model, corrector, vectors):
    options = {"candidates": 2, "refine": 2, "num_samples": 2, "seed": 5}
    for able in (model, corrector):
        together = [item.text for item in written(able, vectors[:3], **options)]
        alone = [item.text for row in range(3) for item in written(able, vectors[row : row + 1], **options)]
        assert together == alone


@pytest.mark.slow
def test_a_model_without_a_surrogate_cannot_choose(tiny_encoder, sentences, model, vectors):
    plain = build(tiny_encoder, sentences[:4])
    assert isinstance(plain, SGDD)
    with pytest.raises(GenerationError, match="no surrogate"):
        plain.generate(vectors, refine=1, shortlist=2)
    with pytest.raises(GenerationError, match="at least 1"):
        model.generate(vectors, refine=1, shortlist=0)
    with pytest.raises(GenerationError, match="no surrogate"):
        evaluate(plain, as_set(plain, sentences[:4]), config=EvalConfig(shortlist=2))
    with pytest.raises(ConfigError, match="at least 1"):
        EvalConfig(shortlist=0)
    assert plain.generate(vectors, refine=1, shortlist=1)
    with pytest.raises(ConfigError, match="multiple of 8"):
        DecoderConfig(surrogate_width=6)


@pytest.mark.slow
def test_an_evaluation_says_what_was_chosen_and_compares_it_with_one_shot(model, sentences):
    data = as_set(model, sentences[100:108])
    quick = {"nelbo_samples": 1, "diversity_samples": 0}
    plain = evaluate(model, data, sampling=GUIDED, config=EvalConfig(**quick))
    assert plain.settings["eval"]["shortlist"] == 1
    assert "one_shot" not in plain.conditions
    chosen = evaluate(model, data, sampling=GUIDED, config=EvalConfig(shortlist=5, **quick))
    assert chosen.settings["eval"]["shortlist"] == 5
    assert chosen.scores["one_shot"].texts == plain.scores["true"].texts
    assert chosen.scores["true"].texts != plain.scores["true"].texts
    assert "feedback" in {verdict.name for verdict in chosen.verdicts}
    both = evaluate(model, data, sampling=GUIDED, config=EvalConfig(candidates=2, refine=1, **quick))
    assert both.settings["eval"]["shortlist"] == 4
    assert both.scores["one_shot"].texts == plain.scores["true"].texts
