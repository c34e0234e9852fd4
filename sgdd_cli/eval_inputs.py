"""The sentences of an evaluation: those scored, those to find guidance on, and the corpus of the training."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgdd_cli.console import say
from sgdd_cli.default_paths import corpus_of
from sgdd_cli.models import text_to_score
from sgdd_engine.counted import counted
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.manifest import MANIFEST
from sgdd_engine.errors import DataError
from sgdd_engine.evaluation.data import EvaluationSet, from_corpus, from_text_file
from sgdd_engine.evaluation.guidance_search import SENTENCES

if TYPE_CHECKING:
    from sgdd_cli.settings import Settings
    from sgdd_engine.events import Listener
    from sgdd_engine.generation import SGDD


@dataclass(frozen=True)
class EvalInputs:
    """The text of one evaluation.

    Attributes:
        scored: The sentences that are scored.
        search_on: Other sentences, to find the guidance weight on; None without --find-cfg.
        training: The corpus of the training sentences; None where it is not found.
    """

    scored: EvaluationSet
    search_on: EvaluationSet | None
    training: Corpus | None


def load_eval_inputs(
    data: Path | None,
    training: Path | None,
    model: "SGDD",
    checkpoint: Path,
    settings: "Settings",
    on_event: "Listener",
) -> EvalInputs:
    """Open what was named; what was not is found by the checkpoint.

    Raises:
        DataError: it is not there, or holds too few sentences.
        EncoderError: sentences of a text file have to be encoded, and the encoder cannot be loaded.
    """
    if data is None:
        data = text_to_score(checkpoint, model.info.facts)
    corpus = Corpus.open(data) if (data / MANIFEST).is_file() else None
    if corpus is None:
        scored, search_on = _of_text(data, model, settings, on_event)
    else:
        scored, search_on = _of_corpus(corpus, settings)
    return EvalInputs(scored, search_on, _training(training, corpus, checkpoint, model))


def load_calibration_set(
    data: Path | None, count: int, model: "SGDD", checkpoint: Path, settings: "Settings", on_event: "Listener"
) -> EvaluationSet:
    """So many sentences that an evaluation with these settings neither scores nor finds the guidance weight on.

    Raises:
        DataError: there are none.
        EncoderError: as above.
    """
    if data is None:
        data = text_to_score(checkpoint, model.info.facts)
    config = settings.eval
    if (data / MANIFEST).is_file():
        skip = SENTENCES + (config.limit if config.split == "validation" else 0)
        return from_corpus(Corpus.open(data), "validation", count, config.seed, skip=skip)
    return from_text_file(
        data,
        model,
        count,
        config.seed,
        skip=config.limit + SENTENCES,
        config=settings.data,
        on_event=on_event,
    )


def _of_corpus(corpus: Corpus, settings: "Settings") -> tuple[EvaluationSet, EvaluationSet | None]:
    config = settings.eval
    scored = from_corpus(corpus, config.split, config.limit, config.seed)
    if not config.find_cfg:
        return scored, None
    skip = config.limit if config.split == "validation" else 0
    return scored, from_corpus(corpus, "validation", SENTENCES, config.seed, skip=skip)


def _of_text(
    path: Path, model: "SGDD", settings: "Settings", on_event: "Listener"
) -> tuple[EvaluationSet, EvaluationSet | None]:
    config, more = settings.eval, SENTENCES if settings.eval.find_cfg else 0
    # Read once, since standard input can be read once only.
    found = from_text_file(
        path, model, config.limit + more, config.seed, config=settings.data, on_event=on_event
    )
    if not more:
        return found, None
    if len(found) < config.limit + 2:
        raise DataError(
            f"`{path}` holds {counted(len(found), 'sentence')} that can be used; {config.limit:,} are scored, and none "
            "is left to find the guidance weight on.",
            f"Score fewer: --limit {max(2, len(found) // 2)}",
        )
    return found.rows(range(config.limit)), found.rows(range(config.limit, len(found)))


def _training(named: Path | None, corpus: Corpus | None, checkpoint: Path, model: "SGDD") -> Corpus | None:
    """The named corpus, or the one that the model was trained on, or the one whose held-out part is scored."""
    if named is not None:
        return Corpus.open(named)
    try:
        return Corpus.open(corpus_of(checkpoint, model.info.facts, ""))
    except DataError:
        if corpus is None:
            say(
                "The corpus of the training was not found, so retrieval and memorisation are left out; "
                "name it with --train-corpus FOLDER."
            )
        return corpus
