"""A tiny real model for tests: untrained, or trained for a moment on a few sentences."""

import torch

from sgdd_engine.checkpoint import Checkpoint, CheckpointInfo
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.generation import SGDD
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.loss import batch_loss, step_generator


def build(encoder, sentences, *, steps=0, kind="none", trained_null=True, **decoder) -> SGDD:
    """A tiny model, trained for some steps on the given sentences."""
    torch.manual_seed(0)
    tokenizer = TextTokenizer.from_encoder(encoder)
    config = ModelConfig(
        embedding_dim=encoder.dim,
        max_tokens=24,
        vocabulary=tokenizer.vocabulary(),
        bottleneck=BottleneckConfig(kind=kind, latent_dim=8, hidden_dim=16),
        decoder=DecoderConfig(
            **{"layers": 1, "width": 64, "heads": 2, "memory_tokens": 2, "mlp_ratio": 2, **decoder}
        ),
    )
    network = SemanticDecoder(config)
    vectors = encoder.encode(sentences)
    covariance = torch.cov(vectors.double().T)  # read by whitening only
    network.fit_statistics(vectors.mean(0), vectors.std(0).clamp_min(1e-4), covariance)
    ids = tokenizer.encode_batch(sentences)
    batches = [
        (torch.tensor([ids[i] for i in rows]), vectors[rows])
        for n in sorted(set(map(len, ids)))
        if (rows := [i for i, row in enumerate(ids) if len(row) == n])
    ]
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.0)
    train, diffusion = TrainConfig(batch_tokens=100), DiffusionConfig(full_mask_share=0.4)
    for step in range(steps):
        # The second half slows down, so that the end does not depend on the last step's luck.
        optimiser.param_groups[0]["lr"] = 5e-3 * min(1.0, 2 * (1 - step / steps))
        optimiser.zero_grad()
        for number, (x, e) in enumerate(batches):
            generator = step_generator(number, step, torch.device("cpu"))
            loss = batch_loss(
                network, x, e, config=train, diffusion=diffusion, step=step, generator=generator
            )
            loss.total.backward()
        optimiser.step()
    info = CheckpointInfo(
        model=config, diffusion=diffusion, encoder=encoder.reference, trained_null=trained_null, step=steps
    )
    return SGDD(Checkpoint(info, network.eval(), tokenizer), torch.device("cpu"), encoder)


def as_set(model: SGDD, sentences) -> EvaluationSet:
    return EvaluationSet(
        sentences=list(sentences),
        vectors=model.encode(sentences),
        token_ids=model.tokenizer.encode_batch(list(sentences)),
        encoder=model.encoder_reference,
        tokenizer_fingerprint=model.tokenizer.fingerprint(),
        origin={"kind": "test", "path": "memory"},
    )
