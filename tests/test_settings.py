"""Settings: precedence, origins, and a sentence for everything that is wrong."""

import dataclasses
import os
import re
import tomllib
from pathlib import Path

import pytest

from sgdd_cli.settings import DEFAULT, OPTIONS, SECTIONS, load_settings, to_template, to_toml
from sgdd_engine.errors import ConfigError
from sgdd_engine.training.config import TrainConfig


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder and an environment without settings."""
    for name in list(os.environ):
        if name.upper().startswith("SGDD_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def failure(**arguments) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_settings(**arguments)
    return caught.value


@pytest.mark.parametrize("given", ["[0]", "0", "[0, 0, 1]", "0,0,1"])
def test_a_list_of_numbers_can_be_given_anywhere(given, monkeypatch):
    expected = (0, 0, 1) if "1" in given else (0,)
    assert load_settings([], [f"feedback.rounds={given}"]).settings.feedback.rounds == expected
    monkeypatch.setenv("SGDD_FEEDBACK__ROUNDS", given)
    assert load_settings([]).settings.feedback.rounds == expected


@pytest.mark.parametrize("given", ["one", "0,,1", "[0.5]", "true"])
def test_a_list_that_holds_something_else_is_refused(given):
    with pytest.raises(ConfigError, match=r"feedback\.rounds .* must be a list of whole numbers"):
        load_settings([], [f"feedback.rounds={given}"])


def test_without_any_source_every_value_is_the_dataclasses_default():
    resolved = load_settings()
    assert resolved.settings.train == TrainConfig()
    assert resolved.files == ()
    assert {resolved.origin(key) for key in OPTIONS} == {DEFAULT}


def test_every_option_has_help_and_a_kind_in_words():
    for option in OPTIONS.values():
        assert option.help, option.key
        assert option.expected, option.key


def test_flags_beat_set_beats_environment_beats_files_beats_defaults(tmp_path, monkeypatch):
    file = write(
        tmp_path / "a.toml",
        "[train]\nseed = 1\nlog_every = 1\nsave_every = 1\nvalidate_every = 1\n[decoder]\nlayers = 3\n",
    )
    monkeypatch.setenv("SGDD_TRAIN__LOG_EVERY", "2")
    monkeypatch.setenv("SGDD_TRAIN__SAVE_EVERY", "2")
    monkeypatch.setenv("SGDD_TRAIN__VALIDATE_EVERY", "2")
    resolved = load_settings(
        [file],
        ["train.save_every=3", "train.validate_every = 3"],
        [("--validate", "train.validate_every", 4), ("--seed", "train.seed", None)],
    )
    train = resolved.settings.train
    assert (train.seed, train.log_every, train.save_every, train.validate_every) == (1, 2, 3, 4)
    assert resolved.settings.decoder.layers == 3
    assert resolved.origin("train.seed") == str(file)
    assert resolved.origin("train.log_every") == "environment SGDD_TRAIN__LOG_EVERY"
    assert resolved.origin("train.save_every") == "--set"
    assert resolved.origin("train.validate_every") == "--validate"
    assert resolved.origin("train.batch_tokens") == DEFAULT


def test_several_files_merge_value_by_value(tmp_path):
    first = write(tmp_path / "a.toml", "[train]\nseed = 1\nlog_every = 7\n")
    second = write(tmp_path / "b.yaml", "train:\n  seed: 2\n")
    resolved = load_settings([first, second])
    assert (resolved.settings.train.seed, resolved.settings.train.log_every) == (2, 7)
    assert (resolved.origin("train.seed"), resolved.origin("train.log_every")) == (str(second), str(first))


def test_a_file_of_this_folder_is_read_unless_another_is_named(tmp_path, monkeypatch):
    write(tmp_path / "sgdd.toml", "train.seed = 5")
    assert load_settings().settings.train.seed == 5
    assert load_settings().files == (Path("sgdd.toml"),)
    other = write(tmp_path / "other.toml", "train.log_every = 3")
    monkeypatch.setenv("SGDD_CONFIG", str(other))
    assert load_settings().files == (other,)
    assert load_settings([write(tmp_path / "c.toml", "")]).settings.train == TrainConfig()


def test_yaml_numbers_that_yaml_takes_for_text_are_numbers(tmp_path):
    file = write(tmp_path / "a.yml", "train:\n  learning_rate: 1e-4\n  max_minutes: null\nsample:\n")
    assert load_settings([file]).settings.train.learning_rate == 1e-4


@pytest.mark.parametrize("word", ["none", "null", "None", ""])
def test_words_for_an_empty_value(word, monkeypatch):
    monkeypatch.setenv("SGDD_TRAIN__MAX_STEPS", word)
    settings = load_settings(assignments=["train.max_minutes=3", f"data.limit={word}"]).settings
    assert settings.train.max_steps is None
    assert settings.train.max_minutes == 3
    assert settings.data.limit is None


def test_toml_of_the_settings_reads_back_the_same(tmp_path):
    first = load_settings(
        assignments=["train.max_steps=none", "train.max_minutes=2.5", 'encoder.name=a\\b "c"']
    )
    text = to_toml(first.settings)
    assert set(tomllib.loads(text)) == set(SECTIONS)
    assert tomllib.loads(text)["sample"].keys() >= {"cfg", "candidates", "seed"}
    again = load_settings([write(tmp_path / "saved.toml", text)])
    assert again.settings == first.settings


@pytest.mark.parametrize(
    "given",
    [
        *(
            "sample.cfg=1e39",
            "sample.temperature=1e-310",
            "sample.temperature=1e39",
            "sample.position_noise=1e39",
        ),
        *("decoder.width=1000000000", "decoder.mlp_ratio=1e300", "decoder.surrogate_width=8000000000000"),
        *(
            "bottleneck.latent_dim=100000000000000000",
            "bottleneck.hidden_dim=2000000",
            "decoder.memory_hidden=-1",
        ),
    ],
)
def test_numbers_that_nothing_can_be_computed_with_are_refused(given):
    assert given.partition("=")[0] in failure(assignments=[given]).message


def test_candidates_of_a_search_fit_its_calls():
    load_settings(assignments=["sample.search=8", "sample.candidates=8"])
    error = failure(assignments=["sample.search=8", "sample.candidates=9"])
    assert "each candidate costs a call" in error.message


@pytest.mark.parametrize("explain", [False, True])
def test_a_template_gives_what_was_given_and_shows_each_default_as_a_comment(explain, tmp_path):
    given = ["train.max_minutes=2.5", 'encoder.name=a\\b "c"', "feedback.rounds=0,1", "data.limit=none"]
    first = load_settings(assignments=given)
    text = to_template(first, explain)
    again = load_settings([write(tmp_path / "saved.toml", text)])
    assert again.settings == first.settings
    assert again.origins.keys() == first.origins.keys() == {text.partition("=")[0] for text in given}
    # Without the marks it is the whole of the settings.
    whole = "\n".join(re.sub(r"^# (?=\w+ = |    |\])", "", line) for line in text.splitlines())
    assert tomllib.loads(whole) == tomllib.loads(to_toml(first.settings))
    assert (f"# {OPTIONS['train.beta'].help}\n# beta = " in text) is explain


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.learning_rat", "train.learning_rate"),
        ("train.lr", "train.learning_rate"),
        ("learning_rate", "train.learning_rate"),
        ("train.width", "decoder.width"),
        ("trian.seed", "data.seed or train.seed"),
        ("Train.Seed", "train.seed"),
    ],
)
def test_unknown_keys_name_the_nearest_one(key, nearest, tmp_path):
    error = failure(assignments=[f"{key}=1"])
    assert f"`{key}`" in error.message
    assert f"Did you mean {nearest}?" in error.hint


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("a.toml", "[train]\nsede = 1\n", "train.sede"),
        ("a.toml", "[trian]\n", "trian"),
        ("a.toml", "seed = 1\n", "seed"),
        ("a.toml", "[train.seed]\nx = 1\n", "train.seed"),
        ("a.yaml", "train: {sede: 1}\n", "train.sede"),
        ("a.yaml", "train: {1: 1}\n", "train.1"),
    ],
)
def test_unknown_keys_in_files(name, text, key, tmp_path):
    file = write(tmp_path / name, text)
    error = failure(files=[file])
    assert key in error.message
    assert str(file) in error.message


@pytest.mark.parametrize(
    "variable", ["SGDD_TRAIN__SEEED", "SGDD_SEED", "SGDD_TRAIN", "sgdd_train__seeed", "SGDD_X__Y__Z"]
)
def test_unknown_variables(variable, monkeypatch):
    monkeypatch.setenv(variable, "1")
    error = failure()
    assert variable in error.message


def test_a_variable_in_lower_case_counts_too(monkeypatch):
    monkeypatch.setenv("sgdd_train__seed", "9")
    resolved = load_settings()
    assert resolved.settings.train.seed == 9
    assert resolved.origin("train.seed") == "environment sgdd_train__seed"


def test_variables_that_are_no_settings(monkeypatch):
    monkeypatch.setenv("SGDD_CHECKPOINT", "somewhere")
    monkeypatch.setenv("SGDD_DEBUG", "1")
    assert load_settings().origins == {}


@pytest.mark.parametrize(
    ("assignment", "wanted"),
    [
        ("train.seed=x", "a whole number"),
        ("train.seed=1.5", "a whole number"),
        ("train.seed=none", "a whole number"),
        ("train.learning_rate=fast", "a number"),
        ("train.learning_rate=nan", "a number"),
        ("train.max_minutes=inf", "a number, or none"),
        ("decoder.anchors=maybe", "true or false"),
        ("bottleneck.kind=vae", "one of vib, whitening, none"),
    ],
)
def test_a_value_of_the_wrong_kind_names_key_origin_and_what_it_must_be(assignment, wanted):
    error = failure(assignments=[assignment])
    key = assignment.partition("=")[0]
    assert error.message.startswith(f"{key} is ")
    assert "(from --set)" in error.message
    assert f"it must be {wanted}." in error.message


@pytest.mark.parametrize(
    "line", ["seed = true", 'seed = "x"', "seed = [1]", "seed = 1979-05-27", "learning_rate = inf"]
)
def test_wrong_kinds_in_a_file(line, tmp_path):
    file = write(tmp_path / "a.toml", f"[train]\n{line}\n")
    assert f"(from {file})" in failure(files=[file]).message


def test_the_dataclasses_own_checks_say_where_the_value_came_from(monkeypatch):
    monkeypatch.setenv("SGDD_DECODER__HEADS", "3")
    error = failure()
    assert "decoder.width (256) must be a multiple of decoder.heads (3)" in error.message
    assert "decoder.heads comes from environment SGDD_DECODER__HEADS." in error.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.toml", b"[train\n"),
        ("a.toml", b"seed = 1\nseed = 2\n"),
        ("a.toml", b"\xff\xfe\x00"),
        ("a.yaml", b"a: [1\n"),
        ("a.yaml", b"- 1\n- 2\n"),
        ("a.yaml", b"just words\n"),
        ("a.yaml", b"\xff\xfe\x00\x00"),
        ("a.yaml", b"train: !!python/object/apply:os.getcwd []\n"),
        ("a.yaml", b"train: 3\n"),
        ("a.json", b"{}"),
    ],
)
def test_files_that_cannot_be_read_are_named(name, content, tmp_path):
    file = tmp_path / name
    file.write_bytes(content)
    assert str(file) in failure(files=[file]).message


def test_a_missing_file_and_a_folder_are_errors(tmp_path, monkeypatch):
    assert "no-such.toml" in failure(files=[Path("no-such.toml")]).message
    assert str(tmp_path) in failure(files=[tmp_path]).message
    monkeypatch.setenv("SGDD_CONFIG", "gone.toml")
    assert "gone.toml" in failure().message


def test_an_assignment_without_a_value_is_an_error():
    assert "--set train.seed has no `=`" in failure(assignments=["train.seed"]).message
    assert "section" in failure(assignments=["train=3"]).message


def test_keys_of_older_versions_are_read_from_every_source(tmp_path, monkeypatch):
    file = write(tmp_path / "old.toml", "[eval]\ncandidates = 2\nrefine = 2\nshortlist = 2\n")
    monkeypatch.setenv("SGDD_EVAL__REFINE", "3")
    resolved = load_settings([file], ["eval.shortlist=4"])
    found = resolved.settings.generation
    assert (found.candidates, found.refine, found.shortlist) == (2, 3, 4)
    assert resolved.origin("sample.refine") == "environment SGDD_EVAL__REFINE"
    assert load_settings((), ["sample.order=margin"]).settings.sample.position_rule == "margin"
    # The present key of a stronger source beats the old one of a weaker one, and the reverse.
    assert load_settings([file], ["sample.candidates=5"]).settings.generation.candidates == 5
    new = write(tmp_path / "new.toml", "[sample]\ncandidates = 6\n")
    assert load_settings([new], ["eval.candidates=7"]).settings.generation.candidates == 7
    assert {"eval.candidates", "eval.refine", "eval.shortlist"}.isdisjoint(OPTIONS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", '"train.max_steps" = 5\n[train]\nmax_steps = 6\n'),
        ("a.yaml", "train.max_steps: 5\ntrain:\n  max_steps: 6\n"),
    ],
)
def test_a_key_that_a_file_holds_twice_is_refused(name, text, tmp_path):
    assert (
        "holds train.max_steps twice, with two values"
        in failure(files=[write(tmp_path / name, text)]).message
    )
    same = write(tmp_path / name, text.replace("6", "5"))
    assert load_settings([same]).settings.train.max_steps == 5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SGDD_SAMPLE__ORDER", "SGDD_SAMPLE__POSITION_RULE"),
        ("SGDD_SAMPLE__POSITION_RULE", "sgdd_sample__position_rule"),
    ],
)
def test_two_variables_of_one_setting_are_refused(one, other, monkeypatch):
    monkeypatch.setenv(one, "confidence")
    monkeypatch.setenv(other, "random")
    message = failure().message
    assert "gives sample.position_rule two values" in message
    assert one in message
    assert other in message


@pytest.mark.parametrize("key", ["train.max_steps", "train.learning_rate"])
def test_a_number_of_too_many_digits_is_refused_as_text_too(key):
    assert re.search(f"{key} is .*; it must be", failure(assignments=[f"{key}={'9' * 400}"]).message)


def test_a_length_for_candidates_that_differ_in_length_is_refused_with_both_origins(monkeypatch):
    monkeypatch.setenv("SGDD_SAMPLE__LENGTH", "6")
    resolved = load_settings(flags=[("--candidates", "sample.candidates", 2)])
    with pytest.raises(ConfigError) as caught:
        resolved.require(resolved.settings.generation.require_lengths_for_candidates)
    error = caught.value
    assert "sample.length is 6" in error.message
    assert "sample.candidates comes from --candidates." in error.hint
    assert "sample.length comes from environment SGDD_SAMPLE__LENGTH." in error.hint


def test_a_length_is_one_number_or_a_range():
    def length(text, **others):
        options = [f"sample.length={text}", *(f"sample.{key}={value}" for key, value in others.items())]
        resolved = load_settings(assignments=options)
        resolved.require(resolved.settings.generation.require_lengths_for_candidates)
        return resolved.settings.generation.length

    assert [length(text) for text in ("7", " 7 ", "7-7", "6-9", " 6 - 9")] == [7, 7, 7, "6-9", "6-9"]
    assert length("6-9", candidates=3) == "6-9"
    assert length("none", candidates=3) is None
    for text in ("0", "0-4", "9-6", "6-", "-6", "six", "6-9-12", "1.5", "6..9", "٦"):
        error = failure(assignments=[f"sample.length={text}"])
        assert (
            error.message
            == f"sample.length is {text}; it must be a whole number of at least 1, or a range such as 6-9."
        )
        assert "sample.length comes from --set." in error.hint
    with pytest.raises(ConfigError) as caught:
        length("6-6", candidates=2)
    assert "a range such as 6-9" in caught.value.hint


def test_a_length_in_a_file_is_a_number_or_a_text(tmp_path):
    def length(value):
        return load_settings(
            [write(tmp_path / "s.toml", f"[sample]\nlength = {value}\n")]
        ).settings.generation.length

    assert [length(value) for value in ("8", "'8-10'", "'none'")] == [8, "8-10", None]
    for value in ("8.5", "[8, 10]"):
        error = failure(files=[write(tmp_path / "s.toml", f"[sample]\nlength = {value}\n")])
        assert "it must be a whole number or text, or none" in error.message


@pytest.mark.parametrize(
    "assignment", ["candidates=0", "refine=-1", "shortlist=0", "length=0", "num_samples=0", "seed=-1"]
)
def test_numbers_of_texts_out_of_range_name_their_key(assignment):
    assert failure(assignments=[f"sample.{assignment}"]).message.startswith(
        f"sample.{assignment.partition('=')[0]} is "
    )


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_settings().settings.train.seed = 3  # type: ignore[misc]


def test_the_weights_of_the_loss_are_read_under_their_old_names(tmp_path, monkeypatch):
    old = write(
        tmp_path / "old.toml", "[bottleneck]\nkind = 'vib'\nbeta = 0.01\nfree_bits = 0.1\nanneal_steps = 7\n"
    )
    resolved = load_settings([old])
    train = resolved.settings.train
    assert (train.beta, train.free_bits, train.anneal_steps) == (0.01, 0.1, 7)
    assert resolved.origin("train.beta") == str(old)
    monkeypatch.setenv("SGDD_BOTTLENECK__BETA", "0.02")
    assert load_settings([old]).settings.train.beta == 0.02
    assert load_settings([old], ["bottleneck.beta=0.03"]).settings.train.beta == 0.03
    assert "bottleneck.beta" not in OPTIONS
    twice = write(tmp_path / "twice.toml", "[bottleneck]\nbeta = 0.01\n[train]\nbeta = 0.02\n")
    assert "bottleneck.beta" in failure(files=[twice]).message
