"""Held-out figures of a run: the bound is that of the evaluation; loss and accuracy have masks of their own."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tiny_sgdd import as_set, build

from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.evaluation.likelihood import likelihood
from sgdd_engine.training import validation
from sgdd_engine.training.validation import Validation


@dataclass
class Rows:
    """Sentences as a split of a corpus gives them."""

    token_ids: list
    vectors: torch.Tensor

    def __len__(self):
        return len(self.token_ids)

    @property
    def lengths(self):
        return np.array(list(map(len, self.token_ids)))

    def batch(self, rows):
        return torch.tensor([self.token_ids[row] for row in rows]), self.vectors[torch.from_numpy(rows)]


@pytest.fixture
def model(tiny_encoder, sentences):
    return build(tiny_encoder, sentences[:40])


def validate(model, data, **diffusion):
    rows = Rows(data.token_ids, data.vectors)
    return Validation(rows, len(rows), 256, DiffusionConfig(**diffusion))(model.model, torch.float32)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_uniform_decoder_costs_log_v_and_nothing_is_left_to_chance(model, sentences, schedule):
    torch.nn.init.zeros_(model.model.head.table)
    found = validate(model, as_set(model, sentences[:12]), schedule=schedule)
    expected = math.log(model.info.model.vocabulary.size)
    # Drawn over times with 1/t, twelve sentences would miss it by several per cent.
    assert found.nelbo_nats_per_token == pytest.approx(expected, rel=1e-5)
    assert found.loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_the_bound_is_that_of_the_evaluation(tiny_encoder, sentences):
    model = build(tiny_encoder, sentences[:40], steps=20)
    data = as_set(model, sentences[:120])
    there = likelihood(model, data, samples=4, seed=0)
    found = validate(model, data)
    assert found.nelbo_nats_per_token == pytest.approx(
        there.nelbo_nats_per_token, abs=3 * there.standard_error
    )


@pytest.mark.slow
def test_masks_of_the_bound_leave_loss_and_accuracy_as_they_are(model, sentences, monkeypatch):
    data = as_set(model, sentences[:24])
    found = validate(model, data)
    assert found == validate(model, data)
    monkeypatch.setattr(validation, "BOUND_SAMPLES", 5)
    more = validate(model, data)
    assert more.loss == found.loss
    assert more.accuracy_by_mask_ratio == found.accuracy_by_mask_ratio
    assert more.nelbo_nats_per_token != found.nelbo_nats_per_token
    assert "100" in found.accuracy_by_mask_ratio
