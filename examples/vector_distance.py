"""How far vectors of several kinds lie from those that `mini` was trained on: where the limits of `sgdd read` are from.

    python examples/vector_distance.py

Prints the mean squared whitened coordinate (`sgdd_engine/generation/vector_check.py`), about 1 for sentences like those
of the training; of 32 rows at a time, as `sgdd read` computes it, and the highest and lowest single row.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sgdd_engine import SGDD
from sgdd_engine.data.builtin import builtin_sentences
from sgdd_engine.generation.vector_check import HEAD_ROWS, training_distance
from sgdd_engine.mini import SENTENCES

ROOT = Path(__file__).parents[1]
GERMAN = (
    *("Der Hund lief nach Hause.", "Ich habe heute keine Zeit.", "Das Wetter ist schön in Berlin."),
    *("Wir gehen morgen ins Kino.", "Sie las den Brief noch einmal.", "Am Abend wurde es kalt."),
)


def lines(path: Path) -> list[str]:
    found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in found if len(line) > 15][:200]


def main() -> None:
    model = SGDD.from_pretrained("mini", "cpu")
    fiction = SENTENCES.read_text(encoding="utf-8").splitlines()
    own = {
        "fiction": fiction,
        "sentences of the grammar": list(builtin_sentences(200, seed=1)),
        "paragraphs": [" ".join(fiction[i : i + 8]) for i in range(0, 160, 4)],
        "a README": lines(ROOT / "README.md"),
        "Python code": lines(ROOT / "sgdd_engine" / "generation" / "pipeline.py"),
        "German": list(GERMAN),
        "single words": [word for text in fiction for word in text.split()][:200],
    }
    vectors = {f"MiniLM, {name}": model.encode(texts) for name, texts in own.items()}
    generator = torch.Generator().manual_seed(0)
    e = vectors["MiniLM, fiction"]
    random = normalize(torch.randn(e.shape, generator=generator), dim=1)
    rotation = torch.linalg.qr(torch.randn(e.shape[1], e.shape[1], generator=generator)).Q
    vectors |= {
        "fiction with noise (cosine .98)": normalize(e + 0.2 * random, dim=1),
        "fiction, signs only": normalize(e.sign(), dim=1),
        "fiction in other coordinates (rotated)": e @ rotation,
        "fiction, coordinates permuted": e[:, torch.randperm(e.shape[1], generator=generator)],
        "the same direction added to all, rotated": normalize(e @ rotation + 0.8 * random[:1], dim=1),
        "random directions": random,
    }
    print(f"{'':42} mean of {HEAD_ROWS} rows   single rows")
    for name, rows in vectors.items():
        means = distances(model, rows, HEAD_ROWS)
        single = distances(model, rows, 1)
        print(f"{name:42} {min(means):5.2f} … {max(means):4.2f}   {min(single):5.2f} … {max(single):4.2f}")


def distances(model: SGDD, e: Tensor, rows: int) -> list[float]:
    """The distance of each group of rows; a shorter rest is left out, unless it is all."""
    groups = [group for group in e.split(rows) if len(group) == min(rows, len(e))]
    return [training_distance(model.model, group)[0] for group in groups]


if __name__ == "__main__":
    main()
