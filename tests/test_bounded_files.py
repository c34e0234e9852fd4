"""Files of JSON, TOML and YAML that starve, crash or mislead whoever reads them whole."""

import json
import os
import socket
import time

import pytest

from sgdd_cli.settings import load_settings
from sgdd_engine.atomic_files import damage
from sgdd_engine.bounded_files import (
    MOST_DEPTH,
    MOST_VALUES,
    UnreadableError,
    parse_json,
    read_bytes,
    read_json,
    read_json_object,
    read_toml,
)
from sgdd_engine.errors import ConfigError, SgddError

pytestmark = pytest.mark.faults

# Of processor time: many times what any of these takes (1.4 alone, twice that beside busy processes), and less than any
# that starves its reader, whose time grows with the square of the length or faster.
SECONDS = 20.0


def outcome(act) -> str:
    """What comes of an attack: `found` where it is refused in a sentence, and soon."""
    began = time.process_time()
    try:
        act()
    except SgddError as error:
        took = time.process_time() - began
        sound = error.message.endswith(".") and len(error.message) < 600 and took < SECONDS
        return "found" if sound else "bug"
    except Exception:
        return "bug"
    return "silent"


def aliases(width: int, deep: int) -> str:
    """YAML of `deep` lists, each of `width` aliases of the one before it."""
    lines = [f"l0: &l0 [{', '.join(['x'] * width)}]"]
    for level in range(1, deep):
        lines.append(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * width)}]")
    return "\n".join(lines)


JSON = {
    "nested 100,000 deep": "[" * 100_000 + "]" * 100_000,
    "nested 100,000 objects deep": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "nested just too deep": "[" * MOST_DEPTH + "[]" + "]" * MOST_DEPTH,
    "a key twice": '{"layers": 1, "layers": 2}',
    "a key twice inside": '[{"a": {"b": 1, "b": 1}}]',
    "too many values": "[" + "1," * MOST_VALUES + "1]",
    "too many lists": "[[]" + ",[]" * MOST_VALUES + "]",
    "a number of 100,000 digits": "1" * 100_000,
    "not UTF-8": b'{"a": "\xe9"}',
    "a byte-order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "NUL bytes": bytes(1000),
    "cut off": '{"a": [1, 2',
    "two values": "{} {}",
    "empty": "",
}
TOML = {
    "50,000 dotted keys": ".".join("a" * 50_000) + " = 1",
    "20,000 dotted keys": ".".join("a" * 20_000) + " = 1",
    "a table of 20,000 dotted keys": "[" + ".".join("a" * 20_000) + "]",
    "dotted keys in an inline table": "a = {" + ".".join("a" * 20_000) + " = 1}",
    "nested lists": "a = " + "[" * 30_000,
    "nested tables": "a = " + "{a = " * 10_000,
    "a key twice": "[train]\nseed = 1\nseed = 2",
    "a table twice": "[train]\n[train]",
    "too large": "# comment\n" * 10_000,
    "not UTF-8": b"a = '\xe9'",
    "not TOML": "train:\n  seed: 1",
    "a number of 50,000 digits": "[train]\nseed = 0x" + "f" * 50_000,
}
YAML = {
    "aliases of aliases": aliases(9, 9),
    "aliases of a long list": "a: &a [" + "x, " * 8_000 + "x]\nb: [" + "*a, " * 8_000 + "x]",
    "aliases in a known key": "train:\n  seed: ["
    + "\n"
    + aliases(9, 9).replace("\n", ",\n").replace(": ", ": ")
    + "]",
    "contains itself": "a: &a [*a]",
    "a mapping that contains itself": "train: &a {seed: *a}",
    "merges itself": "train: &a {<<: *a}",
    "nested 5,000 deep": "[" * 5_000,
    "nested 2,000 blocks deep": "- " * 2_000 + "1",
    "a key twice": "train: {seed: 1, seed: 2}",
    "a section twice": "train: {seed: 1}\ntrain: {seed: 2}",
    "too large": "# comment\n" * 10_000,
    "a list as a key": "? [a]\n: 1",
    "an impossible date": "train: {seed: 2001-99-99}",
    "an object of Python": "train: !!python/object/apply:os.system ['true']",
    "a module of Python": "train: !!python/module:os",
    "no number": "train: {seed: !!int ''}",
    "no truth value": "train: {seed: !!bool x}",
    "no time": "train: {seed: !!timestamp x}",
    "a number of 5,000 parts": "train: {seed: 1" + ":1" * 5_000 + "}",
    "two documents": "train: {seed: 1}\n---\ntrain: {seed: 2}",
    "control characters": b"train: {seed: \x01}",
    "not UTF-8": b"train: '\xe9'",
    "a list": "- 1",
    "a word": "train",
}


@pytest.mark.parametrize("name", JSON)
def test_json_that_cannot_be(name, faults, tmp_path):
    content = JSON[name]
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    faults.tell(outcome(lambda: read_json(path)), name)


@pytest.mark.parametrize("name", TOML)
def test_toml_that_cannot_be(name, faults, tmp_path):
    content = TOML[name]
    path = tmp_path / "a.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    faults.tell(outcome(lambda: load_settings([path])), name)


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_cannot_be(name, faults, tmp_path):
    content = YAML[name]
    path = tmp_path / "a.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    faults.tell(outcome(lambda: load_settings([path])), name)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_is_no_file(faults, tmp_path):
    pipe, listening = tmp_path / "pipe.json", tmp_path / "socket.json"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listening))
        (tmp_path / "folder.json").mkdir()
        (tmp_path / "round.json").symlink_to("round.json")
        (tmp_path / "zeros.json").symlink_to("/dev/zero")
        for path in sorted(tmp_path.iterdir()):
            faults.tell(outcome(lambda path=path: read_json(path)), path.name)
    faults.tell(outcome(lambda: read_json(tmp_path / "nothing.json")), "missing")
    faults.tell(outcome(lambda: read_json(tmp_path / "a\0b")), "a NUL in the name")
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    pipe.rename(sealed / "files.json")
    faults.tell("found" if damage(sealed) else "silent", "the list of hashes is a pipe")


def test_a_file_at_each_limit_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" * (MOST_DEPTH - 1) + "[]" + "]" * (MOST_DEPTH - 1))
    assert read_json(path)
    path.write_text("{}")
    assert read_json_object(path) == {}
    assert read_bytes(path, 2) == b"{}"
    with pytest.raises(UnreadableError, match="larger than 1 bytes"):
        read_bytes(path, 1)
    assert parse_json('{"a": {"a": 1}, "b": {"a": 1}}', "it") == {"a": {"a": 1}, "b": {"a": 1}}


@pytest.mark.parametrize("text", ["1,", "[{", '\\"],'])
def test_commas_and_brackets_of_a_text_are_no_values(text):
    values = ["x", text * MOST_VALUES, "y"]
    assert parse_json(json.dumps(values), "A row") == values
    most = [text * MOST_VALUES, *[0] * (MOST_VALUES - 2)]
    assert parse_json(json.dumps(most), "A row") == most
    with pytest.raises(UnreadableError, match="holds more than 2,097,152 values"):
        parse_json(json.dumps([text * 10, *[0] * MOST_VALUES]), "A row")


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * MOST_VALUES + "," * MOST_VALUES, '"\\' * MOST_VALUES, '"' * 9_000_000]
)
def test_a_text_without_an_end_is_refused_soon(text):
    assert outcome(lambda: parse_json("[" + "," * MOST_VALUES + text, "A row")) == "found"
    assert outcome(lambda: parse_json("[" + text + "," * MOST_VALUES, "A row")) == "found"


def test_dots_that_are_no_keys_are_read(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("# " + "." * 200 + "\n[train]\nseed = 1\n")
    assert read_toml(path) == {"train": {"seed": 1}}


def test_yaml_with_few_aliases_is_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("train: &own\n  seed: 3\n  batch_tokens: 4096\nsample:\n  steps: 7\n")
    assert load_settings([path]).settings.train.seed == 3
    path.write_text("train: {seed: &n 3}\nsample: {steps: *n}\n")
    assert load_settings([path]).settings.sample.steps == 3


def test_the_reason_names_the_file_and_the_key(tmp_path):
    path = tmp_path / "sgdd.toml"
    path.write_text("[train]\nseed = 0x" + "f" * 20_000)
    with pytest.raises(ConfigError, match=r"train.seed is a number of 80,000 bits"):
        load_settings([path])
