"""One command in several processes, one for each GPU: starting them, being one of them, ending them well.

`sgdd train --gpu 0,1` starts itself once per GPU through PyTorch's elastic launcher; started by `torchrun`, on one
machine or on many, it is one of those processes already. Only rank 0 speaks.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from sgdd_cli.console import output_options, show_error
from sgdd_cli.error_messages import describe_error
from sgdd_cli.process_end import CliExit, discard

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    from sgdd_engine.distributed import World

# Set by PyTorch's launcher in the processes that it starts.
_RUN_ID, _RANK, _LOCAL_RANK, _LOCAL_SIZE = "TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
_OURS = "sgdd-"


def launched() -> bool:
    """Whether PyTorch's launcher, ours or `torchrun`, started this process as one of several."""
    return _RUN_ID in os.environ


def silence_other_ranks() -> None:
    """In a process that is not rank 0, write nothing from here on; with --debug, errors only."""
    if launched() and os.environ[_RANK] != "0":
        output_options.quiet = True
        discard(sys.stdout)
        if not output_options.debug:
            discard(sys.stderr)


def launch(places: Sequence[str]) -> int:
    """Start this very command once per device and wait; returns the exit code.

    Raises:
        ConfigError: a device is not there.
    """
    import torch.distributed.launcher.api as elastic  # noqa: PLC0415 - for quick help
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415

    from sgdd_engine.models.device import resolve_device  # noqa: PLC0415

    for place in places:
        resolve_device(place)
    if not output_options.debug:
        logging.disable(logging.CRITICAL)  # the launcher reports each failure once more, in its own words
    with (
        tempfile.TemporaryDirectory(prefix="sgdd-", ignore_cleanup_errors=True) as folder,
        _PassedOn() as asked,
    ):
        config = elastic.LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=len(places),
            run_id=f"{_OURS}{uuid.uuid4().hex}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            # SIGINT and SIGTERM are passed on by us: the launcher would give a checkpoint 30 seconds.
            signals_to_handle="SIGHUP,SIGQUIT",
        )
        try:
            elastic.elastic_launch(config, sys.executable)("-m", "sgdd_cli", *sys.argv[1:])
        except ChildFailedError as error:
            return 128 + asked.received if asked.received else _explained(error.failures)
        except SignalException as error:
            return 128 + int(error.sigval)
    return 0


@contextmanager
def join_world(places: Sequence[str], patience: timedelta | None = None) -> Iterator[tuple["World", str]]:
    """While entered, this process is one of those that were started together, or alone if none were.

    What goes wrong ends this process quietly, where the launcher is there to say it.

    Args:
        places: The devices, in the engine's words: one for each process of this machine, or one that suits all.
        patience: How long a process waits for one that is behind.

    Yields:
        This process's place among the others, and its device.
    """
    from sgdd_engine.distributed import ALONE, PATIENCE, join  # noqa: PLC0415 - the engine loads torch

    if not launched():
        yield ALONE, places[0]
        return
    rank, local_rank = int(os.environ[_RANK]), int(os.environ[_LOCAL_RANK])
    try:
        device = _own_device(places, local_rank, int(os.environ[_LOCAL_SIZE]))
        with join(device, local_rank, patience or PATIENCE) as world:
            yield world, str(device)
    except Exception as error:
        code = _leave_word(error)
        if rank == 0 and not os.environ[_RUN_ID].startswith(_OURS):
            raise
        raise CliExit(code) from error


def _own_device(places: Sequence[str], local_rank: int, local_size: int) -> Any:  # noqa: ANN401 - torch is not loaded
    from sgdd_engine.errors import require  # noqa: PLC0415 - for quick help
    from sgdd_engine.models.device import resolve_device  # noqa: PLC0415

    if len(places) == 1:
        first = resolve_device(places[0])
        shared = first.type != "cuda" or places[0] in {"auto", "cuda"} or local_size == 1
        require(
            shared,
            f"{local_size} processes cannot share the GPU `{first}`.",
            "Name one GPU for each process, such as --gpu 0,1, or none.",
        )
        own = places[0] if local_size == 1 else first.type
        return resolve_device(f"cuda:{local_rank}" if own == "cuda" else own)
    require(
        len(places) == local_size,
        f"--gpu names {len(places)} GPUs for the {local_size} processes of this machine.",
        f"Name {local_size} GPUs, or start with --nproc-per-node {len(places)}.",
    )
    return resolve_device(places[local_rank])


def _leave_word(error: Exception) -> int:
    """Write what went wrong where the launcher looks for it; returns the exit code."""
    from sgdd_engine.distributed import LostProcessError  # noqa: PLC0415
    from sgdd_engine.errors import ConfigError  # noqa: PLC0415

    if output_options.debug:
        traceback.print_exception(error)
    sentence, hint = describe_error(error)
    shown = "\n".join(filter(None, [sentence, hint]))
    word = {
        "message": sentence,
        "hint": hint,
        "lost": isinstance(error, LostProcessError),
        # The launcher's own report shows this field and sorts by the time.
        "extraInfo": {"py_callstack": shown, "timestamp": str(int(time.time()))},
    }
    if path := os.environ.get(_ERROR_FILE):
        Path(path).write_text(json.dumps({"message": word}), encoding="utf-8")
    return 2 if isinstance(error, ConfigError) else 1


def _explained(failures: dict[int, "ProcessFailure"]) -> int:
    """Say the first cause of a failure, once; returns the exit code."""
    rank, failure = min(failures.items(), key=lambda item: (_remoteness(item[1]), item[1].timestamp))
    word: Any = failure.message
    if isinstance(word, dict):
        show_error(word["message"], word["hint"])
    elif failure.exitcode < 0:
        show_error(
            f"The process of rank {rank} was ended by {failure.signal_name()}.",
            "Was there enough memory? Go on with --resume.",
        )
    return failure.exitcode if failure.exitcode > 0 else 1


def _remoteness(failure: "ProcessFailure") -> int:
    """How far a process's end is from the cause: those that only noticed another's end come last."""
    word: Any = failure.message
    if isinstance(word, dict):
        return 2 if word["lost"] else 0
    # The launcher itself ends the others by SIGTERM, at once or on their own way out.
    return {-signal.SIGTERM: 4, 128 + signal.SIGTERM: 3}.get(failure.exitcode, 1)


class _PassedOn:
    """While entered, the first SIGINT or SIGTERM is passed on to the processes, which save and leave.

    A second one ends them at once.
    """

    def __init__(self) -> None:
        import psutil  # noqa: PLC0415 - for quick help

        self.received: int | None = None
        self._this = psutil.Process()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "_PassedOn":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        first, self.received = self.received is None, number
        processes = self._this.children()
        if not first or not processes:
            raise CliExit(128 + number)
        if os.name != "nt":  # there, Ctrl-C reaches every process of the console by itself
            for process in processes:
                process.send_signal(number)
