"""Weights & Biases (wandb.ai); with WANDB_MODE=offline it writes a folder that `wandb sync` sends later."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgdd_engine.errors import TrainingError
from sgdd_engine.tracking.tracker import TRACKERS, Ending, TrackedRun, Tracker


@TRACKERS.register("wandb")
class Wandb(Tracker):
    """One run of Weights & Biases for one run of sgdd, its later sessions included.

    Args:
        run: The run.
        project: The project there.
        entity: The user or team there; by default the one that is logged in.
    """

    def __init__(self, run: TrackedRun, project: str = "sgdd", entity: str = "") -> None:
        super().__init__(run)
        try:
            import wandb  # noqa: PLC0415 - an extra, and slow to load
        except ImportError as error:
            raise TrainingError(
                f"The tracker wandb needs its package, which is not installed ({error}).",
                'pip install "sgdd[wandb]"',
            ) from error
        self._wandb, self._project, self._entity = wandb, project, entity or None
        self._session: Any = None

    def start(self, step: int) -> str:  # noqa: ARG002 - the session knows it
        """Begin, or go on with the run that an earlier session began."""
        from sgdd_engine.atomic_files import write_text  # noqa: PLC0415 - `sgdd --help` need not load it

        wandb, file = self._wandb, self.run.folder / "wandb" / "run-id"
        known = file.read_text(encoding="utf-8").strip() if file.is_file() else None
        try:
            self._session = wandb.init(
                project=self._project,
                entity=self._entity,
                name=self.run.folder.resolve().name,
                id=known,
                resume="allow",
                dir=self.run.folder,
                config=dict(self.run.settings),
                # Nothing of it belongs on this terminal, whose output it would otherwise record as well.
                settings=wandb.Settings(silent=True, console="off"),
            )
        except (wandb.Error, OSError) as error:
            raise TrainingError(
                f"Weights & Biases cannot be reached or refuses: {error}",
                "Log in with `wandb login`, or set WANDB_MODE=offline and send the run later with `wandb sync`.",
            ) from error
        write_text(file, f"{self._session.id}\n")
        return f"Weights & Biases: {self._session.url or Path(self._session.dir).parent}"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Values of a step that an earlier session sent already are ignored there."""
        self._session.log(dict(values), step=step)

    def texts(self, step: int, pairs: Sequence[tuple[str, str]]) -> None:
        """A table of the step."""
        table = self._wandb.Table(columns=["source", "written"], data=[list(pair) for pair in pairs])
        self._session.log({"validation/written": table}, step=step)

    def end(self, step: int, ending: Ending, metrics: Mapping[str, float]) -> None:  # noqa: ARG002 - as above
        """The metrics are the run's summary; a session that was stopped counts as failed there."""
        self._session.summary.update(dict(metrics))
        self._session.finish(exit_code=0 if ending == "finished" else 1)
