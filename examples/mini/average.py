"""The mean of the weights of two checkpoints of one shape, the second trained from the first, in half precision.

python examples/mini/average.py FIRST SECOND OUT

What a stage learns from few drafts costs a little of what was known of other text. Halfway between the two,
text that neither has seen is likelier than under both (as arXiv 2109.01903 found for fine-tuned image models).
"""

import argparse
from pathlib import Path

import torch

from sgdd_engine.checkpoint import load_checkpoint, resolve_checkpoint, save_checkpoint


@torch.no_grad()
def average(first: str, second: str, out: Path) -> None:
    """Write the mean of two checkpoints, with all else as in the second."""
    before, after = (load_checkpoint(resolve_checkpoint(name)) for name in (first, second))
    if before.info.model != after.info.model:
        raise SystemExit(f"{first} and {second} have other networks.")
    for ours, theirs in zip(after.model.parameters(), before.model.parameters(), strict=True):
        ours.lerp_(theirs, 0.5)
    save_checkpoint(out, after, dtype="fp16")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("out", type=Path)
    average(**vars(parser.parse_args()))
