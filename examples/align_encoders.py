"""What `mini` reads from the vectors of other encoders than its own, by the number of pairs that the map was made from.

    python examples/align_encoders.py fiction.valid.txt --fit-on fiction.train.txt

The first file gives the pairs, one sentence a line. Three encoders stand for those that a database may hold:

- **rotated**: MiniLM's vectors in other coordinates; what a linear map cannot but find.
- **projected**: MiniLM's vectors times a random matrix, 512 numbers, and noise of half their length: simulated.
- **LSA**: 256 numbers of latent semantic analysis (TF-IDF of words, truncated SVD), fitted on the second file: a real
  encoder that knows words and nothing of their order. It needs scikit-learn, which `sgdd[offline]` brings.

Prints the tables of `align.md`.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from torch import Tensor, stack

from sgdd_engine import SGDD
from sgdd_engine.evaluation.alignment import Alignment, align
from sgdd_engine.evaluation.alignment_figures import CONDITIONS, MapFigures
from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.events import Event, StageFinished
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.vectors import OpenSource, VectorBatch

PROJECTED_DIM, NOISE = 512, 0.5
LSA_DIM = 256


class RememberedTexts:
    """An encoder that reads each text once: the same texts are aligned three times."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self._known: dict[str, Tensor] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)

    def encode(self, texts: Sequence[str], on_batch: Callable[[int], None] | None = None) -> Tensor:
        """Vectors [N, D] of texts; only those not seen before are encoded."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        self._known.update(zip(new, self._encoder.encode(new, on_batch), strict=True))
        return stack([self._known[text] for text in texts])


class Model(SGDD):
    """A model with such an encoder."""

    @cached_property
    def encoder(self) -> SentenceEncoder:  # type: ignore[override]
        """The encoder, loaded on first use."""
        return RememberedTexts(super().encoder)  # type: ignore[return-value]


def sentences(path: Path, count: int, longest: int) -> list[str]:
    """The first sentences of a file, without those that `mini` cannot write out."""
    with path.open(encoding="utf-8") as file:
        lines = dict.fromkeys(line.strip() for line in file)
    return list(islice((line for line in lines if 3 <= len(line.split()) <= longest), count))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def other_encoders(e: np.ndarray, texts: list[str], fit_on: list[str]) -> dict[str, np.ndarray]:
    """Vectors of the same texts by other encoders, by name."""
    random = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(random.normal(size=(e.shape[1], e.shape[1])))
    projected = unit(e @ random.normal(size=(e.shape[1], PROJECTED_DIM)))
    noise = NOISE * unit(random.normal(size=projected.shape))
    lsa = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, min_df=2), TruncatedSVD(LSA_DIM, random_state=0), Normalizer()
    )
    lsa.fit(fit_on)
    return {"LSA": lsa.transform(texts), "projected": unit(projected + noise), "rotated": e @ rotation}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="sentences that the pairs are made of, one a line")
    parser.add_argument("--fit-on", type=Path, required=True, help="sentences that LSA is fitted on")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--texts", type=int, default=100, help="held-out texts that are written")
    parser.add_argument("--words", type=int, default=20, help="words of a sentence at most")
    arguments = parser.parse_args()

    model = Model.from_pretrained("mini")
    texts = sentences(arguments.text, arguments.pairs + 1000, arguments.words)
    fit_on = sentences(arguments.fit_on, 50_000, arguments.words)
    for name, vectors in other_encoders(model.encode(texts).numpy(), texts, fit_on).items():
        batch = VectorBatch([str(i) for i in range(len(texts))], vectors.astype(np.float32), texts)
        source = OpenSource(name, len(texts), (), iter([batch]))
        show(name, align(model, source, pairs=arguments.pairs, texts=arguments.texts, on_event=tell))


def tell(event: Event) -> None:
    if isinstance(event, StageFinished):
        print(f"<!-- {event.stage}: {event.summary} -->", flush=True)


def show(name: str, found: Alignment) -> None:
    """The figures of one encoder as Markdown."""
    print(f"\n### {name}, {found.linear_map.input_dim} numbers\n")
    print(f"{found.held_out:,} held-out pairs, {found.texts:,} of their texts written.\n")
    print("| vectors | λ | cosine | rank 1 | token F1 | cosine of the text |\n|---|---|---|---|---|---|")
    for point in found.curve:
        print(f"| mapped, {point.pairs:,} pairs | {point.penalty:.0e} | {cells(point.figures)} |")
    for condition, figures in found.conditions.items():
        if condition != "mapped":
            print(f"| {CONDITIONS[condition]} | | {cells(figures)} |")
    print()
    for example in found.examples:
        print(f"- {example.text}\n  - own vector: {example.from_true}\n  - mapped: {example.from_mapped}")
    print()
    print("\n".join(found.verdicts), flush=True)


def cells(figures: MapFigures) -> str:
    def shown(value: Interval) -> str:
        return f"{value.mean:.3f}" + ("" if value.ends is None else " ({:.3f}–{:.3f})".format(*value.ends))

    return f"{shown(figures.cosine)} | {figures.rank_1:.3f} | {shown(figures.token_f1)} | {shown(figures.text_cosine)}"


if __name__ == "__main__":
    main()
