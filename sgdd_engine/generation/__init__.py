"""A trained model and vectors in, text out: the way back from a vector, with `SGDD` as its entry point.

Names are imported on first use, so that `generation.config`, which the settings read, loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgdd_engine.generation.arguments import complete_sampling as complete_sampling
    from sgdd_engine.generation.arguments import draw_samples as draw_samples
    from sgdd_engine.generation.arguments import validate_lengths as validate_lengths
    from sgdd_engine.generation.arguments import validate_search as validate_search
    from sgdd_engine.generation.arguments import validate_shortlist as validate_shortlist
    from sgdd_engine.generation.arguments import validate_texts as validate_texts
    from sgdd_engine.generation.arguments import validate_vectors as validate_vectors
    from sgdd_engine.generation.arguments import validate_weights as validate_weights
    from sgdd_engine.generation.arguments import with_remasking as with_remasking
    from sgdd_engine.generation.centroids import NamedGroup as NamedGroup
    from sgdd_engine.generation.centroids import name_groups as name_groups
    from sgdd_engine.generation.decode import RESAMPLING_TEMPERATURE as RESAMPLING_TEMPERATURE
    from sgdd_engine.generation.decode import Check as Check
    from sgdd_engine.generation.decode import Decoder as Decoder
    from sgdd_engine.generation.decode import DecodeRequest as DecodeRequest
    from sgdd_engine.generation.fill import FilledText as FilledText
    from sgdd_engine.generation.fill import check_blanks as check_blanks
    from sgdd_engine.generation.pipeline import SGDD as SGDD
    from sgdd_engine.generation.reading import ReadText as ReadText
    from sgdd_engine.generation.reading import write_texts as write_texts
    from sgdd_engine.generation.refinement import PROPOSERS as PROPOSERS
    from sgdd_engine.generation.refinement import encode_written as encode_written
    from sgdd_engine.generation.semantics import DEFAULT_POINTS as DEFAULT_POINTS
    from sgdd_engine.generation.semantics import DEFAULT_VARIATIONS as DEFAULT_VARIATIONS
    from sgdd_engine.generation.semantics import blend_vectors as blend_vectors
    from sgdd_engine.generation.semantics import cosines_with as cosines_with
    from sgdd_engine.generation.semantics import default_strength as default_strength
    from sgdd_engine.generation.semantics import interpolate_vectors as interpolate_vectors
    from sgdd_engine.generation.semantics import interpolation_shares as interpolation_shares
    from sgdd_engine.generation.vector_check import CheckedVectors as CheckedVectors
    from sgdd_engine.generation.written import Generation as Generation
    from sgdd_engine.generation.written import WrittenToken as WrittenToken

_MODULES = {
    "Check": "decode",
    "CheckedVectors": "vector_check",
    "DEFAULT_POINTS": "semantics",
    "DEFAULT_VARIATIONS": "semantics",
    "NamedGroup": "centroids",
    "PROPOSERS": "pipeline",  # which imports the modules that register their kinds
    "RESAMPLING_TEMPERATURE": "decode",
    "ReadText": "reading",
    "SGDD": "pipeline",
    "DecodeRequest": "decode",
    "Decoder": "decode",
    "FilledText": "fill",
    "Generation": "written",
    "WrittenToken": "written",
    "check_blanks": "fill",
    "blend_vectors": "semantics",
    "complete_sampling": "arguments",
    "cosines_with": "semantics",
    "default_strength": "semantics",
    "draw_samples": "arguments",
    "with_remasking": "arguments",
    "encode_written": "refinement",
    "validate_lengths": "arguments",
    "interpolate_vectors": "semantics",
    "interpolation_shares": "semantics",
    "name_groups": "centroids",
    "validate_search": "arguments",
    "validate_shortlist": "arguments",
    "validate_texts": "arguments",
    "validate_vectors": "arguments",
    "validate_weights": "arguments",
    "write_texts": "reading",
}

__all__ = [
    "DEFAULT_POINTS",
    "DEFAULT_VARIATIONS",
    "PROPOSERS",
    "RESAMPLING_TEMPERATURE",
    "SGDD",
    "Check",
    "CheckedVectors",
    "DecodeRequest",
    "Decoder",
    "FilledText",
    "Generation",
    "NamedGroup",
    "ReadText",
    "WrittenToken",
    "blend_vectors",
    "check_blanks",
    "complete_sampling",
    "cosines_with",
    "default_strength",
    "draw_samples",
    "encode_written",
    "interpolate_vectors",
    "interpolation_shares",
    "name_groups",
    "validate_lengths",
    "validate_search",
    "validate_shortlist",
    "validate_texts",
    "validate_vectors",
    "validate_weights",
    "with_remasking",
    "write_texts",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the signature that PEP 562 asks for
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
