"""A model's tensors in one safetensors file, whole or in half precision."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Dtype = Literal["fp32", "fp16"]
# Rounding to 11 bits changes a tensor by about 2e-4 of its norm; more means numbers too small for half precision.
ROUNDING = 1e-3
# Of vectors only the biases of a vocabulary are as long.
LONG = 4096
# The pseudo-inverse of the whitening is its matrix's transpose but for scale, and as large: a small file leaves it out.
MATRIX, INVERSE = "bottleneck.matrix", "bottleneck.inverse"


def save_weights(path: Path, tensors: Mapping[str, Tensor], dtype: Dtype = "fp32") -> None:
    """Write tensors to a safetensors file.

    Short vectors (biases, statistics of the inputs, the null latent) stay float32 under `fp16` too: they take next to
    nothing, and a standard deviation near zero would be divided by. So does what holds numbers too large or too small
    for half precision. What follows from another tensor is left out.

    Raises:
        SafetensorError: the system refuses to write.
    """
    kept = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    if dtype == "fp16":
        kept = {name: _halved(tensor) for name, tensor in kept.items() if name != INVERSE}
    save_file(kept, path)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read what `save_weights` wrote, complete and in float32 however it was kept."""
    tensors = {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in load_file(path).items()
    }
    if MATRIX in tensors and INVERSE not in tensors:
        matrix = tensors[MATRIX].double()
        # Its columns are principal directions, orthogonal to each other, divided by their deviations.
        tensors[INVERSE] = (matrix / matrix.square().sum(dim=0)).T.float().contiguous()
    return tensors


def _halved(tensor: Tensor) -> Tensor:
    """A matrix or a long vector in float16 where that can hold it, anything else as it is."""
    if (tensor.ndim < 2 and tensor.numel() < LONG) or not tensor.is_floating_point():
        return tensor
    half = tensor.to(torch.float16)
    change = (half.double() - tensor.double()).norm()
    # Not so for an overflow either, whose change is infinite.
    return half if change <= ROUNDING * tensor.double().norm() else tensor
