import json
import math
import os
import re
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny_sgdd import build
from tiny_training import tiny
from typer.testing import CliRunner

from sgdd_cli.main import app
from sgdd_engine import SGDD
from sgdd_engine.atomic_files import damage, seal
from sgdd_engine.checkpoint import (
    Checkpoint,
    checkpoint_folder,
    checkpoints_of,
    load_checkpoint,
    load_training_state,
    newest_checkpoint,
    read_info,
    record_sampling,
    resolve_checkpoint,
    save_checkpoint,
    upload_of,
    verify_checkpoint,
)
from sgdd_engine.checkpoint.weights import LONG_VECTOR, load_weights, save_weights
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import CheckpointError, SgddError
from sgdd_engine.training.loop import train


@pytest.fixture(scope="module")
def model(tiny_encoder, sentences):
    return build(tiny_encoder, sentences[:20])


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_what_is_saved_is_what_is_loaded(model, folder):
    loaded = load_checkpoint(folder)
    recorded = replace(model.info.shareable(), tokenizer_sha256=model.tokenizer.fingerprint())
    assert loaded.info == recorded
    assert loaded.tokenizer.fingerprint() == model.tokenizer.fingerprint()
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    assert not loaded.model.training


def test_what_is_shared_does_not_tell_where_the_corpus_lay(model, tmp_path):
    files = [{"path": "/home/somebody/tales.txt", "bytes": 3}, {"path": "C:\\texts\\more.txt", "bytes": 4}]
    source = {"kind": "files", "path": "/home/somebody/", "files": files}
    facts = {"corpus": {"name": "tales", "folder": "/home/somebody/tales", "source": source}, "settings": {}}
    told = SGDD(replace(model._checkpoint, info=replace(model.info, facts=facts)), model.device)
    told.save_pretrained(tmp_path / "shared")
    assert read_info(tmp_path / "shared").facts == {
        "corpus": {
            "name": "tales",
            "source": {
                "kind": "files",
                "path": "somebody",
                "files": [{"path": "tales.txt", "bytes": 3}, {"path": "more.txt", "bytes": 4}],
            },
        },
        "settings": {},
    }
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
    with pytest.raises(CheckpointError, match=r"damaged|not a checkpoint|cannot be read"):
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


def test_only_the_names_that_training_gives_are_a_runs_checkpoints(tmp_path):
    own = ["step-0000004", "step-0000012"]
    for name in [
        *own,
        "step-0000004-keep",
        "step-00000004",
        "step-4",
        "step-",
        "step-abcdefg",
        ".step-0000008.1.tmp",
    ]:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-0000099").touch()
    assert [folder.name for folder in checkpoints_of(tmp_path)] == own
    assert [checkpoint_folder(tmp_path, step) for step in (4, 12)] == checkpoints_of(tmp_path)


def test_a_full_disk_is_said_whoever_notices_it(model, tmp_path, monkeypatch):
    def no_room(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr("sgdd_engine.checkpoint.weights.save_file", no_room)
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

    monkeypatch.setattr("sgdd_engine.checkpoint.weights.save_file", no_room)
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


# --- half precision -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whitened(tiny_encoder, sentences):
    """A model whose bottleneck is a fitted matrix, trained for a moment."""
    return build(tiny_encoder, sentences[:20], steps=5, kind="whitening")


def test_half_precision_halves_long_vectors_and_leaves_short_ones_and_numbers_alone(tmp_path):
    tensors = {
        "bias": torch.randn(LONG_VECTOR),
        "offset": torch.randn(LONG_VECTOR - 1),
        "step": torch.tensor(0.1),
    }
    save_weights(tmp_path / "half.safetensors", tensors, "fp16")
    found = load_weights(tmp_path / "half.safetensors")
    for name in ("offset", "step"):
        assert torch.equal(found[name], tensors[name])
    assert torch.equal(found["bias"], tensors["bias"].half().float())


def test_half_precision_halves_matrices_and_nothing_else(whitened, tmp_path):
    whitened.save_pretrained(tmp_path / "whole")
    whitened.save_pretrained(tmp_path / "half", dtype="fp16")
    loaded = load_checkpoint(tmp_path / "half").model.state_dict()
    for name, tensor in whitened.model.state_dict().items():
        assert loaded[name].dtype == torch.float32
        if tensor.ndim < 2:
            assert torch.equal(loaded[name], tensor), name
        else:
            # Half a unit in the last of 11 places, or half of the smallest number there is.
            torch.testing.assert_close(loaded[name], tensor, rtol=2**-11, atol=2**-25)
    whole, half = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half"))
    assert half < 0.55 * whole


def test_a_checkpoint_of_an_older_version_loads(whitened, tmp_path):
    """It held the whitening's pseudo-inverse, and weights of the loss among the shapes of the bottleneck."""
    settings = {"condition_dropout": 0.1}
    facts = {"training": {"sentences_seen": 1000}, "settings": settings}
    older = SGDD(replace(whitened._checkpoint, info=replace(whitened.info, facts=facts)), whitened.device)
    older.save_pretrained(tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    config["model"]["bottleneck"] |= {"beta": 0.01, "free_bits": 0.0, "anneal_steps": 20}
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    path = tmp_path / "old" / "model.safetensors"
    save_file({**load_file(path), "bottleneck.inverse": torch.zeros(8, 32)}, path)
    seal(tmp_path / "old")
    loaded = load_checkpoint(tmp_path / "old")
    assert loaded.info.model == whitened.info.model
    assert loaded.info.facts["settings"] == {"beta": 0.01, "free_bits": 0.0, "anneal_steps": 20, **settings}
    assert loaded.info.null_rows == 100
    assert replace(loaded.info, trained_null=False).null_rows == 0
    for name, tensor in whitened.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    save_file({**load_file(path), "bottleneck.other": torch.zeros(8)}, path)
    seal(tmp_path / "old")
    with pytest.raises(CheckpointError, match=r"bottleneck\.other"):
        load_checkpoint(tmp_path / "old")


def test_a_former_reader_of_drafts_is_left_out(whitened, sentences, tmp_path):
    whitened.save_pretrained(tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    config["model"]["decoder"] |= {"feedback": True, "feedback_hidden": 8}
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    path = tmp_path / "old" / "model.safetensors"
    latent, width = whitened.info.model.bottleneck.latent_dim, whitened.info.model.decoder.width
    shapes = {
        "louder": (latent,),
        "meaning.0.weight": (8, 2 * latent),
        "meaning.0.bias": (8,),
        "meaning.2.weight": (latent, 8),
        "meaning.2.bias": (latent,),
        "words.weight": (width, width),
    }
    reader = {f"draft_reader.{name}": torch.randn(shape) for name, shape in shapes.items()}
    save_file({**load_file(path), **reader}, path)
    seal(tmp_path / "old")
    loaded = SGDD.from_pretrained(tmp_path / "old", "cpu")
    assert not loaded.info.model.decoder.feedback
    for name, tensor in whitened.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    loaded.save_pretrained(tmp_path / "new")
    assert load_checkpoint(tmp_path / "new").info.model == loaded.info.model
    del reader["draft_reader.louder"]
    save_file({**load_file(tmp_path / "new" / "model.safetensors"), **reader}, path)
    seal(tmp_path / "old")
    with pytest.raises(CheckpointError, match="draft_reader"):
        load_checkpoint(tmp_path / "old")


def test_a_vector_means_the_same_in_half_precision(whitened, sentences, tmp_path):
    whitened.save_pretrained(tmp_path / "half", dtype="fp16")
    vectors = whitened.encode(sentences[20:40])
    before = whitened.model.latent(vectors).z
    after = SGDD.from_pretrained(tmp_path / "half", "cpu").model.latent(vectors).z
    assert (after - before).norm() < 1e-3 * before.norm()


def test_what_is_halved_once_is_not_changed_again(whitened, tmp_path):
    whitened.save_pretrained(tmp_path / "once", dtype="fp16")
    SGDD.from_pretrained(tmp_path / "once", "cpu").save_pretrained(tmp_path / "twice", dtype="fp16")
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("once", "twice"))
    assert first == second


@pytest.mark.parametrize("factor", [1e7, 1e-7])
def test_weights_that_half_precision_cannot_hold_stay_whole(model, tmp_path, factor):
    weight = model.model.length_head[0].weight
    original = weight.detach().clone()
    try:
        weight.data.mul_(factor)
        model.save_pretrained(tmp_path / "half", dtype="fp16")
        kept = load_file(tmp_path / "half" / "model.safetensors")
        assert torch.equal(kept["length_head.0.weight"], weight)
        assert kept["length_head.2.weight"].dtype == torch.float16
    finally:
        weight.data.copy_(original)


def test_a_card_that_is_given_is_carried_and_sealed(model, tmp_path):
    model.save_pretrained(tmp_path / "carded", card="# Mine\n")
    assert (tmp_path / "carded" / "README.md").read_text(encoding="utf-8") == "# Mine\n"
    assert damage(tmp_path / "carded") is None


# --- what it records of sampling ------------------------------------------------------------------------


def test_what_is_recorded_is_how_it_samples_where_nobody_says_otherwise(folder, tiny_encoder, sentences):
    assert read_info(folder).sampling == {}
    assert SGDD.from_pretrained(folder, "cpu").recommended_sampling == SamplingConfig()
    record_sampling(folder, {"steps": 4})
    record_sampling(folder, {"cfg": 3.0})
    record_sampling(folder, {"cfg": 2.5})
    assert damage(folder) is None
    loaded = SGDD.from_pretrained(folder, "cpu")
    assert loaded.info.sampling == {"steps": 4, "cfg": 2.5}
    assert loaded.recommended_sampling == SamplingConfig(steps=4, cfg=2.5)
    assert "steps 4, cfg 2.5" not in (folder / "README.md").read_text(encoding="utf-8")
    loaded.save_pretrained(folder)
    assert "steps 4, cfg 2.5" in (folder / "README.md").read_text(encoding="utf-8")
    vectors = tiny_encoder.encode(sentences[:3])
    by_itself = loaded.generate(vectors)
    assert by_itself == loaded.generate(vectors, sampling=SamplingConfig(steps=4, cfg=2.5))


def test_the_temperature_of_tokens_is_recorded_loaded_and_shared(folder, tmp_path):
    record_sampling(folder, {"cfg": 2.0}, token_temperature=1.25)
    record_sampling(folder, {"steps": 4})
    assert damage(folder) is None
    loaded = SGDD.from_pretrained(folder, "cpu")
    assert loaded.model.head.temperature == loaded.info.token_temperature == 1.25
    loaded.save_pretrained(tmp_path / "shared", dtype="fp16")
    assert SGDD.from_pretrained(tmp_path / "shared", "cpu").model.head.temperature == 1.25
    assert "logits divided by 1.250" in (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    plain = json.loads((folder / "config.json").read_text())
    for wrong in (0, -1, 1e-300, 11, math.nan, math.inf):
        (folder / "config.json").write_text(json.dumps({**plain, "token_temperature": wrong}))
        with pytest.raises(CheckpointError, match="token_temperature"):
            read_info(folder)


def test_a_checkpoint_from_before_there_were_records_loads(folder):
    plain = json.loads((folder / "config.json").read_text())
    del plain["sampling"], plain["token_temperature"]
    (folder / "config.json").write_text(json.dumps(plain))
    assert read_info(folder).sampling == {}
    assert read_info(folder).token_temperature == 1


@pytest.mark.parametrize(
    ("sampling", "sentence"), [({"guidence": 2}, "guidence"), ({"cfg": -1}, "must not be negative")]
)
def test_a_record_that_cannot_be_is_refused_both_ways(folder, sampling, sentence):
    before = (folder / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match=sentence):
        record_sampling(folder, sampling)
    assert (folder / "config.json").read_bytes() == before
    plain = json.loads(before)
    (folder / "config.json").write_text(json.dumps({**plain, "sampling": sampling}))
    with pytest.raises(CheckpointError, match=sentence):
        read_info(folder)


def test_no_guidance_is_recorded_for_a_model_without_a_null_condition(model):
    with pytest.raises(SgddError, match="null condition"):
        replace(model.info, trained_null=False, sampling={"cfg": 2.0})
    assert replace(model.info, trained_null=False, sampling={"cfg": 1.0}).sampling == {"cfg": 1.0}


def test_damage_is_not_blessed_by_a_record(folder):
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"max_tokens": 24', '"max_tokens": 23'))
    with pytest.raises(CheckpointError, match=r"`config\.json` is damaged"):
        record_sampling(folder, {"cfg": 2.0})


def test_a_record_does_not_make_its_run_the_newest(folder):
    os.utime(folder, (1e9, 1e9))
    record_sampling(folder, {"cfg": 2.0})
    assert folder.stat().st_mtime == 1e9


def test_a_run_goes_on_from_a_checkpoint_with_a_record(tiny_corpus_folder, tmp_path):
    corpus = Corpus.open(tiny_corpus_folder)
    first = train(corpus, tmp_path / "run", tiny(max_steps=4), device="cpu")
    record_sampling(first.best, {"cfg": 2.0}, token_temperature=1.5)
    second = train(corpus, tmp_path / "run", tiny(max_steps=8), device="cpu", resume=True)
    assert second.step == 8
    # What was found holds for the weights that it was found on.
    assert read_info(second.best).token_temperature == 1
    steps = {read_info(path).step: read_info(path).sampling for path in checkpoints_of(tmp_path / "run")}
    # What suits the later weights is not known yet.
    assert steps == {4: {"cfg": 2.0}, 8: {}}


def test_a_checkpoint_is_verified_by_a_command(folder):
    whole = CliRunner().invoke(app, ["checkpoint", "verify", str(folder)])
    assert whole.exit_code == 0
    assert whole.stdout.startswith("Undamaged: 5 files")
    told = json.loads(CliRunner().invoke(app, ["checkpoint", "verify", str(folder), "--json"]).stdout)
    assert (told["files"], told["training_state"]) == (5, False)
    (folder / "README.md").write_text("another card")
    with pytest.raises(CheckpointError, match=r"README.md` is damaged"):
        verify_checkpoint(folder)


def test_a_card_that_is_a_link_to_a_file_elsewhere_is_not_shared(folder, tmp_path):
    (tmp_path / "secret").write_text("a key")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="outside of the checkpoint"):
        upload_of(folder, "anna/tales")


def test_what_is_saved_tells_its_tokenizer(model, folder):
    assert read_info(folder).tokenizer_sha256 == model.tokenizer.fingerprint()
    older = json.loads((folder / "config.json").read_text())
    del older["tokenizer_sha256"]  # as earlier versions wrote it
    (folder / "config.json").write_text(json.dumps(older))
    seal(folder)
    assert load_checkpoint(folder).info.tokenizer_sha256 is None
