"""`sgdd doctor`: what is broken on this machine, and why the results of a run may be bad."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hinted_commands import check_hints, hints_of
from hub_server import serving
from reports_for_tests import FULL, SMALL
from tiny_training import tiny
from typer.testing import CliRunner

from sgdd_cli.commands.doctor import acting_variables
from sgdd_cli.main import app
from sgdd_engine.atomic_files import write_json
from sgdd_engine.checkpoint import read_info, record_evaluation, resolve_checkpoint
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.diagnosis import run as run_diagnosis
from sgdd_engine.diagnosis.machine import broken, examine_machine
from sgdd_engine.diagnosis.run import examine_run
from sgdd_engine.diagnosis.verdicts import with_causes
from sgdd_engine.errors import CheckpointError
from sgdd_engine.evaluation.latent import PosteriorFigures
from sgdd_engine.evaluation.verdicts import QUESTIONS, Verdict
from sgdd_engine.text import hub as hub_questions
from sgdd_engine.training.loop import train


@pytest.fixture(scope="module")
def trained(tiny_corpus_folder, tmp_path_factory):
    """A real run of 24 steps, with its corpus."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train(Corpus.open(tiny_corpus_folder), run, tiny(max_steps=24), device="cpu")
    return run


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, and no variables that act."""
    for name in acting_variables():
        monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "here"


def causes(run, corpus=None):
    return {cause.name: cause for cause in examine_run(run, corpus)}


def call(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        check_hints(*hints_of(result.exception))
        raise result.exception
    check_hints(result.stdout, result.stderr)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


# --- a run ----------------------------------------------------------------------------------------------


def test_the_model_in_the_box_is_examined_by_its_name():
    found = json.loads(call("doctor", "mini", "--json")[0])
    assert found["run"] == "mini"
    assert found["evaluation"]["sentences"] == 1000
    with pytest.raises(CheckpointError, match="no checkpoint at `gone`"):
        call("doctor", "gone")


@pytest.mark.parametrize(
    ("device", "minutes", "seconds", "more"),
    [
        ("cpu", 3.0, 180.0, " --max-minutes 30"),  # it ended by the clock, which would end it again at once
        ("cpu", 60.0, 3600.0, " --max-minutes 120"),  # ten hours more are too many without a GPU
        ("cuda:0", 60.0, 3600.0, " --max-minutes 600"),
        ("cpu", None, 180.0, ""),
        ("cpu", None, 3600.0, " --max-minutes 120"),
        ("cuda:0", None, 3600.0, ""),
    ],
)
def test_a_run_that_is_told_to_go_on_has_time_to(run, device, minutes, seconds, more):
    records = run_diagnosis.read_records(run, None)
    facts = {"training": {"seconds": seconds, "device": device}, "settings": {"max_minutes": minutes}}
    records = replace(records, info=replace(records.info, facts=facts, step=100))
    assert records.train_on(1000) == f"sgdd train --resume --out {run} --max-steps 1000{more}"


def test_commands_carry_the_options_that_they_need(run):
    given = [("--data", "my text.txt"), ("--cfg", "2.0"), ("--device", "cpu")]
    records = replace(run_diagnosis.read_records(run, None), options={"eval": given})
    assert records.command("eval", run, "--limit", 9) == (
        f"sgdd eval {run} --limit 9 --data 'my text.txt' --cfg 2.0 --device cpu"
    )
    assert records.command("eval", run, "--find-cfg") == (
        f"sgdd eval {run} --find-cfg --data 'my text.txt' --device cpu"
    )
    assert records.command("doctor", run) == f"sgdd doctor {run}"


def test_a_run_of_a_few_steps_is_told_by_its_own_figures(run, tiny_corpus_folder):
    found = examine_run(run, tiny_corpus_folder)
    first = found[0]
    info = read_info(resolve_checkpoint(run))
    assert (first.name, first.likelihood) == ("training", "likely")
    passes = info.facts["training"]["sentences_seen"] / info.facts["corpus"]["train_sentences"]
    assert f"{info.step:,} steps are few: 256 tokens each, {passes:.1f} passes" in first.sentence
    assert first.command.startswith(f"sgdd train --resume --out {run} --max-steps {7_000 * 2_048 // 256}")
    order = [run_diagnosis._ORDER.index(cause.likelihood) for cause in found]
    assert order == sorted(order)
    by_name = {cause.name: cause for cause in found}
    losses = [value for _, value in run_diagnosis.read_records(run, None).curves["train/loss"]]
    assert len(losses) == 12
    assert (
        f"The training loss was {sum(losses[-3:]) / 3:.3f} in the last quarter"
        in by_name["loss still falls"].sentence
    )
    assert by_name["little text"].likelihood == "likely"
    assert (
        f"of {Corpus.open(tiny_corpus_folder).manifest.counts['read']:,} lines"
        in by_name["text left out"].sentence
    )
    assert by_name["language"].likelihood == "unlikely"
    assert by_name["vocabulary"].likelihood == "unlikely"
    # The run records its KL, and no evaluation is needed to read it.
    assert "nats per sentence at the end; active units were not measured" in by_name["collapse"].sentence


def test_what_is_not_recorded_is_unknown_with_what_measures_it(run):
    (run / "log.jsonl").unlink()
    shutil.rmtree(run / "tensorboard")
    found = causes(run)
    unknown = {name for name, cause in found.items() if cause.likelihood == "unknown"}
    assert unknown == {
        "loss still falls", "text left out", "vocabulary", "language", "guidance", "collapse", "length", "overfitting",
    }  # fmt: skip
    assert found["guidance"].command == f"sgdd eval {run} --find-cfg"
    assert found["collapse"].command == f"sgdd eval {run}"
    for cause in found.values():
        assert cause.command.startswith("sgdd ")


def test_a_recorded_evaluation_speaks(run):
    posterior = PosteriorFigures(0.4, [0.4, 0.0, 0.0, 0.0], 0, True)
    report = replace(
        FULL,
        latent=replace(FULL.latent, posterior=posterior),
        conditions={
            **FULL.conditions,
            "true": {
                **FULL.conditions["true"],
                "length_exact": replace(FULL.conditions["true"]["bleu"], mean=0.03),
            },
        },
    )
    record_evaluation(resolve_checkpoint(run), report.to_record())
    found = causes(run)
    assert found["collapse"].likelihood == "likely"
    assert "0 of 4 latent dimensions are active, KL 0.4 nats" in found["collapse"].sentence
    assert found["guidance"].likelihood == "likely"  # its whole interval lies below zero
    assert "token F1 changes by -0.073 against none (-0.083 to -0.063)" in found["guidance"].sentence
    assert found["length"].likelihood == "possible"
    assert "right for 3% of sentences" in found["length"].sentence
    _, err = call("doctor", run)
    assert (
        f"Newest evaluation, 1,234 sentences: token F1 {FULL.conditions['true']['token_f1'].mean:.3f}" in err
    )


def test_a_bad_verdict_names_the_likely_cause_and_one_command(run, tiny_corpus_folder):
    records = run_diagnosis.read_records(run, tiny_corpus_folder)
    bad = [Verdict(name, False, "Bad.") for name in QUESTIONS]
    found = {one.name: one for one in with_causes(replace(FULL, verdicts=bad), records).verdicts}
    assert "24 steps are few" in found["vector_used"].cause
    assert found["vector_used"].command.startswith(f"sgdd train --resume --out {run} --max-steps")
    # The evaluation itself says that guidance harms: the recorded one of the checkpoint says nothing yet.
    assert "token F1 changes by -0.073" in found["guidance"].cause
    assert found["guidance"].command == f"sgdd eval {run} --find-cfg"
    for verdict in found.values():
        assert verdict.cause.endswith(".")
        assert verdict.command.startswith("sgdd ")
    good = replace(FULL, verdicts=[Verdict("retrieval", True, "Good."), Verdict("guidance", None, "Open.")])
    assert with_causes(good, records).verdicts == good.verdicts


def test_of_a_few_sentences_more_are_asked_for(run):
    records = run_diagnosis.read_records(run, None)
    report = replace(SMALL, verdicts=[Verdict("retrieval", None, "Open.")])
    (verdict,) = with_causes(report, records).verdicts
    assert verdict.cause == "2 sentences are few."
    assert verdict.command == f"sgdd eval {run} --limit 1000"


def test_a_checkpoint_outside_of_a_run_is_trained_anew(trained, tiny_corpus_folder):
    checkpoint = resolve_checkpoint(trained)
    records = run_diagnosis.read_records(Path("mine"), tiny_corpus_folder, checkpoint)
    commands = {cause.name: cause.command for cause in run_diagnosis.causes_in(records)}
    assert commands["training"].startswith(f"sgdd train {tiny_corpus_folder} --max-steps")


def test_a_language_that_the_encoder_was_not_made_for(run, tiny_corpus_folder, monkeypatch):
    monkeypatch.setattr(run_diagnosis, "_foreign_letters", lambda corpus: 0.02)
    records = run_diagnosis.read_records(run, tiny_corpus_folder)
    (cause,) = run_diagnosis._language(records)
    assert cause.likelihood == "possible"  # what an encoder of that name reads is not known
    english = replace(
        records, info=replace(records.info, encoder=replace(records.info.encoder, name="minilm"))
    )
    (cause,) = run_diagnosis._language(english)
    assert cause.likelihood == "likely"
    assert "2.0% of the letters" in cause.sentence


def test_letters_are_counted_in_the_corpus(tiny_corpus_folder):
    assert run_diagnosis._foreign_letters(tiny_corpus_folder) == 0
    assert run_diagnosis._foreign_letters(None) is None


@pytest.mark.parametrize(
    ("held_out", "training", "likelihood"),
    [
        ([3.0, 2.5, 3.2], [2.0] * 12, "likely"),
        ([3.0, 2.5], [2.0] * 12, "possible"),
        ([2.1, 2.0], [2.0] * 12, "unlikely"),
    ],
)
def test_the_gap_between_held_out_and_training_loss(run, held_out, training, likelihood):
    records = run_diagnosis.read_records(run, None)
    curves = {"validation/loss": list(enumerate(held_out)), "train/loss": list(enumerate(training))}
    (cause,) = run_diagnosis._gap(replace(records, curves=curves))
    assert cause.likelihood == likelihood
    assert f"{held_out[-1]:.3f}" in cause.sentence


def test_a_loss_that_has_settled_is_told_from_one_that_falls(run):
    records = run_diagnosis.read_records(run, None)

    def likelihood(values):
        (cause,) = run_diagnosis._loss(replace(records, curves={"train/loss": list(enumerate(values))}))
        return cause.likelihood

    assert likelihood([4.0 - 0.1 * step for step in range(16)]) == "likely"
    assert likelihood([2.0 + 0.1 * (step % 2) for step in range(16)]) == "unlikely"
    assert likelihood([2.0] * 7) == "unknown"


def test_the_command_finds_the_corpus_and_prints_causes(run, tiny_corpus_folder, monkeypatch, tmp_path):
    out, _ = call("doctor", run, "--json")
    told = json.loads(out)
    assert told["causes"][0]["name"] == "training"
    assert {cause["name"]: cause["likelihood"] for cause in told["causes"]}["vocabulary"] == "unlikely"
    assert told["evaluation"] is None
    out, err = call("doctor", run)
    assert f"is not recorded; to measure it: sgdd eval {run}" in err
    assert out.startswith("likely: training. ")
    assert f"  sgdd train --resume --out {run}" in out
    assert "certain" not in out


def test_what_is_no_run_is_a_sentence(here):
    with pytest.raises(Exception, match="no checkpoint at `runs/none`"):
        call("doctor", "runs/none")


# --- this machine ---------------------------------------------------------------------------------------


def states(data, runs, offline=True):
    return {check.name: check for check in examine_machine(data, runs, offline=offline)}


def test_a_sound_machine_has_nothing_broken(here, run, tiny_corpus_folder):
    shutil.copytree(tiny_corpus_folder, here / "data" / "tales")
    shutil.copytree(run, here / "runs" / "tales")
    checks = examine_machine(Path("data"), Path("runs"), offline=True)
    assert not broken(checks)
    found = {check.name: check.sentence for check in checks}
    fingerprint = Corpus.open(tiny_corpus_folder).manifest.fingerprint()
    assert fingerprint[:12] in found["corpus tales"]
    assert "torch 2." in found["versions"]
    assert "Not asked (--offline)" in found["hub"]
    assert "free; saving the largest run needs" in found["disk"]


@pytest.mark.slow
def test_what_is_damaged_is_broken_with_its_command(here, run, tiny_corpus_folder):
    shutil.copytree(tiny_corpus_folder, here / "data" / "tales")
    manifest = json.loads((here / "data/tales/manifest.json").read_text())
    (here / "data/tales" / manifest["shards"][0]["file"]).write_bytes(b"short")
    (here / "data/old").mkdir()
    write_json(here / "data/old/manifest.json", {"format_version": 0})
    shutil.copytree(run, here / "runs" / "tales")
    for weights in (here / "runs/tales").rglob("model.safetensors"):
        weights.write_bytes(b"short")
    found = states(Path("data"), Path("runs"))
    assert (
        found["corpus tales"].state
        == found["corpus old"].state
        == found["model runs/tales"].state
        == "broken"
    )
    assert "--overwrite" in found["corpus tales"].command
    out, _ = call("doctor", "--offline", "--json", code=1)
    assert json.loads(out)["broken"] is True
    out, _ = call("doctor", "--offline", code=1)
    assert "BROKEN  corpus tales: `data/tales` is damaged" in out


def test_an_unknown_setting_in_the_environment_is_broken_and_secrets_are_not_shown(here, monkeypatch):
    monkeypatch.setenv("SGDD_TRAIN__LEARNING_RAT", "0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_averysecrettoken")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:mypassword@proxy:80")
    # Without a scheme, and with an @ in the password.
    monkeypatch.setenv("HTTP_PROXY", "me:myp@ssword@proxy:3128")
    out, _ = call("doctor", "--offline", code=1)
    assert "is not a setting" in out
    assert "SGDD_TRAIN__LEARNING_RATE" in out
    assert "HF_TOKEN=(set)" in out
    assert "averysecret" not in out
    assert "mypassword" not in out
    assert "HTTP_PROXY=(set)@proxy:3128" in out


@pytest.mark.slow
def test_a_hub_that_answers_and_one_that_does_not(here, monkeypatch):
    with serving() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
        found = states(here / "data", here / "runs", offline=False)
        assert found["hub"].state == "ok"
        assert f"{server.address} answers" in found["hub"].sentence
        server.expired = True
        found = states(here / "data", here / "runs", offline=False)
        assert found["hub"].state == "broken"
        assert "refuses the login" in found["hub"].sentence
        assert "401" in found["hub"].sentence
        assert found["hub"].command == "hf auth login"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub_questions, "ANSWER_SECONDS", 1.0)
    found = states(here / "data", here / "runs", offline=False)
    assert found["hub"].state == "note"
    assert "cannot be reached" in found["hub"].sentence
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in states(here / "data", here / "runs", offline=False)["hub"].sentence


def test_a_package_of_another_version_is_broken(here, monkeypatch):
    monkeypatch.setattr(
        "sgdd_engine.diagnosis.machine.metadata.requires", lambda name: ["rich>=99", "nowhere>=1"]
    )
    found = [check for check in examine_machine(here, here, offline=True) if check.name == "packages"]
    assert [check.state for check in found] == ["broken", "broken"]
    assert found[0].command == 'pip install "rich>=99"'
    assert "nowhere is missing" in found[1].sentence
