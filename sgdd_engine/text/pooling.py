"""How the token states of one text become its vector: the poolings by name.

To add one, write a function here and register it; its name is then a value of `encoder.pooling`, is read from an
encoder's sentence-transformers files, and is recorded with the vectors. A pooling takes the last hidden states
`[B, n, D]`, right-padded, and which of them are tokens `[B, n]` (1, or 0 for padding), and gives `[B, D]` in float32.
"""

# No torch at run time: the settings list these names, and `sgdd --help` loads no torch.
from collections.abc import Callable
from typing import TYPE_CHECKING

from sgdd_engine.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Callable[["Tensor", "Tensor"], "Tensor"]

POOLINGS: Registry[Pooling] = Registry("pooling")
"""Poolings under the names that sentence-transformers gives them (`pooling_mode`)."""


@POOLINGS.register("cls")
def pool_cls(states: "Tensor", mask: "Tensor") -> "Tensor":  # noqa: ARG001 - the signature of a pooling
    """The state of the first token."""
    return states[:, 0].float()


@POOLINGS.register("mean")
def pool_mean(states: "Tensor", mask: "Tensor") -> "Tensor":
    """The mean of the tokens' states, without the padding."""
    weights = mask.unsqueeze(-1).float()
    # 1e-9 as in sentence-transformers; every text has a token, so the sum is at least 1.
    return (states.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
