"""Choices by name: what an entry may be, how parameters are read, and packages that bring entries."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from sgdd_engine import registry as registry_module
from sgdd_engine.config_fields import check_choices, choice
from sgdd_engine.errors import ConfigError
from sgdd_engine.registry import Registry


@pytest.fixture
def shapes():
    """A class with a parameter, a function with one, and a class that its users give an argument."""
    registry = Registry("shape")

    @registry.register("square", "box")
    @dataclass(frozen=True)
    class Square:
        side: float = 1.0
        filled: bool = False

        def __post_init__(self):
            if self.side <= 0:
                raise ValueError("the side must be positive.")

    @registry.register("line")
    def line(start, *, length=3):
        return (start, length)

    @registry.register("on")
    class On:
        def __init__(self, base, height=2):
            self.said = (base, height)

    return registry


def test_entries_are_built_with_their_parameters(shapes):
    assert shapes.names() == ("square", "line", "on")
    square = shapes.build("square:side=2.5,filled=true")
    assert (square.side, square.filled) == (2.5, True)
    assert shapes.build("square").side == 1.0
    assert shapes.build("line")(4) == (4, 3)
    assert shapes.build("line:length=7")(4) == (4, 7)
    assert shapes.build("on:height=5")("table").said == ("table", 5)


def test_one_object_serves_all_who_ask_alike(shapes):
    assert shapes.build("square") is shapes.build("square")
    assert shapes.build("square:side=2") is not shapes.build("square:side=3")


def test_an_old_name_means_the_present_one(shapes):
    assert shapes.canonical("box:side=2", "picture.shape") == "square:side=2"
    assert shapes.build("box") == shapes.build("square")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("squar", r"picture\.shape is 'squar'; it must be one of square, line, on\."),
        ("square:size=2", r"parameter 'size' that does not exist \(it has side, filled\)"),
        ("square:side=wide", r"side of picture\.shape is 'wide'; it must be of type float"),
        ("square:filled=perhaps", "must be of type bool"),
        ("square:side=-1", "the side must be positive"),
        ("line:start=1", r"'start' that does not exist \(it has length\)"),
        ("", "it must be one of"),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_sentence(shapes, spec, sentence):
    with pytest.raises(ConfigError, match=sentence):
        shapes.canonical(spec, "picture.shape")


def test_the_nearest_name_is_the_hint(shapes):
    with pytest.raises(ConfigError) as refused:
        shapes.canonical("squar", "picture.shape")
    assert refused.value.hint == "Did you mean square?"


def test_a_name_is_registered_once(shapes):
    with pytest.raises(ValueError, match="registered already"):
        shapes.register("line")(lambda: None)


def test_objects_of_a_kind_are_used_together():
    registry = Registry("metric", {"one": 1})
    registry.add("two", 2)
    assert dict(registry.items()) == {"one": 1, "two": 2}
    assert registry["two"] == 2
    with pytest.raises(ValueError, match="The metric `one` is registered already"):
        registry.add("one", 3)


def test_a_configuration_holds_names_of_a_registry(shapes):
    @dataclass(frozen=True)
    class Picture:
        shape: str = choice("square", shapes, "what is drawn")

        def __post_init__(self):
            check_choices(self, "picture")

    assert Picture(shape="box:side=4").shape == "square:side=4"
    with pytest.raises(ConfigError, match=r"picture\.shape is 'cube'"):
        Picture(shape="cube")


def test_packages_bring_entries_and_a_broken_one_breaks_no_other(shapes, tmp_path, monkeypatch):
    source = "from test_registry import HOST\n@HOST[0].register('circle')\ndef circle(): return 'round'\n"
    (tmp_path / "more_shapes.py").write_text(source)
    (tmp_path / "broken_shapes.py").write_text("raise RuntimeError('half installed')\n")
    monkeypatch.syspath_prepend(tmp_path)
    HOST[:] = [shapes]
    points = [EntryPoint(name, f"{name}_shapes", registry_module.EXTENSIONS) for name in ("broken", "more")]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: points)
    assert shapes.build("circle")() == "round"
    with pytest.raises(ConfigError) as refused:
        shapes.build("sphere")
    assert (
        "The extension `broken` (broken_shapes) is broken: RuntimeError: half installed" in refused.value.hint
    )


HOST = []
