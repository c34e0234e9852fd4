"""Folders that are whole or not there, and damage that is found."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from recorded_disk import ended_pid

from sgdd_engine import atomic_files
from sgdd_engine.atomic_files import (
    HASHES,
    LOCK,
    change_file,
    check_writable,
    damage,
    exclusive_folder,
    remove_folder,
    remove_leftovers,
    sha256_of,
    write_folder,
    write_json,
    write_text,
)
from sgdd_engine.errors import SgddError
from sgdd_engine.vectors.npy import NpyWriter


def fill(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 50)
    (folder / "training").mkdir()
    (folder / "training" / "state.json").write_text("{}", encoding="utf-8")


@pytest.fixture
def sealed(tmp_path):
    folder = tmp_path / "runs" / "step-1"
    write_folder(folder, fill)
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_sealed_folder_is_sound_and_alone(sealed):
    assert damage(sealed) is None
    assert names(sealed) == {"weights.bin", "training", "training/state.json", HASHES}
    assert names(sealed.parent) - {f"step-1/{name}" for name in names(sealed)} == {"step-1"}
    hashes = json.loads((sealed / HASHES).read_text(encoding="utf-8"))
    assert hashes == {name: sha256_of(sealed / name) for name in ("training/state.json", "weights.bin")}


@pytest.mark.parametrize("place", [0, 6_000, -1])
def test_a_flipped_byte_is_found(sealed, place):
    path = sealed / "weights.bin"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert damage(sealed) == "`weights.bin` is damaged"


def test_a_lost_or_shortened_file_is_found(sealed):
    path = sealed / "weights.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert damage(sealed) == "`weights.bin` is damaged"
    path.unlink()
    assert damage(sealed) == "`weights.bin` is missing"


def test_only_the_part_that_is_asked_for_is_read(sealed):
    (sealed / "training" / "state.json").unlink()
    assert damage(sealed, "weights") is None
    assert damage(sealed, "training") == "`training/state.json` is missing"


def test_a_damaged_manifest_is_found(sealed):
    manifest = sealed / HASHES
    whole = manifest.read_bytes()
    for length in range(len(whole.rstrip())):
        manifest.write_bytes(whole[:length])
        assert str(damage(sealed)).startswith(f"`{HASHES}` is damaged")
    for other in (b"[]", b"3", b"null", b'"text"', b"\xff\xfe"):
        manifest.write_bytes(other)
        assert str(damage(sealed)).startswith(f"`{HASHES}` is damaged")
    manifest.unlink()
    assert damage(sealed) == f"`{HASHES}` is missing"
    assert damage(sealed / "nowhere") == f"`{HASHES}` is missing"


@pytest.mark.parametrize("failure", [OSError("no space left"), KeyboardInterrupt()])
def test_a_failing_fill_leaves_nothing_behind(tmp_path, failure):
    def fails(folder):
        fill(folder)
        raise failure

    with pytest.raises(type(failure)):
        write_folder(tmp_path / "model", fails)
    assert names(tmp_path) == set()


def test_a_failing_fill_leaves_the_old_folder_as_it_was(sealed):
    before = {name: (sealed / name).read_bytes() for name in names(sealed) if (sealed / name).is_file()}

    def fails(folder):
        (folder / "weights.bin").write_bytes(b"half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_folder(sealed, fails)
    assert {name: (sealed / name).read_bytes() for name in before} == before
    assert damage(sealed) is None
    assert [path.name for path in sealed.parent.iterdir()] == ["step-1"]


def test_a_folder_is_replaced_whole(sealed):
    write_folder(sealed, lambda folder: (folder / "only.txt").write_text("new", encoding="utf-8"))
    assert names(sealed) == {"only.txt", HASHES}
    assert damage(sealed) is None
    assert [path.name for path in sealed.parent.iterdir()] == ["step-1"]


def test_the_old_folder_comes_back_where_the_new_one_cannot_be_named(sealed, monkeypatch):
    rename = Path.rename

    def refuses_the_new(self, target):
        if self.name.endswith(".tmp"):
            raise PermissionError("in use")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuses_the_new)
    with pytest.raises(PermissionError):
        write_folder(sealed, fill)
    assert damage(sealed) is None
    assert [path.name for path in sealed.parent.iterdir()] == ["step-1"]


def test_text_is_utf8_with_plain_newlines(tmp_path):
    write_text(tmp_path / "a.txt", "naïve\nα\n")
    assert (tmp_path / "a.txt").read_bytes() == "naïve\nα\n".encode()
    write_json(tmp_path / "a.json", {"σ": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"σ": [1, None]}
    assert names(tmp_path) == {"a.txt", "a.json"}


def test_a_failing_write_keeps_the_old_text(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == {"a.txt"}


def test_a_place_is_tried_before_the_work_and_left_as_it_was(tmp_path):
    path = tmp_path / "new" / "report.html"
    check_writable(path, "Elsewhere.")
    assert list(path.parent.iterdir()) == []
    path.write_text("old", encoding="utf-8")
    check_writable(path, "Elsewhere.")
    assert [p.read_text(encoding="utf-8") for p in path.parent.iterdir()] == ["old"]
    with pytest.raises(SgddError, match="is a folder"):
        check_writable(tmp_path, "Elsewhere.")
    for bad in (path / "below.html", tmp_path / ("x" * 300)):
        with pytest.raises(SgddError, match="cannot be written") as caught:
            check_writable(bad, "Elsewhere.")
        assert caught.value.hint == "Elsewhere."
    assert path.read_text(encoding="utf-8") == "old"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_or_a_device_is_written_into_and_stays(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    check_writable(pipe, "Elsewhere.")
    reader = threading.Thread(target=lambda: found.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    write_text(pipe, "a report")
    reader.join(60)
    assert found == ["a report"]
    assert pipe.is_fifo()
    check_writable(Path("/dev/null"), "Elsewhere.")
    write_text(Path("/dev/null"), "a report")
    assert Path("/dev/null").is_char_device()
    # Standard output that is a file keeps what it holds.
    program = (
        "from pathlib import Path; from sgdd_engine.atomic_files import write_text; print('before', flush=True); "
        "write_text(Path('/dev/stdout'), 'a report\\n'); print('behind')"
    )
    with (tmp_path / "out").open("a") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\na report\nbehind\n"
    with pytest.raises(SgddError, match="is no file"):
        NpyWriter(pipe, 4)


def test_the_folder_that_one_is_in_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    for folder in (Path(), Path(".."), tmp_path / "a"):
        with pytest.raises(SgddError, match="is the folder that you are in, or above it"):
            check_writable(folder, "Elsewhere.", folder=True)
        with pytest.raises(SgddError, match="is the folder that you are in, or above it"):
            write_folder(folder, fill)
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "b"]
    (tmp_path / "a" / "b").rmdir()
    write_folder(tmp_path / "other", fill)  # where one is in no folder any more


def test_a_removed_folder_leaves_nothing_behind(sealed):
    remove_folder(sealed)
    assert names(sealed.parent) == set()
    remove_folder(sealed)  # twice is no failure


STEP = r"step-\d+"


def test_what_a_killed_process_left_is_removed_and_nothing_else(sealed):
    parent = sealed.parent
    (parent / ".step-2.123.tmp" / "training").mkdir(parents=True)
    (parent / ".step-0.123.gone").mkdir()
    (parent / ".step-1.123.old").mkdir()  # the new one stands already
    (parent / ".settings.toml.123.tmp").write_text("half", encoding="utf-8")
    own = [".mine.tmp", ".step-2.tmp", ".step-2.mine.tmp", ".step-2-copy.123.tmp", ".step-copy.123.old"]
    for name in own:
        (parent / name).touch()
    remove_leftovers(parent, STEP, locked=True)
    assert {path.name for path in parent.iterdir()} == {"step-1", ".settings.toml.123.tmp", *own}
    remove_leftovers(parent, r"settings\.toml", locked=True)
    assert {path.name for path in parent.iterdir()} == {"step-1", *own}
    assert damage(sealed) is None
    remove_leftovers(parent / "nowhere", STEP)


def test_what_a_process_left_goes_when_it_has_ended_and_the_name_is_written_again(tmp_path):
    living, ended = os.getppid(), ended_pid()
    for pid in (living, ended, os.getpid()):
        (tmp_path / f".page.html.{pid}.tmp").write_text("half", encoding="utf-8")
        (tmp_path / f".other.html.{pid}.tmp").write_text("half", encoding="utf-8")
    write_text(tmp_path / "page.html", "whole")
    left = {f".other.html.{pid}.tmp" for pid in (living, ended, os.getpid())}
    assert names(tmp_path) == {"page.html", f".page.html.{living}.tmp", *left}
    check_writable(tmp_path / "other.html", "")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == {"page.html", f".page.html.{living}.tmp", f".other.html.{living}.tmp"}


def test_what_a_living_process_is_writing_stays(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        left = tmp_path / f".page.html.{process.pid}.tmp"
        left.touch()
        remove_leftovers(tmp_path)
        assert left.exists()
        process.communicate(b"\n")
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_an_error_of_the_system_names_what_was_to_be_written(tmp_path):
    def fails(folder):
        (folder / "missing" / "file").write_text("")

    with pytest.raises(FileNotFoundError) as caught:
        write_folder(tmp_path / "model", fails)
    assert caught.value.filename == str(tmp_path / "model" / "missing" / "file")
    with pytest.raises(OSError, match="no room") as caught:
        write_folder(tmp_path / "model", lambda folder: no_room_without_a_name())
    assert caught.value.filename == str(tmp_path / "model")
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "gone" / "page.html", "")
    assert caught.value.filename == str(tmp_path / "gone" / "page.html")


def no_room_without_a_name():
    raise OSError(errno.ENOSPC, "no room")


@pytest.mark.parametrize("mended_by", ["clearing up", "writing again"])
@pytest.mark.parametrize("killed", ["another process", "one of the same number"])
def test_a_replacement_killed_between_its_renames_loses_nothing(sealed, mended_by, killed):
    pid = 1 if killed == "another process" else os.getpid()  # as containers number them
    sealed.rename(sealed.with_name(f".step-1.{pid}.old"))
    if mended_by == "clearing up":
        remove_leftovers(sealed.parent, STEP)
    else:
        with pytest.raises(OSError, match="no space left"):
            write_folder(sealed, no_room)
    assert damage(sealed) is None
    assert [path.name for path in sealed.parent.iterdir()] == ["step-1"]


def no_room(folder):
    raise OSError("no space left")


def test_an_exclusive_folder_is_locked_and_leaves_nothing_of_its_own(tmp_path):
    folder = tmp_path / "runs" / "one"
    with exclusive_folder(folder), pytest.raises(Timeout), exclusive_folder(folder):
        pass
    assert names(tmp_path) == set()
    with exclusive_folder(folder):
        (folder / "settings.toml").touch()
    assert names(tmp_path) == {"runs", "runs/one", "runs/one/settings.toml"}


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that a process has locked")
def test_a_lock_is_held_until_its_file_is_gone(tmp_path, monkeypatch):
    unlink, seen = Path.unlink, []

    def while_another_waits(self, missing_ok=False):
        if self.name == LOCK:
            try:
                with FileLock(self, timeout=0):
                    seen.append("locked by another")
            except Timeout:
                seen.append("still held")
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", while_another_waits)
    with exclusive_folder(tmp_path):
        pass
    assert seen[0] == "still held"


def test_several_parts_can_be_asked_for(sealed):
    (sealed / "training" / "state.json").write_text("[]", encoding="utf-8")
    assert damage(sealed, ("weights", "nothing")) is None
    assert damage(sealed, ("weights", "training/")) == "`training/state.json` is damaged"


def test_one_file_of_a_sealed_folder_can_change(sealed):
    change_file(sealed, "training/state.json", lambda: "[1]")
    assert (sealed / "training" / "state.json").read_text(encoding="utf-8") == "[1]"
    assert damage(sealed) is None
    assert json.loads((sealed / HASHES).read_text())["training/state.json"] == sha256_of(
        sealed / "training" / "state.json"
    )
    (sealed / "training" / "state.json").write_text("[2]", encoding="utf-8")
    assert damage(sealed) == "`training/state.json` is damaged"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_change_that_is_killed_leaves_the_old_file_or_the_new(sealed, monkeypatch, write, after):
    publish, count = atomic_files.publish, 0

    def dies(temporary, final):
        nonlocal count
        count += 1
        if count == write and not after:
            raise KeyboardInterrupt
        publish(temporary, final)
        if count == write:
            raise KeyboardInterrupt

    monkeypatch.setattr(atomic_files, "publish", dies)
    with pytest.raises(KeyboardInterrupt):
        change_file(sealed, "training/state.json", lambda: "[1]")
    monkeypatch.undo()
    assert damage(sealed) is None
    written = (sealed / "training" / "state.json").read_text(encoding="utf-8")
    assert written == ("[1]" if (write, after) >= (2, True) else "{}")
    # Neither of the two contents that were accepted, and so damage even then.
    (sealed / "training" / "state.json").write_text("[2]", encoding="utf-8")
    assert damage(sealed) == "`training/state.json` is damaged"
    # Changed again, it is as if nothing had happened.
    (sealed / "training" / "state.json").write_text(written, encoding="utf-8")
    change_file(sealed, "training/state.json", lambda: "[3]")
    assert json.loads((sealed / HASHES).read_text())["training/state.json"] == sha256_of(
        sealed / "training" / "state.json"
    )
