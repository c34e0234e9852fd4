"""The options of every command that writes text with a model, declared once, and what they stand for."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgdd_cli.console import say, warn
from sgdd_cli.flags import (
    Assignments,
    Candidates,
    Cfg,
    Checkpoint,
    ConfigFiles,
    Device,
    Encoder,
    Gpu,
    Refine,
    Search,
    Shortlist,
    Steps,
    device_name,
    setting,
)
from sgdd_engine.counted import counted
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.events import Listener, ignore
from sgdd_engine.generation.config import GenerationConfig

if TYPE_CHECKING:
    from sgdd_engine.generation import SGDD, FilledText, Generation


# Texts for which one waits: so many are searched for by default, or the search is named; a stream is written at once.
SEARCHED = 8


@dataclass(frozen=True)
class Writing:
    """A model, and how it is asked to write.

    Attributes:
        model: The model.
        folder: Of its checkpoint.
        chosen: What was asked for, completed by what the checkpoint records.
        config: Candidates, rounds, lengths, samples, seed.
        watch: Whether the canvas is shown.
        draws: Whether several texts of a vector are drawn where nothing else makes them differ: nobody gave a
            temperature.
    """

    model: "SGDD"
    folder: Path
    chosen: SamplingConfig
    config: GenerationConfig
    watch: bool
    draws: bool = True

    @property
    def sampling(self) -> SamplingConfig:
        """How `config.num_samples` texts of a vector are written."""
        from sgdd_engine.generation import draw_samples  # noqa: PLC0415 - loads torch

        return draw_samples(self.chosen, self.config.num_samples) if self.draws else self.chosen

    def with_sampling(self, **given: Any) -> "Writing":  # noqa: ANN401 - as the fields are
        """The same with other fields of `SamplingConfig`; a temperature that is given holds for several texts too.

        Raises:
            ConfigError: a value is out of range.
        """
        from sgdd_engine.generation import with_remasking  # noqa: PLC0415 - as above

        draws = self.draws and "temperature" not in given
        if "remask" in given:  # also where tokens are no longer masked again
            recorded = self.model.info.sampling.get("kv_cache", False)
            given = {"kv_cache": recorded, **with_remasking(given)}
        return replace(self, chosen=replace(self.chosen, **given), draws=draws)

    def options(self, display: Listener) -> dict[str, Any]:
        """The arguments of `SGDD.generate`; `display` is told of steps where they are shown."""
        config = self.config
        return {
            "sampling": self.sampling,
            "lengths": config.length,
            "candidates": config.candidates,
            "refine": config.refine,
            "shortlist": config.shortlist,
            "search": config.search or 0,
            "gradient": config.gradient,
            "num_samples": config.num_samples,
            "seed": config.seed,
            "on_event": display if self.watch or config.refine or config.search else ignore,
        }

    def searching(self) -> "Writing":
        """The same with a search of as many calls as one can wait for, unless something else was asked for."""
        from sgdd_engine.generation.search import affordable_calls  # noqa: PLC0415 - loads torch

        config = self.config
        others = config.candidates > 1 or config.refine or config.shortlist is not None
        if config.search is not None or others or config.num_samples > 1 or self.sampling.stochastic:
            return self
        calls = affordable_calls(self.model.encoder_reference, self.model.device)
        return replace(self, config=replace(config, search=calls))

    def say_of_search(self) -> None:
        """Name the way that takes longer and comes closer, where nothing was asked for."""
        from sgdd_engine.generation.search import affordable_calls  # noqa: PLC0415 - loaded with the model

        config = self.config
        if (
            config.search is None
            and config.candidates == 1
            and not config.refine
            and config.shortlist is None
        ):
            calls = affordable_calls(self.model.encoder_reference, self.model.device)
            say(f"Written once, without a search. Closer, and slower: --search {calls}")

    def warn_of_unused(self, because: str) -> None:
        """Name the settings that were given beside those of the sampler, where a command has no use for any of them."""
        usual = GenerationConfig()
        for name in (field.name for field in fields(usual)):
            if getattr(self.config, name) != getattr(usual, name):
                warn(f"sample.{name} is not used here: {because}.")

    def warn_of_equal_samples(self, of_what: str) -> None:
        """Say so where two seeds cannot give two texts, and several were asked for."""
        config = self.config
        may_differ = (
            self.sampling.stochastic
            or config.refine
            or config.search
            or self.model.draws_candidates(config.candidates, config.shortlist)
        )
        if config.num_samples > 1 and not may_differ:
            warn(
                f"All {config.num_samples} samples of a {of_what} will be alike at temperature 0; for different ones: "
                "leave out --temperature"
            )

    def repeating(self, written: "Iterable[Generation | FilledText]") -> int:
        """Of how many vectors or texts samples are alike although they were drawn."""
        if self.config.num_samples == 1 or not self.sampling.stochastic:
            return 0
        texts: dict[int, list[str]] = {}
        for item in written:
            texts.setdefault(item.row, []).append(item.text)
        return sum(len(set(of_row)) < len(of_row) for of_row in texts.values())

    def warn_of_repetitions(self, repeating: int, of_what: str) -> None:
        """Say of how many texts, vectors or points samples are alike although further seeds were tried."""
        if repeating:
            warn(
                f"For {counted(repeating, of_what)} some of the {self.config.num_samples} samples are alike: no more "
                "different ones were found. For more: --temperature 1"
            )


@dataclass(frozen=True)
class DecodingOptions:
    """What the command line says of the model and of how it writes; None where it says nothing."""

    cfg: Cfg = None
    steps: Steps = None
    candidates: Candidates = None
    refine: Refine = None
    shortlist: Shortlist = None
    search: Search = None
    temperature: Annotated[float | None, setting(SamplingConfig, "temperature")] = None
    length: Annotated[str | None, setting(GenerationConfig, "length", metavar="N|A-B")] = None
    seed: Annotated[int | None, setting(GenerationConfig, "seed")] = None
    num_samples: Annotated[int | None, setting(GenerationConfig, "num_samples", "-n")] = None
    watch: Annotated[bool, typer.Option("--watch", help="Show the text after each denoising step.")] = False
    checkpoint: Checkpoint = None
    encoder: Encoder = None
    gpu: Gpu = None
    device: Device = None
    files: ConfigFiles = None
    assignments: Assignments = None

    def resolve(
        self, *, num_samples: int = 1, drawn: bool = True, fills: bool = False
    ) -> Callable[[], Writing]:
        """Check the settings at once; what is returned loads the model.

        Args:
            num_samples: Texts for each vector where nothing says how many.
            drawn: Whether tokens are drawn so that several texts of a vector differ.
            fills: Whether blanks are filled: candidates of one length differ in those of their blanks.

        Raises:
            ConfigError: an unknown or wrong setting.
            typer.BadParameter: the devices contradict each other.
        """
        from sgdd_cli.settings import load_settings  # noqa: PLC0415 - `sgdd --help` need not load it

        resolved = load_settings(
            self.files or (),
            self.assignments or (),
            [
                ("--encoder", "encoder.name", self.encoder),
                ("--cfg", "sample.cfg", self.cfg),
                ("--steps", "sample.steps", self.steps),
                ("--temperature", "sample.temperature", self.temperature),
                ("--candidates", "sample.candidates", self.candidates),
                ("--refine", "sample.refine", self.refine),
                ("--shortlist", "sample.shortlist", self.shortlist),
                ("--search", "sample.search", self.search),
                ("--length", "sample.length", self.length),
                ("--seed", "sample.seed", self.seed),
                ("-n", "sample.num_samples", self.num_samples),
            ],
        )
        if not fills:
            resolved.require(resolved.settings.generation.require_lengths_for_candidates)
        place = device_name(self.gpu, self.device)

        def load() -> Writing:
            from sgdd_cli.models import load_model, named_encoder  # noqa: PLC0415 - loads torch
            from sgdd_engine.generation import complete_sampling  # noqa: PLC0415

            model, folder = load_model(
                self.checkpoint,
                place,
                named_encoder(resolved),
                encoder_batch_tokens=resolved.settings.encoder.batch_tokens,
            )
            config = resolved.settings.generation
            if "num_samples" not in resolved.given("generation"):
                config = replace(config, num_samples=num_samples)
            given = resolved.given("sample")
            draws = drawn and "temperature" not in {**model.info.sampling, **given}
            return Writing(model, folder, complete_sampling(given, model.info), config, self.watch, draws)

        return load


def with_decoding_options(command: Callable[..., None], *, only: Collection[str] = ()) -> Callable[..., None]:
    """Give a command the options of `DecodingOptions`, in the place of its argument of that type.

    Typer reads options from the signature of a function, so it is shown one with them.

    Args:
        command: The command.
        only: The names of those it has, where it has no use for all.
    """
    signature = inspect.signature(command)
    (name,) = (p.name for p in signature.parameters.values() if p.annotation is DecodingOptions)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for field in fields(DecodingOptions)
        if not only or field.name in only
    ]

    @functools.wraps(command)
    def called(**given: Any) -> None:  # noqa: ANN401 - what Typer has parsed
        decoding = DecodingOptions(**{option.name: given.pop(option.name) for option in shared})
        command(**given, **{name: decoding})

    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += (
            shared if parameter.name == name else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        )
    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called
