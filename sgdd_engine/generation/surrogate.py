"""What the encoder would say of texts that it has not read: the surrogate's guess, and what reading some taught."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sgdd_engine.models.model import SemanticDecoder

# Sentences of one length that are guessed together.
ROWS = 512
# How far the surrogate's errors are alike, in lengths of the vector that is to be matched, and how much of an error
# belongs to one text alone. Of ten settings the one that told read sentences best from each other, on 160 validation
# sentences of a corpus of novels.
REACH, ALONE = 0.3, 0.05


@torch.inference_mode()
def predict_embeddings(model: SemanticDecoder, texts: Sequence[Sequence[int]]) -> Tensor:
    """Vectors [N, D] that the model's surrogate of the encoder guesses for texts, on the CPU.

    Args:
        model: In evaluation mode, with `decoder.surrogate_width`.
        texts: Token ids of each text, at least one.
    """
    found = torch.empty(len(texts), model.config.embedding_dim)
    for length in sorted({len(tokens) for tokens in texts}):
        alike = [i for i, tokens in enumerate(texts) if len(tokens) == length]
        for part in (alike[start : start + ROWS] for start in range(0, len(alike), ROWS)):
            tokens = torch.tensor([list(texts[i]) for i in part], device=model.null.device)
            found[part] = model.predict_embedding(tokens).cpu()
    return found


def gaussian_process_correction(
    guesses: Tensor, read_guesses: Tensor, read_vectors: Tensor, reach: float
) -> Tensor:
    """Guesses corrected by what the surrogate missed in texts that were read, the more the closer they are.

    The surrogate's error is taken to be a Gaussian process of its guess, with a Gaussian kernel. Source: Rasmussen &
    Williams 2006, Gaussian Processes for Machine Learning, eq. 2.25.

    Args:
        guesses: [N, D], of the texts that may be read.
        read_guesses: [K, D], of those that were.
        read_vectors: [K, D], what the encoder said of them.
        reach: Length scale of the kernel.

    Returns:
        [N, D]; of a text that was read nearly its vector, of one far from all of them its guess.
    """

    def kernel(left: Tensor, right: Tensor) -> Tensor:
        # A vector of no length has no reach, and its texts have nothing to tell of each other.
        return (torch.cdist(left, right).square() / (-2 * max(reach, 1e-6) ** 2)).exp()

    within = kernel(read_guesses, read_guesses) + ALONE * torch.eye(len(read_guesses))
    found: Tensor = guesses + kernel(guesses, read_guesses) @ torch.linalg.solve(
        within, read_vectors - read_guesses
    )
    return found
