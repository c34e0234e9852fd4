"""A map from another encoder's vectors to the model's, and what it gives on held-out pairs, beside controls."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from sgdd_engine.counted import counted
from sgdd_engine.data.cleaning import clean
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import VectorSourceError, require
from sgdd_engine.evaluation.alignment_figures import CurvePoint, MapFigures, Scores, verdicts_on
from sgdd_engine.evaluation.bootstrap import Floats
from sgdd_engine.evaluation.metrics import token_f1
from sgdd_engine.events import Listener, Notice, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation import SGDD, encode_written, write_texts
from sgdd_engine.text.reference import EncoderReference
from sgdd_engine.vectors import LinearMap, OpenSource, VectorBatch
from sgdd_engine.vectors.linear_map import RidgeMap, RidgeRegression, have_unit_length
from sgdd_engine.vectors.selection import sample_rows, take
from sgdd_engine.vectors.source import Vectors

# A fifth of the pairs is held out, at most so many: the 95 % interval of a mean cosine is then below ±.01.
HELD_OUT = 1000
_HELD_OUT_SHARE = 5
# A fifth of it are ten pairs, and 32 others make five folds of at least six.
MIN_PAIRS = 50
# Sizes of the learning curve: half decades.
CURVE = (100, 300, 1000, 3000, 10_000)
# Pairs whose statistics are added at once.
_PAIRS_AT_ONCE = 2048
# Texts that are shown.
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Example:
    """A held-out text, and what the model writes from its true and from its mapped vector."""

    text: str
    from_true: str
    from_mapped: str


@dataclass(frozen=True)
class Alignment:
    """A map and how good it is.

    Attributes:
        linear_map: The map of all pairs that are not held out.
        conditions: Figures by condition, as `CONDITIONS`.
        curve: The same for fewer pairs, up to all of them.
        held_out: Pairs that were held out.
        texts: How many of their texts were written.
        left_out: Rows that are no pair, by reason.
        examples: Some held-out texts as they are written.
        verdicts: What the figures say, a sentence each.
    """

    linear_map: LinearMap
    conditions: dict[str, MapFigures]
    curve: Sequence[CurvePoint]
    held_out: int
    texts: int
    left_out: dict[str, int]
    examples: Sequence[Example]
    verdicts: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "encoder": self.linear_map.encoder.name,
            "width": self.linear_map.input_dim,
            "pairs": self.linear_map.pairs,
            "penalty": self.linear_map.penalty,
            "held_out": self.held_out,
            "texts": self.texts,
            "left_out": self.left_out,
            "conditions": {name: asdict(figures) for name, figures in self.conditions.items()},
            "curve": [asdict(point) for point in self.curve],
            "examples": [asdict(example) for example in self.examples],
            "verdicts": list(self.verdicts),
        }


@dataclass(frozen=True)
class _Pairs:
    """Distinct texts with a vector x of the other encoder and a vector y of the model's."""

    texts: list[str]
    x: Vectors
    y: Vectors

    def __getitem__(self, rows: slice) -> "_Pairs":
        return _Pairs(self.texts[rows], self.x[rows], self.y[rows])


def align(
    model: SGDD,
    source: OpenSource,
    *,
    pairs: int = CURVE[-1],
    texts: int = 200,
    seed: int = 0,
    sampling: SamplingConfig | None = None,
    on_event: Listener = ignore,
) -> Alignment:
    """Fit a map from the vectors of a source to those of the model's encoder, and judge it on held-out pairs.

    The texts of the pairs are encoded by the model's encoder. Equal texts, whatever their case and white space, are one
    pair. Which pairs are held out depends on their texts and the seed alone, not on their order.

    Args:
        model: The model.
        source: Vectors of any encoder with their texts.
        pairs: How many the map is fitted on at most; of more rows a random sample is taken. Memory grows with it.
        texts: Held-out texts that are written, for the token F1.
        seed: Of the sample, the held-out part, the writing and the intervals.
        sampling: How the model writes; by default as its checkpoint recommends.
        on_event: Told of progress, and of what the source says of itself.

    Raises:
        VectorSourceError: there are no texts or too few pairs, or nothing can be learned from the vectors.
        ConfigError: a number is out of range.
    """
    least = MIN_PAIRS - MIN_PAIRS // _HELD_OUT_SHARE
    require(pairs >= least, f"pairs is {pairs}; a map is fitted on at least {least}.")
    require(texts >= 1, f"texts is {texts}; it must be at least 1.")
    require(0 <= seed < 1 << 63, f"The seed is {seed}; it must lie between 0 and 2^63 - 1.")
    source.report(on_event)
    left_out: Counter[str] = Counter()
    chosen = _choose(source, pairs, seed, left_out, on_event)
    found = _encode(model, chosen, seed, left_out, on_event)
    if len(found.texts) < MIN_PAIRS:
        raise VectorSourceError(
            f"{source.name} has {counted(len(found.texts), 'pair')} of a vector and a text; a map needs at least "
            f"{MIN_PAIRS}.",
            "Give more rows, or name the columns with --column and --text-column.",
        )
    held_out = min(HELD_OUT, len(found.texts) // _HELD_OUT_SHARE)
    judge = _Judge(model, found[:held_out], texts, seed, sampling, on_event)
    train = found[held_out : held_out + pairs]
    with judge:
        last, points, scores = _judge_maps(judge, train, model.encoder_reference, on_event)
    conditions = {name: found.figures(seed) for name, found in scores.items()}
    curve = [CurvePoint(count, penalty, found.figures(seed)) for count, penalty, found in points]
    figures = {
        "cosine": conditions["mapped"].cosine.mean,
        "mean_cosine": conditions["mean"].cosine.mean,
        "token_f1": {name: condition.token_f1.mean for name, condition in conditions.items()},
        "text_cosine": {name: condition.text_cosine.mean for name, condition in conditions.items()},
        "held_out": held_out,
        "texts": len(judge.references),
    }
    examples = zip(judge.references, scores["true"].texts, scores["mapped"].texts, strict=True)
    return Alignment(
        replace(last, figures=figures),
        conditions,
        curve,
        held_out,
        len(judge.references),
        {reason: count for reason, count in left_out.items() if count},
        [Example(*texts) for texts, _ in zip(examples, range(_EXAMPLES), strict=False)],
        verdicts_on(scores, curve, seed),
    )


def _judge_maps(
    judge: "_Judge", train: _Pairs, encoder: EncoderReference, on_event: Listener
) -> tuple[LinearMap, list[tuple[int, float, Scores]], dict[str, Scores]]:
    """The map of all pairs; size, penalty and scores of the maps of the learning curve; scores by condition."""
    unit = have_unit_length(train.x)

    def linear(fitted: RidgeMap, count: int) -> LinearMap:
        return LinearMap(
            fitted.weight.astype(np.float32),
            fitted.mean_x.astype(np.float32),
            fitted.mean_y.astype(np.float32),
            encoder=encoder,
            unit_inputs=unit,
            penalty=fitted.penalty,
            pairs=count,
        )

    points: list[tuple[int, float, Scores]] = []
    for count, fitted in _fit(train, on_event):
        last = linear(fitted, count)
        points.append((count, fitted.penalty, judge(last(judge.pairs.x))))
    # Each vector with the text of another: the same vectors, and nothing to learn.
    others = _Pairs(train.texts, train.x, np.roll(train.y, 1, axis=0))
    *_, (count, shuffled) = _fit(others, ignore, curve=())
    mean = train.y.mean(axis=0, dtype=np.float64).astype(np.float32)
    scores = {
        "mapped": points[-1][2],
        "shuffled": judge(linear(shuffled, count)(judge.pairs.x)),
        "mean": judge(np.tile(mean, (len(judge.pairs.x), 1))),
        "true": judge(judge.pairs.y),
    }
    return last, points, scores


def _choose(
    source: OpenSource, pairs: int, seed: int, left_out: Counter[str], on_event: Listener
) -> VectorBatch:
    """A random sample of the rows that have a finite vector and a text, enough for `pairs` and a held-out part."""

    def usable() -> Iterator[VectorBatch]:
        done = 0
        for batch in source.batches:
            left_out["no vector"] += len(batch.left_out)
            done += len(batch.ids)
            if batch.texts is None and batch.ids:
                raise VectorSourceError(
                    f"{source.name} has no texts, and a map is learned from vectors with their texts.",
                    "Name the column of the texts with --text-column.",
                )
            lengths = np.sqrt(np.square(batch.vectors, dtype=np.float64).sum(axis=1))
            numbers = np.isfinite(lengths) & (lengths > 0)
            texts = np.array([bool(clean(text or "")) for text in batch.texts or ()], dtype=bool)
            left_out["zeros only, NaN or infinite numbers"] += int((~numbers).sum())
            left_out["no text"] += int((numbers & ~texts).sum())
            yield take(batch, np.flatnonzero(numbers & texts).tolist())
            on_event(StageProgress("reading", done))

    on_event(StageStarted("reading", source.rows, "rows"))
    wanted = pairs + min(HELD_OUT, pairs // (_HELD_OUT_SHARE - 1) + 1)
    chosen = sample_rows(usable(), wanted, torch.Generator().manual_seed(seed))
    on_event(StageFinished("reading", f"{counted(len(chosen.ids), 'row')} with a vector and a text."))
    return chosen


def _encode(
    model: SGDD, chosen: VectorBatch, seed: int, left_out: Counter[str], on_event: Listener
) -> _Pairs:
    """The rows as pairs of distinct texts, in the order of a hash of their texts."""
    row_of: dict[str, int] = {}
    for row, text in enumerate(chosen.texts or ()):
        row_of.setdefault(clean(text or "").casefold(), row)
    left_out["a text that another row has"] += len(chosen.ids) - len(row_of)
    salt = seed.to_bytes(8, "little")

    def key(text: str) -> bytes:
        return hashlib.blake2b(text.encode(), digest_size=16, salt=salt).digest()

    rows = [row_of[text] for text in sorted(row_of, key=key)]
    texts = [clean(text or "") for text in take(chosen, rows).texts or ()]
    if not texts:
        return _Pairs([], chosen.vectors, chosen.vectors)
    done = 0

    def progress(sentences: int) -> None:
        nonlocal done
        done += sentences
        on_event(StageProgress("encoding", done))

    on_event(StageStarted("encoding", len(texts), "texts"))
    y = model.encoder.encode(texts, progress).numpy()
    on_event(StageFinished("encoding", f"{counted(len(texts), 'text')}, by `{model.info.encoder.name}`."))
    return _Pairs(texts, chosen.vectors[rows], y)


def _fit(train: _Pairs, on_event: Listener, curve: Sequence[int] = CURVE) -> Iterator[tuple[int, RidgeMap]]:
    """The maps of the first pairs, as many as the curve says, and of all of them; one pass."""
    total = len(train.texts)
    stops = [*(count for count in curve if count < total), total]
    regression = RidgeRegression()
    for stop in stops:
        while (start := regression.pairs) < stop:
            end = min(start + _PAIRS_AT_ONCE, stop)
            regression.add(train.x[start:end], train.y[start:end], np.arange(start, end))
        fitted = regression.fit()
        on_event(Notice(f"A map of {stop:,} pairs is fitted, with a penalty of {fitted.penalty:.1e}."))
        yield stop, fitted


class _Judge:
    """Figures of vectors that stand for those of held-out texts; while entered, a stage of progress.

    Attributes:
        pairs: The held-out pairs.
        references: The texts that are written, as the decoder's tokenizer can write them.
    """

    def __init__(
        self,
        model: SGDD,
        pairs: _Pairs,
        texts: int,
        seed: int,
        sampling: SamplingConfig | None,
        on_event: Listener,
    ) -> None:
        self._model, self._seed, self._on_event = model, seed, on_event
        self._options: dict[str, Any] = {"sampling": sampling, "seed": seed}
        self._written = 0
        self.pairs = pairs
        self.references = model.tokenizer.decode_batch(model.tokenizer.encode_batch(pairs.texts[:texts]))

    def __enter__(self) -> "_Judge":
        self._on_event(StageStarted("writing", None, "texts"))
        return self

    def __exit__(self, *_: object) -> None:
        self._on_event(StageFinished("writing", f"{counted(self._written, 'text')}."))

    def __call__(self, vectors: Vectors) -> Scores:
        """The scores of vectors [N, D], one for each held-out pair."""
        true = _unit(self.pairs.y)
        cosines = _unit(vectors) @ true.T
        own = cosines.diagonal()
        # Another text that is as near counts as nearer.
        first = (cosines >= own[:, None]).sum(axis=1) == 1
        texts = self._write(vectors[: len(self.references)])
        f1 = [token_f1(*pair) for pair in zip(self.references, texts, strict=True)]
        again = _unit(encode_written(self._model.encoder, texts).numpy())
        return Scores(own, first, np.array(f1), (again * true[: len(texts)]).sum(axis=1), texts)

    def _write(self, vectors: Vectors) -> list[str]:
        """What the model writes from vectors [T, D]; equal ones are written once."""
        distinct, which = np.unique(vectors, axis=0, return_inverse=True)
        batch = VectorBatch([str(i) for i in range(len(distinct))], distinct)
        texts: list[str] = []
        for written in write_texts(self._model, [batch], **self._options):
            texts += [row.written.text for row in written]
            self._written += len(written)
            self._on_event(StageProgress("writing", self._written))
        return [texts[row] for row in which.ravel().tolist()]


def _unit(vectors: Vectors) -> Floats:
    rows = vectors.astype(np.float64)
    lengths: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths
