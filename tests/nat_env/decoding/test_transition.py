"""One decoding step against a plain loop, closed forms, laws of chance and diffusers' scheduler."""

import math

import numpy as np
import pytest
import torch
from diffusers import AmusedScheduler
from scipy import stats

from nat_env.decoding import transition
from nat_env.decoding.guidance import guide
from nat_env.decoding.remasking import confidences, remask
from nat_env.decoding.tokens import sample_tokens
from nat_env.decoding.transition import decode_step
from nat_env.schedules import heuristic_schedule

LARGEST_UNIFORM = 1 - 2.0**-24
"""The largest float32 that numpy's and torch's generators give."""


def loop_step(ids, logits, null_logits, action, uniforms, last, mask_id):
    """The transition of one sample, one token at a time, in float64, as AdaNAT 3.2 describes it."""
    ratio, sampling_temperature, remask_temperature, scale = map(float, action)
    num_tokens = len(ids)
    following = list(ids)
    scored = []
    for position in range(num_tokens):
        if ids[position] != mask_id:
            continue
        conditional = [float(x) for x in logits[position]]
        unconditional = [float(x) for x in null_logits[position]]
        guided = [
            -math.inf if -math.inf in (c, u) else c + scale * (c - u)
            for c, u in zip(conditional, unconditional, strict=True)
        ]
        largest = max(guided)
        weights = [math.exp((g - largest) / sampling_temperature) for g in guided]
        threshold, token, below = float(uniforms[position][0]) * sum(weights), -1, 0.0
        while below <= threshold:
            token += 1
            below += weights[token]
        log_normaliser = largest + math.log(sum(math.exp(g - largest) for g in guided))
        noise = -math.log(-math.log(float(uniforms[position][1])))
        confidence = guided[token] - log_normaliser + remask_temperature * noise
        following[position] = token
        scored.append((confidence, position))
    hidden = 0 if last else min(len(scored), math.floor(num_tokens * ratio))
    for _, position in sorted(scored)[:hidden]:
        following[position] = mask_id
    return following


def random_step(rng, batch, num_tokens, codes):
    """Logits, null logits, actions and uniforms of a step of `batch` samples."""
    return (
        torch.from_numpy(rng.normal(0, 2, (batch, num_tokens, codes)).astype(np.float32)),
        torch.from_numpy(rng.normal(0, 2, (batch, num_tokens, codes)).astype(np.float32)),
        torch.from_numpy(
            np.stack(
                [
                    rng.uniform(0, 1, batch),
                    rng.uniform(0.05, 3, batch),
                    rng.uniform(0, 3, batch),
                    rng.uniform(0, 2, batch),
                ],
                axis=1,
            ).astype(np.float32)
        ),
        torch.from_numpy(rng.random((batch, num_tokens, 2), dtype=np.float32)),
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tokens_at_once", [1, 37, 1000])
@pytest.mark.parametrize(("num_tokens", "codes"), [(16, 5), (49, 12)])
def test_whole_trajectories_equal_a_plain_loop(
    seed, num_tokens, codes, tokens_at_once, monkeypatch
):
    monkeypatch.setitem(transition.LOGITS_AT_ONCE, "cpu", tokens_at_once * codes)
    rng = np.random.default_rng(seed)
    batch, steps = 5, 6
    lengths = torch.from_numpy(rng.integers(2, steps + 1, batch))  # rows end at different steps
    ids = torch.full((batch, num_tokens), codes)
    expected = ids.tolist()
    for step in range(steps):
        logits, null_logits, actions, uniforms = random_step(rng, batch, num_tokens, codes)
        actions[:, 0] = 1 - (1 - actions[:, 0]) * 0.4 * (step + 1)  # mostly falling, may be < 0
        actions[:, 0].clamp_(0, 1)
        last = lengths == step + 1
        ids, _ = decode_step(ids, logits, null_logits, actions, uniforms, last, codes)
        expected = [
            loop_step(*row, codes)
            for row in zip(expected, logits, null_logits, actions, uniforms, last, strict=True)
        ]
        assert ids.dtype == torch.int64
        assert ids.tolist() == expected
    assert (ids != codes).all()


@pytest.mark.parametrize("ratio", [0.0, 0.01, 1 / 16, 0.24, 0.25, 0.5, 0.77, 0.9999, 1.0])
@pytest.mark.parametrize("already_known", [0, 1, 7, 15, 16])
def test_number_of_tokens_that_stay_masked(ratio, already_known):
    rng = np.random.default_rng(0)
    num_tokens, codes = 16, 6
    logits, null_logits, actions, uniforms = random_step(rng, 3, num_tokens, codes)
    actions[:, 0] = ratio
    ids = torch.full((3, num_tokens), codes)
    for row in ids:
        row[torch.from_numpy(rng.permutation(num_tokens)[:already_known])] = 2
    after, _ = decode_step(ids, logits, null_logits, actions, uniforms, torch.zeros(3) > 0, codes)
    expected = min(num_tokens - already_known, math.floor(num_tokens * ratio))
    assert (after == codes).sum(dim=1).tolist() == [expected] * 3
    known = ids != codes
    assert torch.equal(after[known], ids[known])


@pytest.mark.parametrize("num_masked", range(9))
def test_counts_are_exact_among_ties(num_masked):
    """All tokens equally confident: the count is still met, where a threshold would mask none."""
    ids = torch.full((2, 8), 4)
    ids[:, 3] = 1
    logits = torch.zeros(2, 8, 4)
    logits[..., 2] = 100.0
    actions = torch.tensor([[num_masked / 8, 1.0, 0.0, 0.0]] * 2)
    uniforms = torch.full((2, 8, 2), 0.5)
    after, _ = decode_step(ids, logits, logits, actions, uniforms, torch.zeros(2) > 0, 4)
    assert (after == 4).sum(dim=1).tolist() == [min(num_masked, 7)] * 2
    assert after[:, 3].tolist() == [1, 1]
    assert set(after.flatten().tolist()) <= {1, 2, 4}


def test_a_step_tells_the_confidences_that_it_re_masked_by():
    rng = np.random.default_rng(3)
    codes, num_tokens = 5, 6
    logits, null_logits, actions, uniforms = random_step(rng, 2, num_tokens, codes)
    actions[:, 0] = 0.5
    ids = torch.full((2, num_tokens), codes)
    ids[0, 4], ids[1, :2] = 1, 3
    arguments = (ids, logits, null_logits, actions, uniforms)
    revealed, _ = decode_step(*arguments, torch.ones(2) > 0, codes)
    after, confidence = decode_step(*arguments, torch.zeros(2) > 0, codes)
    for b in range(2):
        expected = []
        for n in range(num_tokens):
            if ids[b, n] != codes:
                expected.append(math.inf)
                continue
            guided = logits[b, n] + actions[b, 3] * (logits[b, n] - null_logits[b, n])
            gumbel = -math.log(-math.log(float(uniforms[b, n, 1])))
            share = torch.softmax(guided.double(), dim=0)[revealed[b, n]]
            expected.append(math.log(float(share)) + float(actions[b, 2]) * gumbel)
        np.testing.assert_allclose(confidence[b], expected, rtol=1e-4, atol=1e-5)
        masked = set(torch.tensor(expected).argsort()[:3].tolist())
        assert {n for n in range(num_tokens) if after[b, n] == codes} == masked


def test_remask_hides_the_least_confident():
    inf = math.inf
    confidence = torch.tensor(
        [[-1.0, -5.0, inf, -3.0], [inf, inf, -2.0, -9.0], [-1.0, -1.0, -1.0, -1.0]]
    )
    hidden = remask(confidence, confidence < inf, torch.tensor([0.5, 0.75, 0.26]))
    assert hidden[0].tolist() == [False, True, False, True]
    assert hidden[1].tolist() == [False, False, True, True]  # 3 allowed, 2 there
    assert hidden[2].sum() == 1


def test_the_last_step_reveals_all_and_ignores_two_numbers():
    rng = np.random.default_rng(1)
    logits, null_logits, actions, uniforms = random_step(rng, 6, 16, 9)
    ids = torch.full((6, 16), 9)
    ids[:, :4] = 3
    last = torch.tensor([True, False] * 3)
    outcomes = []
    for ratio, temperature in [(0.0, 0.0), (0.5, 1.0), (1.0, 7.0)]:
        actions[:, 0], actions[:, 2] = ratio, temperature
        outcomes.append(decode_step(ids, logits, null_logits, actions, uniforms, last, 9)[0])
        assert (outcomes[-1][last] != 9).all()
        # A row is not touched by another row's last step.
        assert (outcomes[-1][~last] == 9).sum(dim=1).tolist() == [min(12, int(16 * ratio))] * 3
    assert torch.equal(outcomes[0][last], outcomes[1][last])
    assert torch.equal(outcomes[0][last], outcomes[2][last])


def test_a_step_changes_none_of_its_arguments():
    rng = np.random.default_rng(2)
    arguments = [torch.full((3, 16), 7), *random_step(rng, 3, 16, 7)]
    before = [a.clone() for a in arguments]
    decode_step(*arguments, torch.tensor([True, False, False]), 7)
    for argument, copy in zip(arguments, before, strict=True):
        assert torch.equal(argument, copy)


def test_rows_are_independent():
    rng = np.random.default_rng(3)
    parts = [torch.full((5, 16), 7), *random_step(rng, 5, 16, 7)]
    last = torch.tensor([False, True, False, False, True])
    together, _ = decode_step(*parts, last, 7)
    order = torch.tensor([3, 1, 4])
    some, _ = decode_step(*(p[order] for p in parts), last[order], 7)
    assert torch.equal(some, together[order])


def test_no_guidance_is_the_conditional_pass_to_the_bit():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 20, generator=generator) * 13.7
    null_logits = torch.randn(50, 20, generator=generator) * 9.1
    assert torch.equal(guide(logits, null_logits, torch.zeros(50)), logits)


def test_guidance_is_diffusers_with_one_more():
    generator = torch.Generator().manual_seed(1)
    logits, null_logits = torch.randn(2, 50, 20, generator=generator)
    scale = torch.rand(50, generator=generator) * 5
    guided = guide(logits, null_logits, scale)
    diffusers_scale = 1 + scale[:, None]
    theirs = null_logits + diffusers_scale * (logits - null_logits)  # as in AmusedPipeline
    torch.testing.assert_close(guided, theirs)
    ours = logits.double() + scale[:, None].double() * (logits.double() - null_logits.double())
    torch.testing.assert_close(guided.double(), ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1e-12, 1e-4])
@pytest.mark.parametrize("uniform", [0.0, 0.5, LARGEST_UNIFORM])
def test_cold_sampling_is_the_arg_max(temperature, uniform):
    logits = torch.randn(200, 40, generator=torch.Generator().manual_seed(2)) * 8
    top = logits.topk(2, dim=1).values
    assert (top[:, 0] - top[:, 1] > 0.003).all()  # far enough apart for the warmest of these
    tokens = sample_tokens(logits, torch.full((200,), temperature), torch.full((200,), uniform))
    assert torch.equal(tokens, logits.argmax(dim=1))


@pytest.mark.parametrize("uniform", [0.0, LARGEST_UNIFORM])
def test_impossible_tokens_are_never_drawn(uniform):
    """The first and last codes have probability 0: the ends of the CDF must not choose them."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(500, 30, generator=generator)
    logits[:, :3] = logits[:, -3:] = -1e4
    temperature = torch.rand(500, generator=generator) * 3 + 0.01
    tokens = sample_tokens(logits, temperature, torch.full((500,), uniform))
    assert ((tokens >= 3) & (tokens < 27)).all()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_sampling_frequencies_are_those_of_the_tempered_softmax(temperature):
    draws = 200_000
    logits = torch.tensor([1.0, -1.0, 0.3, 2.0, -0.5, 1.9, 0.0, -2.0])
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(4))
    tokens = sample_tokens(logits.expand(draws, -1), torch.full((draws,), temperature), uniforms)
    weights = np.exp(logits.double().numpy() / temperature)
    observed = np.bincount(tokens.numpy(), minlength=8)
    assert stats.chisquare(observed, draws * weights / weights.sum()).pvalue > 1e-4


def test_confidences_are_log_likelihoods_plus_scaled_gumbel_quantiles():
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(400, 12, generator=generator) * 4
    tokens = torch.randint(12, (400,), generator=generator)
    temperature = torch.rand(400, generator=generator) * 3
    uniforms = torch.rand(400, generator=generator)
    expected = (
        stats.gumbel_r.ppf(uniforms.double()) * temperature.double().numpy()
        + logits.double().log_softmax(dim=1).numpy()[range(400), tokens]
    )
    got = confidences(logits, tokens, temperature, uniforms)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_noise_of_uniform_numbers_is_gumbel_distributed():
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(6))
    one_code = torch.zeros(20_000, 1)  # log-likelihood 0: the noise alone is left
    noise = confidences(
        one_code, torch.zeros(20_000, dtype=torch.int64), torch.ones(20_000), uniforms
    )
    assert stats.kstest(noise.numpy(), stats.gumbel_r.cdf).pvalue > 1e-4


@pytest.mark.parametrize("uniform", [0.0, LARGEST_UNIFORM])
def test_noise_is_finite_at_both_ends(uniform):
    got = confidences(
        torch.zeros(1, 4), torch.tensor([1]), torch.tensor([5.0]), torch.tensor([uniform])
    )
    assert got.isfinite().all()
    cold = confidences(
        torch.zeros(1, 4), torch.tensor([1]), torch.tensor([0.0]), torch.tensor([uniform])
    )
    assert cold.item() == pytest.approx(-math.log(4))


@pytest.mark.parametrize("remask_temperature", [0.5, 1.0, 2.0])
def test_which_token_is_revealed_follows_the_gumbel_max_law(remask_temperature):
    """Revealing one of N tokens chooses it with chances p_i ^ (1 / tau_2).

    The tokens are drawn cold, so that p_i is known; were the confidence tempered by tau_1 too,
    all positions would be alike.
    """
    draws, num_tokens, codes = 40_000, 6, 10
    probabilities = np.array([0.15, 0.3, 0.45, 0.6, 0.75, 0.9])
    others = (1 - probabilities) / (codes - 1)
    logits = np.repeat(np.log(others)[:, None], codes, axis=1)
    logits[:, 4] = np.log(probabilities)
    logits = torch.from_numpy(logits.astype(np.float32)).expand(draws, -1, -1)
    action = torch.tensor([5.01 / 6, 1e-9, remask_temperature, 0.0]).expand(draws, -1)
    uniforms = torch.rand(draws, num_tokens, 2, generator=torch.Generator().manual_seed(7))
    ids = torch.full((draws, num_tokens), codes)
    after, _ = decode_step(ids, logits, logits, action, uniforms, torch.zeros(draws) > 0, codes)
    revealed = after != codes
    assert (revealed.sum(dim=1) == 1).all()
    assert (after[revealed] == 4).all()
    weights = probabilities ** (1 / remask_temperature)
    expected = draws * weights / weights.sum()
    assert stats.chisquare(revealed.sum(dim=0).numpy(), expected).pvalue > 1e-4


def amused_logits(rng, batch, num_tokens, codes):
    """Near-one-hot logits: known tokens, and confidences that differ from position to position."""
    gaps = np.stack([rng.permutation(np.linspace(9, 13, num_tokens)) for _ in range(batch)])
    logits = np.repeat(-gaps[..., None], codes, axis=-1)
    tokens = rng.integers(0, codes, (batch, num_tokens))
    np.put_along_axis(logits, tokens[..., None], 0.0, axis=-1)
    return torch.from_numpy(logits), torch.from_numpy(tokens)


@pytest.mark.parametrize(
    ("num_tokens", "num_steps", "plain_cosine"), [(49, 8, True), (49, 4, True), (5, 8, False)]
)
def test_parity_with_diffusers_amused_scheduler(num_tokens, num_steps, plain_cosine):
    """Without noise, both mask the same tokens at every step of a trajectory.

    diffusers masks floor(N cos(..)) tokens, but at least 1 and at most one less than before until
    the last step. Where that binds (few tokens, many steps), it is told to us as m.
    """
    rng = np.random.default_rng(8)
    batch, codes = 3, 4
    scheduler = AmusedScheduler(mask_token_id=codes)
    scheduler.set_timesteps(num_steps, temperature=(0, 0))
    generator = torch.Generator().manual_seed(9)
    schedule = heuristic_schedule(num_steps, remask_slope=0.0, guidance_slope=0.0)
    ours = theirs = torch.full((batch, num_tokens), codes)
    masked = num_tokens
    for step, timestep in enumerate(scheduler.timesteps.tolist()):
        logits, tokens = amused_logits(rng, batch, num_tokens, codes)
        output = scheduler.step(logits, timestep, theirs, generator=generator)
        was_masked = theirs == codes
        # What this comparison rests on: their draw was the most likely token.
        assert torch.equal(output.pred_original_sample[was_masked], tokens[was_masked])
        theirs = output.prev_sample

        action = schedule.table[step].clone()
        action[1] = 1e-3
        if not plain_cosine:
            wanted = math.floor(num_tokens * math.cos(math.pi * (step + 1) / (2 * num_steps)))
            masked = max(1, min(masked - 1, wanted))
            action[0] = (masked + 0.01) / num_tokens
        uniforms = torch.from_numpy(rng.random((batch, num_tokens, 2), dtype=np.float32))
        last = torch.full((batch,), step == num_steps - 1)
        ours, _ = decode_step(ours, logits, logits, action.expand(batch, -1), uniforms, last, codes)
        assert torch.equal(ours, theirs)
    assert (ours != codes).all()


def test_where_diffusers_amused_scheduler_differs():
    """Among equal confidences its threshold masks nothing; ours masks the exact number."""
    scheduler = AmusedScheduler(mask_token_id=3)
    scheduler.set_timesteps(2, temperature=(0, 0))
    logits = torch.tensor([100.0, 0.0, 0.0]).expand(1, 8, 3)
    ids = torch.full((1, 8), 3)
    theirs = scheduler.step(logits, 1, ids).prev_sample
    action = heuristic_schedule(2, remask_slope=0.0).table[:1]  # floor(8 cos(pi / 4)) = 5
    ours, _ = decode_step(
        ids, logits, logits, action, torch.full((1, 8, 2), 0.5), torch.tensor([False]), 3
    )
    assert (theirs == 3).sum() == 0
    assert (ours == 3).sum() == 5


@pytest.mark.parametrize("forbidding", ["both", "conditional", "null", "each its own"])
@pytest.mark.parametrize("scale", [0.0, 0.3, 7.0])
def test_forbidden_codes_are_never_drawn_and_counts_stay_exact(forbidding, scale):
    """Against the plain loop, with codes at -inf: among them the first and the last ones."""
    rng = np.random.default_rng(11)
    batch, num_tokens, codes = 4, 16, 9
    logits, null_logits, actions, uniforms = random_step(rng, batch, num_tokens, codes)
    uniforms[0, ::2, 0], uniforms[1, ::2, 0] = LARGEST_UNIFORM, 2.0**-24
    actions[:, 0], actions[:, 3] = torch.tensor([0.5, 0.13, 0.9, 1.0]), scale
    forbidden = torch.from_numpy(rng.random((batch, num_tokens, codes)) < 0.4)
    forbidden[..., [0, -1]], forbidden[..., 4] = True, False
    own = torch.from_numpy(rng.random(forbidden.shape) < 0.5)
    if forbidding != "null":
        logits[forbidden & (own if forbidding == "each its own" else True)] = -math.inf
    if forbidding != "conditional":
        null_logits[forbidden & (~own if forbidding == "each its own" else True)] = -math.inf
    ids = torch.full((batch, num_tokens), codes)
    ids[:, 5] = 4
    after, _ = decode_step(ids, logits, null_logits, actions, uniforms, torch.zeros(4) > 0, codes)
    revealed, _ = decode_step(ids, logits, null_logits, actions, uniforms, torch.ones(4) > 0, codes)
    assert (after == codes).sum(dim=1).tolist() == [8, 2, 14, 15]
    assert not forbidden.gather(2, revealed[..., None]).any()
    for row in range(batch):
        parts = (logits[row], null_logits[row], actions[row], uniforms[row])
        assert after[row].tolist() == loop_step(ids[row].tolist(), *parts, False, codes)


@pytest.mark.parametrize("which", ["logits", "null_logits"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_logits_that_are_no_numbers_are_refused_by_name(which, value, scale):
    arguments = dict(
        zip(
            ("logits", "null_logits", "actions", "uniforms"),
            random_step(np.random.default_rng(12), 2, 6, 5),
            strict=True,
        )
    )
    arguments["actions"][:, 3] = scale
    arguments[which][1, 3, 2] = value
    ids = torch.full((2, 6), 5)
    with pytest.raises(ValueError, match=f"^{which}: got NaN or"):
        decode_step(ids, **arguments, last=torch.zeros(2) > 0, mask_id=5)


def test_a_row_without_an_allowed_code_and_an_overflow_are_refused():
    logits, null_logits = torch.zeros(2, 3), torch.zeros(2, 3)
    logits[1, :2], null_logits[1, 2] = -math.inf, -math.inf  # none that both allow
    with pytest.raises(ValueError, match=r"^logits: got a row of -inf alone"):
        guide(logits, null_logits, torch.tensor([1.0, 1.0]))
    with pytest.raises(ValueError, match=r"^logits: .* beyond float32 once guided"):
        guide(torch.full((1, 2), 1e30), torch.zeros(1, 2), torch.tensor([1e20]))
    large = torch.full((4, 2), 3e38)  # finite, though their sum is not
    assert torch.equal(guide(large, large, torch.zeros(4)), large)


@pytest.mark.parametrize(
    ("argument", "place", "value", "message"),
    [
        ("actions", (1, 0), 1.5, "actions: got m"),
        ("actions", (1, 0), math.nan, "actions: got m"),
        ("actions", (0, 1), -0.1, "actions: got m"),
        ("actions", (0, 2), math.inf, "actions: got m"),
        ("actions", (0, 3), -1.0, "actions: got m"),
        ("uniforms", (0, 2, 0), math.nan, "uniforms: got"),
        ("uniforms", (0, 2, 1), 1.0, "uniforms: got"),
        ("uniforms", (0, 2, 1), -0.1, "uniforms: got"),
    ],
)
def test_actions_and_uniforms_out_of_range_are_refused(argument, place, value, message):
    arguments = dict(
        zip(
            ("logits", "null_logits", "actions", "uniforms"),
            random_step(np.random.default_rng(13), 2, 6, 5),
            strict=True,
        )
    )
    arguments[argument][place] = value
    with pytest.raises(ValueError, match=message):
        decode_step(torch.full((2, 6), 5), **arguments, last=torch.zeros(2) > 0, mask_id=5)


def test_what_is_masked_is_not_read_from_the_confidences():
    """A masked token of infinite confidence counts as one, and comes before all known ones."""
    confidence = torch.tensor([[math.inf, math.inf, -math.inf, 0.0]])
    masked = torch.tensor([[False, True, True, True]])
    for count in range(4):
        hidden = remask(confidence, masked, torch.tensor([count / 4]))
        assert hidden.tolist() == [[False, count > 2, count > 0, count > 1]]
    with pytest.raises(ValueError, match="confidence: got NaN"):
        remask(torch.tensor([[math.nan, 0.0]]), torch.tensor([[True, True]]), torch.tensor([0.5]))
