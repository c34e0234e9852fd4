"""`torch.compile` of the blocks, where nearly all kernels besides the vocabulary head are."""

import torch

from sgdd_engine.errors import ConfigError
from sgdd_engine.models.model import SemanticDecoder


def compile_blocks(model: SemanticDecoder, device: torch.device) -> None:
    """Compile each block for any number of rows and any length; names of weights stay as they are.

    Raises:
        ConfigError: PyTorch finds no compiler for the device.
    """
    _require_compiler(device)
    blocks = list(model.denoiser.blocks)
    if model.surrogate is not None:
        blocks.extend(model.surrogate.blocks)
    for block in blocks:
        # The method and not the module: hooks of FSDP2 stay outside of what is compiled.
        block.forward = torch.compile(block.forward, dynamic=True)


def _require_compiler(device: torch.device) -> None:
    try:
        torch.compile(torch.cos)(torch.zeros(2, device=device))
    except Exception as error:
        # The reason stands in the first line of a long report.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"PyTorch cannot compile for the device {device} here: {reason}",
            "Install a C++ compiler (and Triton for a GPU), or leave out train.compile.",
        ) from error
