"""Paths as Windows writes them, wherever a text is looked at for `/`, `:` or a name."""

import subprocess
from pathlib import Path, PureWindowsPath

import pytest

from sgdd_cli.default_paths import corpus_folder
from sgdd_engine.checkpoint import HubName
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.sources import open_source
from sgdd_engine.errors import DataError, VectorSourceError
from sgdd_engine.paths_and_shells import is_reserved, is_url, last_part, shell_line, split_name
from sgdd_engine.vectors import open_vectors

ON_WINDOWS = [
    PureWindowsPath(r"C:\texts\my tales.txt"),
    PureWindowsPath(r"C:texts\my tales.txt"),
    PureWindowsPath(r"\\server\share\my tales.txt"),
    PureWindowsPath(r"runs\..\my tales.txt"),
]


@pytest.mark.parametrize("path", ON_WINDOWS, ids=str)
@pytest.mark.parametrize("spell", [str, PureWindowsPath.as_posix])
def test_a_windows_path_is_a_path_however_its_slashes_lean(path, spell):
    text = spell(path)
    assert last_part(text) == path.name
    assert not is_url(text)
    assert corpus_folder(text) == Path("data", "my-tales")
    assert HubName.parse(text) is None


def test_a_run_on_windows_is_no_model_on_the_hub():
    run = PureWindowsPath("runs", "tales")
    assert HubName.parse(str(run)) is None
    assert not HubName.parse(run.as_posix()).means_hub()
    assert HubName.parse("C:/models") is None
    assert HubName.parse("anna/tales").means_hub()


def test_urls_are_told_from_drives():
    assert is_url("http://localhost:8000")
    assert is_url("s3://bucket/x")
    assert not is_url("C://data")
    assert not is_url(r"C:\data")
    assert not is_url("a/b://c")


def test_a_drive_keeps_its_colon_where_parts_are_split():
    assert split_name("anna/tales:en:test") == ["anna/tales", "en", "test"]
    assert split_name(r"C:\tales:en") == [r"C:\tales", "en"]
    assert split_name("C:/tales") == ["C:/tales"]
    assert split_name("c:en") == ["c", "en"]


def test_a_folder_on_a_drive_is_a_data_set():
    source = open_source(r"hf:D:\sets\tales:en", DataConfig())
    assert (source._dataset, source._subset) == (r"D:\sets\tales", "en")
    with pytest.raises(VectorSourceError) as refused:
        open_vectors(r"C:\no\such.faiss.txt")
    assert "Did you mean" not in refused.value.hint


def test_a_missing_file_on_a_drive_is_not_taken_for_a_name_on_the_hub():
    with pytest.raises(DataError) as refused:
        open_source("C:/tales", DataConfig())
    assert "hf:C:" not in refused.value.hint
    with pytest.raises(DataError) as refused:
        open_source("anna/tales", DataConfig())
    assert "`hf:anna/tales`" in refused.value.hint


@pytest.mark.parametrize("name", ["aux", "NUL", "con", "com1", "lpt9"])
def test_no_folder_is_called_like_a_device(name):
    assert is_reserved(name)
    assert corpus_folder(f"{name}.txt") == Path("data", f"text-{name}")
    assert not is_reserved(f"{name}iliary")


def test_commands_in_hints_are_quoted_for_the_shell_of_the_system():
    words = ["sgdd", "eval", PureWindowsPath(r"C:\my runs\tales"), "--set", "a.b=c"]
    assert shell_line(words, windows=True) == r'sgdd eval "C:\my runs\tales" --set a.b=c'
    assert shell_line(words, windows=False) == r"sgdd eval 'C:\my runs\tales' --set a.b=c"
    assert shell_line(words, windows=True) == subprocess.list2cmdline(map(str, words))
