"""Inputs of every kind, ten thousand with `--report`: each gives a value, or an `SgddError` in a sentence.

What once failed stands as an `@example`.
"""

import json
import math
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from fault_report import tried_count
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny_sgdd import build

from sgdd_cli.settings import OPTIONS, load_settings
from sgdd_engine.atomic_files import damage
from sgdd_engine.bounded_files import parse_json, read_toml
from sgdd_engine.checkpoint import CheckpointInfo
from sgdd_engine.data.cleaning import clean
from sgdd_engine.data.manifest import Manifest
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import SgddError
from sgdd_engine.generation.confidence import recorded_fits
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.module_chain import read_module_chain
from sgdd_engine.text.tokenizer import TextTokenizer, train_unigram
from sgdd_engine.training.state import Progress
from sgdd_engine.vectors import read_vectors
from sgdd_engine.visible_text import visible, visible_json

pytestmark = [pytest.mark.faults, pytest.mark.slow]

LONE = st.characters(categories=None)  # lone surrogates too
TEXT = st.text(LONE, max_size=30)
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 10**6, 10**12, 1e308, 1e-320]),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT)
KEYS = st.one_of(TEXT, st.sampled_from(["a", "type", "path", "layers", "shard", "prompts", "pooling_mode"]))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)


def cases(count: int):
    """The same cases on every machine; a case may be slow where the machine is busy."""
    return settings(
        max_examples=tried_count(count),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.fixture
def told(faults):
    """Tries one input, and counts what came of it."""

    def tell(act, what: object):
        try:
            value = act()
        except SgddError as error:
            faults.tell("found" if error.message.endswith((".", "?")) else "bug", repr(what)[:300])
            return None
        except Exception as error:
            faults.tell("bug", f"{type(error).__name__}: {repr(what)[:300]}")
            return None
        faults.tell("harmless", "")
        return value

    return tell


@cases(1200)
@given(st.one_of(TEXT, st.text('{}[]":,0129eE+-.\\utrfnal ', max_size=40), VALUES.map(json.dumps)))
@example("1" * 5000)
@example("[" * 2000)
@example('{"a": 1, "a": 1}')
def test_any_json(told, text):
    told(lambda: parse_json(text, "It"), text)


@cases(1000)
@given(st.one_of(TEXT, st.text("[]{}=.,\"'\n#0x1_-abtrue: ", max_size=60)))
@example("a" + ".a" * 5000 + "=1")
@example("a=0x" + "f" * 5000)
def test_any_toml(told, tmp_path, text):
    path = tmp_path / "a.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    told(lambda: read_toml(path), text)
    path = path.rename(tmp_path / "sgdd.toml")
    told(lambda: load_settings([path]), text)


@cases(700)
@given(st.one_of(TEXT, st.text("[]{}:,-?&*!|>'\"\n#01.xa<~% ", max_size=50)))
@example("train: {seed: !!int ''}")
@example("train: {seed: !!timestamp x}")
@example("&a [*a]")
def test_any_yaml(told, tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    told(lambda: load_settings([path]), text)


@cases(1000)
@given(st.sampled_from(sorted(OPTIONS)), VALUES)
@example("train.seed", 10**400)
@example("train.learning_rate", 10**400)
@example("sample.cfg", math.nan)
def test_any_setting(told, key, value):
    told(lambda: load_settings(flags=[("--flag", key, value)]), (key, value))


@cases(500)
@given(TEXT, TEXT)
def test_any_assignment(told, key, value):
    told(lambda: load_settings(assignments=[f"{key}={value}"]), (key, value))


@pytest.fixture(scope="module")
def plain(tiny_encoder, sentences) -> dict:
    info = build(tiny_encoder, sentences[:4], width=16).info
    facts = {
        "validation": {"loss": 1.0},
        "training": {"null_rows": 3},
        "settings": {},
        "corpus": {"name": "a"},
    }
    confidence = {"version": 1, "fits": {}}
    return json.loads(
        json.dumps({**info.to_dict(), "facts": facts, "sampling": {"cfg": 2.0}, "confidence": confidence})
    )


def places(value, path=()):
    """Where something stands in a JSON value."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from places(inner, (*path, key))


@cases(1800)
@given(st.data())
def test_any_config_of_a_checkpoint(told, plain, data):
    changed = json.loads(json.dumps(plain))
    *path, last = data.draw(st.sampled_from([place for place in places(plain) if place]))
    inner = changed
    for key in path:
        inner = inner[key]
    inner[last] = data.draw(VALUES)

    def read():
        info = CheckpointInfo.from_dict(changed)
        assert info.shareable()
        assert isinstance(info.validation_loss, float)
        assert isinstance(info.null_rows, int)
        recorded_fits(info)

    told(read, (path, last, inner[last]))


@cases(400)
@given(st.dictionaries(st.sampled_from(["step", "seconds", "best_loss", "position", "other"]), VALUES))
def test_any_progress(told, values):
    told(lambda: Progress.from_dict(values), values)


@cases(400)
@given(st.one_of(VALUES, st.dictionaries(TEXT, st.one_of(VALUES, st.just("0" * 64)))))
@example({"\0": "0" * 64})
@example({"a" * 5000: "0" * 64})
@example({"\ud800": "0" * 64})
@example({"a" * 300: "0" * 64})
def test_any_list_of_hashes(faults, tmp_path, value):
    (tmp_path / "files.json").write_text(json.dumps(value))
    try:
        problem = damage(tmp_path)
    except Exception as error:
        faults.tell("bug", f"{type(error).__name__}: {value!r}")
        return
    faults.tell("found" if problem else "harmless" if value == {} else "silent", repr(value)[:200])


@cases(300)
@given(st.one_of(VALUES, st.dictionaries(st.sampled_from(["format_version", "shards", "splits"]), VALUES)))
def test_any_manifest(told, tmp_path, value):
    (tmp_path / "manifest.json").write_text(json.dumps(value))
    told(lambda: Manifest.read(tmp_path), value)


CHAIN = {
    "modules.json": None,
    "1_Pooling/config.json": ("pooling_mode", "pooling_mode_cls_token", "include_prompt"),
    "sentence_bert_config.json": ("max_seq_length", "do_lower_case", "transformer_task"),
    "config_sentence_transformers.json": ("prompts", "default_prompt_name", "truncate_dim"),
    "2_Normalize/config.json": ("module_input_name", "module_output_name"),
}


@cases(900)
@given(st.sampled_from(sorted(CHAIN)), st.data())
def test_any_module_chain(told, tiny_encoder_folder, tmp_path, name, data):
    for file in CHAIN:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        kept = tiny_encoder_folder / file
        (tmp_path / file).write_text(kept.read_text() if kept.is_file() else "{}")
    keys = CHAIN[name]
    value = data.draw(
        VALUES if keys is None else st.one_of(VALUES, st.dictionaries(st.sampled_from(keys), VALUES))
    )
    (tmp_path / name).write_text(json.dumps(value))
    told(lambda: read_module_chain(tmp_path, EncoderConfig(name="folder")), (name, value))


@cases(800)
@given(TEXT)
@example("a\u0000b\u2028c")
@example("\ud800")
def test_any_text_is_cleaned_once(faults, text):
    cleaned = clean(text)
    sound = (
        clean(cleaned) == cleaned
        and cleaned == " ".join(cleaned.split())
        and not any(unicodedata.category(character) == "Cc" for character in cleaned)
    )
    faults.tell("harmless" if sound else "silent", repr(text))


@cases(400)
@given(TEXT)
def test_any_text_is_shown_without_escapes(faults, text):
    shown = visible(text)
    value = json.loads(visible_json(json.dumps(text, ensure_ascii=False)))
    sound = value == text and not any(unicodedata.category(character) == "Cc" for character in shown)
    faults.tell("harmless" if sound and visible(shown) == shown else "silent", repr(text))


def test_what_once_failed_of_a_config(told, plain):
    told(
        lambda: CheckpointInfo.from_dict({**plain, "facts": {"validation": {"loss": -(10**400)}}}),
        "a loss of 10^400",
    )


def test_what_once_failed_of_a_module_chain(told, tiny_encoder_folder, tmp_path):
    folder = Path(shutil.copytree(tiny_encoder_folder, tmp_path / "encoder"))
    for value in ({"module_input_name": {}}, {"module_output_name": [{}, [None]]}):
        (folder / "2_Normalize").mkdir(exist_ok=True)
        (folder / "2_Normalize" / "config.json").write_text(json.dumps(value))
        told(lambda: read_module_chain(folder, EncoderConfig(name="folder")), value)


@pytest.fixture(scope="module")
def vocabularies(tiny_encoder, sentences) -> list[TextTokenizer]:
    return [train_unigram(sentences, 1200), TextTokenizer.from_encoder(tiny_encoder)]


@cases(400)
@given(st.text(max_size=30))
@example("<mask> </s> [MASK] ##ing ▁")
def test_any_text_is_given_back_by_a_vocabulary_with_bytes(faults, vocabularies, text):
    unigram, own = vocabularies
    cleaned = clean(text)
    (ids,) = unigram.encode_batch([cleaned])
    (back,) = unigram.decode_batch([ids])
    in_range = all(0 <= index < unigram.vocab_size for index in ids) and unigram.mask_id not in ids
    # A text that spells one of the pieces that are no text gets a space inside it.
    spelled = any(unigram.piece(index) in cleaned for index in unigram.special_ids)
    faults.tell("harmless" if in_range and (back == cleaned or spelled) else "silent", repr(text))
    (ids,) = own.encode_batch([cleaned])
    faults.tell("harmless" if own.mask_id not in ids else "silent", repr(text))


ENDINGS = (".jsonl", ".csv", ".tsv", ".npy", ".npz", ".safetensors", ".parquet", ".arrow")


@cases(500)
@given(
    st.sampled_from(ENDINGS), st.one_of(st.binary(max_size=60), TEXT, VALUES.map(json.dumps)), st.booleans()
)
def test_any_file_of_vectors(told, tmp_path, ending, content, cut):
    path = tmp_path / f"a{ending}"
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    if ending == ".npy":
        np.save(path, np.ones((2, 3), np.float32))
        whole = path.read_bytes()
        data = whole[: len(data)] + data if cut else data + whole
    path.write_bytes(data)
    told(lambda: [batch.vectors.shape for batch in read_vectors(str(path))], (ending, data))


@pytest.fixture(scope="module")
def model(tiny_encoder, sentences):
    return build(tiny_encoder, sentences[:20], width=16)


QUICK = SamplingConfig(steps=1)
ARGUMENTS = ("lengths", "candidates", "refine", "shortlist", "proposals", "search", "num_samples", "seed")
FEW = st.one_of(
    LEAVES.filter(lambda value: not isinstance(value, int) or abs(value) < 5), st.lists(LEAVES, max_size=2)
)


@cases(300)
@given(st.sampled_from(ARGUMENTS), FEW)
@example("seed", 2**64)
@example("num_samples", -(2**70))
@example("lengths", "9" * 5000)
def test_any_argument_of_generate(told, model, name, value):
    vectors = np.linspace(-1, 1, 32, dtype=np.float32)
    told(lambda: model.generate(vectors, sampling=QUICK, **{name: value}), (name, value))


@cases(300)
@given(st.one_of(VALUES, st.lists(st.floats(), min_size=31, max_size=33)))
@example([10**400] * 32)
def test_any_vector(told, model, vectors):
    told(lambda: model.generate(vectors, sampling=QUICK), vectors)
