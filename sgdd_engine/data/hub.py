"""Data sets of the Hugging Face hub as a source of text: streamed, and pinned to one commit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.formats import arrow_texts
from sgdd_engine.data.source_registry import SOURCES, Source
from sgdd_engine.errors import DataError
from sgdd_engine.paths_and_shells import split_name
from sgdd_engine.text import hub

# The hub's own `bookcorpus` is a script, which `datasets` no longer runs; this mirror holds the same rows as
# Parquet and is the one that the documentation of `datasets` uses.
BOOKCORPUS = "rojagtap/bookcorpus"
BOOKCORPUS_ROWS = 74_004_228

# Listing the files of a data set takes seconds, and longer for one of thousands of files; without a network,
# `load_dataset` itself tries again for 23 seconds.
LISTING_SECONDS = 120.0
_OFFLINE = (
    "These work without it:\n"
    "  sgdd prepare-data builtin --encoder minilm\n"
    "  sgdd prepare-data my-book.txt --encoder minilm"
)


class HubSource(Source):
    """One text column of a hub data set.

    The branch is resolved to a commit, which goes into the manifest; a resumed preparation reads that commit
    again. `data.revision` pins it from the start.

    Args:
        name: What the user called it.
        dataset: `owner/name` on the hub.
        subset: The data set's configuration, where it has several.
        config: Column, split and revision.
    """

    def __init__(self, name: str, dataset: str, subset: str | None, config: DataConfig) -> None:
        self.name = name
        self._dataset = dataset
        self._subset = subset
        self._config = config
        self._revision = config.revision

    def describe(self, recorded: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
        """Data set, subset, split, column and commit; asks the hub only where no commit is recorded yet."""
        asked = {
            "kind": "hub",
            "dataset": self._dataset,
            "subset": self._subset,
            "split": self._config.split,
            "column": self._config.column,
            "asked_revision": self._config.revision,
        }
        if recorded is not None and all(recorded.get(key) == value for key, value in asked.items()):
            self._revision = recorded["revision"]
        else:
            self._revision = self._resolve()
        return {**asked, "revision": self._revision}

    def lines(self) -> Iterator[str]:
        """The raw text rows, streamed."""
        import datasets  # noqa: PLC0415 - takes 0.7 s and only this source needs it

        with self._explained():
            datasets.disable_progress_bars()  # progress goes through events
            revision = self._revision or self._resolve()
            rows = hub.ask_hub(
                lambda: datasets.load_dataset(
                    self._dataset, self._subset, split=self._config.split, streaming=True, revision=revision
                ),
                LISTING_SECONDS,
            )
            yield from text_rows(rows, self._config.column, f"The data set `{self.name}`")

    def estimated_lines(self) -> int | None:
        """The number of rows, where it is known."""
        return BOOKCORPUS_ROWS if self._dataset == BOOKCORPUS and self._config.split == "train" else None

    def _resolve(self) -> str:
        # One question with a short limit, because load_dataset alone retries for 23 s before it gives up.
        with self._explained():
            return str(hub.look_up("dataset", self._dataset, self._config.revision).sha)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except Exception as error:
            if explained := explain(error, self._dataset, self._config.revision):
                raise explained from error
            raise


@SOURCES.register("bookcorpus")
def _bookcorpus(spec: str, config: DataConfig) -> Source:
    return HubSource(spec, BOOKCORPUS, None, config)


@SOURCES.register("hf:")
def _named_dataset(spec: str, config: DataConfig) -> Source:
    dataset, *subset = split_name(spec.removeprefix("hf:"))
    if not dataset:
        raise DataError("`hf:` names no data set.", "Give `hf:owner/name`.")
    return HubSource(spec, dataset, ":".join(subset) or None, config)


def explain(error: Exception, dataset: str, revision: str | None) -> DataError | None:
    """What a failure of the hub means for the user; None for an unexpected error."""
    what, page = f"data set `{dataset}`", f"datasets/{dataset}"
    said = " ".join(str(error).split())
    if refused := hub.refusal(error, what, page, revision):
        return DataError(*refused)
    if isinstance(error, RuntimeError) and "scripts are no longer supported" in said:
        return DataError(
            f"The {what} is a script, and sgdd runs no remote code.",
            "Look for a Parquet copy of it; for BookCorpus that is `sgdd prepare-data bookcorpus`.",
        )
    if isinstance(error, ValueError):
        return DataError(
            f"The {what} cannot be read in this way: {said}",
            "Choose a split with --split, and a subset with `hf:owner/name:subset`.",
        )
    if isinstance(error, FileNotFoundError):
        return DataError(
            f"The {what} holds no files that can be read: {said}",
            f"Look at https://huggingface.co/{page}/tree/main.",
        )
    return (
        DataError(f"The hub's {what} cannot be reached.", _OFFLINE) if hub.is_network_error(error) else None
    )


def text_rows(rows: Any, column: str, name: str) -> Iterator[str]:  # noqa: ANN401 - `datasets` has no types
    """The text column of a `datasets.Dataset` or `IterableDataset`.

    Raises:
        DataError: If there is no such column, or it holds something else than text.
    """
    # Tables of a few thousand rows are some ten times faster than one Python dict per row.
    return arrow_texts(rows.with_format("arrow").iter(batch_size=4096), column, name)
