import json
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_training import TINY, tiny

from sgdd_engine.atomic_files import change_file, damage
from sgdd_engine.checkpoint import (
    checkpoints_of,
    read_info,
    record_confidence,
    record_sampling,
    resolve_checkpoint,
)
from sgdd_engine.data.corpus import Corpus, ExactLengthBatches
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.distributed import ALONE, CPU
from sgdd_engine.errors import CheckpointError, ConfigError, DataError, TrainingError
from sgdd_engine.events import CheckpointSaved, Notice, SamplesWritten, TrainingProgress, Validated
from sgdd_engine.generation.confidence import (
    COSINE_FEATURE,
    FEATURES,
    WAYS,
    ConfidenceFit,
    record_of,
    recorded_fits,
)
from sgdd_engine.models.config import DecoderConfig, ModelConfig, VocabularyConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.tracking import read_log
from sgdd_engine.tracking.tensorboard import written_table
from sgdd_engine.training.build import _validated_on, model_config, new_model
from sgdd_engine.training.config import TrainConfig, TrainSpec
from sgdd_engine.training.dataloading import Prefetcher, TrainingBatches
from sgdd_engine.training.distribution import SharedModel
from sgdd_engine.training.log import MetricAccumulator
from sgdd_engine.training.loop import train
from sgdd_engine.training.loss import batch_loss, step_generator
from sgdd_engine.training.optimizer_step import Ema, OptimizerStep, build_optimizer, learning_rate
from sgdd_engine.training.state import Progress

LOSS = "loss/nats_per_masked_token"


@pytest.fixture(scope="module")
def corpus(tiny_corpus_folder):
    return Corpus.open(tiny_corpus_folder)


@pytest.fixture(scope="module")
def straight(corpus, tmp_path_factory):
    """A run of 12 steps that was never stopped, with what it reported."""
    run, events = tmp_path_factory.mktemp("straight") / "run", []
    result = train(corpus, run, TINY, device="cpu", settings_text="# settings\n", on_event=events.append)
    return run, result, events


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    files = ["model.safetensors", "training/weights.safetensors", "training/optimizer.safetensors"]
    return {f"{file}/{name}": t for file in files for name, t in load_file(folder / file).items()}


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.slow
def test_a_resumed_run_ends_bit_identical_to_one_never_stopped(corpus, straight, tmp_path):
    run = tmp_path / "run"
    # The curve of the learning rate depends on the planned steps, so the plan is the same and the stop is real.
    stop_after(corpus, run, 7)
    result = train(corpus, run, TINY, device="cpu", resume=True)
    assert result.step == 12
    assert_same_weights(result.checkpoint, straight[1].checkpoint)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_with_dropout_draws_the_same_noise(corpus, tmp_path, optimizer):
    spec = replace(
        TINY,
        train=replace(TINY.train, optimizer=optimizer),
        decoder=replace(TINY.decoder, dropout=0.2),
    )
    torch.manual_seed(1)
    straight = train(corpus, tmp_path / "straight", spec, device="cpu")
    torch.manual_seed(2)
    stop_after(corpus, tmp_path / "run", 7, spec)
    resumed = train(corpus, tmp_path / "run", spec, device="cpu", resume=True)
    assert_same_weights(resumed.checkpoint, straight.checkpoint)


@pytest.mark.slow
def test_a_resumed_run_draws_every_step_of_its_curves_once(corpus, tmp_path):
    run = tmp_path / "run"
    stop_after(corpus, run, 7)
    # TensorBoard reads its files in the order of their names: as if the clock had gone back a year since.
    (drawn,) = (run / "tensorboard" / "train").iterdir()
    drawn.rename(drawn.with_name("events.out.tfevents.1900000000.machine.1.0"))
    log = (run / "log.jsonl").read_text()
    (run / "log.jsonl").write_text(log + '{"step": 8, "time"')  # killed while it wrote
    train(corpus, run, TINY, device="cpu", resume=True)
    steps = [*range(1, 8), 8, 10, 12]
    assert [point.step for point in drawn_in(run, "train").Scalars(LOSS)] == steps
    recorded = read_log(run)
    assert [step for step, _ in recorded.curves["train/loss"]] == steps
    assert recorded.ending == "finished"
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert lines == recorded.records
    assert [line["step"] for line in lines if "start" in line] == [0, 7]


@pytest.mark.slow
def test_what_a_killed_save_left_is_removed_when_the_run_goes_on(corpus, tmp_path):
    run = tmp_path / "run"
    stop_after(corpus, run, 7)
    (run / "checkpoints" / ".step-0000008.99.tmp").mkdir()
    train(corpus, run, TINY, device="cpu", resume=True)
    assert all(path.name.startswith("step-") for path in (run / "checkpoints").iterdir())


@pytest.mark.slow
def test_another_seed_on_resuming_is_said(corpus, tmp_path):
    run, notices = tmp_path / "run", []
    stop_after(corpus, run, 7)
    train(corpus, run, tiny(seed=5), device="cpu", resume=True, on_event=notices.append)
    warnings = [event.message for event in notices if isinstance(event, Notice) and event.warning]
    assert warnings == ["train.seed was 0 and is 5: the sentences come in another order from here on."]


def stop_after(corpus, run, steps, spec=TINY, *, resume=False):
    """Train with the plan of `spec`, and ask it to stop after some steps, as Ctrl-C would."""

    def listen(event):
        if isinstance(event, TrainingProgress) and event.step >= steps:
            signal.raise_signal(signal.SIGINT)

    every_step = replace(spec, train=replace(spec.train, log_every=1))
    result = train(corpus, run, every_step, device="cpu", on_event=listen, resume=resume)
    assert (result.stopped, result.signal, result.step) == ("signal", signal.SIGINT, steps)


def test_the_loss_falls_and_everything_is_reported(straight):
    run, result, events = straight
    progress = [event for event in events if isinstance(event, TrainingProgress)]
    assert [event.step for event in progress] == [2, 4, 6, 8, 10, 12]
    assert progress[-1].loss < progress[0].loss - 0.5
    assert progress[-1].fraction == 1.0
    assert all(event.sentences_per_second > 0 and event.memory_bytes > 0 for event in progress)
    assert {event.step for event in events if isinstance(event, CheckpointSaved)} == {4, 8, 12}
    # Every checkpoint is validated, so that the best can be told.
    assert [event.step for event in events if isinstance(event, Validated)] == [4, 6, 8, 12]
    assert (run / "settings.toml").read_text() == "# settings\n"
    assert result.stopped == "steps"


def test_each_validation_writes_the_same_two_held_out_sentences(corpus, straight):
    run, _, events = straight
    written = [event for event in events if isinstance(event, SamplesWritten)]
    assert [event.step for event in written] == [4, 6, 8, 12]
    sources = [[source for source, _ in event.pairs] for event in written]
    held_out = {text for part in corpus.split("validation").texts() for text in part}
    assert len(sources[0]) == 2
    assert set(sources[0]) <= held_out
    assert all(pair == sources[0] for pair in sources)
    assert all(text for event in written for _, text in event.pairs)
    board = EventAccumulator(str(run / "tensorboard" / "validation"))
    board.Reload()
    (tag,) = board.Tags()["tensors"]
    drawn = board.Tensors(tag)
    assert [point.step for point in drawn] == [4, 6, 8, 12]
    assert sources[0][0] in drawn[0].tensor_proto.string_val[0].decode()


def test_a_text_in_tensorboards_table_is_no_markup():
    table = written_table([("a | b <i>", "c")])
    assert table.splitlines()[2] == "| a &#124; b &lt;i&gt; | c |"


def test_old_checkpoints_go_and_the_best_stays(straight):
    run, result, _ = straight
    assert [folder.name for folder in checkpoints_of(run)] == ["step-0000008", "step-0000012"]
    assert result.best == resolve_checkpoint(run)


def test_tensorboard_reads_the_curves(straight):
    run, _, events = straight
    points = drawn_in(run, "train").Scalars(LOSS)
    assert [point.step for point in points] == [2, 4, 6, 8, 10, 12]
    progress = [event for event in events if isinstance(event, TrainingProgress)]
    assert points[0].value == pytest.approx(progress[0].loss, rel=1e-5)
    held_out = drawn_in(run, "validation").Tags()["scalars"]
    assert {LOSS, "loss/nelbo_nats_per_token", "accuracy_at_mask_percent/100"} <= set(held_out)


def drawn_in(run, split):
    board = EventAccumulator(str(run / "tensorboard" / split))
    board.Reload()
    return board


def test_the_log_holds_what_was_reported(straight):
    run, _, events = straight
    log = read_log(run)
    progress = [event for event in events if isinstance(event, TrainingProgress)]
    validated = [event for event in events if isinstance(event, Validated)]
    assert log.curves["train/loss"] == [(event.step, event.loss) for event in progress]
    assert log.curves["validation/loss"] == [(event.step, event.loss) for event in validated]
    assert log.settings["train.learning_rate"] == TINY.train.learning_rate
    assert log.records[-1]["end"]["metrics"]["validation/best_loss"] == min(event.loss for event in validated)
    # The model has no surrogate, whose error would be a chart of zeros.
    assert "train/kl_nats" in log.curves
    assert "train/surrogate_error" not in log.curves


@pytest.mark.slow
def test_a_run_that_is_stopped_at_its_last_step_is_validated_when_it_goes_on(corpus, tmp_path):
    run, events = tmp_path / "run", []
    spec = tiny(max_steps=3, validate_every=500, save_every=500)
    stop_after(corpus, run, 3, spec)
    assert "validation" not in read_info(checkpoints_of(run)[-1]).facts
    result = train(corpus, run, spec, device="cpu", resume=True, on_event=events.append)
    (validated,) = [event for event in events if isinstance(event, Validated)]
    assert (result.step, result.stopped, validated.step) == (3, "steps", 3)
    assert read_info(result.best).facts["validation"]["loss"] == validated.loss
    assert [step for step, _ in read_log(run).curves["validation/loss"]] == [3]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(corpus, tmp_path):
    run, notices = tmp_path / "run", []
    train(corpus, run, tiny(max_steps=8), device="cpu")
    newest = checkpoints_of(run)[-1] / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    result = train(
        corpus,
        run,
        TINY,
        device="cpu",
        resume=True,
        on_event=lambda event: notices.append(event) if isinstance(event, Notice) else None,
    )
    assert "`model.safetensors` is damaged" in notices[0].message
    assert "step 4" in notices[1].message
    assert result.step == 12


def test_a_run_is_never_overwritten_by_accident(corpus, straight):
    with pytest.raises(TrainingError, match="has checkpoints already"):
        train(corpus, straight[0], TINY, device="cpu")


def test_resuming_nothing_is_refused_and_leaves_nothing(corpus, tmp_path):
    with pytest.raises(CheckpointError, match="no undamaged checkpoint"):
        train(corpus, tmp_path / "none", TINY, device="cpu", resume=True)
    assert not (tmp_path / "none").exists()


def test_held_out_losses_of_a_gpu_and_of_a_cpu_are_not_compared(straight):
    info = read_info(straight[1].checkpoint)

    def validated_on(device):
        facts = {**info.facts, "training": {**info.facts["training"], "device": device}}
        return _validated_on(replace(info, facts=facts), TINY, 1, torch.device("cpu"))

    assert validated_on("cpu") == _validated_on(None, TINY, 1, torch.device("cpu"))
    assert validated_on("cuda:0") != validated_on("cpu")
    # Which GPU it was does not matter.
    assert validated_on("cuda:1") == validated_on("cuda:0")


def test_resuming_with_another_model_is_refused(corpus, straight):
    other = replace(TINY, decoder=replace(TINY.decoder, layers=2))
    with pytest.raises(CheckpointError, match=r"decoder\.layers was 1 and is 2\.$") as caught:
        train(corpus, straight[0], other, device="cpu", resume=True)
    assert "settings.toml" in caught.value.hint
    wider = replace(other, bottleneck=replace(TINY.bottleneck, latent_dim=8))
    linear = replace(wider, diffusion=replace(TINY.diffusion, schedule="linear"))
    with pytest.raises(CheckpointError) as caught:
        train(corpus, straight[0], linear, device="cpu", resume=True)
    for difference in (
        "bottleneck.latent_dim was 16 and is 8",
        "decoder.layers was 1 and is 2",
        "diffusion.schedule was cosine and is linear",
    ):
        assert difference in caught.value.message


def test_resuming_with_another_optimizer_is_refused(corpus, straight):
    with pytest.raises(CheckpointError, match=r"train\.optimizer was adamw and is muon"):
        train(corpus, straight[0], tiny(optimizer="muon"), device="cpu", resume=True)


def notices_of(events: list) -> list[str]:
    return [event.message for event in events if isinstance(event, Notice)]


@pytest.mark.slow
def test_settings_that_shape_no_weights_may_change_on_resuming_and_are_named(corpus, tmp_path):
    run, events = tmp_path / "run", []
    train(corpus, run, tiny(max_steps=4), device="cpu")
    other = replace(
        tiny(beta=0.5, free_bits=0.0, max_steps=5),
        decoder=replace(TINY.decoder, dropout=0.2),
        diffusion=replace(TINY.diffusion, times="uniform"),
    )
    result = train(corpus, run, other, device="cpu", resume=True, on_event=events.append)
    assert notices_of(events) == [
        f"Going on from step 4 of `{run / 'checkpoints' / 'step-0000004'}`.",
        "Settings that changed: decoder.dropout was 0.0 and is 0.2, diffusion.times was stratified and is uniform, "
        "train.max_steps was 4 and is 5, train.beta was 0.001 and is 0.5, train.free_bits was 0.05 and is 0.0.",
        "Training will take about 1 second, by the arithmetic of 5 steps.",
    ]
    info = read_info(result.checkpoint)
    assert (info.model.decoder.dropout, info.diffusion.times) == (0.2, "uniform")
    assert info.facts["settings"]["beta"] == 0.5
    # They are not only recorded: other terms of the loss, other weights.
    train(corpus, tmp_path / "same", tiny(max_steps=4), device="cpu")
    same = train(corpus, tmp_path / "same", tiny(max_steps=5), device="cpu", resume=True)
    ours, theirs = (load_file(r.checkpoint / "training/weights.safetensors") for r in (result, same))
    assert not torch.equal(ours["bottleneck.net.0.weight"], theirs["bottleneck.net.0.weight"])


def test_a_start_that_comes_too_late_is_said(corpus, straight, tmp_path):
    run, events = tmp_path / "run", []
    train(corpus, run, tiny(max_steps=4), device="cpu")
    late = tiny(max_steps=4, start_from=str(straight[0]))
    train(corpus, run, late, device="cpu", resume=True, on_event=events.append)
    assert "train.start_from was none and is" in notices_of(events)[1]
    assert "changes nothing in a run that has begun" in notices_of(events)[1]


# A share so small that no row is dropped: the settings would train a null condition, and none is trained.
NO_ROW = 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "trained"),
    [(0.3, 0.0, True), (0.0, NO_ROW, False), (0.0, 0.3, True), (NO_ROW, 0.0, False)],
)
def test_a_null_condition_is_trained_if_rows_trained_it_whatever_the_settings_are_now(
    corpus, tmp_path, before, after, trained
):
    first = train(corpus, tmp_path / "run", tiny(max_steps=4, condition_dropout=before), device="cpu")
    begun = read_info(first.checkpoint)
    assert begun.trained_null == (begun.null_rows > 0) == (before > NO_ROW)
    new = train(
        corpus,
        tmp_path / "second",
        tiny(max_steps=2, condition_dropout=after, start_from=str(tmp_path / "run")),
        device="cpu",
    )
    again = train(
        corpus, tmp_path / "run", tiny(max_steps=6, condition_dropout=after), device="cpu", resume=True
    )
    for result in (again, new):
        info = read_info(result.checkpoint)
        assert info.trained_null == trained
        assert (info.null_rows > begun.null_rows) == (after > NO_ROW)


@pytest.mark.slow
def test_a_checkpoint_from_before_null_rows_were_counted_keeps_its_trained_null(corpus, tmp_path):
    first = train(corpus, tmp_path / "run", tiny(max_steps=4), device="cpu")
    config = json.loads((first.checkpoint / "config.json").read_text())
    counted = config["facts"]["training"].pop("null_rows")
    progress = json.loads((first.checkpoint / "training/progress.json").read_text())
    assert progress.pop("null_rows") == counted > 0
    change_file(first.checkpoint, "config.json", lambda: json.dumps(config))
    change_file(first.checkpoint, "training/progress.json", lambda: json.dumps(progress))
    sentences = config["facts"]["training"]["sentences_seen"]
    assert read_info(first.checkpoint).null_rows == round(0.1 * sentences)
    again = train(
        corpus, tmp_path / "run", tiny(max_steps=6, condition_dropout=0.0), device="cpu", resume=True
    )
    assert read_info(again.checkpoint).trained_null


@pytest.mark.slow
def test_a_copy_that_was_kept_under_another_name_is_the_users(corpus, tmp_path):
    run = tmp_path / "run"
    train(corpus, run, tiny(max_steps=8), device="cpu")
    folder = run / "checkpoints"
    kept = ["step-0000004-keep", "step-0000008-best", "step-mine", "step-00000099", "step-9"]
    for name in kept:
        shutil.copytree(folder / "step-0000004", folder / name)
    result = train(corpus, run, tiny(max_steps=16, keep_checkpoints=1), device="cpu", resume=True)
    own = {path.name for path in checkpoints_of(run)}
    assert own == {"step-0000016", result.best.name}
    assert {path.name for path in folder.iterdir()} == own | set(kept)
    assert result.checkpoint.name == "step-0000016"


def losses_of(run):
    return {folder.name: read_info(folder).validation_loss for folder in checkpoints_of(run)}


def with_losses(run, *losses):
    """Losses as a run may find them, in its checkpoints of steps 4 and 8."""
    for folder, loss in zip(checkpoints_of(run), losses, strict=True):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["facts"]["validation"]["loss"] = loss
        change_file(folder, "config.json", lambda config=config: json.dumps(config))
    progress = json.loads((folder / "training" / "progress.json").read_text(encoding="utf-8"))
    change_file(folder, "training/progress.json", lambda: json.dumps({**progress, "best_loss": min(losses)}))


CHANGES = {"validation_sentences": 3, "batch_tokens": 128, "micro_batches": 2}


@pytest.mark.parametrize("name", CHANGES)
def test_losses_on_other_sentences_decide_nothing(corpus, tmp_path, name):
    run, told = tmp_path / "run", []
    train(corpus, run, tiny(max_steps=8), device="cpu")
    with_losses(run, 0.001, 0.002)
    spec = tiny(max_steps=16, keep_checkpoints=1, **{name: CHANGES[name]})
    result = train(corpus, run, spec, device="cpu", resume=True, on_event=told.append)
    assert [text for text in notices_of(told) if "another scale" in text]
    validated = [event for event in told if isinstance(event, Validated)]
    assert validated[0].best
    assert set(losses_of(run)) == {"step-0000016", result.best.name}
    assert losses_of(run)[result.best.name] == min(event.loss for event in validated) > 0.002
    # Going on under the same settings again, they compare.
    told.clear()
    spec = replace(spec, train=replace(spec.train, max_steps=20))
    train(corpus, run, spec, device="cpu", resume=True, on_event=told.append)
    assert not [text for text in notices_of(told) if "another scale" in text]


def test_the_best_before_the_first_validation_on_other_sentences_is_kept(corpus, tmp_path):
    run = tmp_path / "run"
    train(corpus, run, tiny(max_steps=8), device="cpu")
    with_losses(run, 0.001, 0.002)
    stop_after(corpus, run, 9, tiny(max_steps=16, keep_checkpoints=1, validation_sentences=3), resume=True)
    assert set(losses_of(run)) == {"step-0000004", "step-0000009"}
    assert resolve_checkpoint(run).name == "step-0000004"


@pytest.mark.parametrize("unchanged", [True, False])
def test_checkpoints_of_earlier_versions_compare_where_nothing_changed(corpus, tmp_path, unchanged):
    run = tmp_path / "run"
    train(corpus, run, tiny(max_steps=8), device="cpu")
    with_losses(run, 0.001, 0.002)
    for folder in checkpoints_of(run):
        for file in ("config.json", "training/progress.json"):
            content = json.loads((folder / file).read_text(encoding="utf-8"))
            content.pop("validation_set", None)
            content.get("facts", {}).get("validation", {}).pop("set", None)
            change_file(folder, file, lambda content=content: json.dumps(content))
    spec = tiny(max_steps=12, keep_checkpoints=1, validation_sentences=6 if unchanged else 5)
    result = train(corpus, run, spec, device="cpu", resume=True)
    assert (result.best.name == "step-0000004") == unchanged


@pytest.mark.slow
def test_what_was_just_written_is_kept_beside_damaged_checkpoints_of_later_steps(corpus, tmp_path):
    run, saved = tmp_path / "run", []
    train(corpus, run, tiny(max_steps=8), device="cpu")
    newest = checkpoints_of(run)[-1] / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")

    def listen(event):
        if isinstance(event, Validated):  # before the next one is written
            saved.append(all(folder.is_dir() for folder in written))
        if isinstance(event, CheckpointSaved):
            written[:] = [event.folder]

    written: list[Path] = []
    spec = tiny(max_steps=9, keep_checkpoints=1, save_every=1)
    result = train(corpus, run, spec, device="cpu", resume=True, on_event=listen)
    assert len(saved) == 5
    assert all(saved)
    assert damage(result.checkpoint) is None
    assert {path.name for path in checkpoints_of(run)} == {"step-0000009", result.best.name}


@pytest.mark.slow
def test_a_note_in_a_checkpoints_readme_is_no_damage(corpus, tmp_path):
    run, events = tmp_path / "run", []
    train(corpus, run, tiny(max_steps=8), device="cpu")
    newest = checkpoints_of(run)[-1]
    with (newest / "README.md").open("a", encoding="utf-8") as card:
        card.write("The one for the talk.\n")
    train(corpus, run, tiny(max_steps=8), device="cpu", resume=True, on_event=events.append)
    assert notices_of(events)[0] == f"Going on from step 8 of `{newest}`."
    assert "the talk" in (newest / "README.md").read_text(encoding="utf-8")
    (newest / "training" / "progress.json").write_text("{}", encoding="utf-8")
    train(corpus, run, tiny(max_steps=8), device="cpu", resume=True, on_event=events.append)
    assert any("Skipping" in notice for notice in notices_of(events)[1:])


def test_resuming_on_another_corpus_is_refused(corpus, straight, monkeypatch):
    monkeypatch.setattr(type(corpus.manifest), "fingerprint", lambda self: "another")
    with pytest.raises(DataError, match="another corpus"):
        train(corpus, straight[0], TINY, device="cpu", resume=True)


def test_a_loss_that_is_not_finite_stops_before_the_step(corpus, tmp_path):
    with pytest.raises(TrainingError, match="not finite at step") as caught:
        train(corpus, tmp_path / "run", tiny(learning_rate=1e30, warmup_steps=0, max_steps=50), device="cpu")
    assert "--resume" in caught.value.hint
    for folder in checkpoints_of(tmp_path / "run"):
        assert all(torch.isfinite(t).all() for t in load_file(folder / "model.safetensors").values())


@pytest.mark.slow
def test_the_clock_ends_a_run(corpus, tmp_path):
    result = train(corpus, tmp_path / "run", tiny(max_steps=None, max_minutes=0.004), device="cpu")
    assert result.stopped == "minutes"
    progress = Progress.from_dict(json.loads((result.checkpoint / "training" / "progress.json").read_text()))
    assert progress.seconds >= 0.004 * 60


@pytest.mark.slow
def test_whitening_and_no_bottleneck_train_too(corpus, tmp_path):
    for kind in ("whitening", "none"):
        spec = replace(tiny(max_steps=4), bottleneck=replace(TINY.bottleneck, kind=kind))
        assert train(corpus, tmp_path / kind, spec, device="cpu").step == 4


def test_the_gradients_of_micro_batches_add_up_to_the_steps(corpus):
    spec = tiny(micro_batches=3, table_init="random", grad_clip=1e9)
    split, order = corpus.split("train"), order_of(corpus, 256 // 3)
    model = model_of(corpus, spec)
    with Prefetcher(TrainingBatches(split, order), CPU, first=0, stride=1) as prefetcher:
        update = OptimizerStep(
            SharedModel(model, ALONE, "ddp", CPU),
            None,
            None,
            prefetcher,
            spec,
            micro_batches=3,
            device=CPU,
            dtype=torch.float32,
        )
        gradient = update.gradient(step=0, metrics=MetricAccumulator())
    assert gradient.finite
    assert gradient.sentences == sum(len(order.batch(position)) for position in range(3))
    other = model_of(corpus, spec)
    sum(
        loss_of(other, *split.batch(order.batch(position)), spec, position).total for position in range(3)
    ).backward()
    for (name, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


@pytest.mark.parametrize("kind", ["vib", "whitening", "none"])
@pytest.mark.parametrize("memory_tokens", [0, 2])
def test_every_parameter_has_a_gradient_even_where_nothing_is_masked(corpus, kind, memory_tokens):
    spec = replace(
        TINY,
        bottleneck=replace(TINY.bottleneck, kind=kind),
        decoder=replace(TINY.decoder, memory_tokens=memory_tokens),
        train=replace(TINY.train, table_init="random", condition_dropout=0.0, length_weight=0.0),
    )
    model = model_of(corpus, spec)
    x, e = corpus.split("train").batch(np.array([0]))
    losses = (loss_of(model, x[:, :1], e, spec, position) for position in range(100))
    loss = next(loss for loss in losses if not len(loss.nll))
    loss.total.backward()
    # DDP waits for each of them.
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def model_of(corpus, spec):
    config = model_config(corpus, spec.bottleneck, spec.decoder)
    return new_model(corpus, config, spec, CPU, lambda event: None).train()


def order_of(corpus, batch_tokens):
    return ExactLengthBatches(corpus.split("train").lengths, batch_tokens=batch_tokens, seed=0)


def loss_of(model, x, e, spec, position):
    generator = step_generator(spec.train.seed, position, CPU)
    return batch_loss(model, x, e, config=spec.train, diffusion=spec.diffusion, step=0, generator=generator)


def test_the_feed_gives_every_other_piece_in_order(corpus):
    split, order = corpus.split("train"), order_of(corpus, 64)
    first = len(order) - 3  # across the end of an epoch
    with Prefetcher(TrainingBatches(split, order), CPU, first=first, stride=2) as prefetcher:
        read = [prefetcher.next() for _ in range(4)]
    assert [micro_batch.position for micro_batch in read] == [first, first + 2, first + 4, first + 6]
    for micro_batch in read:
        x, e = split.batch(order_of(corpus, 64).batch(micro_batch.position))
        assert torch.equal(micro_batch.x, x)
        assert torch.equal(micro_batch.e, e)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_what_is_looked_up_in_the_order_leaves_it_as_it_is(corpus):
    split, order = corpus.split("train"), order_of(corpus, 64)
    first = len(order) - 2
    with Prefetcher(TrainingBatches(split, order), CPU, first=first, stride=1) as prefetcher:
        for position in range(first, first + 4):  # what is read ahead crosses the end of an epoch
            micro_batch = prefetcher.next()
            rows = order_of(corpus, 64).batch(position)
            assert prefetcher.look_up(lambda batches, at=position: str(batches.rows(at)[0])) == str(rows)
            assert torch.equal(micro_batch.x, split.batch(rows)[0])


def test_an_error_of_the_reading_thread_reaches_the_run(corpus):
    with (
        Prefetcher(
            TrainingBatches(corpus.split("validation"), order_of(corpus, 4096)), CPU, first=0, stride=1
        ) as prefetcher,
        pytest.raises(IndexError),  # its order is that of another, larger split
    ):
        prefetcher.next()


def test_a_checkpoint_from_before_there_were_micro_batches_goes_on_at_its_step():
    progress = Progress.from_dict({"step": 5, "seconds": 1.0, "sentences": 9, "best_loss": None})
    assert (progress.position, progress.micro_batches) == (5, 1)
    progress.rescale_position(4)
    assert (progress.position, progress.micro_batches) == (20, 4)
    assert Progress.from_dict(progress.to_dict()) == progress


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the compiler warns of is its own code
def test_a_compiled_decoder_trains_alike(corpus, tmp_path):
    from torch._dynamo.utils import counters

    spec = tiny(max_steps=2)
    spec = replace(spec, decoder=replace(spec.decoder, surrogate_width=8))
    plain = train(corpus, tmp_path / "plain", spec, device="cpu")
    stop_after(corpus, tmp_path / "run", 1, spec)
    # Compiled only from here on, which is half of what there is to compile: a run may be resumed so.
    compiled = replace(spec, train=replace(spec.train, compile=True))
    counters.clear()
    resumed = train(corpus, tmp_path / "run", compiled, device="cpu", resume=True)
    # The trial of the compiler and the two parts of a block; nothing of validation.
    assert counters["stats"]["unique_graphs"] == 3
    losses = [read_info(result.checkpoint).validation_loss for result in (plain, resumed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    # The compiled blocks are stored under the same names, so a run goes on with and without.
    assert tensors(resumed.checkpoint).keys() == tensors(plain.checkpoint).keys()


def surrogate_beside(start, **changes):
    return replace(
        TINY,
        train=replace(TINY.train, part="surrogate", start_from=str(start), **changes),
        decoder=replace(TINY.decoder, surrogate_width=8),
    )


def test_the_surrogate_is_trained_alone_beside_a_decoder_that_stays(corpus, tmp_path):
    first = train(corpus, tmp_path / "first", tiny(max_steps=2), device="cpu")
    spec = surrogate_beside(first.checkpoint, max_steps=60, save_every=30, learning_rate=1e-2)
    told = []
    result = train(corpus, tmp_path / "alone", spec, device="cpu", on_event=told.append)
    before, after = (load_file(run.checkpoint / "model.safetensors") for run in (first, result))
    added = after.keys() - before.keys()
    assert added
    assert all(name.startswith("surrogate.") for name in added)
    assert all(torch.equal(before[name], after[name]) for name in before)
    # Its error is the loss, in training and on held-out sentences, and tells which checkpoint is best.
    losses = [event.loss for event in told if isinstance(event, TrainingProgress)]
    assert losses[-1] < losses[0]
    validated = [event for event in told if isinstance(event, Validated)]
    assert all(event.loss == event.surrogate_error for event in validated)
    assert validated[-1].loss < validated[0].loss
    assert read_info(result.checkpoint).validation_loss == validated[-1].loss
    charts = drawn_in(tmp_path / "alone", "train").Tags()["scalars"]
    assert "loss/surrogate_error" in charts
    assert LOSS not in charts

    stop_after(corpus, tmp_path / "stopped", 30, spec)
    resumed = train(corpus, tmp_path / "stopped", spec, device="cpu", resume=True)
    assert_same_weights(resumed.checkpoint, result.checkpoint)

    # Muon is for the blocks, which are not trained here: AdamW trains the surrogate.
    muon = replace(spec, train=replace(spec.train, optimizer="muon"))
    same = train(corpus, tmp_path / "muon", muon, device="cpu")
    assert_same_weights(same.checkpoint, result.checkpoint)


def test_what_was_found_of_a_decoder_stays_known_beside_a_surrogate_that_is_trained_alone(corpus, tmp_path):
    first = train(corpus, tmp_path / "first", tiny(max_steps=2), device="cpu").checkpoint
    fit = ConfidenceFit(dict.fromkeys((*FEATURES, COSINE_FEATURE), 0.5), -1.0, {"sentences": 100})
    record_sampling(first, {"steps": 4}, token_temperature=1.3)
    record_confidence(first, record_of(dict.fromkeys(WAYS, fit)))
    spec = surrogate_beside(first, max_steps=4)
    stop_after(corpus, tmp_path / "alone", 2, spec)
    shutil.rmtree(tmp_path / "first")  # a run that goes on does not read it
    info = read_info(train(corpus, tmp_path / "alone", spec, device="cpu", resume=True).checkpoint)
    assert (info.sampling, info.token_temperature) == ({"steps": 4}, 1.3)
    # What is chosen by the cosine is another choice with a surrogate.
    assert recorded_fits(info).keys() == {"one_shot", "one_shot_encoded"}
    # A decoder that is trained on is another one.
    spec = tiny(start_from=str(tmp_path / "alone"), max_steps=1)
    info = read_info(train(corpus, tmp_path / "on", spec, device="cpu").checkpoint)
    assert (info.sampling, info.token_temperature, info.confidence) == ({}, 1.0, {})


def test_a_surrogate_alone_leaves_the_schedule_of_its_decoder(corpus, tmp_path):
    first = train(corpus, tmp_path / "first", tiny(max_steps=2), device="cpu").checkpoint
    spec = replace(surrogate_beside(first), diffusion=DiffusionConfig(schedule="linear"))
    with pytest.raises(CheckpointError, match=r"diffusion\.schedule=cosine") as caught:
        train(corpus, tmp_path / "alone", spec, device="cpu")
    assert "--set diffusion.schedule=cosine" in caught.value.hint


@pytest.mark.parametrize("width", [0, 8])
def test_a_surrogate_alone_needs_a_decoder_and_a_width(width, tmp_path):
    start_from = None if width else str(tmp_path)
    with pytest.raises(ConfigError, match="no such decoder or no surrogate"):
        TrainSpec(
            train=TrainConfig(part="surrogate", start_from=start_from),
            decoder=DecoderConfig(surrogate_width=width),
        )


def test_learning_rate_warms_up_and_decays_to_its_floor():
    config = TrainConfig(learning_rate=1.0, warmup_steps=10, min_learning_rate_share=0.1, max_steps=100)
    assert learning_rate(0, 0.0, config) == pytest.approx(0.1)
    assert learning_rate(9, 0.0, config) == pytest.approx(1.0)
    assert learning_rate(50, 0.5, config) == pytest.approx(0.55)
    assert learning_rate(99, 1.0, config) == pytest.approx(0.1)


def test_the_average_moves_in_float32_even_for_bf16_weights():
    model = torch.nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    model.weight.data.fill_(1.0)
    ema = Ema.of(model, 0.9999)
    model.weight.data.fill_(1.0 + 2**-7)
    for step in range(10**9, 10**9 + 100):
        ema.update(model, step)
    expected = 1 + 2**-7 * (1 - 0.9999**100)
    # A hundred roundings of a number near 1; an average in bf16 would not have moved at all, 8e-5 away.
    assert ema.weights["weight"].item() == pytest.approx(expected, abs=100 * 2**-24)


def test_only_matrices_decay():
    vocabulary = VocabularyConfig(size=20, mask_id=19, bos_id=0, eos_id=1)
    model = SemanticDecoder(
        ModelConfig(embedding_dim=8, max_tokens=5, vocabulary=vocabulary, decoder=TINY.decoder)
    )
    decayed, others = build_optimizer(model, TINY.train).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in others["params"]} >= {
        "denoiser.head.table",
        "denoiser.head.bias",
        "denoiser.length.weight",
        "null",
    }
    assert all(p.ndim == 2 for p in decayed["params"])
    assert others["weight_decay"] == 0
    assert decayed["weight_decay"] > 0
    assert decayed["params"]
    assert len(names) == len(decayed["params"]) + len(others["params"])
