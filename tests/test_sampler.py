"""The denoising loop, against denoisers that know the answer, know nothing, or insist on the mask."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import VOCABULARY, generator, random_tokens

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.position_rules import POSITION_RULES, RevealStep
from sgdd_engine.diffusion.sampler import LogitChunk, sample
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.errors import ConfigError

V, MASK = VOCABULARY.size, VOCABULARY.mask_id
every_order = pytest.mark.parametrize("order", [*POSITION_RULES.names(), "confidence:apart=1"])


def in_pieces(log_probs, size=3):
    """A denoiser that gives its scores a few positions at a time, and takes each piece away with the next."""

    def denoiser(z_t, t, masked):
        whole = log_probs(z_t, t, masked)
        place = whole.new_empty(size, V)

        def scores(which):
            for part in which.split(size):
                yield LogitChunk(place[: len(part)].copy_(whole[part]))

        return scores

    return denoiser


def write(log_probs, canvas, config, **more):
    return write_traced(log_probs, canvas, config, **more).tokens


def write_traced(log_probs, canvas, config, *, seeds=None, schedule="cosine", on_step=None, **more):
    seeds = range(len(canvas)) if seeds is None else seeds
    return sample(
        in_pieces(log_probs),
        canvas,
        mask_id=MASK,
        schedule=build_schedule(schedule),
        config=config,
        generators=[generator(s) for s in seeds],
        on_step=on_step,
        **more,
    )


def blank(rows, n):
    return torch.full((rows, n), MASK)


def oracle(x):
    """Nearly sure of the clean tokens."""

    def log_probs(z_t, t, masked):
        return (30.0 * torch.nn.functional.one_hot(x[masked], V)).log_softmax(-1)

    return log_probs


def by_lookup(z_t, t, masked):
    """Depends on the whole row and the position, by table look-up: a row's numbers are the same in any batch."""
    table = (2 * torch.randn(997, V, generator=generator(11))).log_softmax(-1)
    row_key = (z_t * torch.arange(1, z_t.shape[1] + 1)).sum(dim=1, keepdim=True)
    return table[((row_key + 31 * torch.arange(z_t.shape[1])) % 997)[masked]]


def fixed(probabilities):
    """The same distribution over the first tokens everywhere."""
    row = torch.full((V,), -1e4)
    row[: len(probabilities)] = torch.tensor(probabilities).log()

    def log_probs(z_t, t, masked):
        return row.log_softmax(-1).expand(int(masked.sum()), V)

    return log_probs


@every_order
@given(
    n=st.integers(1, 14),
    steps=st.integers(1, 20),
    seed=st.integers(0, 1000),
    noise=st.sampled_from([0.0, 3.0]),
    temperature=st.sampled_from([0.0, 0.7]),
    schedule=st.sampled_from(["cosine", "linear"]),
)
@settings(deadline=None, max_examples=20)
def test_an_oracle_is_recovered(order, n, steps, seed, noise, temperature, schedule):
    x = random_tokens(3, n, seed)
    config = SamplingConfig(steps=steps, position_rule=order, position_noise=noise, temperature=temperature)
    assert torch.equal(write(oracle(x), blank(3, n), config, schedule=schedule), x)


@every_order
@given(
    n=st.integers(1, 14),
    steps=st.integers(1, 20),
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.0, 1.0, 5.0]),
    top_p=st.sampled_from([1.0, 0.6]),
)
@settings(deadline=None, max_examples=20)
def test_no_mask_survives_and_what_stands_stays(order, n, steps, seed, temperature, top_p):
    given_tokens = random_tokens(4, n, seed)
    canvas = torch.where(torch.rand(4, n, generator=generator(seed)) < 0.6, MASK, given_tokens)
    before = canvas.clone()
    config = SamplingConfig(
        steps=steps, position_rule=order, temperature=temperature, top_p=top_p, position_noise=1.0
    )

    def insists_on_the_mask(z_t, t, masked):
        scores = by_lookup(z_t, t, masked).clone()
        scores[:, MASK] = 5.0
        return scores.log_softmax(-1)

    for denoiser in (by_lookup, insists_on_the_mask):
        out = write(denoiser, canvas, config)
        assert (out != MASK).all()
        assert torch.equal(out[before != MASK], before[before != MASK])
        assert torch.equal(canvas, before), "the caller's canvas is not written on"


def test_a_full_canvas_asks_nothing():
    x = random_tokens(2, 5)

    def unwanted(z_t, t, masked):
        raise AssertionError("the denoiser was called")

    assert torch.equal(write(unwanted, x, SamplingConfig()), x)


@pytest.mark.parametrize(("n", "steps"), list(itertools.product([1, 2, 7, 30], [1, 2, 8, 50])))
def test_the_schedule_says_how_many_masks_are_left(n, steps):
    schedule, seen, times = build_schedule("cosine"), [], []

    def watched(z_t, t, masked):
        assert torch.equal(masked, z_t == MASK)
        times.append((t.clone(), masked.float().mean(dim=1)))
        return by_lookup(z_t, t, masked)

    write(watched, blank(2, n), SamplingConfig(steps=steps), on_step=lambda i, z, _: seen.append((i, z)))
    assert len(seen) == len(times) <= min(n, steps)
    assert [i for i, _ in seen] == list(range(1, len(seen) + 1))
    left = n
    for i, canvas in seen:  # each canvas is a snapshot, or all would be the last
        said = int(n * (1 - schedule.alpha(torch.tensor(1 - i / steps, dtype=torch.float64))).item() + 1e-9)
        left = min(said, left - 1) if i < steps else 0
        assert (canvas == MASK).sum(dim=1).tolist() == [left, left]
    assert left == 0
    for t, share in times:
        torch.testing.assert_close(1 - schedule.alpha(t), share, atol=1e-5, rtol=0)


@every_order
@pytest.mark.parametrize("temperature", [0.0, 1.3])
@given(seed=st.integers(0, 1000), n=st.integers(1, 9), steps=st.integers(1, 9))
@settings(deadline=None, max_examples=15)
def test_a_row_does_not_depend_on_its_batch(order, temperature, seed, n, steps):
    config = SamplingConfig(
        steps=steps, position_rule=order, temperature=temperature, top_p=0.9, position_noise=1.0
    )
    # Rows that end at different steps, and one that is full from the start.
    canvas = torch.where(torch.rand(5, n, generator=generator(seed)) < 0.5, MASK, random_tokens(5, n, seed))
    canvas[0], canvas[1] = MASK, random_tokens(1, n, seed)[0]
    seeds = [seed + 10 * i for i in range(5)]
    together = write(by_lookup, canvas, config, seeds=seeds)
    backwards = write(by_lookup, canvas.flip(0), config, seeds=seeds[::-1]).flip(0)
    alone = torch.cat([write(by_lookup, canvas[i : i + 1], config, seeds=seeds[i : i + 1]) for i in range(5)])
    assert torch.equal(together, alone)
    assert torch.equal(together, backwards)


def test_seeds_matter_only_where_something_is_drawn():
    drawn = write(by_lookup, blank(20, 6), SamplingConfig(steps=3, temperature=1.0))
    assert len({tuple(row) for row in drawn.tolist()}) > 15
    greedy = write(by_lookup, blank(20, 6), SamplingConfig(steps=3))
    assert len({tuple(row) for row in greedy.tolist()}) == 1


def frequencies(config, probabilities):
    out = write(fixed(probabilities), blank(4, 1250), config)
    return torch.bincount(out.flatten(), minlength=V).double() / out.numel()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_at_the_temperature(temperature):
    p = [0.1, 0.2, 0.3, 0.4]
    expected = torch.tensor(p).double() ** (1 / temperature)
    expected /= expected.sum()
    seen = frequencies(SamplingConfig(steps=1, temperature=temperature), p)[:4]
    assert ((seen - expected).abs() < 4 * (expected * (1 - expected) / 5_000).sqrt()).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.4, [1.0, 0, 0, 0]),
        (0.7, [0.625, 0.375, 0, 0]),
        (0.97, [0.5, 0.3, 0.15, 0.05]),
        (1e-6, [1.0, 0, 0, 0]),
    ],
)
def test_top_p_keeps_the_smallest_set_of_that_mass(top_p, expected):
    seen = frequencies(SamplingConfig(steps=1, temperature=1.0, top_p=top_p), [0.5, 0.3, 0.15, 0.05])[:4]
    assert (seen - torch.tensor(expected)).abs().max() < 0.03
    assert ((seen == 0) == (torch.tensor(expected) == 0)).all()


@pytest.mark.slow
def test_top_p_looks_at_the_tempered_distribution():
    # At temperature 0.5, [.5, .3, .2] becomes [.66, .24, .11]: the first alone has the mass of 0.6.
    assert frequencies(SamplingConfig(steps=1, temperature=0.5, top_p=0.6), [0.5, 0.3, 0.2])[0] == 1


def first_filled(log_probs, n, config, seeds):
    canvases = []
    write(log_probs, blank(len(seeds), n), config, seeds=seeds, on_step=lambda i, z, _: canvases.append(z))
    return canvases[0] != MASK


@pytest.mark.parametrize("order", [name for name in POSITION_RULES.names() if name != "left_to_right"])
def test_ties_are_broken_at_random(order):
    counts = first_filled(fixed([0.5, 0.5]), 6, SamplingConfig(steps=6, position_rule=order), range(600)).sum(
        dim=0
    )
    assert counts.sum() == 600
    assert counts.min() > 60
    assert counts.max() < 140


def test_the_temperature_does_not_reach_the_order():
    orders = []
    for temperature in (0.0, 0.1, 30.0):
        config = SamplingConfig(steps=8, temperature=temperature)
        orders.append(first_filled(by_lookup, 8, config, range(5)))
    assert torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])


def test_order_noise_fades_out():
    strong = SamplingConfig(steps=8, position_noise=1e4)
    assert first_filled(by_lookup, 8, strong, range(200)).sum(dim=0).min() > 5
    # One step is also the last one, and fills everything anyway.
    assert (write(by_lookup, blank(1, 8), SamplingConfig(steps=1, position_noise=1e4)) != MASK).all()


def test_order_rules_by_definition():
    log_probs = (2 * torch.randn(50, V, generator=generator(1))).log_softmax(-1)
    p = log_probs.exp()
    ordered = p.sort(dim=-1, descending=True).values
    torch.testing.assert_close(POSITION_RULES.build("confidence").score(log_probs), ordered[:, 0].log())
    torch.testing.assert_close(POSITION_RULES.build("margin").score(log_probs), ordered[:, 0] - ordered[:, 1])
    entropy = torch.distributions.Categorical(logits=log_probs).entropy()
    torch.testing.assert_close(POSITION_RULES.build("entropy").score(log_probs), -entropy)


def test_forbidden_tokens_do_not_disturb_the_entropy():
    log_probs = torch.full((1, 4), -torch.inf)
    log_probs[0, :2] = torch.tensor([0.5, 0.5]).log()
    torch.testing.assert_close(POSITION_RULES.build("entropy").score(log_probs), -torch.tensor([2.0]).log())


def test_random_order_ignores_the_scores():
    counts = first_filled(by_lookup, 6, SamplingConfig(steps=6, position_rule="random"), range(600)).sum(
        dim=0
    )
    assert counts.min() > 60


class Watched:
    """A rule of the tests: records what it sees, and reveals what it is told to."""

    reads_logits = True
    stochastic = False

    def __init__(self, choose):
        self.choose, self.seen = choose, []

    def score(self, logits):
        return logits.max(dim=-1).values

    def reveal(self, step):
        self.seen.append(step)
        return self.choose(step)


def with_rule(choose, canvas, **options):
    rule = Watched(choose)
    name = f"watched-{len(POSITION_RULES.names())}"
    # Registered as packages do it: a class without arguments.
    POSITION_RULES.register(name)(type("OfTheTest", (), {"__new__": lambda cls: rule}))
    calls = []

    def denoiser(z_t, t, masked):
        calls.append(masked)
        return by_lookup(z_t, t, masked)

    return rule, calls, write(denoiser, canvas, SamplingConfig(position_rule=name, **options))


def test_a_rule_sees_scores_mask_step_and_budget():
    canvas = torch.where(torch.arange(8) < 3, random_tokens(2, 8), MASK)

    def as_scheduled(step):
        ranked = step.scores.argsort(dim=1, descending=True)
        return torch.zeros_like(step.masked).scatter_(1, ranked, torch.arange(8) < step.budget[:, None])

    rule, _, out = with_rule(as_scheduled, canvas, steps=4)
    assert (out != MASK).all()
    assert [step.step for step in rule.seen] == [0, 1, 2], "the last step reveals all that is left"
    assert {step.num_steps for step in rule.seen} == {4}
    for step in rule.seen:
        assert torch.equal(step.scores.isneginf(), ~step.masked)
        assert (step.budget >= 1).all()
    revealed = [before.masked.sum(1) - after.masked.sum(1) for before, after in itertools.pairwise(rule.seen)]
    assert all(torch.equal(count, step.budget) for count, step in zip(revealed, rule.seen, strict=False))


def test_an_adaptive_rule_takes_as_many_steps_as_it_needs():
    _, calls, out = with_rule(lambda step: step.masked, blank(2, 6), steps=10)
    assert len(calls) == 1, "a rule that reveals everything needs the network once"
    assert (out != MASK).all()
    # A rule may be slower than the schedule: what it leaves is revealed in the last step.
    one = lambda step: torch.zeros_like(step.masked).scatter_(1, step.scores.argmax(1, keepdim=True), True)  # noqa: E731
    _, calls, out = with_rule(one, blank(2, 6), steps=3)
    assert [int(masked.sum()) for masked in calls] == [12, 10, 8]
    assert (out != MASK).all()


def test_a_rule_cannot_write_over_a_token():
    given_tokens = random_tokens(1, 5)
    canvas = torch.where(torch.arange(5) < 2, given_tokens, MASK)
    _, _, out = with_rule(lambda step: torch.ones_like(step.masked), canvas, steps=3)
    assert torch.equal(out[:, :2], given_tokens[:, :2])


def test_only_what_draws_makes_seeds_differ():
    drawn = {name for name in POSITION_RULES.names() if SamplingConfig(position_rule=name).stochastic}
    # Rules of other tests are registered beside those of the engine.
    assert drawn & {"confidence", "margin", "entropy", "random"} == {"random"}
    assert SamplingConfig(temperature=0.5).stochastic
    assert SamplingConfig(position_noise=0.5).stochastic


def blank_steps(rule, n=9, log_probs=by_lookup, **options):
    """How many steps a canvas of n masks takes under a rule, and how many masks each step reveals."""
    seen = [n]
    write(
        log_probs,
        blank(1, n),
        SamplingConfig(position_rule=rule, **options),
        on_step=lambda step, z, _: seen.append(int((z == MASK).sum())),
    )
    return [before - after for before, after in itertools.pairwise(seen)]


def test_an_entropy_bound_of_zero_is_one_token_a_step():
    assert blank_steps("entropy_bound:bound=0", steps=20) == [1] * 9


def test_the_entropy_bound_limits_what_is_revealed_together():
    # Each position has an entropy of ln 2 = 0.69: one is free, and every further one costs that of the one before.
    for bound, each in ((0.5, 1), (0.7, 2), (1.5, 3), (100, 9)):
        revealed = blank_steps(f"entropy_bound:bound={bound}", log_probs=fixed([0.5, 0.5]), steps=20)
        assert revealed[0] == each
        assert sum(revealed) == 9
    # Certain positions cost nothing.
    assert blank_steps("entropy_bound:bound=0.01", log_probs=oracle(random_tokens(1, 9)), steps=20) == [9]


def test_the_threshold_reveals_what_is_likely_enough():
    assert blank_steps("threshold:probability=0.49", log_probs=fixed([0.5, 0.5]), steps=20) == [9]
    assert blank_steps("threshold:probability=0.51", log_probs=fixed([0.5, 0.5]), steps=20) == [1] * 9


@pytest.mark.parametrize("apart", [1, 2])
def test_positions_of_one_step_lie_apart_while_there_are_such(apart):
    generator = torch.Generator().manual_seed(apart)
    priorities = torch.rand(50, 12, generator=generator, dtype=torch.float64)
    masked = torch.rand(50, 12, generator=generator) < 0.8
    priorities[~masked] = -torch.inf
    budget = torch.arange(50) % 5
    budget = budget.minimum(masked.sum(dim=1))
    rule = POSITION_RULES.build(f"confidence:apart={apart}")
    revealed = rule.reveal(RevealStep(priorities, priorities, masked, budget, 0, 4))
    assert (revealed & ~masked).sum() == 0
    assert torch.equal(revealed.sum(dim=1), budget)
    for row in range(50):
        # The plain way: the best, then the best of those that are apart from all that is taken, else of the rest.
        taken: list[int] = []
        for _ in range(int(budget[row])):
            left = [i for i in masked[row].nonzero().flatten().tolist() if i not in taken]
            crowd = {i: sum(abs(i - t) <= apart for t in taken) for i in left}
            taken.append(min(left, key=lambda i: (crowd[i], -float(priorities[row, i]))))
        assert sorted(taken) == revealed[row].nonzero().flatten().tolist()


@pytest.mark.parametrize("rule", ["entropy_bound:bound=0", "threshold:probability=1"])
def test_an_adaptive_rule_never_falls_behind_the_schedule(rule):
    assert len(blank_steps(rule, n=12, steps=4)) == 4


@pytest.mark.parametrize(
    "spec",
    ["entropy_bound:bound=-1", "threshold:probability=0", "threshold:probability=2", "margin:apart=-1"],
)
def test_parameters_of_rules_out_of_range(spec):
    with pytest.raises(ConfigError, match=r"sample\.position_rule"):
        SamplingConfig(position_rule=spec)


def test_left_to_right_is_the_order_of_reading():
    canvases = []
    write(
        by_lookup,
        blank(1, 5),
        SamplingConfig(steps=5, position_rule="left_to_right", unmasking="linear"),
        on_step=lambda step, z, _: canvases.append((z[0] != MASK).tolist()),
    )
    assert canvases == [[i <= step for i in range(5)] for step in range(5)]


def test_unmasking_follows_its_own_schedule():
    def times(**options):
        seen = []

        def watched(z_t, t, masked):
            seen.append(float(t[0]))
            return by_lookup(z_t, t, masked)

        write(watched, blank(1, 8), SamplingConfig(steps=4, **options))
        return seen

    # The time that the network reads is that of training's schedule at which so much is masked.
    cosine = build_schedule("cosine")
    shares = torch.tensor([1.0, 0.75, 0.5, 0.25])
    assert times(unmasking="linear") == pytest.approx(cosine.time_at(shares).tolist(), abs=1e-6)


@pytest.mark.slow
def test_top_k_keeps_the_likeliest_tokens():
    seen = frequencies(SamplingConfig(steps=1, temperature=1.0, top_k=2), [0.5, 0.3, 0.15, 0.05])[:4]
    assert (seen - torch.tensor([0.625, 0.375, 0, 0])).abs().max() < 0.03
    assert (seen[2:] == 0).all()


@pytest.mark.parametrize("remask", [0.1, 0.5])
@pytest.mark.parametrize("order", ["confidence", "threshold:probability=0.1"])
def test_remasking_writes_tokens_anew_and_spares_what_was_given(order, remask):
    given_tokens = random_tokens(2, 10)
    canvas = torch.where(torch.arange(10) < 3, given_tokens, MASK)
    seen = []
    out = write(
        by_lookup,
        canvas,
        SamplingConfig(steps=12, position_rule=order, remask=remask),
        on_step=lambda step, z, _: seen.append(z),
    )
    assert (out != MASK).all()
    assert all(torch.equal(z[:, :3], given_tokens[:, :3]) for z in seen)
    again = sum(int(((before != MASK) & (after == MASK)).sum()) for before, after in itertools.pairwise(seen))
    assert again > 0


def test_remasking_takes_the_unsure_tokens_most_often():
    # Position 0 is certain, position 1 is a coin.
    def log_probs(z_t, t, masked):
        scores = torch.full((*masked.shape, V), -1e4)
        scores[:, 0, 4] = 0.0
        scores[:, 1, 4:6] = 0.0
        return scores.log_softmax(-1)[masked]

    masked_again = torch.zeros(2)
    for seed in range(60):
        write(
            log_probs,
            blank(1, 2),
            SamplingConfig(steps=3, position_rule="threshold:probability=0.1", remask=0.5),
            seeds=[seed],
            on_step=lambda step, z, _: masked_again.add_((z[0] == MASK).float()),
        )
    # In proportion to 1 / p, that is 1 to 2.
    assert 0.5 < masked_again[0] / masked_again[1] * 2 < 1.7


def test_the_trace_says_how_sure_each_token_was():
    canvas = torch.where(torch.arange(7) < 2, random_tokens(3, 7), MASK)
    for temperature in (0.0, 1.0):
        config = SamplingConfig(steps=3, temperature=temperature)
        seen = []

        def remembered(z_t, t, masked, seen=seen):
            whole = torch.full((*masked.shape, V), float("nan"))
            scores = by_lookup(z_t, t, masked).clone()
            scores[:, MASK] = -torch.inf
            whole[masked] = scores.log_softmax(-1)
            seen.append(whole)
            return scores

        sampled = write_traced(remembered, canvas, config, trace=True)
        assert torch.equal(sampled.tokens, write(by_lookup, canvas, config)), "a trace changes nothing"
        assert (sampled.trace.step[:, :2] == 0).all()
        for row, position in itertools.product(range(3), range(2, 7)):
            scores = seen[sampled.trace.step[row, position] - 1][row, position]
            token = sampled.tokens[row, position]
            torch.testing.assert_close(sampled.trace.log_prob[row, position], scores[token])
            entropy = torch.distributions.Categorical(logits=scores[:MASK]).entropy()
            torch.testing.assert_close(sampled.trace.entropy[row, position], entropy, atol=1e-4, rtol=1e-4)
    assert write_traced(by_lookup, canvas, SamplingConfig(steps=3)).trace is None


def test_steps_are_counted_for_each_row():
    canvas = torch.where(torch.arange(6) < 5, random_tokens(2, 6), MASK)
    canvas[1] = MASK
    assert write_traced(by_lookup, canvas, SamplingConfig(steps=4)).steps.tolist() == [1, 4]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_denoiser_may_score_some_tokens_only_in_any_order(temperature):
    ids = torch.tensor([MASK, 31, 5, 17, 8])

    def some(z_t, t, masked):
        whole = by_lookup(z_t, t, masked)
        return lambda which: iter([LogitChunk(whole[which][:, ids], ids.expand(len(which), -1))])

    def all_tokens(z_t, t, masked):
        outside = torch.full((V,), True).index_fill(0, ids, False)
        whole = by_lookup(z_t, t, masked).masked_fill(outside, -torch.inf)
        return lambda which: iter([LogitChunk(whole[which])])

    config = SamplingConfig(steps=4, temperature=temperature, position_rule="margin")
    more = {"mask_id": MASK, "schedule": build_schedule("cosine"), "config": config, "trace": True}
    found, expected = (
        sample(denoiser, blank(3, 7), generators=[generator(s) for s in range(3)], **more)
        for denoiser in (some, all_tokens)
    )
    assert set(found.tokens.unique().tolist()) <= set(ids[1:].tolist())
    if temperature == 0:
        assert torch.equal(found.tokens, expected.tokens)
        assert torch.equal(found.trace.step, expected.trace.step)
        torch.testing.assert_close(found.trace.log_prob, expected.trace.log_prob)
    assert bool((found.trace.log_prob < 0).all())
    assert bool((found.trace.entropy > 0).all())
