"""Decoding is quick by leaving work out, never by another result: the fast way against the plain one."""

import pytest
import torch
from models_for_tests import MAX_TOKENS, SPECIALS, VOCABULARY, bound, generator, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.position_rules import POSITION_RULES
from sgdd_engine.diffusion.sampler import sample
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.generation import guided_denoiser
from sgdd_engine.generation.decode import DecodeRequest

MASK = VOCABULARY.mask_id
COSINE = build_schedule("cosine")
LENGTHS = (1, 2, 5, 5, 9, MAX_TOKENS)


def latents(rows=6):
    return torch.randn(rows, 6, generator=generator(3))


def plainly(model, z, task, config):
    """One sentence alone: both branches, all positions, the whole vocabulary, normalised at each turn."""
    z = z[[task.row]]

    before = {}

    def branch(name, z_t, t, latent):
        hidden = model.hidden(z_t, t, model.condition(latent), before.get(name))
        if model.config.decoder.self_conditioning:
            before[name] = hidden
        return model.head.logits(hidden[0]).index_fill(1, torch.tensor(SPECIALS), -1e4).log_softmax(-1)

    def denoiser(z_t, t, masked):
        c, u = branch("c", z_t, t, z), branch("u", z_t, t, model.null_latent(1))
        if config.guidance == "plain" or config.cfg == 0:
            scores = u + config.cfg * (c - u)
        else:
            scores = c + ((config.cfg - 1) * (c - u)).index_fill(1, z_t[0], 0.0)
        scores = scores.log_softmax(-1)[masked[0]]
        return lambda which: iter([scores[which]])

    blank, noise = torch.full((1, task.length), MASK), [generator(task.seed)]
    return sample(denoiser, blank, mask_id=MASK, schedule=COSINE, config=config, generators=noise)[0].tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize(
    ("cfg", "guidance"), [(0.0, "plain"), (1.0, "plain"), (1.7, "plain"), (1.7, "coverage")]
)
@pytest.mark.parametrize("order", POSITION_RULES.names())
@pytest.mark.parametrize("self_conditioning", [False, True])
def test_the_fast_way_writes_what_the_plain_way_writes(order, cfg, guidance, temperature, self_conditioning):
    model, z = tiny_model(self_conditioning=self_conditioning), latents()
    tasks = [DecodeRequest(row, length, 10 + row) for row, length in enumerate(LENGTHS)]
    for more in ({"steps": 1}, {"steps": 6, "position_noise": 0.5}, {"steps": 16, "top_p": 0.9}):
        config = SamplingConfig(
            position_rule=order, cfg=cfg, guidance=guidance, temperature=temperature, **more
        )
        with torch.inference_mode():
            expected = [plainly(model, z, task, config) for task in tasks]
        fast = bound(model, config).decode(z, tasks)
        assert fast == expected, more


class Seen(TorchDispatchMode):
    """How many rows of logits there are at once, and how many rows the vocabulary head scores in all."""

    def __init__(self):
        super().__init__()
        self.at_once = self.scored = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dim() > 1 and out.shape[-1] == VOCABULARY.size:
            if out.is_contiguous():  # the transposed token table is not
                self.at_once = max(self.at_once, out.numel() // VOCABULARY.size)
            if func.overloadpacket is torch.ops.aten.addmm:
                self.scored += len(out)
        return out


def watched(rows, n=6, **options):
    tasks = [DecodeRequest(row, n, row) for row in range(rows)]
    with Seen() as seen:
        bound(tiny_model(), SamplingConfig(**options)).decode(latents(rows), tasks)
    return seen


@pytest.mark.parametrize("order", POSITION_RULES.names())
@pytest.mark.parametrize("guidance", ["coverage", "plain"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_take_no_more_memory_for_more_sentences(order, guidance, temperature, monkeypatch):
    monkeypatch.setattr(guided_denoiser, "CHUNK_ELEMENTS", 8 * VOCABULARY.size)
    options = {
        "position_rule": order,
        "guidance": guidance,
        "temperature": temperature,
        "top_p": 0.9,
        "steps": 4,
    }
    assert [watched(rows, **options).at_once for rows in (10, 60)] == [8, 8]


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        # 6 → 5 → 4 → 2 → 0 masks in 4 steps of the cosine schedule; the first step is guided before the head.
        ({"cfg": 1.0}, 6 + 5 + 4 + 2),
        ({"cfg": 0.0}, 6 + 5 + 4 + 2),
        ({"guidance": "plain"}, 6 + 5 + 4 + 2),
        ({"guidance": "coverage"}, 6 + 2 * (5 + 4 + 2)),
        # Positions chosen by chance need no score, nor do those of the last step; what is drawn is scored again.
        ({"cfg": 1.0, "position_rule": "random"}, 1 + 1 + 2 + 2),
        ({"cfg": 1.0, "temperature": 1.0}, (6 + 1) + (5 + 1) + (4 + 2) + 2),
    ],
)
def test_only_what_is_needed_is_scored(options, rows):
    assert watched(3, steps=4, **options).scored == 3 * rows


def test_what_is_kept_for_many_steps_says_the_same():
    for decoder in (
        {},
        {"memory_tokens": 0},
        {"anchors": False},
        {"modulation": "shared"},
        {"modulation": "none"},
    ):
        model, canvas = tiny_model(**decoder), torch.full((2, 6), MASK)
        condition = model.condition(latents(2))
        with torch.no_grad():
            once = model.hidden(canvas, torch.ones(2), model.denoiser.cache_condition(condition, 6))
            anew = model.hidden(canvas, torch.ones(2), condition)
        assert torch.equal(once, anew)
