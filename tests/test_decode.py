"""Decoding is quick by leaving work out, never by another result: the fast way against the plain one."""

import functools
import itertools

import pytest
import torch
from models_for_tests import MAX_TOKENS, SPECIALS, VOCABULARY, bound, generator, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.guidance import GUIDANCE_SCHEDULES
from sgdd_engine.diffusion.position_rules import POSITION_RULES
from sgdd_engine.diffusion.sampler import LogitChunk, sample
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.evaluation.sampler_comparison import _Positions
from sgdd_engine.generation import decode, guided_denoiser
from sgdd_engine.generation.decode import Canvas, DecodeRequest, noise_keys, stream_generator
from sgdd_engine.models import blocks
from sgdd_engine.models.blocks import attend, normalize, rotate
from sgdd_engine.models.model import SemanticDecoder

MASK = VOCABULARY.mask_id
COSINE = build_schedule("cosine")
LENGTHS = (1, 2, 5, 5, 9, MAX_TOKENS)


def latents(rows=6):
    return torch.randn(rows, 6, generator=generator(3))


class KeptReading:
    """Lets a model read whole canvases, but with the old keys and values of what it has read as it stands now."""

    def __init__(self, model):
        self.first, behind = model.denoiser.around
        self.around = torch.ones(self.first + behind, dtype=torch.bool)
        self.read, self.kept = {}, {}
        for number, block in enumerate(model.denoiser.blocks):
            block.attention.mix = functools.partial(self.mix, block.attention, number)

    def of(self, name, tokens):
        before = self.read.get(name)
        same = (
            torch.zeros(len(tokens), dtype=torch.bool)
            if before is None
            else (before == tokens) & (tokens != MASK)
        )
        self.read[name], self.name = tokens.clone(), name
        around = self.around & (before is not None)
        self.old = torch.cat([around[: self.first], same, around[self.first :]])

    def mix(self, attention, number, x, angles, memory):
        q, k, v = (attention._split(part) for part in attention.qkv(x).chunk(3, dim=-1))
        q, k = (rotate(normalize(a, g), angles) for a, g in ((q, attention.q_gain), (k, attention.k_gain)))
        if self.old.any():
            for new, old in zip((k, v), self.kept[self.name, number], strict=True):
                new[:, :, self.old] = old[:, :, self.old]
        self.kept[self.name, number] = k, v
        if memory is not None:
            k, v, _ = attention.project_memory(memory).join(k, v)
        return attend(q, k, v).transpose(1, 2).flatten(2)


def plainly(model, z, task, config):
    """One sentence alone: both branches, all positions, the whole vocabulary, normalised at each turn."""
    z = z[[task.row]]

    before = {}
    outside = torch.zeros(VOCABULARY.size, dtype=torch.bool)

    keep = KeptReading(model) if config.kv_cache else None

    def branch(name, z_t, t, latent):
        if keep is not None:
            keep.of(name, z_t[0])
        hidden = model.hidden(z_t, t, model.condition(latent), before.get(name))
        if model.config.decoder.self_conditioning:
            before[name] = hidden
        logits = model.head.logits(hidden[0]).index_fill(1, torch.tensor(SPECIALS), -1e4)
        return logits.masked_fill(outside, -1e4).log_softmax(-1)

    weights = GUIDANCE_SCHEDULES.build(config.guidance_schedule)
    steps, kept = itertools.count(), {}

    def denoiser(z_t, t, masked):
        c = branch("c", z_t, t, z)
        if next(steps) % config.null_every == 0:
            kept["u"] = branch("u", z_t, t, model.null_latent(1))
        u = kept["u"]
        w = float(weights.weight(config.cfg, 1 - masked.float().mean(dim=1))) if config.cfg else 0.0
        if config.guidance == "plain" or w == 0:
            scores = u + w * (c - u)
        else:
            scores = c + ((w - 1) * (c - u)).index_fill(1, z_t[0], 0.0)
        scores = scores.log_softmax(-1)[masked[0]]
        if config.vocabulary and not outside.any():
            size = min(config.vocabulary, VOCABULARY.size - 1)
            likeliest = scores.index_fill(1, torch.tensor([MASK]), -torch.inf).amax(0).topk(size)
            outside.fill_(True)[likeliest.indices] = False
            scores = scores.masked_fill(outside, -1e4).log_softmax(-1)
        return lambda which: iter([LogitChunk(scores[which])])

    blank, noise = (
        torch.full((1, task.length), MASK),
        [stream_generator(task.seed, task.stream, noise_keys(z)[0])],
    )
    return (
        sample(denoiser, blank, mask_id=MASK, schedule=COSINE, config=config, generators=noise)
        .tokens[0]
        .tolist()
    )


def both_ways(options, weights=0, **decoder):
    model, z, config = tiny_model(weights, **decoder), latents(), SamplingConfig(**options)
    tasks = [DecodeRequest(row, length, 10 + row) for row, length in enumerate(LENGTHS)]
    found = bound(model, config).decode(z, tasks)
    with torch.inference_mode():
        expected = [plainly(model, z, task, config) for task in tasks]
    return found, expected


STEPS = ({"steps": 1}, {"steps": 4, "position_noise": 0.5}, {"steps": 8, "top_p": 0.9})


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize(
    ("cfg", "guidance"), [(0.0, "plain"), (1.0, "plain"), (1.7, "plain"), (1.7, "coverage")]
)
@pytest.mark.parametrize("self_conditioning", [False, True])
def test_the_fast_way_writes_what_the_plain_way_writes(cfg, guidance, temperature, self_conditioning):
    for more in STEPS:
        options = {"cfg": cfg, "guidance": guidance, "temperature": temperature, **more}
        fast, expected = both_ways(options, self_conditioning=self_conditioning)
        assert fast == expected, more


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("order", POSITION_RULES.names())
def test_every_rule_writes_what_the_plain_way_writes(order, temperature):
    for more in STEPS:
        fast, expected = both_ways({"position_rule": order, "temperature": temperature, "cfg": 1.7, **more})
        assert fast == expected, more


@pytest.mark.parametrize("guidance", ["coverage", "plain"])
@pytest.mark.parametrize(
    "more",
    [
        {"guidance_schedule": "interval:start=0.2,end=0.6"},
        {"guidance_schedule": "ramp:start=3"},
        {"null_every": 3},
        {"null_every": 2, "guidance_schedule": "interval:start=0,end=0.5", "position_rule": "threshold"},
        {"remask": 0.2},
        {"remask": 0.2, "null_every": 2, "temperature": 1.0, "top_k": 5},
    ],
)
def test_guidance_that_changes_writes_what_the_plain_way_writes(guidance, more):
    fast, expected = both_ways({"cfg": 1.7, "guidance": guidance, "steps": 8, **more})
    assert fast == expected


@pytest.mark.parametrize(
    "decoder",
    [{}, {"memory_tokens": 0}, {"anchors": False}, {"modulation": "none"}, {"self_conditioning": True}],
)
@pytest.mark.parametrize("cfg", [0.0, 1.0, 1.7])
def test_kept_keys_and_values_serve_as_those_of_the_step_that_read_the_written_token(cfg, decoder):
    for more in (
        {"steps": 8, "position_rule": "random", "unmasking": "linear", "vocabulary": 6},
        {"steps": 5, "temperature": 0.8, "guidance": "plain", "null_every": 3 if cfg else 1},
        {"steps": 6, "position_rule": "threshold"},
    ):
        found, expected = both_ways({"cfg": cfg, "kv_cache": True, **more}, **decoder)
        assert found == expected, more


def test_what_is_kept_is_an_approximation():
    options = {"steps": 12, "cfg": 1.7, "null_every": 3}
    texts = {kept: both_ways({"kv_cache": kept, **options})[0] for kept in (False, True)}
    assert texts[True] != texts[False]


@pytest.mark.parametrize("guidance", ["coverage", "plain"])
@pytest.mark.parametrize("cfg", [0.0, 1.0, 1.7])
def test_a_text_has_a_vocabulary_of_its_own(cfg, guidance):
    for more in (
        {},
        {"position_rule": "random"},
        {"remask": 0.3, "position_rule": "margin"},
        {"position_rule": "threshold:probability=0.5", "null_every": 2},
    ):
        options = {"cfg": cfg, "guidance": guidance, "steps": 6, "vocabulary": 4, **more}
        # With other weights some positions are equally sure but for rounding, and either may be written first.
        found, expected = both_ways(options, weights=3)
        assert found == expected, more
        assert all(len(set(text)) <= 4 for text in found)


@pytest.mark.parametrize("modulation", ["block", "shared", "none"])
def test_positions_are_counted_alike_with_and_without_kept_keys(modulation):
    model, read = tiny_model(modulation=modulation), []
    for kept in (False, True):
        counter = _Positions(model.denoiser)
        config = SamplingConfig(steps=1, cfg=1.0, kv_cache=kept)
        with counter:
            bound(model, config).decode(latents(1), [DecodeRequest(0, 8, 0)])
        read.append(counter.read)
    assert read[0] == read[1] >= 10


@pytest.mark.parametrize("self_conditioning", [False, True])
def test_a_vocabulary_of_all_tokens_leaves_out_none(self_conditioning):
    for size in (VOCABULARY.size - 1, 1000):
        options = {"cfg": 1.7, "steps": 8, "vocabulary": size}
        found, _ = both_ways(options, self_conditioning=self_conditioning)
        _, expected = both_ways({**options, "vocabulary": 0}, self_conditioning=self_conditioning)
        assert found == expected


def test_kept_keys_may_be_of_another_precision_than_what_is_read(monkeypatch):
    # Autocast on a GPU normalises in float32, and one on a CPU does not.
    monkeypatch.setattr(blocks, "normalize", lambda x, gain: normalize(x, gain).float())
    config = SamplingConfig(steps=4, kv_cache=True)
    tasks = [DecodeRequest(row, length, row) for row, length in enumerate(LENGTHS)]
    with torch.autocast("cpu", torch.bfloat16):
        written = bound(tiny_model(memory_tokens=0), config).decode(latents(), tasks)
    assert [len(tokens) for tokens in written] == [*LENGTHS]


def test_a_vocabulary_does_not_depend_on_the_batch(monkeypatch):
    config = SamplingConfig(cfg=1.7, steps=6, vocabulary=4)
    tasks = [DecodeRequest(row, length, row) for row, length in enumerate(LENGTHS)]
    together = bound(tiny_model(), config).decode(latents(), tasks)
    # Two texts at a time, and a few positions of a text at a time.
    monkeypatch.setattr(decode, "CHUNK_ELEMENTS", 2 * 4 * 16)
    monkeypatch.setattr(guided_denoiser, "CHUNK_ELEMENTS", 4 * VOCABULARY.size)
    assert bound(tiny_model(), config).decode(latents(), tasks) == together


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


@pytest.mark.parametrize("order", ["confidence", "random", "entropy_bound"])
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


@pytest.mark.parametrize(
    ("options", "read"),
    [
        # Rows of 6 tokens that the network reads in 4 steps, for 3 sentences; the null branch of an all-mask canvas is
        # one row for all of them.
        ({"cfg": 1.0}, 4 * 3),
        ({"cfg": 0.0}, 4 * 3),
        ({}, 4 * 3 + 1 + 3 * 3),
        ({"null_every": 2}, 4 * 3 + 1 + 3),
        ({"null_every": 9}, 4 * 3 + 1),
        # 0, 1/6, 1/3 and 2/3 of the tokens stand when the steps begin.
        ({"guidance_schedule": "interval:start=0,end=0.3"}, 4 * 3 + 1 + 3),
        ({"guidance_schedule": "interval:start=0.3,end=0.5"}, 4 * 3 + 3),
        # Where guidance begins in a step that does not refresh, there is nothing yet that could serve again.
        ({"guidance_schedule": "interval:start=0.1,end=1", "null_every": 3}, 4 * 3 + 3 + 3),
        # A rule that reveals everything needs one step.
        ({"position_rule": "entropy_bound:bound=1000"}, 3 + 1),
        ({"position_rule": "threshold:probability=1e-9", "cfg": 1.0}, 3),
    ],
)
def test_only_what_is_needed_is_read(options, read, monkeypatch):
    rows = []
    hidden = SemanticDecoder.hidden

    def counted(self, z_t, *rest):
        rows.append(len(z_t))
        return hidden(self, z_t, *rest)

    monkeypatch.setattr(SemanticDecoder, "hidden", counted)
    watched(3, steps=4, **options)
    assert sum(rows) == read


def test_finished_rows_are_not_read(monkeypatch):
    rows = []
    hidden = SemanticDecoder.hidden
    monkeypatch.setattr(
        SemanticDecoder, "hidden", lambda self, z_t, *rest: rows.append(len(z_t)) or hidden(self, z_t, *rest)
    )
    canvases = [Canvas(0, [MASK] * 4, generator(0)), Canvas(1, [5, MASK, 5, 5], generator(1))]
    bound(tiny_model(), SamplingConfig(steps=4, cfg=1.0)).fill(latents(), canvases)
    assert rows == [2, 1, 1, 1]


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


def test_tokens_are_scored_without_what_writing_saves():
    texts, rows = [[5, 6, 7, 8, 9], [11, 12, 13, 14, 15, 16]], [0, 1]

    def scores(**options):
        return bound(tiny_model(), SamplingConfig(cfg=1.7, **options)).token_log_probs(latents(), rows, texts)

    expected = scores()
    for found, plain in zip(scores(null_every=3, vocabulary=4), expected, strict=True):
        torch.testing.assert_close(found, plain)


def test_what_is_forbidden_at_a_position_is_written_elsewhere_only():
    model, z, config = tiny_model(), latents(), SamplingConfig(steps=3, cfg=1.7)

    def fill(forbidden):
        canvases = [
            Canvas(row, [MASK] * length, generator(row), forbidden=forbidden if row % 2 else {})
            for row, length in enumerate(LENGTHS)
        ]
        return bound(model, config).fill(z, canvases)

    free = fill({})
    # At the first position all but one, at the second one that was likeliest in some row.
    limited = fill(
        {0: torch.tensor([i for i in range(VOCABULARY.size) if i != 7]), 1: torch.tensor([free[3][1]])}
    )
    for row, (before, after) in enumerate(zip(free, limited, strict=True)):
        if row % 2:
            assert after[0] == 7
            assert after[1] != free[3][1]
        else:
            assert after == before
