"""Semantic-guided discrete diffusion: the engine behind the `sgdd` command.

The way of one sentence: `text.encoder` gives one vector, `data` stores it beside the token ids,
`models.bottleneck` regularises it, `diffusion.corruption` masks the tokens, `models.decoder` reads both,
`diffusion.objective` scores the guess; and back through `diffusion.sampler`. `training` and `generation`
join these pieces.

`SGDD` is the door for Python users; it is imported on first use, so `import sgdd_engine` loads no torch.
"""

from typing import TYPE_CHECKING, Any

from sgdd_engine.version import __version__

if TYPE_CHECKING:
    from sgdd_engine.generation import SGDD as SGDD

__all__ = ["SGDD", "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the signature that PEP 562 asks for
    if name == "SGDD":
        from sgdd_engine.generation import SGDD  # noqa: PLC0415 - torch must not load with the package

        return SGDD
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
