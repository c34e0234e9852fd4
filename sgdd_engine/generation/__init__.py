"""A trained model and vectors in, text out: the way back from a vector, with `SGDD` as its door."""

from sgdd_engine.generation.arguments import validate_shortlist
from sgdd_engine.generation.decode import RESAMPLING_TEMPERATURE, Decoder, DecodeRequest
from sgdd_engine.generation.pipeline import SGDD, Generation
from sgdd_engine.generation.refinement import PROPOSERS, encode_written

__all__ = [
    "PROPOSERS",
    "RESAMPLING_TEMPERATURE",
    "SGDD",
    "DecodeRequest",
    "Decoder",
    "Generation",
    "encode_written",
    "validate_shortlist",
]
