"""What the decoder's say in a search is worth: the same search with several weights λ of its log-probability.

    python examples/search_weight.py TEXT [--checkpoint mini] [--sentences 100] [--calls 64] [--weights 0,0.02,0.05]

TEXT has one sentence on each line. Of a text's score in a search, `cosine + λ · mean log-probability of its tokens`,
λ = 0 leaves the cosine alone. Shown are scores against the sources, the mean log-probability of a token of what was
written (nats; unguided, under the same vector), and what the text of the lowest one says: with λ = 0 the search ends in
texts of high cosine that nobody would write.
"""

import argparse
from pathlib import Path

import torch

from sgdd_engine import SGDD
from sgdd_engine.evaluation.data import from_text_file
from sgdd_engine.evaluation.scores import score
from sgdd_engine.generation import refinement
from sgdd_engine.generation.decode import Decoder

SHOWN = ("token_f1", "bleu", "exact_match", "cosine")


def log_probs(model: SGDD, vectors: torch.Tensor, tokens: list[list[int]]) -> list[float]:
    """Mean log-probability of a token of each text, when each token is predicted from all others."""
    decoder = Decoder(
        model.model, model.schedule, model.tokenizer.special_ids, model.recommended_sampling
    ).unguided()
    found = decoder.token_log_probs(decoder.latents(vectors), range(len(tokens)), tokens)
    return [float(of_text.mean()) for of_text in found]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--calls", type=int, default=64)
    parser.add_argument("--weights", default="0,0.02,0.05")
    parser.add_argument("--skip", type=int, default=1000, help="sentences left to `sgdd eval`")
    asked = parser.parse_args()
    model = SGDD.from_pretrained(asked.checkpoint, "cpu")
    data = from_text_file(asked.text, model, limit=asked.sentences, skip=asked.skip)
    print("| λ | token F1 | BLEU | exact match | cosine | log-probability | its least likely text |")
    print("|---|---|---|---|---|---|---|")
    for weight in map(float, asked.weights.split(",")):
        refinement.LOG_PROB_WEIGHT = weight  # no setting: the search was tuned with one value, for all models
        written = model.generate(data.vectors, search=asked.calls)
        values = score(model, data, written).values
        likely = log_probs(model, data.vectors, [list(item.tokens) for item in written])
        least = min(range(len(written)), key=lambda row: likely[row])
        cells = [f"{weight:g}", *(f"{values[name].mean():.3f}" for name in SHOWN)]
        cells += [
            f"{sum(likely) / len(likely):.2f}",
            f"{written[least].text} (cosine {written[least].cosine:.2f})",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
