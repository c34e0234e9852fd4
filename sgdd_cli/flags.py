"""Options that several commands share, written once; those that are settings have the help text of their setting."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sgdd_cli.completion import complete_assignment, complete_checkpoint
from sgdd_engine.atomic_files import HASHES, check_writable
from sgdd_engine.bounded_files import read_json_object
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import ConfigError, SgddError
from sgdd_engine.generation.config import GenerationConfig


def setting(config: type, field: str, *flags: str, metavar: str | None = None) -> Any:  # noqa: ANN401 - Typer's OptionInfo
    """An option for a setting: a field of a configuration dataclass.

    Args:
        config: The dataclass.
        field: The name of the field.
        flags: How the option is written; by default as the field, with `-` for `_`.
        metavar: What its value looks like; by default its type.
    """
    text = next(item for item in dataclasses.fields(config) if item.name == field).metadata["help"]
    sentences = f"{text[0].upper()}{text[1:]}."
    return typer.Option(*(flags or [f"--{field.replace('_', '-')}"]), help=sentences, metavar=metavar)


ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file (TOML or YAML); may be repeated, and a later file wins over an earlier one.",
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, such as train.learning_rate=5e-4; `sgdd config show` lists them.",
        autocompletion=complete_assignment,
    ),
]
Cfg = Annotated[float | None, setting(SamplingConfig, "cfg")]
Steps = Annotated[int | None, setting(SamplingConfig, "steps")]
Candidates = Annotated[int | None, setting(GenerationConfig, "candidates")]
Refine = Annotated[int | None, setting(GenerationConfig, "refine")]
Shortlist = Annotated[int | None, setting(GenerationConfig, "shortlist")]
Search = Annotated[int | None, setting(GenerationConfig, "search", metavar="CALLS")]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        envvar="SGDD_CHECKPOINT",
        help="Checkpoint or run folder, `mini`, or owner/name[@revision] on the hub. Default: the newest run, else "
        "`mini`.",
        autocompletion=complete_checkpoint,
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        "--encoder", metavar="FOLDER", help="Where the folder of the model's encoder is now, if it has moved."
    ),
]
Gpu = Annotated[str | None, typer.Option("--gpu", metavar="N", help="Number of the GPU to use.")]
Gpus = Annotated[
    str | None,
    typer.Option("--gpu", metavar="N[,N]...", help="Number of the GPU to use, or of several: 0,1."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps. Default: auto, a GPU if there is one."),
]
Column = Annotated[
    str | None,
    typer.Option(
        "--column", metavar="NAME", help="Column or key of the vectors. Default: found by type and width."
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        "--text-column",
        metavar="NAME",
        help="Column or key of the texts. Default: `text` or a similar name.",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help='Read only rows for which this is true, in the language of the store: "year >= 2020".',
    ),
]
StoreTable = Annotated[
    str | None,
    typer.Option("--table", metavar="NAME", help="Table or collection of a database. Default: the only one."),
]
Ids = Annotated[
    str | None,
    typer.Option(
        "--ids",
        metavar="NAME",
        help="Column of the rows' ids. Default: `id`, else rows are numbered from 0.",
    ),
]
MapFile = Annotated[
    Path | None,
    typer.Option("--map", metavar="FILE", help="Map of `sgdd align`, for the vectors of another encoder."),
]
AssumeSame = Annotated[
    bool,
    typer.Option("--assume-same", help="Do not check that the vectors come from this model's encoder."),
]
Dtype = Annotated[
    Literal["fp16", "fp32"],
    typer.Option(
        "--dtype", help="Number format of the weight matrices: fp32, or fp16, which is half the size."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write the result as JSON, for other programs.")]
Force = Annotated[
    bool, typer.Option("--force", help="Replace the file or folder of the result if it exists already.")
]


def check_output(path: Path, option: str = "", *, force: bool, folder: bool = False) -> None:
    """Check, before long work, that a result can be written where the user said, and destroys nothing there.

    A pipe or a device, such as `/dev/stdout`, holds nothing to destroy. Of folders, an empty one and, with `force`, one
    with a checkpoint may be written to.

    Args:
        path: The file or folder to be written.
        option: The one that named a file: `--report`.
        force: Whether what is there may be replaced.
        folder: Whether it is a folder.

    Raises:
        SgddError: something is there, or nothing can be written there.
    """
    other = "Name another folder." if folder else f"Name another file with {option}."
    check_writable(path, other, folder=folder)
    taken = any(path.iterdir()) if folder and path.is_dir() else path.is_file()
    if taken and not force:
        raise SgddError(f"`{path}` exists and is not overwritten.", f"{other} --force overwrites it.")
    if folder and taken:
        _require_exported(path, other)


def _require_exported(folder: Path, hint: str) -> None:
    """Refuse to replace a folder that holds more than an exported checkpoint."""
    if not (folder / HASHES).is_file():
        raise SgddError(f"`{folder}` exists and is not a checkpoint, so --force does not overwrite it.", hint)
    if (folder / "training").exists():
        sentence = "holds the training state of a run, so --force does not overwrite it."
        raise SgddError(f"`{folder}` {sentence}", hint)
    own = {HASHES, "README.md", *read_json_object(folder / HASHES)}
    if foreign := sorted(path.name for path in folder.iterdir() if path.name not in own):
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise SgddError(
            f"`{folder}` holds other files than a checkpoint ({shown}), so --force does not overwrite it.",
            hint,
        )


# The sections of settings that change what a command does, of those that a command before it may have been given.
# What made a corpus or a model is recorded in it; of the encoder only its place and its batches may still be chosen.
_SECTIONS = {
    "train": ("train", "decoder", "bottleneck", "diffusion", "feedback", "eval", "sample"),
    "eval": ("eval", "sample"),
    "sample": ("sample",),
    "read": ("sample",),
}
_OF_THE_ENCODER = ("encoder.name", "encoder.batch_tokens")


def options_for(
    command: str,
    files: Sequence[Path] | None = None,
    assignments: Sequence[str] | None = None,
    /,
    **flags: object,
) -> list[tuple[str, str]]:
    """Options of this command that another one needs too, for hints such as "Next: ...".

    Args:
        command: The other one: `train`, `eval`, `sample` or `read`.
        files: Of `--config`.
        assignments: Of `--set`; those that do not concern the other command are left out.
        flags: Values of further options by their names, such as `device="cpu"`; None where one was not given.
    """
    pairs = [("--config", str(file)) for file in files or ()]
    for text in assignments or ():
        key = text.partition("=")[0]
        if key.partition(".")[0] in _SECTIONS[command] or key in _OF_THE_ENCODER:
            pairs.append(("--set", text))
    given = {name: value for name, value in flags.items() if value is not None}
    return [*pairs, *((f"--{name.replace('_', '-')}", str(value)) for name, value in given.items())]


def require_store(named: str | None, option: str, instead: str = "", **given: object) -> None:
    """Refuse options of the rows of a store where texts were named.

    Args:
        named: The store.
        option: The option that names it.
        instead: What else may be meant, as a sentence.
        given: Values of the options by their names; None or False where one was not given.

    Raises:
        ConfigError: one was given without a store.
    """
    flags = [f"--{name.replace('_', '-')}" for name, value in given.items() if value not in (None, False)]
    if named is None and flags:
        raise ConfigError(
            f"For the rows of a store only: {', '.join(flags)}; texts were named.",
            f"Leave them out, or name the store with {option}. {instead}".rstrip(),
        )


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
