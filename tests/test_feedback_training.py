"""The second stage of training: a decoder learns to correct drafts."""

import os
import shutil
from dataclasses import fields, replace

import forks
import numpy as np
import pytest
import torch
from models_for_tests import EMBEDDING_DIM, VOCABULARY, latents, random_tokens, scatter, tiny_model
from safetensors.torch import load_file, save_file
from tiny_training import TINY, tiny

from sgdd_engine import SGDD
from sgdd_engine.checkpoint import read_info, record_sampling, resolve_checkpoint
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.distributed import CPU, join
from sgdd_engine.errors import CheckpointError, ConfigError, TrainingError
from sgdd_engine.events import Notice, StageFinished, StageProgress, Validated
from sgdd_engine.models.feedback import Draft
from sgdd_engine.tracking.runs import summarize
from sgdd_engine.training import generate_drafts
from sgdd_engine.training.config import FeedbackConfig
from sgdd_engine.training.dataloading import DraftBatch, Drafts, training_batches
from sgdd_engine.training.generate_drafts import (
    DRAFTS,
    SENTENCES_PER_FILE,
    DraftWriter,
    draft_kinds,
    prepare_drafts,
)
from sgdd_engine.training.loop import train
from sgdd_engine.training.loss import batch_loss, step_generator

MASK = VOCABULARY.mask_id
EVERY = torch.ones(3, dtype=torch.bool)


@pytest.fixture(scope="module")
def corpus(tiny_corpus_folder):
    return Corpus.open(tiny_corpus_folder)


@pytest.fixture(scope="module")
def first(corpus, tmp_path_factory):
    """A trained decoder that knows no drafts."""
    run = tmp_path_factory.mktemp("first") / "run"
    train(corpus, run, TINY, device="cpu")
    return run


def second(first, **changes):
    return replace(
        tiny(start_from=str(first), **changes),
        decoder=replace(TINY.decoder, feedback=True, feedback_hidden=8),
        feedback=FeedbackConfig(sentences=30),
    )


@pytest.fixture(scope="module")
def corrector(corpus, first, tmp_path_factory):
    """The run of a second stage, and what it reported."""
    run, events = tmp_path_factory.mktemp("second") / "run", []
    train(corpus, run, second(first), device="cpu", on_event=events.append)
    return run, events


def weights(run):
    return load_file(resolve_checkpoint(run) / "model.safetensors")


def hidden(model, z, draft=None):
    canvas = torch.full((3, 5), VOCABULARY.mask_id)
    with torch.no_grad():
        return model.hidden(canvas, torch.ones(3), model.condition(z, draft))


def a_draft(given=EVERY, seed=1):
    return Draft(random_tokens(3, 7, seed), torch.tensor([7, 4, 5]), latents(3, seed=seed), given)


@pytest.mark.parametrize("options", [{}, {"anchors": False}, {"memory_tokens": 0}])
def test_a_draft_is_read_and_nothing_behind_its_end(options):
    model, z, draft = tiny_model(feedback=True, **options), latents(), a_draft()
    read = hidden(model, z, draft)
    assert not torch.allclose(read, hidden(model, z), atol=1e-2)
    tokens = torch.cat([draft.tokens, random_tokens(3, 2, seed=3)], dim=1)
    tokens[1, 4:] = 6
    torch.testing.assert_close(hidden(model, z, draft._replace(tokens=tokens)), read)
    tokens[1, 3] = draft.tokens[1, 3] + 1
    assert not torch.allclose(hidden(model, z, draft._replace(tokens=tokens))[1], read[1], atol=1e-3)


def test_a_draft_corrects_the_length_where_it_is_given():
    model, z = tiny_model(feedback=True), latents()
    scatter(model.draft_reader)
    plain, draft = model.length_logits(z), a_draft(torch.tensor([True, False, True]))
    corrected = model.length_logits(z, draft)
    torch.testing.assert_close(corrected[1], plain[1])
    assert not torch.allclose(corrected[0], plain[0], atol=1e-2)
    other = model.length_logits(z, draft._replace(lengths=draft.lengths - 1))
    assert not torch.allclose(corrected[0], other[0], atol=1e-3)


def test_its_words_and_its_meaning_matter():
    model, z = tiny_model(feedback=True), latents()
    one, other = a_draft(seed=1), a_draft(seed=2)
    base = hidden(model, z, one)
    assert not torch.allclose(hidden(model, z, one._replace(tokens=other.tokens)), base, atol=1e-2)
    assert not torch.allclose(hidden(model, z, one._replace(z=other.z)), base, atol=1e-2)


def test_a_row_that_is_shown_no_draft_is_written_as_without():
    model, z = tiny_model(feedback=True), latents()
    with_some = hidden(model, z, a_draft(torch.tensor([True, False, True])))
    torch.testing.assert_close(with_some[1], hidden(model, z)[1])
    assert not torch.allclose(with_some[0], hidden(model, z)[0], atol=1e-2)


@pytest.mark.slow
def test_the_second_stage_starts_where_the_first_one_ended_and_leaves_it(corpus, first, corrector, tmp_path):
    before = weights(first)
    train(corpus, tmp_path / "none", second(first, max_steps=1, learning_rate=1e-12), device="cpu")
    started = weights(tmp_path / "none")
    for name, tensor in before.items():
        torch.testing.assert_close(started[name], tensor)
    run, events = corrector
    learnt = weights(run)
    SGDD.from_pretrained(run, "cpu").save_pretrained(tmp_path / "shared")
    assert str(first) not in (tmp_path / "shared" / "config.json").read_text(encoding="utf-8")
    assert learnt["draft_reader.words.weight"].abs().max() > 0
    assert learnt["draft_reader.meaning.2.weight"].abs().max() > 0
    assert any(isinstance(event, Validated) for event in events)


@pytest.mark.slow
def test_a_stage_whose_batches_come_without_drafts_writes_none(corpus, first, corrector, tmp_path):
    spec = second(corrector[0], max_steps=1)
    train(corpus, tmp_path / "run", replace(spec, feedback=replace(spec.feedback, share=0.0)), device="cpu")
    assert (corrector[0] / DRAFTS).is_dir()
    assert not (tmp_path / "run" / DRAFTS).exists()


def surrogate_alone(start, **changes):  # changes of the decoder
    spec = second(start, max_steps=1)
    train, decoder = replace(spec.train, part="surrogate"), replace(spec.decoder, surrogate_width=8)
    return replace(spec, train=train, decoder=replace(decoder, **changes))


def without_drafts(start):
    spec = second(start, max_steps=1)
    return replace(spec, feedback=replace(spec.feedback, share=0.0))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (surrogate_alone, "train.part=surrogate trains"),
        (without_drafts, "feedback.share=0"),
        (lambda start: second(start, condition_dropout=1.0), "train.condition_dropout=1"),
    ],
)
def test_a_reader_of_drafts_that_could_not_be_trained_is_refused(corpus, first, tmp_path, settings, reason):
    with pytest.raises(ConfigError, match="`draft_reader` would stay untrained") as caught:
        train(corpus, tmp_path / "run", settings(first), device="cpu")
    assert reason in caught.value.message
    assert "decoder.feedback=false" in caught.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [surrogate_alone, without_drafts])
def test_a_trained_reader_of_drafts_is_kept_and_one_of_another_size_refused(
    corpus, corrector, tmp_path, settings
):
    run, _ = corrector
    spec = settings(run)
    train(corpus, tmp_path / "same", spec, device="cpu")
    assert weights(tmp_path / "same")["draft_reader.words.weight"].any()
    with pytest.raises(ConfigError, match="`draft_reader` would stay untrained"):
        train(
            corpus,
            tmp_path / "smaller",
            replace(spec, decoder=replace(spec.decoder, feedback_hidden=4)),
            device="cpu",
        )


def test_self_conditioning_that_could_not_be_trained_is_refused(corpus, first, tmp_path):
    spec = surrogate_alone(first, feedback=False, self_conditioning=True)
    with pytest.raises(ConfigError, match=r"`denoiser\.before` would stay untrained.*trains the surrogate"):
        train(corpus, tmp_path / "run", spec, device="cpu")


@pytest.mark.slow
def test_a_third_stage_may_read_drafts_with_another_network(corpus, corrector, tmp_path):
    run, _ = corrector
    learnt = weights(run)
    again = second(run, max_steps=1, learning_rate=1e-12)
    train(corpus, tmp_path / "same", again, device="cpu")
    smaller, told = replace(again, decoder=replace(again.decoder, feedback_hidden=4, surrogate_width=8)), []
    train(corpus, tmp_path / "smaller", smaller, device="cpu", on_event=told.append)
    notices = [event.message for event in told if isinstance(event, Notice)]
    assert sum("`draft_reader`" in message and "starts untrained" in message for message in notices) == 1
    same, other = weights(tmp_path / "same"), weights(tmp_path / "smaller")
    for name, tensor in learnt.items():
        torch.testing.assert_close(same[name], tensor)
        if not name.startswith("draft_reader."):
            torch.testing.assert_close(other[name], tensor)
    assert not other["draft_reader.length.weight"].any(), "a reader of another size starts untrained"
    assert learnt["draft_reader.length.weight"].any()
    assert other["surrogate.vector.weight"].shape == (corpus.embedding_dim, 8)
    wider = replace(again, decoder=replace(again.decoder, memory_tokens=again.decoder.memory_tokens + 1))
    with pytest.raises(CheckpointError, match="differs"):
        train(corpus, tmp_path / "wider", wider, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(("share", "changes"), [(0.25, False), (0.0, True)])
def test_losses_with_and_without_drafts_do_not_compare(corpus, first, corrector, tmp_path, share, changes):
    shutil.copytree(corrector[0], tmp_path / "run")
    told, spec = [], second(first, max_steps=16)
    spec = replace(spec, feedback=replace(spec.feedback, share=share))
    result = train(corpus, tmp_path / "run", spec, device="cpu", resume=True, on_event=told.append)
    said = [event.message for event in told if isinstance(event, Notice) and "another scale" in event.message]
    assert len(said) == changes
    assert read_info(result.checkpoint).validation_set == changes
    # Nor does what is told of the run compare them.
    of_this_set = [event.loss for event in told if isinstance(event, Validated)]
    summary = summarize(tmp_path / "run")
    before = list(summarize(corrector[0]).validation)
    assert [loss for _, loss in summary.validation[-len(of_this_set) :]] == of_this_set
    assert len(summary.validation) == len(of_this_set) + (0 if changes else len(before))
    assert summary.best_validation == min(loss for _, loss in summary.validation)


def test_a_stage_may_leave_out_the_networks_that_a_stage_added(corpus, first, tmp_path):
    spec = second(first, max_steps=1)
    more = replace(spec.decoder, self_conditioning=True, surrogate_width=8)
    train(corpus, tmp_path / "start", replace(spec, decoder=more), device="cpu")
    told, spec = [], tiny(start_from=str(tmp_path / "start"), max_steps=1, learning_rate=1e-12)
    train(corpus, tmp_path / "plain", spec, device="cpu", on_event=told.append)
    before, after = weights(tmp_path / "start"), weights(tmp_path / "plain")
    assert after.keys() == weights(first).keys()
    for name, tensor in after.items():
        torch.testing.assert_close(before[name], tensor)
    notices = [event.message for event in told if isinstance(event, Notice) and event.warning]
    assert [message.split("`")[1] for message in notices if "is left out" in message] == [
        "draft_reader",
        "denoiser.before",
        "surrogate",
    ]
    assert any("since decoder.feedback is off" in message for message in notices)


def written(corpus, model, folder, events=None, **options):
    """Drafts of 40 training sentences, written by a checkpoint or by an open `DraftWriter`."""
    writer = (
        model if isinstance(model, DraftWriter) else DraftWriter(str(model), corpus.encoder_reference, CPU)
    )
    listen = events.append if events is not None else lambda event: None
    options = {"sentences": 40, "seed": 0, **options}
    return prepare_drafts(writer, corpus, "train", folder, on_event=listen, **options)


def test_drafts_are_of_their_rows_and_of_any_length(corpus, first, tmp_path):
    split, events = corpus.split("train"), []
    model = SGDD.from_pretrained(first, "cpu")
    drafts = written(corpus, first, tmp_path, events)
    assert len(drafts) == len(set(drafts.rows.tolist())) == 40 < SENTENCES_PER_FILE
    assert [event.done for event in events if isinstance(event, StageProgress)] == [40]
    kinds = draft_kinds(model.info, (0, 1, 2))
    batch = drafts.batch(np.arange(40))
    assert batch.tokens.shape == (40, int(batch.lengths.max()))
    at_true_length = np.arange(40) % len(kinds) % 2 == 0
    assert (batch.lengths.numpy() == split.lengths[drafts.rows])[at_true_length].all()
    assert (batch.tokens != MASK).all()
    # The first kind is written without guidance at the true length, and its words are what was encoded again.
    (style, true_length, rounds), first_kind = kinds[0], np.arange(0, 40, len(kinds))
    assert (true_length, rounds) == (True, 0)
    rows = drafts.rows[first_kind]
    generations = model.generate(
        split.embeddings(rows), sampling=style, lengths=split.lengths[rows].tolist(), seed=0
    )
    for number, item in zip(first_kind.tolist(), generations, strict=True):
        found = drafts.batch(np.array([number]))
        assert tuple(found.tokens[0].tolist()) == item.tokens
        torch.testing.assert_close(found.vectors, model.encoder.encode([item.text]), atol=2e-3, rtol=0)


def test_files_that_are_written_together_are_those_written_alone(corpus, first, tmp_path, monkeypatch):
    monkeypatch.setattr(generate_drafts, "SENTENCES_PER_FILE", 15)
    events = []
    alone = written(corpus, first, tmp_path / "alone", events)
    assert [event.done for event in events if isinstance(event, StageProgress)] == [15, 30, 40]
    monkeypatch.setattr(generate_drafts, "files_together", lambda device: 2)
    events.clear()
    together = written(corpus, first, tmp_path / "together", events)
    assert [event.done for event in events if isinstance(event, StageProgress)] == [30, 40]
    for field in fields(alone):
        np.testing.assert_allclose(getattr(together, field.name), getattr(alone, field.name), atol=2e-3)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_ranks_share_the_files_and_write_what_one_writes(corpus, first, tmp_path, monkeypatch):
    monkeypatch.setattr(generate_drafts, "SENTENCES_PER_FILE", 15)
    alone = written(corpus, first, tmp_path / "alone")
    folder = tmp_path / "shared"
    written(corpus, first, folder)
    files = sorted(folder.iterdir())
    kept, damaged, gone = (path.stat().st_mtime_ns for path in files)
    files[1].write_bytes(files[1].read_bytes()[:-1])
    files[2].unlink()

    def rank(number: int) -> None:
        with join(CPU) as world:
            drafts = written(corpus, first, folder, world=world)
            np.savez(tmp_path / f"{number}.npz", tokens=drafts.tokens, vectors=drafts.vectors)
            (tmp_path / f"{number}.txt").write_text(str(world.size))

    assert forks.wait(forks.start_ranks(2, rank, tmp_path / "pids.json")) == 0
    assert files[0].stat().st_mtime_ns == kept
    assert files[1].stat().st_mtime_ns > damaged
    assert files[2].stat().st_mtime_ns > gone
    for number in range(2):
        found = np.load(tmp_path / f"{number}.npz")
        assert (found["tokens"] == alone.tokens).all()
        assert (found["vectors"] == alone.vectors).all()
        assert (tmp_path / f"{number}.txt").read_text() == "2"


PART = "part-00000.safetensors"


def without_origin(path):
    """As older versions wrote a file of drafts."""
    save_file(load_file(path), path)


@pytest.mark.slow
def test_drafts_are_read_again_only_if_they_are_those_that_would_be_written(corpus, first, tmp_path):
    other = tmp_path / "other"
    train(corpus, other, tiny(seed=1, max_steps=2), device="cpu")
    folder = tmp_path / "drafts"
    drafts = written(corpus, first, folder)
    made = (folder / PART).stat().st_mtime_ns
    assert (written(corpus, first, folder).tokens == drafts.tokens).all()
    assert (folder / PART).stat().st_mtime_ns == made

    def expect_rewritten(model, **options):
        events = []
        fresh = written(corpus, model, folder.with_name("fresh"), **options)
        again = written(corpus, model, folder, events, **options)
        assert (again.tokens == fresh.tokens).all()
        assert (again.vectors == fresh.vectors).all()
        notices = [event for event in events if isinstance(event, Notice)]
        assert len(notices) == 1
        assert notices[0].warning
        assert "written again" in notices[0].message
        shutil.rmtree(folder.with_name("fresh"))

    expect_rewritten(other)  # the model to start from was changed while the drafts were being written
    expect_rewritten(other, seed=1)
    expect_rewritten(other, seed=1, sentences=30)
    (folder / PART).write_bytes(b"broken")
    expect_rewritten(other, seed=1, sentences=30)
    without_origin(folder / PART)
    expect_rewritten(other, seed=1, sentences=30)
    part = folder / PART
    whole = part.read_bytes()
    for place in (len(whole) - 1, len(whole) - 3000, whole.index(b"weights_sha256") + 20):
        part.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        expect_rewritten(other, seed=1, sentences=30)
        assert part.read_bytes() == whole
    # It writes otherwise, with the same weights.
    record_sampling(resolve_checkpoint(other), {}, token_temperature=1.5)
    expect_rewritten(other, seed=1, sentences=30)
    made = part.stat().st_mtime_ns
    written(corpus, other, folder, seed=1, sentences=30, resumed=True)
    assert part.stat().st_mtime_ns == made


@pytest.mark.slow
def test_a_resumed_run_keeps_the_drafts_that_it_was_trained_on(corpus, first, tmp_path):
    drafts = written(corpus, first, tmp_path)
    gone = "nowhere"
    again = written(corpus, gone, tmp_path, resumed=True)
    assert (again.tokens == drafts.tokens).all()
    with pytest.raises(TrainingError, match="Drafts are missing") as caught:
        written(corpus, gone, tmp_path, sentences=30, resumed=True)
    assert "train.start_from" in caught.value.hint
    other = tmp_path / "other"
    train(corpus, other, tiny(seed=1, max_steps=2), device="cpu")
    with pytest.raises(TrainingError, match="is not the model that wrote the others"):
        written(corpus, other, tmp_path, sentences=30, resumed=True)
    assert len(written(corpus, first, tmp_path, sentences=30, resumed=True)) == 30


@pytest.mark.slow
def test_drafts_of_a_start_that_was_changed_are_not_taken(corpus, first, tmp_path):
    def stop(event):
        if isinstance(event, StageFinished) and event.stage == "drafts (validation)":
            raise RuntimeError("killed")

    run, events = tmp_path / "run", []
    train(corpus, tmp_path / "other", tiny(seed=1, max_steps=2), device="cpu")
    with pytest.raises(RuntimeError, match="killed"):
        train(corpus, run, second(first), device="cpu", on_event=stop)
    spec = second(tmp_path / "other", max_steps=2)
    train(corpus, run, spec, device="cpu", on_event=events.append)
    straight = train(corpus, tmp_path / "straight", spec, device="cpu")
    assert any("written again" in event.message for event in events if isinstance(event, Notice))
    for name, tensor in weights(straight.checkpoint).items():
        assert torch.equal(weights(run)[name], tensor), name


@pytest.mark.slow
def test_a_model_that_corrects_writes_drafts_of_several_rounds(corpus, first, corrector, tmp_path):
    run, _ = corrector
    model, split = SGDD.from_pretrained(run, "cpu"), corpus.split("train")
    scatter(model.model.draft_reader)
    writer = DraftWriter(str(run), corpus.encoder_reference, CPU)
    writer.__dict__["model"] = model  # whose corrections show
    drafts = written(corpus, writer, tmp_path)
    both = draft_kinds(model.info, writer.rounds)
    assert writer.kinds == both
    of_first = SGDD.from_pretrained(first, "cpu").info
    assert both[: len(both) // 3] == draft_kinds(of_first, (0, 1, 2)) == draft_kinds(of_first, (1,))
    differs = 0
    for number, (style, true_length, rounds) in enumerate(both):
        if not true_length:
            continue
        which = np.arange(number, 40, len(both))
        rows = drafts.rows[which]
        lengths = split.lengths[rows].tolist()
        vectors = split.embeddings(rows)
        once = model.generate(vectors, sampling=style, lengths=lengths, seed=0)
        kept = model.generate(vectors, sampling=style, lengths=lengths, seed=0, refine=rounds)
        for place, first_try, item in zip(which.tolist(), once, kept, strict=True):
            assert tuple(drafts.batch(np.array([place])).tokens[0].tolist()) == item.tokens
            differs += item.tokens != first_try.tokens
    assert differs
    # First drafts alone, where these are asked for; what was written with other rounds is not taken for them.
    alone = DraftWriter(str(run), corpus.encoder_reference, CPU, rounds=(0,))
    alone.__dict__["model"] = model
    events = []
    first_drafts = written(corpus, alone, tmp_path, events)
    assert any("written again" in event.message for event in events if isinstance(event, Notice))
    assert {kind.rounds for kind in alone.kinds} == {0}
    style, _, _ = alone.kinds[0]
    which = np.arange(0, 40, len(alone.kinds))
    rows = first_drafts.rows[which]
    once = model.generate(
        split.embeddings(rows), sampling=style, lengths=split.lengths[rows].tolist(), seed=0
    )
    for place, item in zip(which.tolist(), once, strict=True):
        assert tuple(first_drafts.batch(np.array([place])).tokens[0].tolist()) == item.tokens


@pytest.mark.parametrize("rounds", [(), (-1,), (0, 9)])
def test_rounds_of_drafts_that_cannot_be_are_refused(rounds):
    with pytest.raises(ConfigError, match=r"feedback\.rounds"):
        FeedbackConfig(rounds=rounds)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_drafts_come_at_their_share_of_the_positions_and_nothing_is_left_out(corpus, share):
    split = corpus.split("train")
    chosen = np.arange(0, len(split), 3)
    lengths = split.lengths[chosen].astype(np.int64)
    drafts = Drafts(
        chosen,
        np.concatenate([split.tokens(row) for row in chosen.tolist()]).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]),
        split.embeddings(chosen).numpy().astype(np.float16),
    )
    rows = training_batches(split, drafts, share, batch_tokens=64, seed=0)
    batches = [rows.batch(position) for position in range(1000)]
    with_drafts = [batch for batch in batches if batch[2] is not None]
    assert len(with_drafts) == 1000 * share
    # These drafts are the sentences themselves: each must stand beside its own.
    for x, e, beside in with_drafts:
        assert torch.equal(beside.tokens, x)
        assert (beside.lengths == x.shape[1]).all()
        torch.testing.assert_close(beside.vectors, e, atol=2e-3, rtol=0)
    seen = [
        {tuple(row) for x, _, beside in batches if (beside is None) == plain for row in x.tolist()}
        for plain in (True, False)
    ]
    everything = {tuple(split.tokens(row)) for row in range(len(split))}
    assert seen[0] == (everything if share < 1 else set())
    assert seen[1] == ({tuple(split.tokens(row)) for row in chosen.tolist()} if share else set())


@pytest.mark.parametrize("drafted", [True, False])
def test_every_parameter_has_a_gradient_with_drafts_and_without(drafted):
    model = tiny_model(feedback=True)
    x, e = random_tokens(4, 6), torch.randn(4, EMBEDDING_DIM)
    written = random_tokens(4, 7, seed=1), torch.tensor([7, 3, 6, 5]), torch.randn(4, EMBEDDING_DIM)
    drafts = DraftBatch(*written) if drafted else None
    loss = batch_loss(
        model,
        x,
        e,
        config=TINY.train,
        diffusion=TINY.diffusion,
        step=0,
        generator=step_generator(0, 0, CPU),
        drafts=drafts,
    )
    loss.total.backward()
    # DDP waits for each of them, and one process may have a piece with drafts while another has none.
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert bool(model.draft_reader.words.weight.grad.any()) == drafted


def test_the_surrogate_learns_from_sentences_and_from_drafts():
    model = tiny_model(surrogate_width=8, feedback=True)
    x, e = random_tokens(4, 6), torch.randn(4, EMBEDDING_DIM)
    tokens, vectors = random_tokens(4, 7, seed=1), torch.randn(4, EMBEDDING_DIM)
    lengths = [7, 3, 6, 5]
    rows = DraftBatch(tokens, torch.tensor(lengths), vectors)
    options = {"config": TINY.train, "diffusion": TINY.diffusion, "step": 0, "drafts": rows}
    with torch.no_grad():
        error = batch_loss(model, x, e, generator=step_generator(0, 0, CPU), **options).surrogate_error
        own = (model.predict_embedding(x) - e).square().sum(-1).mean()
        # Each draft by itself, without what stands behind its end.
        alone = torch.cat([model.predict_embedding(tokens[i : i + 1, :n]) for i, n in enumerate(lengths)])
    of_drafts = (alone - vectors).square().sum(-1).mean()
    torch.testing.assert_close(error, (own + of_drafts) / 2)


def test_it_needs_a_first_stage():
    with pytest.raises(ConfigError, match="needs a trained decoder"):
        replace(TINY, decoder=replace(TINY.decoder, feedback=True))


def test_another_network_is_no_start(corpus, first, tmp_path):
    spec = second(first)
    wider = replace(spec, decoder=replace(spec.decoder, width=48))
    with pytest.raises(CheckpointError, match="other networks"):
        train(corpus, tmp_path / "run", wider, device="cpu")


def test_it_may_start_from_mini_by_its_name(corpus, tmp_path):
    spec = tiny(start_from="mini")
    with pytest.raises(CheckpointError, match="has another vocabulary"):
        train(corpus, tmp_path / "run", spec, device="cpu")
