"""Whether vectors are those of a model's encoder: width, finite numbers, length, and what the stored texts say."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from sgdd_engine.data.cleaning import clean
from sgdd_engine.errors import EncoderError, SgddError, VectorSourceError
from sgdd_engine.events import Listener, Notice, ignore
from sgdd_engine.generation.arguments import LENGTH_TOLERANCE
from sgdd_engine.generation.pipeline import SGDD
from sgdd_engine.models.bottleneck import Whitening
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.vectors.linear_map import LinearMap
from sgdd_engine.vectors.selection import join, take
from sgdd_engine.vectors.source import OpenSource, VectorBatch

# Rows at the beginning of a source by which its encoder is told.
HEAD_ROWS = 32
# MiniLM vectors of the same 200 sentences have a mean cosine of 1.0000 after storage in 8 bits, .991 in 4; without
# their full stops .989, after a prompt of one word .90.
SAME_COSINE = 0.99
# Two of these sentences have a mean cosine of .14, each with its first half .71.
OTHER_COSINE = 0.4
# Mean of the squared whitened coordinates over 32 rows, by `python examples/vector_distance.py`: MiniLM vectors of
# fiction, a README, code, other languages, single words and numbers .8 to 2.2; the same vectors in other coordinates
# (rotated, permuted) and random ones 4.4 and above.
WHITENED_LIMIT = 3.0
# The same for standardised coordinates, which tell less: .9 to 1.25, and 1.3 for all of the others. Only vectors with
# another mean are far, such as those of an encoder whose vectors share a direction.
STANDARDISED_LIMIT = 1.5
# A single vector may be far by chance: single words reach 3.5.
_ENOUGH_ROWS = 8
# Of what a map gains in cosine over the mean vector, the least that rows must show to go without a warning.
_LEAST_OF_GAIN = 0.5
# Ids that a message lists.
_LISTED = 5

_OVERRULE = "To write them nevertheless: --assume-same"
_ALIGN = (
    "For vectors of another encoder, with their texts: sgdd align PAIRS --out FILE\nThen give --map FILE."
)
_ANOTHER_COLUMN = "Name another column with --column or --text-column"


class CheckedVectors:
    """The rows of a source that a model can read, as its encoder would have made them.

    Vectors of a length other than 1 are scaled where the encoder makes such. Rows without a vector, with NaN or
    infinite numbers, and of length 0 are left out and named at the end. The first rows tell whether the encoder is
    the model's at all. Vectors of another encoder are mapped to it, if there is a map.

    Args:
        model: The model, with its encoder.
        source: What is read.
        linear_map: From the vectors of the source to those of the model's encoder.
        assume_same: Do not ask whether the encoder is the model's.
        mappable: Whether who reads them could give a map.
        on_event: Told of notes and warnings.

    Attributes:
        faulty: Rows so far that were left out because their numbers cannot be read.

    Raises:
        EncoderError: the map leads to the vectors of another encoder than the model's.
    """

    def __init__(
        self,
        model: SGDD,
        source: OpenSource,
        *,
        linear_map: LinearMap | None = None,
        assume_same: bool = False,
        mappable: bool = True,
        on_event: Listener = ignore,
    ) -> None:
        if linear_map is not None:
            linear_map.validate_encoder(model.encoder_reference)
        self._map = linear_map
        self._advice = f"{_ALIGN}\n{_OVERRULE}" if mappable and linear_map is None else _OVERRULE
        self._model, self._source, self._assume_same, self._on_event = model, source, assume_same, on_event
        self._left_out: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}
        self._scaled = False
        self.faulty = 0

    def __iter__(self) -> Iterator[VectorBatch]:
        """The batches; a fault of the source is raised after the rows before it were given.

        Raises:
            VectorSourceError: the width is another, or the vectors are clearly not those of the model's encoder.
        """
        self._source.report(self._on_event)
        batches = map(self._usable, self._source.batches)
        try:
            head: list[VectorBatch] = []
            fault: SgddError | None = None
            try:
                while sum(len(batch.ids) for batch in head) < HEAD_ROWS:
                    head.append(next(batches))
            except StopIteration:
                pass
            except SgddError as error:
                fault = error
            if not self._assume_same and (first := join(head)).ids:
                self._compare(first)
            for batch in chain(head, batches if fault is None else ()):
                if batch.ids:
                    yield batch
            if fault is not None:
                raise fault
        finally:
            self._report()

    def _usable(self, batch: VectorBatch) -> VectorBatch:
        """A batch without the rows that cannot be read, and with vectors of the length that the encoder gives."""
        self._leave_out("no vector", batch.left_out)
        if not batch.ids:
            return batch
        self._check_width(batch.vectors.shape[1])
        # In float64: the squares of large numbers overflow in float32.
        lengths = np.sqrt(np.square(batch.vectors, dtype=np.float64).sum(axis=1))
        finite, zero = np.isfinite(lengths), lengths == 0
        bad = ~finite | zero
        if bad.any():
            self._leave_out(
                "NaN or infinite numbers", [batch.ids[i] for i in np.flatnonzero(~finite).tolist()]
            )
            self._leave_out("zeros only", [batch.ids[i] for i in np.flatnonzero(zero).tolist()])
            self.faulty += int(bad.sum())
            kept = np.flatnonzero(~bad)
            batch, lengths = take(batch, kept.tolist()), lengths[kept]
        unit = self._model.unit_vectors if self._map is None else self._map.unit_inputs
        if unit and (np.abs(lengths - 1) > LENGTH_TOLERANCE).any():
            self._say_scaled(batch, lengths)
            batch = replace(batch, vectors=(batch.vectors / lengths[:, None]).astype(np.float32))
        if self._map is not None and batch.ids:
            batch = replace(batch, vectors=self._map(batch.vectors))
        return batch

    def _check_width(self, width: int) -> None:
        info, name = self._model.info, self._source.name
        if self._map is not None and width != self._map.input_dim:
            raise VectorSourceError(
                f"{name} has vectors of {width:,} numbers; the map reads {self._map.input_dim:,}.",
                "Name another column with --column, or make a map for these vectors: sgdd align PAIRS",
            )
        if self._map is None and width != info.model.embedding_dim:
            raise VectorSourceError(
                f"{name} has vectors of {width:,} numbers; this model reads {info.model.embedding_dim:,}, made by "
                f"`{info.encoder.name}`.",
                f"Name another column with --column, or a model of that encoder with --checkpoint.\n{_ALIGN}",
            )

    def _say_scaled(
        self, batch: VectorBatch, lengths: "np.ndarray[tuple[int], np.dtype[np.float64]]"
    ) -> None:
        if self._scaled:
            return
        self._scaled = True
        row = int((np.abs(lengths - 1) > LENGTH_TOLERANCE).argmax())
        as_wanted = "as this model's encoder makes them" if self._map is None else "as the map reads them"
        self._on_event(
            Notice(
                f"{self._source.name} has vectors of another length than 1 (row {batch.ids[row]} has "
                f"{lengths[row]:.3g}), {as_wanted}; such vectors are scaled to it.",
                warning=True,
            )
        )

    def _compare(self, head: VectorBatch) -> None:
        """Tell by the first rows whether they are the encoder's."""
        stored = torch.from_numpy(np.array(head.vectors[:HEAD_ROWS]))
        texts = [clean(text or "") for text in (head.texts or ())[:HEAD_ROWS]]
        if rows := [i for i, text in enumerate(texts) if text]:
            try:
                again = self._model.encoder.encode([texts[i] for i in rows])
            except EncoderError as error:
                self._on_event(Notice(f"The stored texts cannot be compared. {error.message}", warning=True))
            else:
                cosines = torch.cosine_similarity(again, stored[rows], dim=-1)
                if self._map is None:
                    self._judge_cosines(cosines)
                else:
                    self._judge_mapped(self._map, cosines, again)
                return
        self._judge_distance(*training_distance(self._model.model, stored), len(stored))

    def _judge_cosines(self, cosines: Tensor) -> None:
        mean, count = float(cosines.mean()), len(cosines)
        if mean >= SAME_COSINE:
            return
        same = int((cosines >= SAME_COSINE).sum())
        found = (
            f"{self._source.name}: {count:,} stored texts, encoded again, give vectors with a mean cosine of "
            f"{mean:.2f} to the stored ones; {same:,} reach {SAME_COSINE:g}"
        )
        if mean < OTHER_COSINE:
            raise VectorSourceError(
                f"{found}. They are those of another encoder than `{self._model.info.encoder.name}`, or other texts'.",
                f"{_ANOTHER_COLUMN}.\n{self._advice}",
            )
        why = (
            "some texts are not what was encoded: changed since then, cut, or encoded together with more"
            if same
            else "they were encoded with another pooling, prompt or precision, or together with more text"
        )
        self._on_event(Notice(f"{found}: {why}. The written texts may be less exact.", warning=True))

    def _judge_mapped(self, linear_map: LinearMap, cosines: Tensor, again: Tensor) -> None:
        """Mapped vectors should be closer to those of their texts than the mean vector is."""
        mean = float(cosines.mean())
        control = float(
            torch.cosine_similarity(again, torch.from_numpy(linear_map.mean_y)[None], dim=-1).mean()
        )
        found = (
            f"{self._source.name}: {len(cosines):,} stored texts, encoded again, give vectors with a mean cosine of "
            f"{mean:.2f} to the mapped ones and {control:.2f} to the mean vector"
        )
        if mean <= control:
            raise VectorSourceError(
                f"{found}. The vectors are those of another encoder than the map's, or other texts'.",
                f"{_ANOTHER_COLUMN}, or another map with --map.\n{self._advice}",
            )
        figures = linear_map.figures
        if {"cosine", "mean_cosine"} <= figures.keys():
            expected = figures["cosine"] - figures["mean_cosine"]
            if mean - control < expected * _LEAST_OF_GAIN:
                self._on_event(
                    Notice(
                        f"{found}; when the map was made these were {figures['cosine']:.2f} and "
                        f"{figures['mean_cosine']:.2f}. It was made from other text, or not for all of these rows. "
                        "The written texts may be less exact.",
                        warning=True,
                    )
                )

    def _judge_distance(self, distance: float, limit: float, rows: int) -> None:
        if distance <= limit:
            return
        mapped = self._map is not None
        other = "the map's" if mapped else f"`{self._model.info.encoder.name}`"
        message = (
            f"{self._source.name} has vectors {'that are mapped ' if mapped else ''}far from those the model was "
            f"trained on: {distance:.1f} times as far as these among themselves, above {limit:g}. They look like "
            f"those of another encoder than {other}."
        )
        if rows >= _ENOUGH_ROWS:
            raise VectorSourceError(message, self._advice)
        self._on_event(Notice(message, warning=True))

    def _leave_out(self, what: str, ids: Sequence[str]) -> None:
        if ids:
            self._counts[what] = self._counts.get(what, 0) + len(ids)
            shown = self._left_out.setdefault(what, [])
            shown += ids[: _LISTED - len(shown)]

    def _report(self) -> None:
        for what, count in self._counts.items():
            shown = self._left_out[what]
            names = ", ".join(shown) + (" …" if count > len(shown) else "")
            rows = "row has" if count == 1 else "rows have"
            verb = "is" if count == 1 else "are"
            self._on_event(Notice(f"{count:,} {rows} {what} and {verb} left out: {names}.", warning=True))


@torch.inference_mode()
def training_distance(model: SemanticDecoder, e: Tensor) -> tuple[float, float]:
    """How far vectors lie from those of the training: mean of their squared whitened coordinates, about 1 for these.

    Without whitening the model keeps no covariance, and coordinates are standardised only.

    Args:
        model: Holds the statistics.
        e: Vectors [N, D].

    Returns:
        The distance, and the limit above which vectors are another encoder's.
    """
    standardised: Tensor = model.standardize(e.to(model.standardize.mean.device))
    if isinstance(model.bottleneck, Whitening):
        return float(model.bottleneck(standardised).z.square().mean()), WHITENED_LIMIT
    return float(standardised.square().mean()), STANDARDISED_LIMIT
