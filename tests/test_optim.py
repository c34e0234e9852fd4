"""Who trains what: AdamW everywhere, or Muon for the blocks' matrices; one learning rate, one state."""

from dataclasses import replace

import pytest
import torch
from models_for_tests import generator, scatter
from tiny_training import TINY

from sgdd_engine.errors import ConfigError
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig, VocabularyConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.optimizer_step import build_optimizer

MUON = replace(TINY.train, optimizer="muon", learning_rate=0.01)
CONFIG = ModelConfig(
    embedding_dim=6,
    max_tokens=5,
    vocabulary=VocabularyConfig(size=20, mask_id=3, bos_id=0, eos_id=2),
    bottleneck=BottleneckConfig(kind="vib", latent_dim=4, hidden_dim=4),
    decoder=DecoderConfig(layers=2, width=8, heads=2, memory_tokens=2),
)


@pytest.fixture
def model():
    return scatter(SemanticDecoder(CONFIG))


def with_gradients(model, seed=0):
    noise = generator(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=noise)
    return model


def names_of(model, group):
    known = {id(p): name for name, p in model.named_parameters()}
    return {known[id(p)] for p in group["params"]}


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest(model):
    of_muon, decayed, others = build_optimizer(model, MUON).param_groups
    linear = {name for name, p in model.named_parameters() if "blocks." in name and p.ndim == 2}
    assert names_of(model, of_muon) == linear
    assert len(linear) == 2 * 5  # qkv, out, two of the feed-forward, modulation
    everything = names_of(model, of_muon) | names_of(model, decayed) | names_of(model, others)
    assert everything == {name for name, _ in model.named_parameters()}
    assert "denoiser.head.table" in names_of(model, others)
    assert of_muon["weight_decay"] == decayed["weight_decay"] == MUON.weight_decay


def test_an_update_of_muon_is_a_scaled_orthogonal_matrix(model):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(with_gradients(model), replace(MUON, weight_decay=0.0))
    optimizer.step()
    name = "denoiser.blocks.0.mlp.0.weight"
    step = before[name] - dict(model.named_parameters())[name]
    # 0.2 · sqrt(larger side) · learning rate, up to what five bf16 iterations leave of the singular values.
    scaled = torch.linalg.svdvals(step) / (0.2 * max(step.shape) ** 0.5 * 0.01)
    assert ((scaled > 0.6) & (scaled < 1.3)).all()


def test_the_rest_moves_as_under_adamw_alone(model):
    alone = scatter(SemanticDecoder(CONFIG))
    for part, config in ((model, MUON), (alone, replace(MUON, optimizer="adamw"))):
        optimizer = build_optimizer(with_gradients(part), config)
        for _ in range(2):
            optimizer.step()
    for (name, ours), theirs in zip(model.named_parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs) == ("blocks." not in name or ours.ndim < 2), name


def test_the_learning_rate_of_the_groups_is_the_one_that_is_taken(model):
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = build_optimizer(with_gradients(model), MUON)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_state_of_both_is_in_one_place(model):
    optimizer = build_optimizer(with_gradients(model), MUON)
    optimizer.step()
    kinds = {name: set(optimizer.state[p]) for name, p in model.named_parameters()}
    assert kinds["denoiser.blocks.0.mlp.0.weight"] == {"momentum_buffer"}
    assert kinds["denoiser.head.table"] == {"step", "exp_avg", "exp_avg_sq"}
    optimizer.zero_grad(set_to_none=True)
    assert all(p.grad is None for p in model.parameters())


def test_muon_does_not_work_on_shards():
    with pytest.raises(ConfigError, match=r"train\.optimizer=muon"):
        TrainConfig(optimizer="muon", parallel="fsdp")
