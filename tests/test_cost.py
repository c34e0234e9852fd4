from dataclasses import replace

import pytest
import torch

from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.diffusion.corruption import q_sample
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.diffusion.times import TIMES, training_times
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.cost import (
    cost_of,
    describe_time,
    flops_per_token,
    mean_mask_share,
    planned_model,
    seconds_per_step,
)


def planned(kind="vib", encoder="BAAI/bge-m3", tokenizer=None):
    return planned_model(
        EncoderConfig(name=encoder),
        tokenizer or TokenizerConfig(),
        BottleneckConfig(kind=kind),
        DecoderConfig(),
        max_tokens=64,
    )


@pytest.mark.parametrize("kind", ["vib", "whitening"])
def test_the_reference_model_has_the_promised_size(kind):
    cost = cost_of(*planned(kind), TrainConfig(), DiffusionConfig())
    assert cost.frozen == 566_705_152
    assert 66e6 <= cost.trainable <= 68e6
    assert cost.total == cost.trainable + cost.frozen
    assert 633e6 <= cost.total <= 635e6


@pytest.mark.parametrize("kind", ["vib", "whitening", "none"])
def test_the_parts_are_all_of_the_real_model(kind):
    config, encoder = planned(kind, "minilm", TokenizerConfig(kind="unigram", vocab_size=500))
    cost = cost_of(config, encoder, TrainConfig(), DiffusionConfig())
    model = SemanticDecoder(config)
    assert cost.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert cost.buffers == sum(b.numel() for b in model.buffers())
    assert len({part.name for part in cost.components}) == len(cost.components)


@pytest.mark.parametrize("times", TIMES.names())
def test_the_mask_share_is_that_of_the_real_corruption(times):
    diffusion, generator = DiffusionConfig(times=times), torch.Generator().manual_seed(0)
    t = training_times(20_000, diffusion.num_steps, diffusion.full_mask_share, generator, times)
    x = torch.zeros(20_000, 10, dtype=torch.long)
    _, masked = q_sample(x, t, build_schedule(diffusion.schedule), 1, generator)
    assert mean_mask_share(diffusion) == pytest.approx(masked.float().mean().item(), abs=0.01)


def test_the_head_is_nearly_all_of_the_arithmetic():
    cost = cost_of(*planned(), TrainConfig(), DiffusionConfig())
    assert 0.9 < cost.head_flops_share < 0.99
    small = cost_of(
        *planned(tokenizer=TokenizerConfig(kind="unigram", vocab_size=16_000)),
        TrainConfig(),
        DiffusionConfig(),
    )
    assert small.flops_per_token < cost.flops_per_token / 5


def test_self_conditioning_costs_half_a_forward_pass_of_the_trunk():
    config, encoder = planned(encoder="minilm", tokenizer=TokenizerConfig(kind="unigram", vocab_size=500))
    again = replace(config, decoder=replace(config.decoder, self_conditioning=True))
    plain, twice = (cost_of(c, encoder, TrainConfig(), DiffusionConfig()) for c in (config, again))
    assert twice.trainable == plain.trainable + config.decoder.width**2
    ours, theirs = (c.flops_per_token * (1 - c.head_flops_share) for c in (twice, plain))
    assert ours == pytest.approx(theirs * 3.5 / 3)


def test_masks_in_the_order_of_decoding_cost_a_forward_pass_of_all_tokens():
    config, _ = planned(encoder="minilm", tokenizer=TokenizerConfig(kind="unigram", vocab_size=500))
    plain = DiffusionConfig()
    (head, trunk), (more_head, more_trunk) = (
        flops_per_token(config, diffusion) for diffusion in (plain, replace(plain, masks="decoding_order"))
    )
    assert more_head == pytest.approx(head * (1 + 1 / (3 * mean_mask_share(plain))))
    assert trunk * 4 / 3 <= more_trunk < trunk * 1.5


def test_the_time_of_a_run_is_that_of_its_earlier_end_and_a_long_one_says_how_it_ends_sooner():
    both = TrainConfig(max_steps=1000, max_minutes=30.0)
    assert describe_time(both, 1.0, 0, 0.0) == (
        "Training will take about 17 minutes, by the arithmetic of 1,000 steps."
    )
    assert describe_time(both, 6.0, 0, 0.0) == "Training ends in about 30 minutes, after about 300 steps."
    assert (
        describe_time(both, 6.0, 200, 1200.0) == "Training ends in about 10 minutes, after about 100 steps."
    )
    long = describe_time(TrainConfig(), 0.8, 0, 0.0)
    assert long.startswith(
        "Training will take about 22 hours, by the arithmetic of 100,000 steps. For an end"
    )
    assert "--max-minutes 60" in long


def test_a_step_takes_between_a_moment_and_an_hour():
    flops = sum(flops_per_token(planned()[0], DiffusionConfig())) * TrainConfig().batch_tokens
    assert 0 < seconds_per_step(flops, torch.device("cpu"), torch.float32) < 3600


# What the process held at most beyond maps of files, in MiB, in steps with sentences of 4 to 32 tokens of novels (12 of
# the recipe of `mini`, of which all lengths came; one core of an x86, PyTorch 2.13).
@pytest.mark.parametrize(
    ("changes", "held"), [({}, 1261), ({"batch_tokens": 4096}, 1980), ({"width": 384}, 1722)]
)
def test_the_memory_of_training_is_what_was_measured(changes, held):
    decoder = DecoderConfig(
        layers=4,
        width=changes.get("width", 256),
        heads=4,
        modulation="shared",
        memory_tokens=8,
        memory_hidden=160,
    )
    config, _ = planned_model(
        EncoderConfig(name="minilm"),
        TokenizerConfig(kind="unigram", vocab_size=12_000),
        BottleneckConfig(kind="whitening", latent_dim=384),
        decoder,
        max_tokens=32,
    )
    train = TrainConfig(batch_tokens=changes.get("batch_tokens", 2048))
    cost = cost_of(config, None, train, DiffusionConfig())
    assert cost.process_bytes == pytest.approx(held << 20, rel=0.2)
