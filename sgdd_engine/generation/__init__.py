"""A trained model and vectors in, text out: the way back from a vector, with `SGDD` as its door."""

from sgdd_engine.generation.pipeline import SGDD, Generation

__all__ = ["SGDD", "Generation"]
