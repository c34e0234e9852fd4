"""Killed, or without power, at every operation on a file: what follows ends with the same bytes."""

import ctypes
import io
import json
import os
import re
import shutil
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fault_report import tried
from recorded_disk import RecordedDisk, restore, state_of
from reports_for_tests import FULL
from tiny_sgdd import build
from tiny_training import TINY

from sgdd_cli.error_messages import describe_error
from sgdd_engine.atomic_files import damage
from sgdd_engine.checkpoint import checkpoints_of, record_confidence, record_sampling
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.deduplicate import content_hash
from sgdd_engine.data.manifest import Manifest
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import StreamSource, open_source
from sgdd_engine.evaluation.page.write import write_page
from sgdd_engine.text.config import TokenizerConfig
from sgdd_engine.tracking import read_log
from sgdd_engine.training.loop import train

pytestmark = [pytest.mark.faults, pytest.mark.slow]

SPEC = replace(
    TINY,
    train=replace(
        TINY.train,
        max_steps=2,
        save_every=1,
        validate_every=2,
        keep_checkpoints=1,
        log_every=1,
        batch_tokens=64,
        validation_sentences=2,
        tracker="jsonl",
    ),
    decoder=replace(TINY.decoder, width=16),
)
ENCODERS_OWN = TokenizerConfig()
# Of disks, and of moments.
SIZES = 12
KILLS = 5
CORPUS = DataConfig(shard_sentences=256)


def nothing(root: Path) -> None:
    pass


class Work(NamedTuple):
    """Something that writes into a folder.

    Attributes:
        do: Does it, or goes on with it.
        result: What must be the same in the end.
        before: Makes what stands in the folder before.
        kept: Fails where work that was complete is not whole any more.
    """

    do: Callable[[Path], object]
    result: Callable[[Path], Any]
    before: Callable[[Path], object] = nothing
    kept: Callable[[Path], object] = nothing


@pytest.fixture(scope="module")
def book(tmp_path_factory, sentences) -> Path:
    """24 sentences, three of them twice, that go into few of the 256 files of the first pass."""
    path = tmp_path_factory.mktemp("book") / "book.txt"
    buckets = Counter(content_hash(text)[0] for text in sentences)
    chosen = sorted(sentences, key=lambda text: (-buckets[content_hash(text)[0]], content_hash(text)))[:24]
    path.write_text("".join(f"{text}\n" for text in [*chosen, *chosen[:3]]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tiny_encoder, sentences):
    return build(tiny_encoder, sentences[:20], width=16)


def corpus_files(root: Path) -> dict[str, Any]:
    """Every file of a corpus; of the manifest what does not tell the time."""
    state = {name: content for name, content in state_of(root).items() if content is not None}
    manifest = json.loads(state.pop(f"{root.name}/manifest.json"))
    assert Manifest.read(root).fingerprint()
    Corpus.open(root)
    del manifest["created"], manifest["sha256"]
    return {"manifest": manifest, **state}


def checkpoint_files(root: Path) -> dict[str, Any]:
    assert damage(root) is None
    return state_of(root)


def whole_checkpoints(root: Path) -> None:
    for folder in checkpoints_of(root):
        assert damage(folder) is None


def run_files(root: Path) -> dict[str, Any]:
    """The files of a run's checkpoints and its curves, without times and what follows from them."""
    result: dict[str, Any] = {}
    for name, content in state_of(root).items():
        if name.endswith(("files.json", "README.md", "log.jsonl")):
            continue
        if name.endswith(("config.json", "progress.json")):
            result[name] = re.sub(rb'"seconds": [0-9.e-]+', b"", content)
        else:
            result[name] = content
    whole_checkpoints(root)
    curves = read_log(root).curves
    timed = ("seconds", "_per_second", "memory_bytes")
    return {**result, "curves": {name: curve for name, curve in curves.items() if not name.endswith(timed)}}


@pytest.fixture
def work(request, book, tiny_encoder, tiny_corpus_folder, model, tmp_path) -> Work:
    def preparing(config=CORPUS, tokenizer=ENCODERS_OWN, source=None, **others):
        def do(root: Path) -> None:
            opened = open_source(str(book), config) if source is None else source()
            prepare(opened, root, encoder=tiny_encoder, config=config, tokenizer=tokenizer, **others)

        return do

    def stream():
        return StreamSource("standard input", io.BytesIO(book.read_bytes()), CORPUS)

    def training(root: Path, spec=SPEC) -> None:
        corpus = Corpus.open(tiny_corpus_folder)
        resume = bool(checkpoints_of(root))
        train(corpus, root, spec, device="cpu", resume=resume, settings_text="# settings\n")

    def first_step(root: Path) -> None:
        training(root, replace(SPEC, train=replace(SPEC.train, max_steps=1)))

    def recording(root: Path) -> None:
        record_sampling(root, {"cfg": 2.0})
        record_confidence(root, {"version": 1, "fits": {"one_shot": {"a": [1.0, 2.0]}}})

    match request.param:
        case "preparing":
            return Work(preparing(), corpus_files)
        case "preparing_int8_from_a_stream":
            return Work(preparing(replace(CORPUS, embedding_dtype="int8"), source=stream), corpus_files)
        case "preparing_a_vocabulary_over_an_older_corpus":
            words = TokenizerConfig(kind="unigram", vocab_size=120)
            return Work(preparing(tokenizer=words, overwrite=True), corpus_files, preparing())
        case "preparing_with_vectors_of_another_corpus":
            preparing()(tmp_path / "other")
            reuse = replace(CORPUS, vectors_from=str(tmp_path / "other"))
            return Work(preparing(reuse), corpus_files)
        case "starting_a_training":
            return Work(training, run_files, kept=whole_checkpoints)
        case "training":
            return Work(training, run_files, first_step, whole_checkpoints)
        case "exporting_over_an_older_export":
            older = lambda root: model.save_pretrained(root, dtype="fp32")  # noqa: E731
            newer = lambda root: model.save_pretrained(root, dtype="fp16")  # noqa: E731
            return Work(newer, checkpoint_files, older, checkpoint_files)
        case "recording":
            return Work(recording, checkpoint_files, model.save_pretrained, checkpoint_files)
        case "reporting":

            def report(root: Path) -> None:
                root.mkdir(exist_ok=True)
                write_page(FULL, "runs/tales", root / "report.html")

            return Work(report, state_of)


KINDS = [
    "preparing",
    "preparing_int8_from_a_stream",
    "preparing_a_vocabulary_over_an_older_corpus",
    "preparing_with_vectors_of_another_corpus",
    "training",
    "exporting_over_an_older_export",
    "recording",
    "reporting",
]


def leftovers(root: Path) -> list[str]:
    return [name for name in state_of(root.parent) if re.search(r"\.(tmp|old|gone|lock)$", name)]


@pytest.mark.parametrize("work", KINDS, indirect=True)
def test_killed_at_every_operation(work, tmp_path, faults):
    root = tmp_path / "place" / "result"
    root.parent.mkdir()
    work.before(root)
    disk = RecordedDisk(root.parent)
    with disk.recording():
        work.do(root)
    expected = work.result(root)
    assert not leftovers(root)
    for what, state in tried(disk.interrupted()):
        restore(state, root.parent)
        faults.tell(*judged(work, root, expected, what))


def judged(work: Work, root: Path, expected: Any, what: str) -> tuple[str, str]:
    """What becomes of the work when it is done again."""
    try:
        work.do(root)
        result = work.result(root)
    except Exception as error:
        return "bug", f"{what}: {error!r}"
    if result != expected:
        return "silent", f"{what}: {differences(expected, result)}"
    if left := leftovers(root):
        return "silent", f"{what}: it leaves {left}"
    return "resumed", what


def differences(expected: dict[str, Any], result: dict[str, Any]) -> list[str]:
    return [name for name in sorted({*expected, *result}) if expected.get(name) != result.get(name)]


@pytest.mark.parametrize("work", KINDS, indirect=True)
def test_a_full_disk_loses_nothing(work, tmp_path, faults):
    place = tmp_path / "place"
    root = place / "result"
    place.mkdir()
    work.before(root)
    before = state_of(place)
    roomy = RecordedDisk(place, room=1 << 30)
    with roomy.recording():
        work.do(root)
    expected, needed = work.result(root), (1 << 30) - roomy.room
    for room in tried(range(0, needed, max(1, needed // SIZES))):
        restore(before, place)
        what = f"room for {room:,} of {needed:,} bytes"
        try:
            with RecordedDisk(place, room=room).recording():
                work.do(root)
        except Exception as error:
            sentence, hint = describe_error(error)
            what = f"{what}: {sentence} {hint}"
            if "bug" in sentence or not hint or not ("`" in sentence or str(root) in sentence):
                faults.tell("bug", what)
        if before:
            work.kept(root)
        faults.tell(*judged(work, root, expected, what))


# --- real kills and real disks ----------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timer of processor time")
@pytest.mark.parametrize("work", [kind for kind in KINDS if kind.startswith("preparing")], indirect=True)
def test_preparations_killed_at_random_moments(work, request, tmp_path, faults):
    root = tmp_path / "place" / "result"
    root.parent.mkdir()
    work.before(root)
    before = state_of(root.parent)
    began = time.process_time()
    work.do(root)
    seconds = time.process_time() - began
    expected = work.result(root)
    # Seeded, so that the share of the work is the same; where it is killed depends on the machine.
    moments = np.random.default_rng(KINDS.index(request.node.callspec.params["work"])).random(KILLS)
    for moment in tried(moments):
        restore(before, root.parent)
        child = fork()
        if child == 0:
            # By the system itself when this much processor time is used, whatever the process does then.
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, max(0.001, moment * seconds))
            work.do(root)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGPROF)
        faults.tell(*judged(work, root, expected, f"killed after {moment:.0%} of {seconds:.2f} s"))


def fork() -> int:
    with warnings.catch_warnings():
        # Of threads of libraries, which wait for work.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REMOUNT, MS_REC, MS_PRIVATE = 32, 16384, 1 << 18


def mount_small_disks_here() -> bool:
    """Let this process, which has one thread, mount what no other one sees; whether the system allows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if not hasattr(libc, "unshare") or libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    except OSError:
        return False
    return libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0


@dataclass
class Namespace:
    """Whether the next fork may mount what no other process sees: asked for before it, and known in the child."""

    wanted: bool = False
    given: bool = False

    def enter(self) -> None:
        if self.wanted:
            self.given = mount_small_disks_here()


NAMESPACE = Namespace()
# What is registered first is called first. LanceDB, once it is imported, starts threads in all that is forked, and the
# system gives a process with threads no namespace.
os.register_at_fork(after_in_child=NAMESPACE.enter)


def mount(place: Path, size: int, flags: int = 0) -> bool:
    """Mount a disk in memory of so many bytes, or change its size."""
    options = f"size={size}".encode()
    return ctypes.CDLL(None).mount(b"tmpfs", os.fsencode(place), b"tmpfs", flags, options) == 0


@pytest.mark.parametrize("work", ["preparing", "starting_a_training"], indirect=True)
def test_a_small_disk_loses_nothing(work, tmp_path, faults):
    place = tmp_path / "place"
    root = place / "result"
    place.mkdir()
    work.do(root)  # before the fork, so that everything is loaded
    size = sum(path.stat().st_size for path in place.rglob("*")) + 4096 * len(list(place.rglob("*")))
    expected = work.result(root)
    shutil.rmtree(root)
    reading, writing = os.pipe()
    NAMESPACE.wanted = True
    child = fork()
    NAMESPACE.wanted = False
    if child == 0:
        with os.fdopen(writing, "w", encoding="utf-8") as answers:
            answers.writelines(
                json.dumps(outcome) + "\n" for outcome in tried_on_disks(work, root, expected, size)
            )
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as answers:
        outcomes = [json.loads(line) for line in answers]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    if not outcomes:
        faults.tell("harmless", "nothing was tried")
        pytest.skip("this system lets no user mount a disk in memory")
    for outcome in outcomes:
        faults.tell(*outcome)


def tried_on_disks(work: Work, root: Path, expected: Any, size: int) -> Iterator[tuple[str, str]]:
    if not NAMESPACE.given:
        return
    for share in tried(range(1, SIZES, 2)):
        room = size * share // SIZES // 4096 * 4096
        what = f"a disk of {room:,} bytes"
        if not mount(root.parent, room):
            return
        try:
            work.do(root)
        except Exception as error:
            sentence, hint = describe_error(error)
            what = f"{what}: {sentence} {hint}"
            if "bug" in sentence or not hint:
                yield "bug", what
        work.kept(root)
        mount(root.parent, 1 << 28, MS_REMOUNT)
        yield judged(work, root, expected, what)
