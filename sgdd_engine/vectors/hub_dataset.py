"""Vectors in a data set of the Hugging Face hub, streamed: `hf:owner/name`, `hf:owner/name:subset:split`."""

from pathlib import Path
from typing import Any

from sgdd_engine.data.hub import LISTING_SECONDS, explain
from sgdd_engine.errors import VectorSourceError
from sgdd_engine.paths_and_shells import split_name
from sgdd_engine.text.hub import ANSWER_SECONDS, ask_hub
from sgdd_engine.vectors.source import OpenSource, ReadOptions


def matches(where: str) -> bool:  # noqa: ARG001 - the signature of every source
    """Only what is named with `hf:`: `owner/name` looks like a path."""
    return False


def open(where: str, options: ReadOptions) -> OpenSource:
    """One split of a data set of the hub, or of a folder of files that `datasets` can read.

    Args:
        where: `owner/name`, or a folder; then the subset and the split, if there are several: `owner/name:en:test`.
        options: Columns and conditions.

    Raises:
        VectorSourceError: the hub cannot be reached, or there is no such data set, split or column.
    """
    import datasets  # noqa: PLC0415 - takes 0.7 s and only this source needs it

    from sgdd_engine.vectors.arrow_tables import open_tables  # noqa: PLC0415 - loads pyarrow

    dataset, subset, split, *_ = [*split_name(where), "", ""]
    if not dataset:
        raise VectorSourceError("`hf:` names no data set.", "Give hf:owner/name.")
    name = f"Data set `hf:{where}`"
    datasets.disable_progress_bars()  # progress goes through events
    try:
        if not Path(dataset).is_dir():
            _ask_whether_it_is_there(dataset)
        found: Any = ask_hub(
            lambda: datasets.load_dataset(dataset, subset or None, streaming=True), LISTING_SECONDS
        )
        if not split and len(found) > 1 and "train" not in found:
            raise VectorSourceError(
                f"{name} has the splits {', '.join(found)}.",
                f"Name one: hf:{dataset}:{subset}:{next(iter(found))}",
            )
        split = split or ("train" if "train" in found else next(iter(found)))
        if split not in found:
            raise VectorSourceError(f"{name} has no split `{split}`; it has {', '.join(found)}.")
        data = found[split]
        features = data.features or next(iter(data.with_format("arrow").iter(batch_size=1)))
        schema = features.arrow_schema if data.features else features.schema
    except VectorSourceError:
        raise
    except Exception as error:
        if sentence := explain(error, dataset, None):
            raise VectorSourceError(sentence.message, _HINT) from error
        raise
    return open_tables(
        name,
        schema,
        lambda columns: data.select_columns(columns).with_format("arrow").iter(batch_size=options.batch_rows),
        None,
        options,
    )


_HINT = "Check the name and the network; a copy on this machine is read by its folder or its Parquet files."


def _ask_whether_it_is_there(dataset: str) -> None:
    # One question with a short limit, because load_dataset alone retries for 23 s before it gives up.
    from huggingface_hub import HfApi  # noqa: PLC0415 - only this source needs it

    ask_hub(lambda: HfApi().dataset_info(dataset, timeout=ANSWER_SECONDS), ANSWER_SECONDS + 1)
