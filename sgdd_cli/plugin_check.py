"""Whether a plugin works: it is imported in another process, with a time limit; those of one package share it.

A plugin that ends the process, hangs, or writes to the standard output of the system then spoils only that process.
"""

import gc
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import IO, Any

from sgdd_cli.command_registry import CommandEntry, PluginError, plugin_entries
from sgdd_engine.errors import VectorSourceError
from sgdd_engine.plugins import API, STATEMENT, BrokenPlugin, load_plugin, reason_of
from sgdd_engine.registry import Registry, extension_points
from sgdd_engine.vectors import VectorKind, vector_kinds

SECONDS = 60.0
"""Time limit for one plugin: loading torch from a cold disk takes up to half of it."""
# Two at once: an import waits for the disk about as long as it computes.
_AT_ONCE = 2
# A process that is told to import is told in this way where: its path is the one of this process.
_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from sgdd_cli.plugin_check import main; main()"


@dataclass(frozen=True)
class Installed:
    """One thing that another package adds.

    Attributes:
        kind: `command`, `extension` or `vector_source`.
        entry_point: What it is made of.
        package: The distribution that brings it.
        version: Of that distribution.
        conflict: Why it cannot be used, whatever it is, or None.
    """

    kind: str
    entry_point: EntryPoint
    package: str
    version: str
    conflict: str | None = None


@dataclass(frozen=True)
class Finding:
    """What was found about one plugin.

    Attributes:
        problem: Why it cannot be used, as the end of a sentence; None where it works.
        adds: Entries of registries, such as "position rule `outside_in`".
        notes: What its author should mend although it works, as sentences.
    """

    problem: str | None
    adds: Sequence[str] = ()
    notes: Sequence[str] = ()


def installed_plugins() -> list[Installed]:
    """What other packages add, in the order of kinds; nothing is imported."""
    found = [
        Installed("command", entry.entry_point, entry.package, entry.version, entry.conflict)
        for entry in plugin_entries()
    ]
    seen: set[tuple[str, str]] = set()
    for point in extension_points(tuple(sys.path)):
        # The same distribution may be seen twice, as with a checkout that is installed as well.
        if (point.name, point.value) not in seen:
            seen.add((point.name, point.value))
            name, version = (
                (point.dist.name, point.dist.version) if point.dist else ("an unknown package", "")
            )
            found.append(Installed("extension", point, name, version))
    found += [
        Installed("vector_source", kind.entry_point, kind.package, kind.version, kind.conflict)
        for kind in vector_kinds()
        if kind.package != "sgdd"
    ]
    return found


def check_plugins(plugins: Sequence[Installed], seconds: float = SECONDS) -> list[Finding]:
    """What is found about each of them, in their order."""
    # Those of one package and kind share a process, since most of the time goes into loading torch.
    groups: dict[tuple[str, str], list[int]] = {}
    for number, plugin in enumerate(plugins):
        groups.setdefault((plugin.package, plugin.kind), []).append(number)
    found: dict[int, Finding] = {}
    running = _Running()

    def check(numbers: list[int]) -> None:
        usable = [number for number in numbers if plugins[number].conflict is None]
        while usable:
            for finding in _check([plugins[number] for number in usable], seconds, running):
                found[usable.pop(0)] = finding

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            list(pool.map(check, groups.values()))
        except BaseException:  # as Ctrl-C is
            running.close()
            raise
    return [found.get(number) or Finding(plugin.conflict) for number, plugin in enumerate(plugins)]


class _Running:
    """The processes that import plugins now; once it is closed, they are ended and none is started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise InterruptedError
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self._processes.append(process)
        return process

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for process in self._processes:
                _end(process)


def _check(plugins: Sequence[Installed], seconds: float, running: _Running) -> list[Finding]:
    """What is found about the first of them: all, or those up to one that ends the process or hangs.

    Raises:
        InterruptedError: the whole search was given up.
    """
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "findings.jsonl"
        answers.touch()
        points = [(plugin.kind, p.group, p.name, p.value) for plugin in plugins for p in [plugin.entry_point]]
        process = running.start(
            [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path), json.dumps(points), str(answers)]
        )
        assert process.stdout is not None
        written = _Written(process.stdout)
        problem = None
        try:
            known = -1
            while process.poll() is None and problem is None:
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    # As long as there is a new answer, each had its time.
                    if known == (known := answers.stat().st_size) or known == 0:
                        problem = f"it was not imported within {seconds:g} seconds"
        finally:
            _end(process)
        lines = answers.read_text(encoding="utf-8").splitlines()
    findings = [Finding(**json.loads(line)) for line in lines]
    if text := written.first_line():
        told = f"It writes to standard output while it is imported: {text!r}."
        findings = [Finding(f.problem, f.adds, [*f.notes, told]) for f in findings]
    if len(findings) < len(plugins):
        ended = f"it ends the process while it is imported (exit code {process.returncode})"
        findings.append(Finding(problem or ended))
    return findings


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it has started."""
    if process.poll() is not None:
        return
    import psutil  # noqa: PLC0415 - plugins that hang are few

    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    process.kill()
    for other in started:
        other.kill()
    process.wait()


class _Written:
    """The beginning of what a process writes; the rest is read, so that it need not wait, and dropped.

    A thread reads it that nobody waits for long: what the process has started may hold the stream open.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._beginning = b""
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        while block := stream.read1(65536):  # type: ignore[attr-defined]
            self._beginning = (self._beginning + block)[:80]

    def first_line(self) -> str:
        self._thread.join(1.0)
        return next(iter(self._beginning.decode("utf-8", "replace").split("\n")), "")


# --- in the process that imports the plugin ---------------------------------------------------------------


def main() -> None:
    """Import the plugins that the arguments name, and write what is found, a line each, into the file they name."""
    for kind, group, name, value in json.loads(sys.argv[1]):
        try:
            finding = _look(kind, EntryPoint(name, value, group))
        except (PluginError, VectorSourceError) as error:
            finding = Finding(str(error.__cause__))
        except BrokenPlugin as error:
            finding = Finding(str(error))
        except Exception as error:  # of code that the plugin brings, such as a type that cannot be shown
            finding = Finding(reason_of(error))
        with Path(sys.argv[2]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(finding)) + "\n")


def _look(kind: str, point: EntryPoint) -> Finding:
    notes: list[str] = []
    adds: list[str] = []
    match kind:
        case "command":
            command = CommandEntry(point.name, point, "", "").command()
            command.get_help(command.make_context(point.name, [], resilient_parsing=True))
            if not command.help:
                notes.append("It has no help text; write a docstring.")
            if "torch" in sys.modules:
                notes.append(
                    "Importing it loads torch, for its help too; import torch and the engine inside the function."
                )
        case "vector_source":
            VectorKind(point.name, point, "", "").load()
        case _:
            adds = _added_by(point)
            if not adds:
                notes.append("It adds nothing to any registry.")
    package = sys.modules[point.module.partition(".")[0]]
    if not hasattr(package, STATEMENT):
        notes.append(f"Its package states no {STATEMENT}; it is taken for 1. Write {STATEMENT} = {API}.")
    return Finding(None, adds, notes)


def _added_by(point: EntryPoint) -> list[str]:
    """The entries that an extension adds to the registries of sgdd."""
    # Everything of sgdd that registers something, so that what is new afterwards is the plugin's.
    for module in ("sgdd_engine.data.sources", "sgdd_engine.evaluation.evaluate"):
        import_module(module)

    def entries() -> dict[tuple[str, str], Any]:
        registries = [found for found in gc.get_objects() if isinstance(found, Registry)]
        return {(registry.kind, name): entry for registry in registries for name, entry in registry.items()}

    before = entries()
    load_plugin(point)
    new = [key for key in entries() if key not in before]
    return [f"{kind} `{name}`" for kind, name in new]
