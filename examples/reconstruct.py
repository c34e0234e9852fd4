"""Write sentences again from their vectors alone, and write what lies between two of them.

With the model that comes with sgdd: python examples/reconstruct.py
With one of your own: python examples/reconstruct.py runs/my-run
"""

import sys

import torch

from sgdd_engine import SGDD

SENTENCES = ["The dog ran home through the rain.", "My sister baked bread in the morning."]


def main(checkpoint: str = "mini") -> None:
    model = SGDD.from_pretrained(checkpoint)

    print("Each sentence, written again from its vector:")
    for source, written in zip(SENTENCES, model.reconstruct(SENTENCES, candidates=4), strict=True):
        print(f"  {source}  →  {written.text}  (cosine {written.cosine:.2f})")

    print("From the first meaning to the second:")
    first, second = model.encode(SENTENCES)
    path = torch.stack([torch.lerp(first, second, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)])
    for written in model.generate(path, seed=1):
        print(f"  {written.text}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("Usage: python examples/reconstruct.py [CHECKPOINT]")
    main(*sys.argv[1:])
