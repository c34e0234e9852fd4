"""The whole trainable model: what positions, rows and the null condition can and cannot know."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import (
    EMBEDDING_DIM,
    MAX_TOKENS,
    SPECIALS,
    VOCABULARY,
    bound,
    generator,
    latents,
    random_tokens,
    tiny_model,
)
from torch.utils.flop_counter import FlopCounterMode

from sgdd_engine.diffusion.config import DiffusionConfig, SamplingConfig
from sgdd_engine.diffusion.guidance import GUIDANCE
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.generation.decode import DecodeRequest
from sgdd_engine.generation.first_drafts import draft_requests
from sgdd_engine.generation.guided_denoiser import GuidedDenoiser
from sgdd_engine.models.config import BottleneckConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.loss import TIE_BREAK, annealed_beta, batch_loss, uses_first_pass

MODULATIONS = ("block", "shared", "none")

MASK = VOCABULARY.mask_id
COSINE = build_schedule("cosine")


@torch.no_grad()
def logits_of(model, canvas, z, t=1.0):
    """[B, n, V] in float32."""
    hidden = model.hidden(canvas, torch.full((len(canvas),), t), model.condition(z))
    return model.head.logits(hidden.flatten(0, 1)).unflatten(0, canvas.shape)


def spread_over_positions(model, n=9, t=1.0):
    """How far the logits of an all-mask canvas differ from those of its first position, over their own scale."""
    logits = logits_of(model, torch.full((3, n), MASK), latents(), t)
    return ((logits - logits[:, :1]).abs().amax(dim=(1, 2)) / logits.std(dim=-1).amax(dim=1)).tolist()


@given(seed=st.integers(0, 10_000), n=st.integers(2, MAX_TOKENS), t=st.floats(0.01, 1))
@settings(deadline=None, max_examples=30)
def test_without_anchors_an_all_mask_canvas_is_position_blind(seed, n, t):
    model = tiny_model(seed, anchors=False, memory_tokens=0)
    # Equal as numbers are equal: a matrix product may round its last rows by another path.
    assert max(spread_over_positions(model, n, t)) < 3e-5


# Almost all weights do, not all, hence seeds that are known.
@pytest.mark.parametrize("memory_tokens", [0, 3])
@pytest.mark.parametrize("seed", range(6))
def test_with_anchors_positions_differ(memory_tokens, seed):
    assert min(spread_over_positions(tiny_model(seed, memory_tokens=memory_tokens))) > 3e-4


@pytest.mark.parametrize("seed", range(6))
def test_memory_alone_also_tells_positions_apart(seed):
    # Its keys are not rotated, so how much a position reads of it depends on where the position stands.
    assert min(spread_over_positions(tiny_model(seed, anchors=False, memory_tokens=3))) > 1e-3


def test_one_written_token_tells_positions_apart():
    model = tiny_model(anchors=False, memory_tokens=0)
    canvas = torch.full((3, 6), MASK)
    canvas[:, 2] = 7
    logits = logits_of(model, canvas, latents(), 0.8)
    assert (logits[:, 0] - logits[:, 5]).abs().max() > 1e-2


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_at_the_start_of_training_blocks_do_nothing_and_logits_are_those_of_the_table(modulation):
    model = tiny_model(scattered=False, modulation=modulation)
    canvas = torch.where(torch.rand(3, 5, generator=generator()) < 0.5, MASK, random_tokens(3, 5))
    with torch.no_grad():
        hidden = model.hidden(canvas, torch.ones(3), model.condition(latents()))
        embedded = torch.nn.functional.layer_norm(model.head.embed(canvas), (16,), eps=1e-6)
    torch.testing.assert_close(hidden, embedded)


@pytest.mark.parametrize("modulation", MODULATIONS)
@pytest.mark.parametrize("change", ["canvas", "time", "meaning", "length"])
def test_everything_the_decoder_is_told_matters(change, modulation):
    model, canvas, z = tiny_model(modulation=modulation), random_tokens(3, 6), latents()
    canvas[:, 1:3] = MASK
    base = logits_of(model, canvas, z, 0.5)[:, 1]
    if change == "canvas":
        moved = canvas.clone()
        moved[:, 5] = torch.where(canvas[:, 5] == 9, 10, 9)
        other = logits_of(model, moved, z, 0.5)[:, 1]
    elif change == "time":
        other = logits_of(model, canvas, z, 0.9)[:, 1]
    elif change == "meaning":
        other = logits_of(model, canvas, latents(seed=5), 0.5)[:, 1]
    else:
        before = model.denoiser.length.weight[6].clone()
        with torch.no_grad():
            model.denoiser.length.weight[6] += torch.randn(16, generator=generator())
        other = logits_of(model, canvas, z, 0.5)[:, 1]
        with torch.no_grad():
            model.denoiser.length.weight[6] = before
    assert (other - base).abs().amax(dim=1).min() > 1e-3


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_rows_know_nothing_of_each_other(modulation):
    model, canvas, z = tiny_model(modulation=modulation), random_tokens(4, 6), latents(4)
    canvas[:, ::2] = MASK
    together = logits_of(model, canvas, z)
    for row in range(4):
        alone = logits_of(model, canvas[row : row + 1], z[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("modulation", MODULATIONS)
@pytest.mark.parametrize("anchors", [True, False])
def test_the_states_of_some_positions_equal_those_among_all_and_take_less(modulation, anchors):
    model, positions = tiny_model(modulation=modulation, anchors=anchors), torch.tensor([0, 2, 3, 11, 17])
    canvas, t = random_tokens(3, 6).index_fill(1, torch.tensor([0, 2]), MASK), torch.tensor([0.2, 0.7, 1.0])

    def computed(ask):
        z = latents().requires_grad_()
        with FlopCounterMode(display=False) as counter:
            states = ask(model.condition(z))
        gradients = torch.autograd.grad(states.square().sum(), [z, *model.denoiser.blocks.parameters()])
        return states, gradients, counter.get_total_flops()

    states, gradients, flops = computed(lambda c: model.hidden(canvas, t, c, positions=positions))
    of_all, all_gradients, all_flops = computed(lambda c: model.hidden(canvas, t, c).flatten(0, 1)[positions])
    torch.testing.assert_close(states, of_all)
    torch.testing.assert_close(gradients, all_gradients, atol=1e-4, rtol=1e-4)
    assert flops < 0.85 * all_flops
    assert model.hidden(canvas, t, model.condition(latents()), positions=positions[:0]).shape == (0, 16)


def test_a_shared_modulation_takes_the_place_of_one_matrix_per_block():
    own, shared = (
        sum(p.numel() for p in tiny_model(layers=3, modulation=kind).parameters())
        for kind in ("block", "shared")
    )
    matrix = 16 * 6 * 16 + 6 * 16
    assert own - shared == 3 * matrix - (matrix + 3 * 6 * 16)


def test_memory_tokens_follow_the_meaning_along_a_curve_with_a_hidden_layer():
    for hidden, straight in ((0, True), (12, False)):
        z, model = latents(2), tiny_model(memory_hidden=hidden)
        with torch.no_grad():
            ends, middle = model.condition(z).memory, model.condition(z.mean(dim=0, keepdim=True)).memory
        mean = ends.vectors.mean(dim=0, keepdim=True)
        assert torch.allclose(mean, middle.vectors, atol=1e-4) == straight


def test_vectors_are_standardised():
    model = tiny_model(bottleneck=BottleneckConfig(kind="none"))
    e = 0.03 * torch.randn(500, EMBEDDING_DIM, generator=generator()) + 0.01
    model.fit_statistics(e.mean(dim=0), e.std(dim=0))
    z = model.latent(e).z
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(EMBEDDING_DIM), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(dim=0), torch.ones(EMBEDDING_DIM))


def test_dropped_rows_carry_the_null_latent_and_teach_it():
    model, z = tiny_model(), latents(5).requires_grad_()
    dropped = torch.tensor([True, False, True, False, False])
    out = model.drop_condition(z, dropped)
    assert torch.equal(out[dropped], model.null_latent(2))
    assert torch.equal(out[~dropped], z[~dropped])
    out.sum().backward()
    assert torch.equal(model.null.grad, torch.full((6,), 2.0))
    assert torch.equal(z.grad, (~dropped)[:, None].expand(5, 6).float())


def test_the_null_condition_tells_nothing():
    model, canvas = tiny_model(), torch.full((2, 6), MASK)
    null = model.null_latent(2)
    logits = logits_of(model, canvas, model.drop_condition(latents(2), torch.ones(2, dtype=torch.bool)))
    torch.testing.assert_close(logits, logits_of(model, canvas, null))
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(*model.length_logits(null).unbind(), atol=1e-5, rtol=0)


def test_lengths_are_scored_from_one_to_the_longest():
    logits = tiny_model().length_logits(latents())
    assert logits.shape == (3, MAX_TOKENS)
    assert logits.dtype == torch.float32


def loss_of(model, step=0):
    return terms_of(model, step).total


def terms_of(model, step=0, **diffusion):
    """The training loss on some sentences, always under the same noise."""
    return batch_loss(
        model.train(),
        random_tokens(64, 7),
        torch.randn(64, EMBEDDING_DIM, generator=generator()),
        config=TrainConfig(batch_tokens=448),
        diffusion=DiffusionConfig(**diffusion),
        step=step,
        generator=generator(1),
    )


@pytest.mark.parametrize("bf16", [False, True])
def test_masks_in_the_order_of_decoding_leave_the_surest_tokens_visible(bf16):
    model = tiny_model(bottleneck=BottleneckConfig(kind="none"))
    e = torch.randn(64, EMBEDDING_DIM, generator=generator())
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        independent = terms_of(model, full_mask_share=0.3)
        ordered = terms_of(model, full_mask_share=0.3, masks="decoding_order")
        # Under the same noise: as many tokens of each row, and the rows at the full mask.
        assert torch.equal(ordered.masked.sum(dim=1), independent.masked.sum(dim=1))
        assert ordered.masked.all(dim=1).any()
        assert not torch.equal(ordered.masked, independent.masked)
        assert torch.equal(ordered.positions, ordered.masked.flatten().nonzero().squeeze(1))
        ordered.total.backward()
        # Noise that drops conditions is drawn first; rows that keep theirs are compared.
        kept = torch.rand(64, generator=generator(1)) >= TrainConfig().condition_dropout
        with torch.no_grad():
            canvas, condition = torch.full((64, 7), MASK), model.condition(model.latent(e).z)
            logits = model.head.trained_logits(model.hidden(canvas, torch.ones(64), condition).flatten(0, 1))
    logits[:, MASK] = -torch.inf
    best = logits.log_softmax(dim=-1).amax(dim=-1).view(64, 7)
    surest_masked = best.masked_fill(~ordered.masked, -torch.inf).amax(dim=1)
    least_sure_visible = best.masked_fill(ordered.masked, torch.inf).amin(dim=1)
    assert (surest_masked <= least_sure_visible + (0.02 if bf16 else 2 * TIE_BREAK))[kept].all()
    assert (ordered.masked.any(dim=1) & ~ordered.masked.all(dim=1) & kept).sum() > 20


def test_a_network_that_has_learnt_nothing_masks_no_position_more_often():
    masked = terms_of(SemanticDecoder(tiny_model().config), masks="decoding_order").masked.float()
    # By position in order, the share falls from .9 to .3.
    assert (masked.mean(dim=0) - masked.mean()).abs().max() < 0.2


def test_masks_are_independent_unless_asked_for_otherwise():
    default, independent = (terms_of(tiny_model(), **d) for d in ({}, {"masks": "independent"}))
    assert torch.equal(default.masked, independent.masked)
    assert torch.equal(default.total, independent.total)


@pytest.mark.parametrize(
    ("parts", "step"), [({}, 0), ({"self_conditioning": True}, 1), ({"surrogate_width": 8}, 0)]
)
@pytest.mark.parametrize("bf16", [False, True])
def test_training_reaches_every_parameter(parts, step, bf16):
    model = tiny_model(**parts)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        total = loss_of(model, step)
    total.backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("every", [1, 2, 3, 4, 5])
def test_half_of_the_steps_look_twice_and_in_step_with_nothing(every):
    for first in range(every):
        looks = [uses_first_pass(step) for step in range(first, 4000, every)]
        assert abs(sum(looks) / len(looks) - 0.5) < 0.02


def test_a_look_before_counts_in_the_steps_that_take_one_and_at_open_positions_alone():
    model, plain = tiny_model(self_conditioning=True), tiny_model()
    plain.load_state_dict(model.state_dict(), strict=False)
    # The weight of the KL rises from step to step, so losses are compared at the same one.
    assert annealed_beta(0, TrainConfig()) > 0
    assert torch.equal(loss_of(model, step=0), loss_of(plain, step=0))
    assert not torch.allclose(loss_of(model, step=1), loss_of(plain, step=1), atol=1e-3)

    canvas, condition = random_tokens(3, 6), model.eval().condition(latents())
    canvas[:, 2] = MASK
    before = torch.randn(3, 6, model.config.decoder.width, generator=generator(5))
    other = before.clone()
    other[:, [0, 1, 3, 4, 5]] += 1.0
    with torch.no_grad():
        told = model.hidden(canvas, torch.ones(3), condition, before)
        assert torch.equal(told, model.hidden(canvas, torch.ones(3), condition, other))
        assert not torch.allclose(told, model.hidden(canvas, torch.ones(3), condition), atol=1e-2)
        nothing = model.hidden(canvas, torch.ones(3), condition, torch.zeros_like(before))
        assert torch.equal(nothing, model.hidden(canvas, torch.ones(3), condition))


def test_a_second_stage_may_add_self_conditioning_which_says_nothing_at_first():
    model, plain = tiny_model(self_conditioning=True, scattered=False), tiny_model(scattered=False)
    plain.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(loss_of(model, step=1), loss_of(plain, step=1))


def test_bf16_autocast_stays_close():
    model, canvas, z = tiny_model(), random_tokens(3, 6), latents()
    canvas[:, :4] = MASK
    exact = logits_of(model, canvas, z)
    with torch.autocast("cpu", torch.bfloat16):
        rough = logits_of(model, canvas, z)
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() < 0.05 * exact.norm()


def log_probs(model, z, canvas, **sampling):
    """Of the open positions, from both the sampler's and the model's door."""
    masked = canvas == MASK
    with torch.inference_mode():
        guided = GuidedDenoiser(
            model, z, [canvas.shape[1]] * len(canvas), SamplingConfig(**sampling), SPECIALS
        )
        scores = guided(canvas, torch.full((len(canvas),), 0.8), masked)
        return torch.cat([chunk.logits.log_softmax(-1) for chunk in scores(torch.arange(int(masked.sum())))])


@pytest.fixture
def half_written():
    canvas = random_tokens(3, 6)
    canvas[:, [0, 2, 5]] = MASK
    return canvas


def test_guidance_joins_the_two_branches(half_written):
    model, z = tiny_model(), latents()
    conditional, null = (log_probs(model, z, half_written, cfg=w) for w in (1.0, 0.0))
    rows = (half_written == MASK).nonzero()[:, 0]
    for form, guide in GUIDANCE.items():
        for w in (0.4, 1.7, 3.0):
            out = log_probs(model, z, half_written, cfg=w, guidance=form)
            expected = guide(conditional, null, w, rows, half_written).log_softmax(-1)
            torch.testing.assert_close(out[:, 4:39], expected[:, 4:39], atol=1e-3, rtol=1e-3)
    # The shortcuts are what the two-branch form would have said.
    near = [log_probs(model, z, half_written, cfg=w, guidance="plain") for w in (1.0 + 1e-6, 1e-6)]
    torch.testing.assert_close(near[0][:, 4:39], conditional[:, 4:39], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(near[1][:, 4:39], null[:, 4:39], atol=1e-3, rtol=1e-3)
    near_one = log_probs(model, z, half_written, cfg=1.0 + 1e-6, guidance="coverage")
    torch.testing.assert_close(near_one[:, 4:39], conditional[:, 4:39], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("form", GUIDANCE)
def test_at_weight_zero_the_meaning_is_unknown(half_written, form):
    model = tiny_model()
    outs = [log_probs(model, latents(seed=s), half_written, cfg=0.0, guidance=form) for s in (1, 2)]
    assert torch.equal(*outs)


@pytest.mark.parametrize("cfg", [0.0, 1.0, 2.0])
def test_scores_are_distributions_without_specials(half_written, cfg):
    out = log_probs(tiny_model(), latents(), half_written, cfg=cfg)
    torch.testing.assert_close(out.exp().sum(-1), torch.ones(9), atol=1e-4, rtol=0)
    assert out[:, list(SPECIALS)].max() < -1e3
    assert torch.isfinite(out).all()


TASKS = [
    DecodeRequest(0, 5, 1),
    DecodeRequest(1, 8, 2),
    DecodeRequest(2, 5, 3),
    DecodeRequest(0, 1, 4),
    DecodeRequest(1, 5, 5),
    DecodeRequest(2, MAX_TOKENS, 6),
    DecodeRequest(0, 5, 7),
]


def texts(tasks, **sampling):
    config = SamplingConfig(steps=4, **sampling)
    return bound(tiny_model(), config).decode(latents(), tasks)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("cfg", [0.0, 1.0, 1.5])
def test_a_decoded_text_does_not_depend_on_its_batch(cfg, temperature, monkeypatch):
    options = {"cfg": cfg, "temperature": temperature, "top_p": 0.95}
    together = texts(TASKS, **options)
    assert [len(tokens) for tokens in together] == [task.length for task in TASKS]
    assert not set(SPECIALS) & {token for tokens in together for token in tokens}
    assert texts(TASKS[::-1], **options)[::-1] == together
    assert [texts([task], **options)[0] for task in TASKS] == together
    limits = ("decode.BATCH_TOKENS", "guided_denoiser.CHUNK_ELEMENTS", "guided_denoiser.CACHED_ELEMENTS")
    for limit in limits:
        monkeypatch.setattr(f"sgdd_engine.generation.{limit}", 1)  # one row a batch, one position a chunk
        assert texts(TASKS, **options) == together


def test_seeds_and_meanings_make_texts_differ():
    many = texts([DecodeRequest(0, 8, seed) for seed in range(10)], temperature=1.0, cfg=1.0)
    assert len({tuple(tokens) for tokens in many}) > 5
    assert (
        len({tuple(tokens) for tokens in texts([DecodeRequest(row, 8, 0) for row in range(3)], cfg=1.0)}) > 1
    )
    assert (
        len({tuple(tokens) for tokens in texts([DecodeRequest(row, 8, 0) for row in range(3)], cfg=0.0)}) == 1
    )


def near_one_meaning(rows):
    """Latents that hardly differ, so that what is drawn for them differs by random numbers alone."""
    return 1e-4 * torch.randn(rows, 6, generator=generator(4))


def test_texts_of_one_seed_are_drawn_with_random_numbers_of_their_own():
    rows, sampling = 60, SamplingConfig(steps=4, temperature=1.0, cfg=1.0)
    model, z = tiny_model(), near_one_meaning(60)
    decoder = bound(model, sampling)
    written = decoder.decode(z, [DecodeRequest(row, 8, 0) for row in range(rows)])
    assert len({tuple(tokens) for tokens in written}) > rows / 2
    asked = draft_requests(model, z, None, 1, 1, 0, 1.0)
    lengths = torch.bincount(torch.tensor([request.length for request in asked]), minlength=MAX_TOKENS + 1)
    with torch.no_grad():
        expected = rows * model.length_logits(z[:1])[0].softmax(-1)
    # Pearson's statistic of the lengths, far beyond what chance makes of it: 5 standard deviations of a chi-squared.
    statistic = float(((lengths[1:] - expected) ** 2 / expected).sum())
    assert statistic < MAX_TOKENS + 5 * (2 * MAX_TOKENS) ** 0.5
    # Of the same vector they are the same, wherever it stands.
    assert draft_requests(model, z[5:6], None, 1, 1, 0, 1.0)[0].length == asked[5].length


def test_steps_are_reported_with_their_tasks():
    seen = []
    config = SamplingConfig(steps=3, cfg=1.0)
    out = bound(tiny_model(), config).decode(
        latents(), TASKS[:3], lambda i, which, canvases, _: seen.append((i, list(which), canvases))
    )
    assert [(i, which) for i, which, _ in seen] == [(1, [0, 2, 1]), (2, [0, 2, 1]), (3, [0, 2, 1])]
    assert [[MASK in tokens for tokens in canvases] for *_, canvases in seen] == [[True] * 3] * 2 + [
        [False] * 3
    ]
    assert seen[-1][2] == [out[0], out[2], out[1]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vib", "none"])
def test_one_batch_overfits_to_exact_reconstruction(kind):
    rows, n = 12, 7
    x, e = random_tokens(rows, n), torch.randn(rows, EMBEDDING_DIM, generator=generator(1))
    bottleneck = BottleneckConfig(kind=kind, latent_dim=16, hidden_dim=32)
    model = tiny_model(bottleneck=bottleneck, scattered=False, width=32, heads=4).train()
    model.fit_statistics(e.mean(dim=0), e.std(dim=0))
    config = TrainConfig(batch_tokens=rows * n, beta=1e-4, free_bits=0.0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    first = last = None
    for step in range(250):
        optimiser.param_groups[0]["lr"] = 5e-3 * min(1.0, 2 * (1 - step / 250))
        loss = batch_loss(
            model, x, e, config=config, diffusion=DiffusionConfig(), step=step, generator=generator(step)
        )
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        last = loss.total.item()
        first = last if first is None else first
    assert last < first / 3

    model.eval()
    z = model.latent(e).z
    assert (model.length_logits(z).argmax(dim=-1) + 1).tolist() == [n] * rows
    tasks = [DecodeRequest(row, n, 0) for row in range(rows)]
    for steps, cfg in ((1, 1.0), (4, 1.0), (16, 1.0), (16, 1.5)):
        sampling = SamplingConfig(steps=steps, cfg=cfg)
        written = bound(model, sampling).decode(z, tasks)
        assert written == x.tolist(), (steps, cfg)
