"""Options that several commands share, written once."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file (TOML or YAML); may be given several times, the last wins.",
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as train.learning_rate=5e-4."),
]
Gpu = Annotated[str | None, typer.Option("--gpu", metavar="N", help="Number of the GPU.")]
Gpus = Annotated[
    str | None, typer.Option("--gpu", metavar="N[,N]...", help="Number of the GPU, or of several: 0,1.")
]
Device = Annotated[
    str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps. Default: the best there is.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def device_names(gpu: str | None, device: str | None) -> list[str]:
    """What `--gpu` and `--device` say together, in the engine's words: one device for each process.

    Raises:
        typer.BadParameter: they contradict each other, or `--gpu` is no list of different numbers.
    """
    if gpu is None:
        return [device or "auto"]
    numbers = [number.strip() for number in gpu.split(",")]
    if not all(number.isdecimal() and number.isascii() for number in numbers):
        raise typer.BadParameter(f"--gpu {gpu} is not a number such as 0, or several such as 0,1.")
    names = [f"cuda:{int(number)}" for number in numbers]
    if len(set(names)) < len(names):
        raise typer.BadParameter(f"--gpu {gpu} names a GPU twice.")
    if device not in (None, "cuda", *(names if len(names) == 1 else ())):
        raise typer.BadParameter(f"--gpu {gpu} and --device {device} contradict each other.")
    return names


def device_name(gpu: str | None, device: str | None) -> str:
    """The same for a command that uses one device.

    Raises:
        typer.BadParameter: as above, or several are named.
    """
    name, *others = device_names(gpu, device)
    if others:
        raise typer.BadParameter(f"--gpu {gpu} names several; this command uses one.")
    return name
