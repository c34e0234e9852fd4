"""Small models with every part in them, for tests of identities."""

import torch

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.generation import Decoder
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig, VocabularyConfig
from sgdd_engine.models.model import SemanticDecoder

VOCABULARY = VocabularyConfig(size=40, mask_id=39, bos_id=0, eos_id=2)
SPECIALS = (0, 1, 2, 3, 39)
EMBEDDING_DIM = 12
MAX_TOKENS = 16


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_model(
    seed: int = 0, *, bottleneck: BottleneckConfig | None = None, scattered: bool = True, **decoder
) -> SemanticDecoder:
    """A model of 2 layers × 16 in evaluation mode.

    Args:
        seed: Of its weights.
        bottleneck: By default a VIB of 6 dimensions.
        scattered: Every parameter drawn at random, the ones that start at zero included: what holds for such a
            model holds whatever the weights. Otherwise as a training run starts.
        **decoder: Fields of `DecoderConfig`.
    """
    config = ModelConfig(
        embedding_dim=EMBEDDING_DIM,
        max_tokens=MAX_TOKENS,
        vocabulary=VOCABULARY,
        bottleneck=bottleneck or BottleneckConfig(kind="vib", latent_dim=6, hidden_dim=8),
        decoder=DecoderConfig(**{"width": 16, "heads": 2, "memory_tokens": 3, **decoder}),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SemanticDecoder(config)
    return scatter(model, seed).eval() if scattered else model.eval()


@torch.no_grad()
def scatter(model: torch.nn.Module, seed: int = 0, std: float = 0.4):
    """Draw every parameter from a normal distribution."""
    noise = generator(seed)
    for parameter in model.parameters():
        parameter.copy_(std * torch.randn(parameter.shape, generator=noise))
    return model


def latents(rows: int = 3, seed: int = 0) -> torch.Tensor:
    """Latents [rows, 6] for the default bottleneck."""
    return torch.randn(rows, 6, generator=generator(seed))


def random_tokens(rows: int, n: int, seed: int = 0) -> torch.Tensor:
    """Ordinary tokens [rows, n] of `VOCABULARY`, no special one among them."""
    return torch.randint(4, 39, (rows, n), generator=generator(seed))


def covariance_of(vectors: torch.Tensor) -> torch.Tensor:
    """Sample covariance of the rows, in float64."""
    return torch.cov(vectors.double().T)


def bound(model: SemanticDecoder, sampling: SamplingConfig, schedule: str = "cosine") -> Decoder:
    """A tiny model with a way of sampling."""
    return Decoder(model, build_schedule(schedule), SPECIALS, sampling)
