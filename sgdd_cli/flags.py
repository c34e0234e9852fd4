"""Options that several commands share, written once."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--config", help="Settings file (TOML or YAML); may be given several times, the last wins."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as train.learning_rate=5e-4."),
]
Gpu = Annotated[int | None, typer.Option("--gpu", min=0, help="Number of the GPU.")]
Device = Annotated[
    str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps. Default: the best there is.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def device_name(gpu: int | None, device: str | None) -> str:
    """What `--gpu` and `--device` say together, in the engine's words.

    Raises:
        typer.BadParameter: they contradict each other.
    """
    if gpu is None:
        return device or "auto"
    if device not in (None, "cuda", f"cuda:{gpu}"):
        raise typer.BadParameter(f"--gpu {gpu} and --device {device} contradict each other.")
    return f"cuda:{gpu}"
