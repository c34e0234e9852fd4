"""Which device computes, and in which arithmetic."""

import torch

from sgdd_engine.errors import ConfigError


def resolve_device(name: str = "auto") -> torch.device:
    """The device that `name` asks for.

    Args:
        name: `auto` (CUDA, else Apple's MPS, else CPU), `cpu`, `mps`, `cuda`, `cuda:1`, or a GPU number as text.

    Raises:
        ConfigError: the name is unknown, or this machine has no such device.
    """
    name = name.strip().lower()
    if name == "auto":
        return best_device()
    if name.isdigit():
        name = f"cuda:{name}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"`{name}` is not a device.", "Use auto, cpu, mps, cuda, or a GPU number such as --gpu 0."
        ) from None
    if device.type == "cuda":
        _require_cuda(device)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("This machine has no Apple GPU (MPS).", "Use --device cpu.")
    if device.type not in {"cpu", "cuda", "mps"}:
        raise ConfigError(f"Device type `{device.type}` is not supported.", "Use auto, cpu, mps or cuda.")
    return device


def best_device() -> torch.device:
    """CUDA where there is one, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products: `auto` is bf16 where the hardware multiplies it natively, else fp32."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    return torch.bfloat16 if has_native_bf16(device) else torch.float32


def has_native_bf16(device: torch.device) -> bool:
    """Whether bf16 products run on hardware (emulated ones are slower than fp32)."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # the question is one of the current GPU
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # PyTorch has no public question for this; where the private one is gone, fp32 is the safe answer.
        questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in questions)
    return False


def _require_cuda(device: torch.device) -> None:
    if not torch.cuda.is_available():
        raise ConfigError(
            f"A GPU was asked for ({device}), but PyTorch {torch.__version__} sees no CUDA device on this machine.",
            "Use --device cpu, or install a CUDA build of PyTorch.",
        )
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise ConfigError(
            f"GPU {device.index} was asked for, but this machine has {torch.cuda.device_count()} (numbered from 0)."
        )
