"""What a draft tells a decoder that corrects: the loss of masked tokens with it, without it, and with parts exchanged.

    python examples/draft_value.py TEXT [--checkpoint mini] [--sentences 300]

TEXT has one sentence on each line. Each sentence has its own vector and one draft, written from it without a choice.
Shares of 1, ¾, ½ and ¼ of its tokens are masked, the same ones in each row. The loss is in nats per masked token,
without guidance.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sgdd_engine import SGDD
from sgdd_engine.evaluation.data import from_text_file
from sgdd_engine.generation import encode_written
from sgdd_engine.models.feedback import Draft

SHARES = (1.0, 0.75, 0.5, 0.25)
# Whose words and whose vector the decoder reads as the draft's: the sentence's own draft's, another's, or, as a vector,
# the one that is asked for, as if the draft said all of it.
ROWS = {
    "no draft": None,
    "the draft and how its vector differs": ("own", "own"),
    "the same vectors, the words of another sentence's draft": ("another's", "own"),
    "the draft's words, the vector of another's": ("own", "another's"),
    "the draft's words, as if its vector did not differ": ("own", "target"),
}


@torch.inference_mode()
def loss(
    model: SGDD,
    tokens: Sequence[Sequence[int]],
    z: Tensor,
    drafts: Sequence[Sequence[int]],
    draft_z: Tensor,
    read: tuple[str, str] | None,
) -> float:
    """Mean negative log-likelihood of the masked tokens, in nats.

    Args:
        model: A model with `decoder.feedback`.
        tokens: Ids of N sentences.
        z: Their latents [N, latent_dim].
        drafts: Ids of their drafts.
        draft_z: Latents of the drafts' re-encoded texts [N, latent_dim].
        read: Whose words and whose vector are read, as in `ROWS`.
    """
    decoder, generator = model.model, torch.Generator().manual_seed(0)
    mask_id, total, count = decoder.config.vocabulary.mask_id, 0.0, 0
    for number, ids in enumerate(tokens):
        another = (number + 1) % len(tokens)
        draft = None
        if read is not None:
            words = torch.tensor([list(drafts[number if read[0] == "own" else another])])
            vectors = {"own": draft_z[number], "another's": draft_z[another], "target": z[number]}
            given = torch.ones(1, dtype=torch.bool)
            draft = Draft(words, torch.tensor([words.shape[1]]), vectors[read[1]][None], given)
        condition = decoder.condition(z[number][None], draft)
        x = torch.tensor([list(ids)])
        for share in SHARES:
            masked = torch.rand(x.shape, generator=generator) < share
            if not masked.any():
                continue
            canvas, positions = x.masked_fill(masked, mask_id), masked.flatten().nonzero().squeeze(1)
            hidden = decoder.hidden(canvas, torch.tensor([share]), condition, None, positions)
            log_probs = decoder.head.logits(hidden).float().log_softmax(dim=-1)
            total -= float(log_probs.gather(1, x[masked][:, None]).sum())
            count += len(positions)
    return total / count


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--sentences", type=int, default=300)
    given = parser.parse_args()
    model = SGDD.from_pretrained(given.checkpoint, "cpu")
    if model.model.draft_reader is None:
        parser.error(f"{given.checkpoint} does not correct: it has no decoder.feedback.")
    data = from_text_file(given.text, model, given.sentences)
    written = model.generate(data.vectors, shortlist=1)
    draft_vectors = encode_written(model.encoder, [each.text for each in written])
    z, draft_z = (model.model.latent(vectors).z for vectors in (data.vectors, draft_vectors))
    print("| what is read beside the vector | loss |\n|---|---|")
    for name, read in ROWS.items():
        found = loss(model, data.token_ids, z, [each.tokens for each in written], draft_z, read)
        print(f"| {name} | {found:.3f} |", flush=True)


if __name__ == "__main__":
    main()
