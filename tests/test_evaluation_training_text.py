"""What an evaluation says about the training text: the nearest sentence by brute force, and planted copies."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_sgdd import as_set, build

from sgdd_engine.data.corpus import Corpus
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation import training_text
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.evaluate import evaluate
from sgdd_engine.evaluation.training_text import look_up
from sgdd_engine.events import Notice
from sgdd_engine.generation import SGDD

PLAIN = SamplingConfig(cfg=1.0, steps=4)
QUICK = EvalConfig(nelbo_samples=1, diversity_samples=0)


@pytest.fixture(scope="module")
def corpus(tiny_corpus_folder):
    return Corpus.open(tiny_corpus_folder)


@pytest.fixture(scope="module")
def split(corpus):
    return corpus.split("train")


@pytest.fixture(scope="module")
def model(tiny_encoder, sentences) -> SGDD:
    return build(tiny_encoder, sentences[:40])


@pytest.mark.parametrize("block", [1, 7, 8192])
def test_nearest_is_that_of_brute_force_across_the_borders_of_blocks(split, monkeypatch, block):
    monkeypatch.setattr(training_text, "BLOCK", block)
    queries = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    stored = torch.nn.functional.normalize(split.embeddings(np.arange(len(split))), dim=-1)
    row = (torch.nn.functional.normalize(queries, dim=-1) @ stored.T).argmax(dim=1)
    found = look_up(split, queries, [], limit=10**6)
    assert found.nearest.tolist() == row.tolist()
    assert found.searched == found.available == len(split)


def test_a_row_finds_itself_and_of_equal_ones_the_first(split):
    rows = np.array([0, 5, len(split) - 1])
    found = look_up(split, split.embeddings(rows), [], limit=10**6)
    stored = split.embeddings(np.arange(len(split)))
    first = [int(np.flatnonzero((stored == stored[row]).all(dim=1).numpy())[0]) for row in rows]
    assert found.nearest.tolist() == first


def test_token_rows_are_known_exactly_where_they_are_training_sentences(split):
    rows = [split.tokens(row) for row in (0, 3, len(split) - 1)]
    almost = [[*rows[0][:-1], rows[0][-1] + 1], rows[1][:-1], [*rows[2], 7], [], list(reversed(rows[1]))]
    found = look_up(split, torch.randn(2, 32), [*rows, *almost, rows[0]], limit=10**6)
    assert found.known.tolist() == [True] * 3 + [False] * 5 + [True]


def test_of_a_large_corpus_an_even_part_is_looked_at(split):
    rows = [split.tokens(row) for row in range(len(split))]
    limit = len(split) // 3
    found = look_up(split, split.embeddings(np.arange(len(split))), rows, limit=limit)
    assert found.searched == limit
    assert found.available == len(split)
    # What was not looked at is nobody's nearest; copies are looked for among all.
    spread = np.unique(found.nearest)
    assert len(spread) <= limit
    assert np.diff(spread).max() <= 4 * len(split) // limit
    assert found.known.all()
    assert look_up(split, torch.randn(2, 32), [], limit=len(split) - 1).searched == len(split) - 1


@pytest.mark.slow
def test_planted_training_sentences_are_reported_among_sources_and_outputs(
    tiny_encoder, corpus, split, sentences
):
    known = [split.text(row) for row in (1, 20, 40, 60)]
    held_out = [corpus.split("test").text(row) for row in range(4)]
    model = build(tiny_encoder, known, steps=150)
    data = as_set(model, [*known, *held_out])
    report = evaluate(model, data, config=QUICK, sampling=PLAIN, training=corpus)
    found = report.to_dict()
    # The nearest training sentence of a training sentence is itself.
    nearest = report.scores["nearest"]
    assert nearest["exact_match"].tolist() == [1] * 4 + [0] * 4
    assert nearest["cosine"][:4] == pytest.approx(1, abs=1e-3)
    assert nearest["length_error"][:4].tolist() == [0] * 4
    assert found["memorisation"]["sources"]["mean"] == 0.5
    copied = [text in set(report.scores["nearest"].texts[:4]) for text in report.scores["true"].texts]
    assert sum(copied) >= 4
    assert found["memorisation"]["outputs"]["mean"] >= sum(copied) / 8
    assert list(found["conditions"]) == ["true", "nearest", "shuffled", "null"]
    assert found["settings"]["training"]["searched"] == len(split)
    assert found["settings"]["training"]["trained_on"] is False
    assert {"retrieval", "memorisation"} <= {verdict["name"] for verdict in found["verdicts"]}


def test_a_corpus_of_another_tokenizer_or_encoder_is_left_out_with_a_notice(
    model, corpus, sentences, tiny_xlmr
):
    tokenizer = {**corpus.manifest.tokenizer, "fingerprint": "other"}
    other = Corpus(corpus.folder, replace(corpus.manifest, tokenizer=tokenizer))
    foreign = Corpus(corpus.folder, replace(corpus.manifest, encoder=tiny_xlmr.reference.to_dict()))
    for training, what in ((other, "tokenizer"), (foreign, "encoder")):
        events = []
        found = evaluate(
            model,
            as_set(model, sentences[:4]),
            config=QUICK,
            sampling=PLAIN,
            training=training,
            on_event=events.append,
        )
        assert "nearest" not in found.conditions
        assert found.memorisation is None
        (notice,) = (event.message for event in events if isinstance(event, Notice))
        assert "left out" in notice
        assert f"another {what}" in notice
