"""Which checkpoint a command takes, how it samples from it, and what `sgdd export` leaves out."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hinted_commands import check_hints, hints_of
from tiny_sgdd import build
from typer.testing import CliRunner

from sgdd_cli.main import app
from sgdd_cli.models import checkpoint_name, find_checkpoint, text_to_score
from sgdd_engine import SGDD, mini
from sgdd_engine.atomic_files import damage
from sgdd_engine.checkpoint import (
    load_checkpoint,
    load_training_state,
    read_info,
    record_sampling,
    resolve_checkpoint,
    save_checkpoint,
)
from sgdd_engine.checkpoint.card import MARK
from sgdd_engine.checkpoint.folder import _rewrite_info
from sgdd_engine.data.manifest import Manifest
from sgdd_engine.errors import CheckpointError, ConfigError, DataError, EncoderError, SgddError
from sgdd_engine.generation import complete_sampling

SENTENCE = "Tom sold a letter."


@pytest.fixture(scope="module")
def model(tiny_encoder, sentences):
    return build(tiny_encoder, sentences[:20])


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    facts = {
        "corpus": {"name": "tales", "folder": "/home/somebody/tales", "fingerprint": "none"},
        "validation": {"loss": 5.25, "nelbo_nats_per_token": 4.5},
    }
    checkpoint = replace(model._checkpoint, info=replace(model.info, facts=facts, step=118))
    save_checkpoint(folder, checkpoint, {"progress.json": {"step": 3}})
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def packaged(saved, tmp_path_factory, monkeypatch):
    """The tiny model in the place of the one that comes with sgdd."""
    folder = tmp_path_factory.mktemp("package") / "checkpoint"
    shutil.copytree(saved, folder)
    monkeypatch.setattr(mini, "CHECKPOINT", folder)
    return folder


def call(*arguments: object, code: int = 0, **environment: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        check_hints(*hints_of(result.exception))
        raise result.exception
    check_hints(result.stdout, result.stderr)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


# --- which one ------------------------------------------------------------------------------------------


def test_without_a_name_and_without_a_run_it_is_mini(here, packaged, capsys):
    assert find_checkpoint(None) == packaged
    said = capsys.readouterr().err
    assert "Checkpoint: mini, " in said
    assert "there is no run in `runs`" in said
    assert checkpoint_name(packaged) == "mini"


def test_without_a_name_the_newest_run_comes_first(here, packaged, saved, capsys):
    own = Path("runs") / "mine" / "checkpoints" / "step-0000001"
    shutil.copytree(saved, own)
    assert find_checkpoint(None) == own
    # How little it was trained, and how to get the model that comes with sgdd instead.
    assert capsys.readouterr().err.splitlines() == [
        f"Checkpoint: {own}, the best of the newest run: 118 steps, which are few, held-out loss 5.250.",
        "For the model that comes with sgdd: --checkpoint mini; `sgdd models` lists all there are.",
    ]
    assert find_checkpoint("mini") == packaged
    (own / "model.safetensors").write_bytes(b"")
    # What is damaged is said; nobody is given another model than the one they trained without a word.
    with pytest.raises(CheckpointError, match="undamaged checkpoint"):
        find_checkpoint(None)


def test_a_folder_called_mini_that_holds_a_model_is_meant_and_said(here, packaged, saved, capsys):
    Path("mini").mkdir()
    assert find_checkpoint("mini") == packaged  # notes on mini skirts, say
    shutil.copytree(saved, "mini", dirs_exist_ok=True)
    capsys.readouterr()
    assert find_checkpoint("mini") == Path("mini")
    assert "from the folder `mini` here" in capsys.readouterr().err
    assert SGDD.from_pretrained("mini", "cpu").info.facts["corpus"]["name"] == "tales"


def test_a_path_is_never_the_name(here, packaged, saved, capsys):
    for path in ("./mini", Path("mini"), str(here / "mini")):
        with pytest.raises(CheckpointError, match="There is no checkpoint"):
            find_checkpoint(path)
    shutil.copytree(saved, "mini")
    assert find_checkpoint("./mini") == Path("mini")
    assert capsys.readouterr().err == ""


def test_an_installation_without_mini_says_so(here, monkeypatch):
    monkeypatch.setattr(mini, "CHECKPOINT", here / "nothing")
    with pytest.raises(CheckpointError, match="does not carry the model `mini`"):
        find_checkpoint("mini")
    with pytest.raises(CheckpointError, match="`runs` holds no run"):
        find_checkpoint(None)


@pytest.mark.slow
def test_mini_is_a_name_for_the_commands_and_for_python(here, packaged):
    out, err = call(
        "sample", SENTENCE, "--checkpoint", "mini", "--steps", 2, "--search", 0, "--device", "cpu"
    )
    assert len(out.splitlines()) == 1
    assert "Checkpoint: mini, " in err
    assert call("sample", SENTENCE, "--steps", 2, "--search", 0, "--device", "cpu")[0] == out
    assert json.loads(call("param-count", "mini", "--json")[0])["trainable"] > 0
    assert SGDD.from_pretrained("mini", "cpu").info == read_info(packaged)


def test_mini_is_never_written_to(here, packaged):
    before = {path.name: path.read_bytes() for path in packaged.iterdir() if path.is_file()}
    with pytest.raises(CheckpointError, match="part of the installation") as caught:
        record_sampling(packaged, {"cfg": 2.0})
    assert "sgdd export mini my-mini" in caught.value.hint
    assert {path.name: path.read_bytes() for path in packaged.iterdir() if path.is_file()} == before


# --- what it is scored on -------------------------------------------------------------------------------


def test_mini_is_scored_on_the_sentences_that_come_with_it(here, packaged, saved, capsys):
    facts = read_info(packaged).facts
    assert text_to_score(packaged, facts) == mini.SENTENCES
    assert "200 sentences that come with sgdd" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"\(tales\) was not found"):
        text_to_score(saved, facts)


# --- how it samples -------------------------------------------------------------------------------------


def test_the_recorded_weight_holds_until_somebody_names_another(here, saved):
    shutil.copytree(saved, "model")
    record_sampling(Path("model"), {"cfg": 2.25})

    def weight(*arguments: object, **environment: str) -> float:
        common = ("--checkpoint", "model", "--steps", 2, "--search", 0, "--json", "--device", "cpu")
        return json.loads(call("sample", SENTENCE, *common, *arguments, **environment)[0])["cfg"]

    assert weight() == 2.25
    assert weight("--cfg", 1.25) == 1.25
    assert weight("--set", "sample.cfg=1") == 1
    assert weight(SGDD_SAMPLE__CFG="3") == 3
    Path("sgdd.toml").write_text("[sample]\ncfg = 1.5\n")  # the default, but somebody's
    assert weight() == 1.5


# --- how many texts are written and chosen among ---------------------------------------------------------


@pytest.mark.slow
def test_candidates_refine_length_samples_and_seed_are_settings_like_all_others(here, saved):
    def rows(*arguments: object, **environment: str) -> list[dict]:
        common = ("--checkpoint", saved, "--steps", 2, "--json", "--device", "cpu", "-q")
        out, _ = call("sample", SENTENCE, *common, *arguments, **environment)
        return [json.loads(line) for line in out.splitlines()]

    by_flags = rows("--length", 5, "-n", 2, "--seed", 7, "--temperature", 1.0)
    assert [row["seed"] for row in by_flags] == [7, 8]
    (here / "sgdd.toml").write_text("[sample]\nlength = 5\nnum_samples = 2\nseed = 3\n")
    assert rows("--set", "sample.seed=7", SGDD_SAMPLE__TEMPERATURE="1.0") == by_flags
    # One candidate more is one encoder call more, beside the one that scores; a round is at most one.
    (here / "sgdd.toml").unlink()
    assert rows("--candidates", 3) == rows(SGDD_SAMPLE__CANDIDATES="3")
    assert rows("--refine", 2) == rows("--set", "sample.refine=2")
    assert rows("--candidates", 3)[0]["encoder_calls"] > rows("--search", 0)[0]["encoder_calls"]


def test_the_keys_of_older_versions_are_read_on(here, saved):
    (here / "old.toml").write_text("[eval]\ncandidates = 3\nrefine = 1\nshortlist = 1\n")
    quick = ("--data", "text.txt", "--limit", 2, "--json", "-q", "--device", "cpu", "--set", "sample.steps=2")
    (here / "text.txt").write_text("Tom sold a letter.\nAnna found a blue cup.\n")
    settings = ("--set", "eval.nelbo_samples=1", "--set", "eval.diversity_samples=0", "--config", "old.toml")
    report = json.loads(call("eval", saved, *quick, *settings)[0])
    asked = report["settings"]["eval"]
    assert (asked["candidates"], asked["refine"], asked["shortlist"]) == (3, 1, 1)
    assert "one_shot" in report["conditions"]


def test_an_evaluation_says_which_settings_of_sampling_it_does_not_use(here, saved):
    (here / "text.txt").write_text("Tom sold a letter.\nAnna found a blue cup.\n")
    quick = ("--data", "text.txt", "--limit", 2, "-q", "--device", "cpu", "--set", "sample.steps=2")
    settings = (
        "--set",
        "eval.nelbo_samples=1",
        "--set",
        "eval.diversity_samples=0",
        "--set",
        "sample.seed=4",
    )
    _, err = call("eval", saved, *quick, *settings, SGDD_SAMPLE__LENGTH="6")
    assert "Warning: sample.seed (from --set) is not used in an evaluation: the seed is eval.seed." in err
    assert "sample.length (from environment SGDD_SAMPLE__LENGTH) is not used" in err


# --- export ---------------------------------------------------------------------------------------------


def test_export_leaves_out_what_others_have_no_use_for(here, saved):
    out, err = call("export", saved, "shared/model")
    assert out == f"{Path('shared/model')}\n"
    assert re.search(r"\d kB in all", err)
    shared = Path("shared/model")
    assert damage(shared) is None
    assert not (shared / "training").exists()
    with pytest.raises(CheckpointError):
        load_training_state(shared)
    # Other tests of this module evaluate the model, which is recorded in it.
    facts = {name: fact for name, fact in read_info(shared).facts.items() if name != "evaluations"}
    assert facts == {
        "corpus": {"name": "tales", "fingerprint": "none"},
        "validation": {"loss": 5.25, "nelbo_nats_per_token": 4.5},
    }
    encoder = ("--encoder", load_checkpoint(saved).info.encoder.name)
    assert call("sample", SENTENCE, "--checkpoint", shared, *encoder, "--steps", 2, "--device", "cpu")[0]
    assert (shared / "model.safetensors").stat().st_size < 0.56 * (saved / "model.safetensors").stat().st_size


def test_export_in_full_precision_changes_no_number(here, saved):
    call("export", saved, "whole", "--dtype", "fp32")
    assert Path("whole/model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()


def test_export_records_how_the_model_is_sampled(here, saved):
    margin = ("--set", "sample.position_rule=margin")
    call("export", saved, "quick", "--set", "sample.steps=3", "--set", "sample.kv_cache=true", *margin)
    recorded = read_info(Path("quick")).sampling
    assert recorded == {
        **read_info(saved).sampling,
        "steps": 3,
        "kv_cache": True,
        "position_rule": "margin",
    }
    assert "steps 3, kv_cache on, position_rule margin" in Path("quick/README.md").read_text(encoding="utf-8")
    assert complete_sampling({}, read_info(Path("quick"))).kv_cache
    assert not complete_sampling({"remask": 0.2}, read_info(Path("quick"))).kv_cache
    call("export", "quick", "again", "--set", "sample.steps=5", SGDD_SAMPLE__CFG="7")
    assert read_info(Path("again")).sampling == {**recorded, "steps": 5}
    assert (
        "can record only these: sample.steps, sample.cfg, "
        in call("export", saved, "wrong", "--set", "sample.search=8", code=2)[1]
    )
    for wrong in ("sample.steps=0", "a.b=1"):
        with pytest.raises(ConfigError):
            call("export", saved, "wrong", "--set", wrong)
    assert not Path("wrong").exists()


def test_export_carries_a_card_and_a_local_encoder_is_mentioned(here, saved):
    Path("card.md").write_text("# Tales\n", encoding="utf-8")
    _, err = call("export", saved, "carded", "--card", "card.md")
    assert Path("carded/README.md").read_text(encoding="utf-8") == "# Tales\n"
    assert "say where it is: --encoder FOLDER" in err
    encoder_folder = Path(load_checkpoint(saved).info.encoder.name)
    assert load_checkpoint(Path("carded")).info.encoder.name == encoder_folder.name
    for path in Path("carded").iterdir():
        assert str(encoder_folder).encode() not in path.read_bytes(), path
    with pytest.raises(DataError, match=r"card `gone\.md` cannot be read"):
        call("export", saved, "other", "--card", "gone.md")
    assert not Path("other").exists()


@pytest.mark.slow
def test_a_moved_encoder_can_be_named(here, saved, tiny_encoder_folder, tiny_xlmr_folder, sentences):
    moved = shutil.copytree(tiny_encoder_folder, here / "moved")
    call("export", saved, "shared")  # its encoder's folder is named, and is not here
    common = ("--steps", 2, "--device", "cpu")
    at_once = (*common, "--search", 0)
    sample = ("sample", SENTENCE, "--checkpoint", "shared", *at_once)
    expected = call("sample", SENTENCE, "--checkpoint", saved, *at_once)[0]
    with pytest.raises(EncoderError, match="is not there") as caught:
        call(*sample)
    assert "--set encoder.name=FOLDER" in caught.value.hint
    for named in (("--encoder", moved), ("--set", "encoder.name=moved")):
        assert call(*sample, *named)[0]
    with pytest.raises(EncoderError, match="its weights differ"):
        call(*sample, "--encoder", tiny_xlmr_folder)
    with pytest.raises(ConfigError, match=r"encoder\.pooling cannot be set here"):
        call(*sample, "--encoder", moved, "--set", "encoder.pooling=cls")
    assert call(*sample, "--encoder", moved, "--set", "encoder.batch_tokens=64") == call(
        *sample, "--encoder", moved
    )
    # What the next preparation is to use does not concern a model that is read meanwhile.
    Path("sgdd.toml").write_text('[encoder]\nname = "minilm"\nmax_tokens = 9\n')
    assert call("sample", SENTENCE, "--checkpoint", saved, *at_once)[0] == expected
    Path("text.txt").write_text("\n".join(sentences[:6]), encoding="utf-8")
    found = call("eval", "shared", "--encoder", moved, "--data", "text.txt", "--json", *common)[0]
    assert json.loads(found)["settings"]["model"]["encoder"]["name"] == str(moved)
    python = SGDD.from_pretrained("shared", "cpu", encoder=moved)
    assert torch.equal(python.encode([SENTENCE]), SGDD.from_pretrained(saved, "cpu").encode([SENTENCE]))
    with pytest.raises(EncoderError, match="its weights differ"):
        SGDD.from_pretrained("shared", "cpu", encoder=tiny_xlmr_folder).encode([SENTENCE])


def test_training_finds_the_moved_encoder_of_its_corpus(here, tiny_corpus_folder, tiny_encoder_folder):
    moved = shutil.copytree(tiny_encoder_folder, here / "moved")
    corpus = Path(shutil.copytree(tiny_corpus_folder, here / "corpus"))
    manifest = Manifest.read(corpus)
    replace(manifest, encoder=manifest.encoder | {"name": str(here / "gone")}).write(corpus)
    settings = ("--set", "decoder.width=32", "--set", "decoder.heads=2", "--set", "decoder.layers=1")
    train = ("train", corpus, "--max-steps", 1, "--device", "cpu", *settings)
    with pytest.raises(EncoderError, match="is not there"):
        call(*train, "--out", "one")
    call(*train, "--out", "two", "--set", "encoder.name=moved")
    assert read_info(resolve_checkpoint("two")).encoder.name == str(moved)


def test_export_overwrites_a_checkpoint_if_told_to_and_nothing_else(here, saved):
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("years of work")
    for out in ("full", "full/thesis.txt"):
        with pytest.raises(SgddError, match="exists and is not overwritten"):
            call("export", saved, out)
        with pytest.raises(SgddError, match="is not a checkpoint"):
            call("export", saved, out, "--force")
    assert Path("full/thesis.txt").read_text() == "years of work"
    Path("empty").mkdir()
    call("export", saved, "empty")
    assert damage(Path("empty")) is None
    with pytest.raises(SgddError, match="exists and is not overwritten"):
        call("export", saved, "empty")
    call("export", saved, "empty", "--dtype", "fp32", "--force")
    assert damage(Path("empty")) is None


def test_export_keeps_a_card_that_was_written_or_changed_by_hand(here, saved):
    card = Path("out/README.md")
    call("export", saved, "out")
    made = card.read_text(encoding="utf-8")
    _, err = call("export", saved, "out", "--force")
    assert "by hand" not in err
    assert card.read_text(encoding="utf-8") == made
    for text in ("# Mine\n", made + "\nIt is about whales.\n"):
        card.write_text(text, encoding="utf-8")
        _, err = call("export", saved, "out", "--force")
        assert f"`{card}` was written or changed by hand, and is kept" in err
        assert card.read_text(encoding="utf-8") == text.replace(f"{MARK}\n", "")
    # Also where the checkpoint has it, as for a push; and --card wins.
    call("export", "out", "copy")
    assert Path("copy/README.md").read_text(encoding="utf-8").endswith("It is about whales.\n")
    Path("other.md").write_text("# Other\n", encoding="utf-8")
    call("export", saved, "out", "--force", "--card", "other.md")
    assert card.read_text(encoding="utf-8") == "# Other\n"


def test_export_adds_the_probes_that_an_older_checkpoint_lacks_or_says_why_not(here, saved):
    _, err = call("export", saved, "out")
    assert (
        "records no vectors of probe sentences, which show if its encoder has changed; they are added." in err
    )
    assert read_info(Path("out")).encoder.probes
    _, err = call("export", "out", "again")
    assert "probe" not in err
    _rewrite_info(Path("out"), lambda info: replace(info, encoder=replace(info.encoder, probes=None)))
    _, err = call("export", "out", "third")  # its encoder's folder is named, and is not here
    assert "they cannot be added. The vectors were made by an encoder in the folder" in err


def test_export_finds_out_at_once_that_it_cannot_write(here, saved):
    Path("file").write_text("not a folder")
    # Neither the checkpoint nor the encoder is looked at before.
    with pytest.raises(SgddError, match=r"`file/model` cannot be written"):
        call("export", "no-such-checkpoint", "file/model")
