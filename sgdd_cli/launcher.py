"""One command in several processes, one for each GPU: starting them, joining them, passing on signals and errors.

`sgdd train --gpu 0,1` starts itself once per GPU through PyTorch's elastic launcher; started by `torchrun`, on one
machine or on many, it is one of those processes already. Only rank 0 writes to the terminal.
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
from typing import TYPE_CHECKING, Any

from sgdd_cli.console import CliExit, discard, output_options, show_error
from sgdd_cli.error_messages import describe_error
from sgdd_engine.stop_signals import StopSignals

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    from sgdd_engine.distributed import World

# Set by PyTorch's launcher in the processes that it starts.
_RUN_ID, _RANK, _LOCAL_RANK, _LOCAL_SIZE = "TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
# Begins the run id of processes that `launch` started, as opposed to `torchrun`.
_OWN_RUN = "sgdd-"


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


def launch(devices: Sequence[str]) -> int:
    """Start this very command once per device and wait; returns the exit code.

    Raises:
        ConfigError: a device is not there.
    """
    import torch.distributed.launcher.api as elastic  # noqa: PLC0415 - for quick help
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415

    from sgdd_engine.models.device import resolve_device  # noqa: PLC0415

    for device in devices:
        resolve_device(device)
    if not output_options.debug:
        logging.disable(logging.CRITICAL)  # the launcher reports each failure once more, in its own words
    with (
        tempfile.TemporaryDirectory(prefix="sgdd-", ignore_cleanup_errors=True) as folder,
        StopSignals(on_first=_forward_to_children) as signals,
    ):
        config = elastic.LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=len(devices),
            run_id=f"{_OWN_RUN}{uuid.uuid4().hex}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            # What asks to stop is forwarded here: the launcher would give a checkpoint 30 seconds.
            signals_to_handle="SIGQUIT",
        )
        try:
            elastic.elastic_launch(config, sys.executable)("-m", "sgdd_cli", *sys.argv[1:])
        except ChildFailedError as error:
            return 128 + signals.received if signals.received else _show_first_failure(error.failures)
        except SignalException as error:
            return 128 + int(error.sigval)
    return 0


@contextmanager
def join_world(devices: Sequence[str], timeout: timedelta | None = None) -> Iterator[tuple["World", str]]:
    """While entered, this process is one of those that were started together, or alone if none were.

    An error ends this process without a message; the launcher shows the first one.

    Args:
        devices: In the engine's words: one for each process of this machine, or one for all.
        timeout: How long a process waits for one that is behind.

    Yields:
        The world, and the device of this process.
    """
    from sgdd_engine.distributed import ALONE, TIMEOUT, LostProcessError, join  # noqa: PLC0415 - the engine loads torch

    if not launched():
        yield ALONE, devices[0]
        return
    rank, local_rank = int(os.environ[_RANK]), int(os.environ[_LOCAL_RANK])
    try:
        device = _own_device(devices, local_rank, int(os.environ[_LOCAL_SIZE]))
        with join(device, timeout or TIMEOUT, on_lost=_end_at_once) as world:
            yield world, str(device)
    except Exception as error:
        code = _write_error_file(error, lost=isinstance(error, LostProcessError))
        if rank == 0 and not os.environ[_RUN_ID].startswith(_OWN_RUN):
            raise
        raise CliExit(code) from error


def _end_at_once(error: Exception) -> None:
    """End this process from any of its threads, with the error for the launcher, as the cause of what follows."""
    os._exit(_write_error_file(error, lost=False))


def _own_device(devices: Sequence[str], local_rank: int, local_size: int) -> Any:  # noqa: ANN401 - torch is not loaded
    from sgdd_engine.errors import require  # noqa: PLC0415 - for quick help
    from sgdd_engine.models.device import resolve_device  # noqa: PLC0415

    if len(devices) == 1:
        first = resolve_device(devices[0])
        shared = first.type != "cuda" or devices[0] in {"auto", "cuda"} or local_size == 1
        require(
            shared,
            f"{local_size} processes cannot share the GPU `{first}`.",
            "Name one GPU for each process, such as --gpu 0,1, or none.",
        )
        own = devices[0] if local_size == 1 else first.type
        return resolve_device(f"cuda:{local_rank}" if own == "cuda" else own)
    require(
        len(devices) == local_size,
        f"--gpu names {len(devices)} GPUs for the {local_size} processes of this machine.",
        f"Name {local_size} GPUs, or start with --nproc-per-node {len(devices)}.",
    )
    return resolve_device(devices[local_rank])


def _write_error_file(error: Exception, *, lost: bool) -> int:
    """Write the error into the file that the launcher reads; returns the exit code.

    Args:
        error: The error.
        lost: Whether it followed from the end of another process.
    """
    from sgdd_engine.errors import ConfigError  # noqa: PLC0415

    if output_options.debug:
        traceback.print_exception(error)
    sentence, hint = describe_error(error)
    shown = "\n".join(filter(None, [sentence, hint]))
    report = {
        "message": sentence,
        "hint": hint,
        "lost": lost,
        # The launcher's own report shows this field and sorts by the time.
        "extraInfo": {"py_callstack": shown, "timestamp": str(int(time.time()))},
    }
    if path := os.environ.get(_ERROR_FILE):
        Path(path).write_text(json.dumps({"message": report}), encoding="utf-8")
    return 2 if isinstance(error, ConfigError) else 1


def _show_first_failure(failures: dict[int, "ProcessFailure"]) -> int:
    """Show the error that the others followed from; returns the exit code."""
    rank, failure = min(failures.items(), key=lambda item: (_distance_from_cause(item[1]), item[1].timestamp))
    report: Any = failure.message
    if isinstance(report, dict):
        show_error(report["message"], report["hint"])
    elif failure.exitcode < 0:
        show_error(
            f"The process of rank {rank} was ended by {failure.signal_name()}.",
            "Was there enough memory? Go on with --resume.",
        )
    return failure.exitcode if failure.exitcode > 0 else 1


def _distance_from_cause(failure: "ProcessFailure") -> int:
    """0 for an error of its own; more for a process that ended because another one had."""
    report: Any = failure.message
    if isinstance(report, dict):
        return 2 if report["lost"] else 0
    # The launcher itself ends the others by SIGTERM, at once or on their own way out.
    return {-signal.SIGTERM: 4, 128 + signal.SIGTERM: 3}.get(failure.exitcode, 1)


def _forward_to_children(number: int) -> None:
    """Send a signal on to the processes, which save and end; where there are none yet, end this one."""
    import psutil  # noqa: PLC0415 - for quick help

    processes = psutil.Process().children()
    if not processes:
        raise CliExit(128 + number)
    if os.name != "nt":  # there, Ctrl-C reaches every process of the console by itself
        for process in processes:
            process.send_signal(number)
