import json
import os
import re
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import SafetensorError
from tiny_sgdd import build

from sgdd_engine import SGDD
from sgdd_engine.checkpoint import (
    Checkpoint,
    checkpoints_of,
    load_checkpoint,
    load_training_state,
    newest_checkpoint,
    read_info,
    resolve_checkpoint,
    save_checkpoint,
)
from sgdd_engine.errors import CheckpointError


@pytest.fixture(scope="module")
def model(tiny_encoder, sentences):
    return build(tiny_encoder, sentences[:20])


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_what_is_saved_is_what_is_loaded(model, folder):
    loaded = load_checkpoint(folder)
    assert loaded.info == model.info
    assert loaded.tokenizer.fingerprint() == model.tokenizer.fingerprint()
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    assert not loaded.model.training


def test_what_is_shared_does_not_tell_where_the_corpus_lay(model, tmp_path):
    facts = {"corpus": {"name": "tales", "folder": "/home/somebody/tales"}}
    told = SGDD(replace(model._checkpoint, info=replace(model.info, facts=facts)), model.device)
    told.save_pretrained(tmp_path / "shared")
    assert read_info(tmp_path / "shared").facts == {"corpus": {"name": "tales"}}
    assert told.info.facts == facts


def test_it_holds_no_pickle_and_says_what_it_is(folder):
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".md"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "sgdd sample" in card
    assert "32 dimensions" in card


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_changed_file_is_found(folder, file):
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged|not a checkpoint"):
        load_checkpoint(folder)


def test_a_missing_file_is_found(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"`model\.safetensors` is missing"):
        load_checkpoint(folder)


def test_a_newer_format_is_refused_in_words(folder):
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**plain, "format": 99}))
    with pytest.raises(CheckpointError, match="format is 99") as caught:
        read_info(folder)
    assert "Upgrade" in caught.value.hint


@pytest.mark.parametrize("plain", [[], {}, {"model_type": "bert", "hidden_size": 384}])
def test_another_librarys_folder_is_told_from_a_checkpoint(tmp_path, plain):
    (tmp_path / "config.json").write_text(json.dumps(plain))
    with pytest.raises(CheckpointError, match=r"not a checkpoint of sgdd") as caught:
        load_checkpoint(tmp_path)
    assert "runs/NAME" in caught.value.hint


@pytest.mark.parametrize("part", ["model", "diffusion", "encoder"])
def test_a_config_of_another_shape_is_refused(folder, part):
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**plain, part: []}))
    with pytest.raises(CheckpointError, match=re.escape(str(folder))):
        read_info(folder)


def test_checkpoints_beyond_ten_million_steps_are_in_order(tmp_path):
    for name in ("step-10000000", "step-9999999", "step-0000001"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [folder.name for folder in checkpoints_of(tmp_path)] == [
        "step-0000001",
        "step-9999999",
        "step-10000000",
    ]


def test_a_full_disk_is_said_whoever_notices_it(model, tmp_path, monkeypatch):
    def no_room(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr("sgdd_engine.checkpoint.save_file", no_room)
    with pytest.raises(CheckpointError, match="No space left"):
        model.save_pretrained(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_what_is_no_checkpoint_is_refused(tmp_path, what):
    path = tmp_path / "thing"
    if what == "empty":
        path.mkdir()
    if what == "file":
        path.write_text("hello")
    with pytest.raises(CheckpointError, match="thing"):
        resolve_checkpoint(path)


def test_a_run_means_its_best_sound_checkpoint(model, tmp_path):
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: None}
    for step, loss in losses.items():
        facts = {} if loss is None else {"validation": {"loss": loss, "nelbo_nats_per_token": loss}}
        info = replace(model.info, step=step, facts=facts)
        target = tmp_path / "runs" / "one" / "checkpoints" / f"step-{step:07d}"
        save_checkpoint(target, Checkpoint(info, model.model, model.tokenizer))
    run = tmp_path / "runs" / "one"
    assert resolve_checkpoint(run).name == "step-0000002"
    assert newest_checkpoint(tmp_path / "runs").name == "step-0000002"
    (run / "checkpoints" / "step-0000002" / "model.safetensors").write_bytes(b"")
    assert resolve_checkpoint(run).name == "step-0000003"
    assert len(checkpoints_of(run)) == 4


def test_the_newest_run_is_taken(model, folder, tmp_path):
    for age, name in enumerate(["new", "old"]):
        target = tmp_path / "runs" / name / "checkpoints" / "step-0000001"
        shutil.copytree(folder, target)
        os.utime(target, (1e9 - age, 1e9 - age))
    assert newest_checkpoint(tmp_path / "runs").parts[-3] == "new"


def test_no_run_at_all_is_said_with_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match="holds no run") as caught:
        newest_checkpoint(tmp_path / "runs")
    assert "sgdd train" in caught.value.hint


def test_a_checkpoint_without_training_state_cannot_be_resumed(folder):
    with pytest.raises(CheckpointError, match="no training state"):
        load_training_state(folder)


def test_a_save_that_fails_leaves_the_old_checkpoint(model, folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sgdd_engine.checkpoint.save_file", no_room)
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
