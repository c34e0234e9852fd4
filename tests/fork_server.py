"""Programs of this interpreter as forks of one process that has loaded PyTorch, and more, already.

Each of many programs would otherwise load that. The server is `python fork_server.py --serve FOLDER`; it writes
`FOLDER/python`, and `FOLDER/python [-u] [-P] [-m MODULE | -c CODE | FILE] ARGUMENTS` then does what `python` does: with
its own environment, folder, streams, exit code and signals. What such a program starts itself as `sys.executable` is a
fork of the server as well. Tests have `FOLDER/python` as the fixture `loaded_python`.
"""

import contextlib
import importlib
import itertools
import json
import os
import signal
import socket
import sys
from pathlib import Path

LOADED = (
    *("sgdd_engine.data.prepare", "sgdd_engine.evaluation.evaluate", "sgdd_engine.evaluation.page.write"),
    *("sgdd_engine.training.loop", "datasets", "pydantic_settings", "rich.progress", "typer.main"),
    # Every optimizer imports the compiler.
    *("tensorboard.plugins.hparams.metadata", "torch._dynamo", "torch.utils.tensorboard"),
)
PASSED_ON = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def ask(address: str, arguments: list[str]) -> int:
    """Have a program run, with this process's streams; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(address)
        socket.send_fds(asking, [b"\0"], [0, 1, 2])
        asking.sendall(json.dumps([arguments, str(Path.cwd()), dict(os.environ)]).encode())
        asking.shutdown(socket.SHUT_WR)
        with asking.makefile("rb") as answers:
            program = int(answers.readline())
            for number in PASSED_ON:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, lambda received, _: pass_on(program, received))
            code = int(answers.readline())
    if code < 0:  # this process ends as the program did
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def pass_on(program: int, number: int) -> None:
    """Send a signal to a program that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(program, number)


def serve(folder: Path) -> None:
    """Run what is asked for, as many programs at a time as there are, until this process is ended."""
    load()
    address, program = str(folder / "server"), folder / "python"
    program.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -I -S "{Path(__file__).resolve()}" "{address}" "$@"\n'
    )
    program.chmod(0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        keepers: set[int] = set()
        try:
            while True:
                answering, _ = listening.accept()
                with answering:
                    keeper = os.fork()
                    if keeper == 0:
                        listening.close()
                        keep(answering, str(program))
                keepers = {one for one in {*keepers, keeper} if os.waitpid(one, os.WNOHANG) == (0, 0)}
        finally:
            for one in keepers:
                os.waitpid(one, 0)


def keep(answering: socket.socket, executable: str) -> None:
    """Run one program, and answer with its number and its exit code; does not return."""
    with answering.makefile("rb") as stream:
        _, streams, _, _ = socket.recv_fds(answering, 1, 3)
        asked = json.loads(stream.read())
    child = os.fork()
    if child == 0:
        answering.close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.executable = executable
        run(streams, *asked)
    for one in streams:
        os.close(one)
    # Nobody may listen any longer: whoever asked may have been killed.
    with contextlib.suppress(OSError):
        answering.sendall(f"{child}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        answering.sendall(f"{code}\n".encode())
    os._exit(0)


def load() -> None:
    """Import what most commands of `sgdd` do, at once or in the course of their work."""
    for name in LOADED:
        importlib.import_module(name)
    assert importlib.import_module("huggingface_hub").ModelCardData  # loaded when it is first asked for


def run(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Become the program; does not return."""
    import runpy

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in {*streams} - {0, 1, 2}:
        os.close(stream)
    # The objects of this process remember what the streams were.
    sys.stdin, sys.stdout = (open(n, mode, encoding="utf-8") for n, mode in enumerate("rw"))  # noqa: PTH123, SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    named = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    kind, *words = itertools.dropwhile(lambda word: word in ("-u", "-P"), arguments)
    place = folder if kind in ("-m", "-c") else str(Path(kind).resolve().parent)
    sys.path[:] = [place, *named, *sys.path[1:]]
    code = 0
    try:
        if kind == "-m":
            sys.argv = words
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            sys.argv = ["-c", *words[1:]]
            exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = [kind, *words]
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(Path(sys.argv[2]))
    sys.exit(ask(sys.argv[1], sys.argv[2:]))
