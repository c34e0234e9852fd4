"""What the denoiser is told besides the canvas, the time and the length."""

from dataclasses import dataclass

from torch import Tensor

from sgdd_engine.models.blocks import KeysValues


@dataclass(frozen=True, slots=True)
class Condition:
    """What the decoder is told of the meaning.

    Attributes:
        vector: [B, width], modulates every block.
        memory: [B, K, width], read by attention; None without memory tokens.
        draft: What the words of a draft add to the canvas [B, n, width]; None without drafts.
        memory_kv: What each block makes of the memory, where that is wanted for more than one step.
        angles: The rotary angles of the canvas for which it is kept.
    """

    vector: Tensor
    memory: Tensor | None
    draft: Tensor | None = None
    memory_kv: tuple[KeysValues, ...] = ()
    angles: tuple[Tensor, Tensor] | None = None
