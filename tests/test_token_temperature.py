"""The temperature that calibrates probabilities of tokens: how it is found, and that every probability obeys it."""

import pytest
import torch
from tiny_sgdd import as_set, build

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation.likelihood import likelihood
from sgdd_engine.evaluation.token_temperature import (
    _inverse_temperature,
    find_token_temperature,
    token_temperature,
)
from sgdd_engine.events import StageFinished
from sgdd_engine.generation import SGDD
from sgdd_engine.generation.decode import Decoder
from sgdd_engine.generation.guided_denoiser import FORBIDDEN_LOGIT
from sgdd_engine.models.config import LEAST_TEMPERATURE
from sgdd_engine.models.head import VocabularyHead


@pytest.fixture(scope="module")
def learnt(tiny_encoder, sentences) -> SGDD:
    return build(tiny_encoder, sentences[:24], steps=60)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.6])
def test_it_is_that_of_the_distribution_that_the_tokens_come_from(temperature):
    torch.manual_seed(0)
    head = VocabularyHead(50, 16)
    head.bias.data.normal_()
    hidden = 4 * torch.randn(20_000, 16)
    with torch.inference_mode():
        p = (head.trained_logits(hidden) / temperature).softmax(dim=1)
        targets = torch.multinomial(p, 1).squeeze(1)
        found = 1 / _inverse_temperature(head, hidden, targets)
    assert found == pytest.approx(temperature, rel=0.03)


def test_where_no_temperature_is_better_it_ends():
    head = VocabularyHead(5, 4)
    head.table.data.zero_()
    with torch.inference_mode():
        assert _inverse_temperature(head, torch.randn(3, 4), torch.tensor([0, 1, 2])) == 1


def test_a_model_that_is_never_wrong_gets_the_least():
    torch.manual_seed(0)
    head = VocabularyHead(50, 16)
    hidden = torch.randn(100, 16)
    with torch.inference_mode():
        found = _inverse_temperature(head, hidden, head.trained_logits(hidden).argmax(dim=1))
    assert found == 1 / LEAST_TEMPERATURE


def test_it_calibrates_unseen_sentences_whatever_temperature_the_model_has(learnt, sentences):
    others, heard = as_set(learnt, sentences[30:90]), []
    found = find_token_temperature(learnt, others, seed=0, on_event=heard.append)
    # Trained on two dozen sentences it is far too sure of others.
    assert found > 1.5
    assert heard[-1] == StageFinished("calibrating token probabilities", f"logits are divided by {found:.2f}")
    unseen = as_set(learnt, sentences[90:150])
    before = likelihood(learnt, unseen, samples=2, seed=0)
    with token_temperature(learnt.model.head, found):
        after = likelihood(learnt, unseen, samples=2, seed=0)
        assert find_token_temperature(learnt, others, seed=0) == found
    assert after.calibration.expected_error < before.calibration.expected_error / 2
    assert after.nelbo_nats_per_token < before.nelbo_nats_per_token
    # The likeliest token stays the likeliest.
    assert [one.accuracy for one in after.by_mask_ratio] == [one.accuracy for one in before.by_mask_ratio]


@pytest.mark.parametrize(("cfg", "guidance"), [(1.0, "coverage"), (2.0, "plain")])
def test_decoding_reads_the_same_probabilities(learnt, sentences, cfg, guidance):
    """Logits over T, for both branches of guidance: what scores tokens and words is what the likelihood measures."""
    text = learnt.tokenizer.encode_batch(sentences[:1])
    decoder = Decoder(
        learnt.model,
        learnt.schedule,
        learnt.tokenizer.special_ids,
        SamplingConfig(cfg=cfg, guidance=guidance),
    )
    z = decoder.latents(learnt.encode(sentences[:1]))

    def logits() -> torch.Tensor:
        return torch.cat([part[2].clone() for part in decoder.token_logits(z, [0], text)])

    plain = logits()
    with token_temperature(learnt.model.head, 2.0):
        halved = logits()
    can_be_written = plain > FORBIDDEN_LOGIT / 2
    assert can_be_written.float().mean() > 0.9
    # Guided logits of a position may differ by a constant.
    difference = plain / 2 - halved
    highest = difference.masked_fill(~can_be_written, -torch.inf).amax(dim=1)
    lowest = difference.masked_fill(~can_be_written, torch.inf).amin(dim=1)
    assert (highest - lowest).max() < 1e-3


def test_words_of_a_vector_change_with_it(learnt, sentences):
    vectors = learnt.encode(sentences[:1])
    before = learnt.words(vectors, count=3)
    with token_temperature(learnt.model.head, 2.0):
        assert learnt.words(vectors, count=3) != before
    assert learnt.words(vectors, count=3) == before
