"""Models on the hub: sent, fetched, verified and named, by the hub's real client against a server on loopback."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from hinted_commands import check_hints, hints_of
from hub_server import READ_ONLY_TOKEN, TOKEN, Repository, serving
from huggingface_hub import ModelCard
from reports_for_tests import FULL, SMALL
from tiny_sgdd import build
from tiny_training import tiny
from typer.testing import CliRunner

from sgdd_cli.main import app
from sgdd_cli.models import checkpoint_name, find_checkpoint
from sgdd_engine import SGDD
from sgdd_engine.atomic_files import seal
from sgdd_engine.checkpoint import (
    HubName,
    list_models,
    load_checkpoint,
    pull,
    push,
    read_info,
    record_evaluation,
    record_sampling,
    require_pinned,
    resolve_checkpoint,
    save_checkpoint,
    upload_of,
)
from sgdd_engine.checkpoint.hub import FILES
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.errors import CheckpointError, SgddError
from sgdd_engine.text import hub as hub_questions
from sgdd_engine.training.loop import train

ROOT = Path(__file__).parents[1]
SENTENCE = "Tom sold a letter."


@pytest.fixture(scope="module")
def model(tiny_encoder, sentences):
    return build(tiny_encoder, sentences[:20])


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """A checkpoint as a run leaves it, with the state of its training."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    save_checkpoint(folder, model._checkpoint, {"progress.json": {"step": 3}})
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on loopback that this process asks in the place of the real one, with an empty cache; logged in."""
    with serving() as server:
        constants = "huggingface_hub.constants"
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(f"{constants}.ENDPOINT", server.address)
        monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(f"{constants}.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("SGDD_CHECKPOINT", raising=False)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        yield server


@pytest.fixture
def shared(hub, model, tmp_path):
    """The tiny model as `anna/tales` on the hub, put there without the client; its commit."""
    folder = tmp_path / "exported"
    model.save_pretrained(folder, dtype="fp16")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.models["anna/tales"] = Repository()
    # What others might put beside it is never fetched.
    return hub.models["anna/tales"].commit({**files, "evil.py": b"raise SystemExit", "model.pkl": b"pickle"})


def call(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        check_hints(*hints_of(result.exception))
        raise result.exception
    check_hints(result.stdout, result.stderr)
    assert result.exit_code == code, result.output
    assert TOKEN not in result.output
    return result.stdout, result.stderr


# --- sharing --------------------------------------------------------------------------------------------


def test_what_is_sent_is_fetched_and_loads(hub, model, saved):
    out, _ = call("push", saved, "anna/tales", "--license", "mit", "--language", "en", "--quiet")
    assert out == f"{hub.address}/anna/tales\n"
    sent = hub.models["anna/tales"].commits[hub.models["anna/tales"].head]
    assert sent.keys() == {*FILES, ".gitattributes"}  # and nothing of training/
    assert any(path.startswith("PUT /lfs/") for path in hub.asked)
    assert hub.tokens == {TOKEN}
    again = SGDD.from_pretrained("anna/tales", "cpu")
    assert again.info.facts["hub"] == f"anna/tales@{hub.models['anna/tales'].head}"
    for name, tensor in model.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)


def test_python_sends_it_too_and_once_more_only_what_changed(hub, model):
    first = model.push_to_hub("anna/tales", private=True)
    assert hub.models["anna/tales"].private
    assert first.commit == hub.models["anna/tales"].head
    hub.asked.clear()
    second = model.push_to_hub("anna/tales", private=True)
    assert second.commit
    assert not any(path.startswith("PUT /lfs/") for path in hub.asked)


def test_a_dry_run_lists_sizes_and_asks_nobody(hub, saved):
    out, err = call("push", saved, "anna/tales", "--dry-run", "--json")
    told = json.loads(out)
    assert told["commit"] is None
    assert told["files"].keys() == set(FILES)
    assert all(size > 0 for size in told["files"].values())
    out, err = call("push", saved, "anna/tales", "--dry-run")
    assert "model.safetensors" in out
    assert "Nothing was sent" in err
    assert hub.asked == []


def test_a_damaged_checkpoint_is_not_sent(hub, model, tmp_path):
    model.save_pretrained(tmp_path / "damaged")
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointError, match=r"is not shared: `model\.safetensors` is damaged"):
        push(tmp_path / "damaged", "anna/tales")
    assert hub.asked == []


def test_what_is_sent_carries_a_hash_of_every_file_that_is_read(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "files.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"has no hash of `model\.safetensors`"):
        upload_of(tmp_path / "model", "anna/tales")
    with pytest.raises(CheckpointError, match=r"has no hash of `model\.safetensors`"):
        load_checkpoint(tmp_path / "model")


@pytest.mark.parametrize(
    ("token", "name", "sentence"),
    [
        (None, "anna/tales", "Nobody is logged in"),
        (READ_ONLY_TOKEN, "anna/tales", "does not let you write to anna/tales"),
        (TOKEN, "someone/tales", "knows no owner of someone/tales"),
        ("hf_\x01averysecret", "anna/tales", "holds a character that no token has"),
        (TOKEN, "no-owner", "`no-owner` is not a name on the hub"),
        (TOKEN, "anna/tales@main", "is not a name on the hub"),
    ],
)
def test_a_refusal_to_send_is_a_sentence(hub, monkeypatch, saved, token, name, sentence):
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SgddError, match=sentence) as caught:
        push(saved, name)
    assert caught.value.hint
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    assert not hub.models


def test_private_is_not_promised_of_a_public_model(hub, saved):
    push(saved, "anna/tales")
    before = hub.models["anna/tales"].head
    with pytest.raises(CheckpointError, match="exists on the hub and is public"):
        push(saved, "anna/tales", private=True)
    assert hub.models["anna/tales"].head == before


def test_a_card_that_the_hub_refuses_is_a_sentence(hub, model):
    with pytest.raises(CheckpointError, match="The hub refuses the model card"):
        model.push_to_hub("anna/tales", license="nonsense")


# --- the card -------------------------------------------------------------------------------------------


def test_the_card_says_what_was_measured(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    assert "No scores were measured" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    record_evaluation(tmp_path / "model", FULL.to_record())
    scored = SGDD.from_pretrained(tmp_path / "model", "cpu")
    sent = scored.push_to_hub("anna/tales", license="mit", language=["en"], dry_run=True)
    assert sent.files["README.md"] > 2000
    scored.save_pretrained(tmp_path / "again")
    card = ModelCard.load(tmp_path / "again" / "README.md")
    assert card.data.library_name == "sgdd"
    assert card.data.pipeline_tag == "text-generation"
    results = {result.metric_name: result for result in card.data.eval_results}
    assert results["token F1"].metric_value == pytest.approx(
        FULL.conditions["true"]["token_f1"].mean, abs=1e-4
    )
    assert results["token F1"].metric_args == {
        "sentences": 1234, "steps": 16, "cfg": 2.0, "candidates": 8, "refine": 6, "shortlist": 4,
    }  # fmt: skip
    assert results["BLEU"].dataset_name == "tales.txt"
    assert "| *control:* another sentence's vector |" in card.text
    assert "The vector is used." in card.text
    assert 'SGDD.from_pretrained("' in card.text


def test_the_card_names_the_encoder_the_data_and_the_licence_where_they_are_known(model, hub):
    encoder = replace(model.info.encoder, name="BAAI/bge-m3", revision="0" * 40)
    corpus = {"name": "tales", "source": {"kind": "hub", "dataset": "someone/tales"}}
    told = replace(model._checkpoint, info=replace(model.info, encoder=encoder, facts={"corpus": corpus}))
    SGDD(told, model.device).push_to_hub("anna/tales", license="cc-by-4.0", language=["en", "de"])
    sent = hub.models["anna/tales"].commits[hub.models["anna/tales"].head]["README.md"].decode()
    data = yaml.safe_load(sent.split("---")[1])
    assert data["base_model"] == "BAAI/bge-m3"
    assert data["datasets"] == ["someone/tales"]
    assert data["license"] == "cc-by-4.0"
    assert data["language"] == ["en", "de"]
    assert "model-index" not in data
    assert "licence of the weights: cc-by-4.0" in sent


def test_a_card_of_ones_own_is_kept(hub, model, tmp_path):
    model.save_pretrained(tmp_path / "model", card="# Mine\n\nWritten by hand.\n")
    call("push", tmp_path / "model", "anna/tales", "--license", "mit")
    sent = hub.models["anna/tales"].commits[hub.models["anna/tales"].head]["README.md"].decode()
    assert sent.endswith("# Mine\n\nWritten by hand.\n")
    assert yaml.safe_load(sent.split("---")[1])["license"] == "mit"


def test_a_card_with_metadata_of_its_own_gets_the_licence_that_was_given(hub, model, tmp_path):
    own = "---\ntags: [mine] # and nobody's\nlicense: apache-2.0\n---\n# Mine\n\n`--checkpoint THIS_FOLDER`\n"
    model.save_pretrained(tmp_path / "model", card=own)

    def sent(*options):
        told = call("push", tmp_path / "model", "anna/tales", *options)[1]
        card = hub.models["anna/tales"].commits[hub.models["anna/tales"].head]["README.md"].decode()
        return card, told

    card, told = sent()
    assert card == own.replace("THIS_FOLDER", "anna/tales")
    assert "states no licence" not in told
    card, told = sent("--license", "mit", "--language", "no", "--language", "en")
    data = yaml.safe_load(card.split("---")[1])
    assert (data["license"], data["language"], data["tags"]) == ("mit", ["no", "en"], ["mine"])
    assert "tags: [mine] # and nobody's\n" in card
    assert card.endswith("---\n# Mine\n\n`--checkpoint anna/tales`\n")
    model.save_pretrained(tmp_path / "model", card="---\nA rule, and text.\n\n---\n")
    card, _ = sent("--license", "mit")
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"
    assert card.endswith("---\nA rule, and text.\n\n---\n")
    model.save_pretrained(tmp_path / "model", card="---\ntags: [mine]\n---\n# Mine\n")
    assert "states no licence" in sent()[1]
    model.save_pretrained(tmp_path / "model", card="---\ntags: [mine\n---\n# Mine\n")
    for options in ((), ("--license", "mit")):
        before = hub.models["anna/tales"].head
        with pytest.raises(CheckpointError, match="metadata at the beginning of the card cannot be read"):
            sent(*options)
        assert hub.models["anna/tales"].head == before


def test_what_is_shared_says_nothing_of_the_folders_of_this_machine(model, tmp_path):
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    advised = replace(
        FULL.verdicts[0], ok=False, cause="In /home/anna/secret.", command="sgdd train /home/anna/secret"
    )
    record_evaluation(folder, replace(FULL, verdicts=[advised, *FULL.verdicts[1:]]).to_record())
    assert "/home/anna" in (folder / "config.json").read_text(encoding="utf-8")
    shared = read_info(folder).shareable()
    assert "/home/anna" not in str(shared.to_dict())
    assert shared.evaluations[0]["verdicts"][0]["sentence"] == advised.sentence


def test_a_repeated_evaluation_replaces_its_older_record(model, tmp_path):
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    record_evaluation(folder, FULL.to_record())
    record_evaluation(
        folder, replace(SMALL, settings={**SMALL.settings, "data": {"path": "b.txt"}}).to_record()
    )
    changed = replace(FULL, conditions={**FULL.conditions, "true": FULL.conditions["null"]})
    record_evaluation(folder, changed.to_record())
    found = read_info(folder).evaluations
    assert [one["settings"]["data"]["path"] for one in found] == ["tales.txt", "b.txt"]
    assert found[0]["conditions"][0]["scores"]["token_f1"]["mean"] == FULL.conditions["null"]["token_f1"].mean
    assert "samples" not in found[0]
    assert load_checkpoint(folder)


@pytest.mark.parametrize("changed", [{"search": 8}, {"search": 64}, {"search": 8, "gradient": False}])
def test_what_is_searched_does_not_replace_what_is_written_at_once(model, tmp_path, changed):
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    record_evaluation(folder, FULL.to_record())
    for options in ({"search": 8, "gradient": True}, changed):
        asked = {**FULL.settings["eval"], "gradient": True, **options}
        record_evaluation(folder, replace(FULL, settings={**FULL.settings, "eval": asked}).to_record())
    found = [one["settings"]["eval"].get("search") for one in read_info(folder).evaluations]
    assert found == ([8, None] if changed == {"search": 8} else [changed["search"], 8, None])
    SGDD.from_pretrained(folder).save_pretrained(folder)
    assert f"search {changed['search']}\n" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "spoilt", [None, 3, [3], [{"sentences": 3}], [{"sentences": 3, "metrics": {}, "conditions": []}]]
)
def test_a_record_of_another_hand_is_passed_over(model, tmp_path, spoilt):
    folder = tmp_path / "model"
    info = replace(model.info, facts={"evaluations": spoilt})
    save_checkpoint(folder, replace(model._checkpoint, info=info))
    assert read_info(folder).evaluations == []
    assert "No scores were measured" in (folder / "README.md").read_text(encoding="utf-8")


# --- fetching -------------------------------------------------------------------------------------------


def test_pull_fetches_the_files_of_a_checkpoint_and_no_others(hub, shared):
    out, _ = call("pull", "anna/tales")
    assert out == f"anna/tales@{shared}\n"
    folder = pull(HubName("anna/tales"))
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert not any("evil" in path or "pkl" in path for path in hub.asked)


def test_a_name_stands_wherever_a_checkpoint_does(hub, shared, tiny_encoder_folder):
    options = ("--checkpoint", "anna/tales", "--encoder", tiny_encoder_folder)
    out, err = call("sample", SENTENCE, *options)
    assert out.strip()
    assert f"anna/tales from the hub; to use exactly these weights again: anna/tales@{shared}" in err
    folder = find_checkpoint("anna/tales")
    assert checkpoint_name(folder) == f"anna/tales@{shared}"
    with pytest.raises(CheckpointError, match="lies in the hub's cache") as caught:
        record_sampling(folder, {"cfg": 2.0})
    assert "sgdd export" in caught.value.hint


def test_a_revision_is_pinned(hub, shared, model, tmp_path):
    model.save_pretrained(tmp_path / "newer", card="# newer")
    newer = hub.models["anna/tales"].commit({"README.md": b"# newer"})
    assert pull(HubName("anna/tales")).name == newer
    assert resolve_checkpoint("anna/tales", revision=shared).name == shared
    hub.asked.clear()
    assert resolve_checkpoint(f"anna/tales@{shared}").name == shared
    assert not hub.asked  # a commit that is here is not asked for again
    require_pinned(f"anna/tales@{shared}")
    with pytest.raises(CheckpointError, match="may be another model tomorrow"):
        require_pinned("anna/tales")
    with pytest.raises(CheckpointError, match="has no revision `v9`"):
        pull(HubName("anna/tales", "v9"))
    with pytest.raises(CheckpointError, match="is not a model on the hub"):
        resolve_checkpoint(Path("x"), revision="main")


def test_a_run_starts_from_named_weights_alone(hub, shared, tiny_corpus_folder):
    spec = tiny(start_from="anna/tales")
    with pytest.raises(CheckpointError, match="cannot start from anna/tales, which may be another") as caught:
        train(Corpus.open(tiny_corpus_folder), Path("runs/new"), spec, device="cpu")
    assert "sgdd pull anna/tales" in caught.value.hint
    assert not hub.asked
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "name", "revision"),
    [
        ("anna/tales", "anna/tales", None),
        ("hf:anna/tales@v1.0", "anna/tales", "v1.0"),
        ("anna/tales@refs/pr/1", "anna/tales", "refs/pr/1"),
    ],
)
def test_names_on_the_hub(text, name, revision):
    assert HubName.parse(text) == HubName(name, revision, text.startswith("hf:"))


@pytest.mark.parametrize(
    "text", ["mini", "a/b/c", "./a/b", "/a/b", "a/b@", "a/b@../../x", "a b/c", "../a", "a\\b"]
)
def test_what_is_no_name_on_the_hub(text):
    assert HubName.parse(text) is None


def test_a_folder_wins_and_the_user_is_told(hub, shared, model):
    folder = Path("anna/tales")
    model.save_pretrained(folder)
    assert resolve_checkpoint("anna/tales") == folder
    assert resolve_checkpoint("hf:anna/tales").name == shared
    _, err = call("param-count", "anna/tales", "--json")
    assert "from a folder here; for the model of this name on the hub: hf:anna/tales" in err
    hub.asked.clear()
    # A name in a folder that exists, and one of a run, are slips and no questions to the hub.
    for name in ("anna/tails", "runs/tales", "/anna/tales", "./anna/tails", "anna/tales/none"):
        with pytest.raises(CheckpointError, match="no checkpoint at"):
            resolve_checkpoint(name)
    assert not hub.asked


def test_offline_the_cache_serves(hub, shared, monkeypatch):
    fetched = pull(HubName("anna/tales"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked.clear()
    notes = []
    assert pull(HubName("anna/tales"), notes.append) == fetched
    assert "was not asked for a newer one" in notes[0].message
    assert not hub.asked
    with pytest.raises(CheckpointError, match="the hub cannot be reached"):
        pull(HubName("anna/other"))


def test_a_hub_that_is_not_there_is_a_sentence(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        CheckpointError, match=r"There is no folder `anna/tales` here, .*cannot be reached"
    ) as caught:
        resolve_checkpoint("anna/tales")
    assert "sgdd models" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "token", "sentence"),
    [
        ({"private": True}, None, r"has no model anna/tales \(or it is private\)"),
        ({"private": False, "gated": True}, READ_ONLY_TOKEN, "asks for consent"),
    ],
)
def test_a_model_that_may_not_be_read_is_a_sentence(hub, shared, monkeypatch, change, token, sentence):
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    for name, value in change.items():
        setattr(hub.models["anna/tales"], name, value)
    with pytest.raises(CheckpointError, match=sentence):
        pull(HubName("anna/tales"))


def test_another_librarys_model_is_told_before_it_is_fetched(hub):
    hub.models["anna/bert"] = Repository()
    hub.models["anna/bert"].commit({"config.json": b"{}", "model.safetensors": b"x" * 100})
    with pytest.raises(CheckpointError, match=r"is not a checkpoint of sgdd: it has no files\.json"):
        pull(HubName("anna/bert"))
    assert not any("resolve" in path for path in hub.asked)


def test_a_newer_format_is_told_before_the_weights_are_fetched(hub, shared):
    files = hub.models["anna/tales"].commits[shared]
    plain = json.loads(files["config.json"])
    hub.models["anna/tales"].commit({"config.json": json.dumps({**plain, "format": 99}).encode()})
    with pytest.raises(CheckpointError, match="format is 99"):
        pull(HubName("anna/tales"))
    assert not any("model.safetensors" in path for path in hub.asked)


def test_a_model_whose_hashes_do_not_fit_is_refused(hub, shared):
    files = hub.models["anna/tales"].commits[shared]
    broken = hub.models["anna/tales"].commit({"model.safetensors": files["model.safetensors"][:-1] + b"!"})
    with pytest.raises(
        CheckpointError, match=rf"commit {broken[:12]}, cannot be used: .* is damaged"
    ) as caught:
        pull(HubName("anna/tales"))
    assert f"sgdd pull anna/tales@{broken} --again" in caught.value.hint


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(hub, shared):
    weights = pull(HubName("anna/tales")) / "model.safetensors"
    weights.write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"cannot be used: .* is damaged"):
        resolve_checkpoint("anna/tales")
    call("pull", "anna/tales", "--again")
    assert SGDD.from_pretrained("anna/tales", "cpu")


def test_a_server_that_dies_in_the_middle_is_a_sentence_and_the_next_try_goes_on(hub, shared, monkeypatch):
    # The client waits longer and longer between its tries.
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.dies_after = 1000
    with pytest.raises(
        CheckpointError, match=r"Fetching model\.safetensors of anna/tales .* was interrupted"
    ) as caught:
        pull(HubName("anna/tales"))
    assert f"sgdd pull anna/tales@{shared}" in caught.value.hint
    hub.dies_after = None
    assert pull(HubName("anna/tales")).name == shared


# --- the list -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_models_lists_the_box_runs_and_the_cache(hub, shared, model, tmp_path):
    pull(HubName("anna/tales"))
    run = Path("runs/tales/checkpoints/step-0000003")
    model.save_pretrained(run)
    record_evaluation(run, FULL.to_record())
    bad = Path("runs/bad/checkpoints/step-0000003")
    model.save_pretrained(bad)
    (bad / "model.safetensors").write_bytes(b"short")
    out, err = call("models", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows.keys() == {"mini", f"anna/tales@{shared}", "runs/tales", "runs/bad"}
    own = rows["runs/tales"]
    assert own["parameters"] == sum(p.numel() for p in model.model.parameters())
    assert own["scores"]["token_f1"] == FULL.conditions["true"]["token_f1"].mean
    assert own["sentences_scored"] == 1234
    assert own["path"] == str(run)
    assert rows[f"anna/tales@{shared}"]["scores"] is None
    assert rows["runs/bad"]["problem"]
    out, err = call("models")
    assert f"{FULL.conditions['true']['token_f1'].mean:.3f}" in out
    assert "runs/bad cannot be used" in err


def test_parameters_are_counted_without_the_statistics(model, tiny_encoder, sentences, tmp_path):
    other = build(tiny_encoder, sentences[:20], kind="whitening")
    other.save_pretrained(tmp_path / "runs" / "a" / "checkpoints" / "step-0000001")
    (listed,) = (one for one in list_models(tmp_path / "runs") if one.place == "run")
    assert listed.parameters == sum(p.numel() for p in other.model.parameters())


# --- as users start it ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_program_finds_the_hub_by_its_variables_and_loads_no_torch_to_pull(hub, shared, tmp_path):
    """HF_ENDPOINT is read as the client is imported, so a process of its own reads it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SGDD_", "HF_"))}
    environment = {**clean, **hub.environment(str(tmp_path / "home"), TOKEN), "PYTHONPATH": str(ROOT)}

    def run(*arguments, **more):
        program = (
            "import sys; from sgdd_cli.main import _run; code = _run(); "
            "heavy = {'torch', 'transformers'} & sys.modules.keys(); "
            "print('loaded', sorted(heavy), file=sys.stderr); sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**environment, **more}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert TOKEN not in done.stdout + done.stderr
        return done

    fetched = run("pull", "anna/tales", "--json")
    assert fetched.returncode == 0, fetched.stderr
    assert json.loads(fetched.stdout)["commit"] == shared
    assert "loaded []" in fetched.stderr
    offline = run("pull", "anna/tales", HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert offline.stdout == f"anna/tales@{shared}\n", offline.stderr
    missing = run("pull", "anna/none", "--debug")
    assert missing.returncode == 1
    assert "has no model anna/none" in missing.stderr


def test_files_of_a_checkpoint_are_all_known_by_name(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    seal(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == set(FILES)


def test_a_hub_that_never_answers_is_given_up(monkeypatch, hub, shared):
    held = threading.Event()
    monkeypatch.setattr(hub_questions, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("hub_server._ROUTES", {"GET .*": lambda self: held.wait()})
    try:
        with pytest.raises(CheckpointError, match="the hub cannot be reached"):
            pull(HubName("anna/tales"))
    finally:
        held.set()
