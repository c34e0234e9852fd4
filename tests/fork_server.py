"""Programs of this interpreter as forks of one process that has loaded PyTorch already.

A shell script of many programs would otherwise load it for each. The server is `python fork_server.py --serve ADDRESS`;
`python -I -S fork_server.py ADDRESS [-m MODULE | FILE] ARGUMENTS` then does what `python [-m MODULE | FILE] ARGUMENTS`
does: with its own environment, folder, streams and exit code.
"""

import json
import os
import socket
import sys
from pathlib import Path


def ask(address: str, arguments: list[str]) -> int:
    """Have a program run, with this process's streams; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(address)
        socket.send_fds(asking, [b"\0"], [0, 1, 2])
        asking.sendall(json.dumps([arguments, str(Path.cwd()), dict(os.environ)]).encode())
        asking.shutdown(socket.SHUT_WR)
        return int(asking.recv(16))


def serve(address: str) -> None:
    """Run what is asked for, one program after the other, until this process is ended."""
    load()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            answering, _ = listening.accept()
            with answering, answering.makefile("rb") as stream:
                _, streams, _, _ = socket.recv_fds(answering, 1, 3)
                asked = json.loads(stream.read())
                child = os.fork()
                if child == 0:
                    run(streams, *asked)
                for one in streams:
                    os.close(one)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                answering.sendall(str(code if code >= 0 else 128 - code).encode())


def load() -> None:
    """What most commands of `sgdd` import."""
    import sgdd_engine.data.prepare
    import sgdd_engine.evaluation.evaluate
    import sgdd_engine.evaluation.page.write
    import sgdd_engine.training.loop  # noqa: F401


def run(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Become the program; does not return."""
    import runpy

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    # The objects of this process remember what the streams were.
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, encoding="utf-8") for n, mode in enumerate("rww"))  # noqa: PTH123, SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = 0
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
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
        serve(sys.argv[2])
    sys.exit(ask(sys.argv[1], sys.argv[2:]))
