"""The samplers' rules, held against plain loops over samples, steps and tokens."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from nat_env import ScheduledPolicy, generate, heuristic_schedule, load_bundle
from nat_env.decoding import transition
from nat_env.decoding.transition import decode_step
from nat_env.frozen.grid import token_grid
from nat_env.samplers.confidence_map import ConfidenceMap
from nat_env.samplers.entropy_bound import EntropyBound
from nat_env.samplers.halton import Halton, halton_ranks
from nat_env.samplers.klass import Klass
from nat_env.samplers.remdm import ReMDM
from nat_env.samplers.scored import Scored

B, ROWS, COLUMNS, K, T = 5, 3, 4, 6, 5
N, MASK = ROWS * COLUMNS, K
NAT = SimpleNamespace(num_tokens=N, codebook_size=K, feature_grid=(ROWS, COLUMNS), mask_id=MASK)
RATIOS = (0.8, 0.6, 0.4, 0.2, 0.0)


@pytest.fixture(params=range(3))
def given(request):
    """Random logits, uniforms, and a canvas of which sample 1 has two tokens given."""
    random = np.random.default_rng(request.param)
    # Peaks, which move little from step to step, so that something is certain and stable.
    base = 6 * random.standard_normal((B, N, K)) * random.random((B, N, 1))
    logits = base + 0.3 * random.standard_normal((T, B, N, K)) * random.random((B, N, 1))
    uniforms = random.random((T, B, N, 2))
    ids = np.full((B, N), MASK)
    ids[1, [0, 7]] = 3
    as_float32 = (x.astype(np.float32) for x in (logits, uniforms))
    return *as_float32, ids


def decoded(sampler, logits, uniforms, ids, temperature=0.0, more=None):
    """What `decode_step` makes of it, with `more` [T, B, n] decided: ids by step [T, B, N]."""
    ids = torch.from_numpy(ids)
    free = ids == MASK
    unknown, found = free.sum(dim=1), []
    sampling = sampler and sampler.begin(NAT, free, torch.arange(B))
    for step in range(T):
        actions = torch.tensor([[RATIOS[step], 1.0, temperature, 0.0]]).expand(B, -1)
        if more is not None:
            actions = torch.cat([actions, torch.from_numpy(more[step])], dim=1)
        at = torch.from_numpy(logits[step])
        last = torch.full((B,), step == T - 1)
        ids, _ = decode_step(
            ids, at, at, actions, torch.from_numpy(uniforms[step]), last, MASK, unknown, sampling
        )
        found.append(ids.numpy())
    return np.stack(found)


def masked_after(found, start):
    """Pairs of what is masked before and after each step, by step and sample."""
    before = start
    for step, after in enumerate(found):
        for b in range(B):
            yield step, b, before[b] == MASK, after[b] == MASK
        before = after


def probabilities(logits):
    return np.exp(log_softmax(logits.astype(np.float64), axis=-1))


def allowed_of(free, step):
    return int(np.floor(np.float32(RATIOS[step]) * free))


def test_halton_reveals_in_the_order_of_the_sequence(given):
    logits, uniforms, ids = given

    def radical_inverse(index, base):
        value, share = 0.0, 1.0
        while index:
            share /= base
            value += share * (index % base)
            index //= base
        return value

    order = []
    for index in range(1, 500):
        row = int(radical_inverse(index, 2) * ROWS)
        place = row * COLUMNS + int(radical_inverse(index, 3) * COLUMNS)
        if place not in order:
            order.append(place)
    assert len(order) == N
    assert halton_ranks((ROWS, COLUMNS)).argsort().tolist() == order
    found = decoded(Halton(), logits, uniforms, ids)
    for step, b, before, after in masked_after(found, ids):
        waiting = [place for place in order if before[place]]
        stay = allowed_of((ids[b] == MASK).sum(), step)
        kept = waiting[len(waiting) - min(stay, len(waiting)) :]
        assert sorted(kept) == after.nonzero()[0].tolist()


def test_the_grid_is_that_of_the_tokens_where_features_are_of_patches():
    patches = SimpleNamespace(num_tokens=64, feature_grid=(4, 4))
    assert token_grid(patches) == (8, 8) and token_grid(NAT) == (ROWS, COLUMNS)


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (5, 5)])
def test_a_grid_that_the_tokens_are_not_of_is_refused(grid):
    with pytest.raises(ValueError, match=r"^nat: got a transformer of 24 tokens"):
        token_grid(SimpleNamespace(num_tokens=24, feature_grid=grid))


@pytest.mark.parametrize("gamma", [0.0, 0.4, 2.0, 100.0])
def test_entropy_bound_reveals_the_most_that_the_bound_allows(given, gamma):
    logits, uniforms, ids = given
    found = decoded(EntropyBound(gamma), logits, uniforms, ids)
    for step, b, before, after in masked_after(found, ids):
        if step == T - 1:
            assert not after.any()
            continue
        p = probabilities(logits[step, b])
        entropy = -(p * np.log(p)).sum(axis=-1)
        by_entropy = sorted(before.nonzero()[0], key=lambda place: entropy[place])
        chosen = []
        for place in by_entropy:
            trial = [entropy[q] for q in [*chosen, place]]
            if sum(trial) - max(trial) > gamma:
                break
            chosen.append(place)
        assert sorted(set(by_entropy) - set(chosen)) == after.nonzero()[0].tolist()
    if gamma == 100:
        assert (found[0] != MASK).all()


@pytest.mark.parametrize("history", [1, 2])
def test_klass_reveals_what_is_certain_and_stable(given, history):
    logits, uniforms, ids = given
    sampler = Klass(confidence=0.7, divergence=0.05, history=history)
    found = decoded(sampler, logits, uniforms, ids)
    kinds = set()
    for step, b, before, after in masked_after(found, ids):
        p = [probabilities(logits[s, b]) for s in range(step + 1)]
        most = p[step].max(axis=-1)

        def stable(place, p=p, step=step):
            moved = [
                (p[s][place] * np.log(p[s][place] / p[s - 1][place])).sum()
                for s in range(1, step + 1)
            ]
            return len(moved) >= history and all(kl < 0.05 for kl in moved[-history:])

        places = before.nonzero()[0]
        ready = [place for place in places if most[place] > 0.7 and stable(place)]
        stay = sorted(set(places) - set(ready))
        if not ready:
            count = min(allowed_of((ids[b] == MASK).sum(), step), max(len(places) - 1, 0))
            stay = sorted(sorted(places, key=lambda place: most[place])[:count])
        kinds.add(bool(ready))
        assert (stay if step < T - 1 else []) == after.nonzero()[0].tolist()
    assert kinds == {True, False}


def gumbel(uniforms):
    return -np.log(-np.log(uniforms.astype(np.float64)))


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 2.0])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_remdm_masks_a_share_of_the_known_again(given, eta, temperature, everywhere, monkeypatch):
    logits, uniforms, ids = given
    if everywhere:  # as on an accelerator: tokens are drawn at known places, too, in vain
        monkeypatch.setattr(transition, "_places", lambda masked: torch.arange(masked.numel()))
    found = decoded(ReMDM(eta), logits, uniforms, ids, temperature)
    likely = np.zeros((B, N))
    before_ids = ids
    for step in range(T):
        after_ids = found[step]
        for b in range(B):
            before, after = before_ids[b] == MASK, after_ids[b] == MASK
            p = probabilities(logits[step, b])
            noise = gumbel(uniforms[step, b, :, 1])
            # The tokens that were drawn, of those re-masked too, by the inverse of the CDF.
            drawn = (p.cumsum(axis=-1) <= uniforms[step, b, :, :1]).sum(axis=-1)
            likely[b, before] = p[np.arange(N), drawn][before]
            known = [n for n in range(N) if not before[n] and ids[b, n] == MASK]
            allowed = allowed_of((ids[b] == MASK).sum(), step)
            again = min(int(eta * len(known)), allowed) if before.any() else 0
            keys = noise - likely[b]
            chosen = sorted(known, key=lambda n: -keys[n])[:again]
            confidence = np.log(np.maximum(likely[b], 1e-300)) + temperature * noise
            stay = sorted(before.nonzero()[0], key=lambda n: confidence[n])[: allowed - again]
            expected = sorted([*chosen, *stay]) if step < T - 1 else []
            assert after.nonzero()[0].tolist() == expected
            if before.sum() >= allowed:
                assert after.sum() == allowed
        assert (after_ids[1, [0, 7]] == 3).all()  # what was given stays
        before_ids = after_ids


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_a_map_is_added_to_the_confidences(given, temperature):
    logits, uniforms, ids = given
    added = np.random.default_rng(5).normal(0, 2, (T, B, N)).astype(np.float32)
    found = decoded(ConfidenceMap(), logits, uniforms, ids, temperature, added)
    before_ids, differ = ids, 0
    plain = decoded(ConfidenceMap(), logits, uniforms, ids, temperature)
    assert np.array_equal(plain, decoded(None, logits, uniforms, ids, temperature))
    for step in range(T):
        for b in range(B):
            before, after = before_ids[b] == MASK, found[step, b] == MASK
            p = probabilities(logits[step, b])
            drawn = (p.cumsum(axis=-1) <= uniforms[step, b, :, :1]).sum(axis=-1)
            confidence = np.log(np.maximum(p[np.arange(N), drawn], 1e-300))
            confidence += temperature * gumbel(uniforms[step, b, :, 1]) + added[step, b]
            allowed = allowed_of((ids[b] == MASK).sum(), step)
            stay = sorted(before.nonzero()[0], key=lambda n: confidence[n])[:allowed]
            assert after.nonzero()[0].tolist() == (sorted(stay) if step < T - 1 else [])
            differ += (after != (plain[step, b] == MASK)).sum()
        before_ids = found[step]
    assert differ > 0


def test_a_map_of_another_number_of_tokens_is_refused(given):
    with pytest.raises(ValueError, match=r"^actions: got 3 numbers after the four, .* 12 tokens"):
        decoded(ConfidenceMap(), *given, more=np.zeros((T, B, 3), np.float32))
    endless = np.full((T, B, N), np.inf, np.float32)
    with pytest.raises(ValueError, match=r"and 12 numbers of its sampler, allowed are finite"):
        decoded(ConfidenceMap(), *given, more=endless)


def test_scores_of_ones_own_reach_known_tokens_but_not_those_given(given):
    logits, uniforms, ids = given
    told = []

    def critic(tokens, conditions):
        told.append((tokens.clone(), conditions))
        return tokens * 100.0 + torch.arange(N)

    found = decoded(Scored(critic), logits, uniforms, ids)
    for step, b, before, after in masked_after(found, ids):
        tokens, conditions = told[step]
        assert conditions.tolist() == list(range(B)) and bool((tokens != MASK).all())
        free = (ids[b] == MASK).nonzero()[0]
        score = tokens[b].numpy() * 100.0 + np.arange(N)
        allowed = allowed_of(len(free), step) if before.any() else 0
        expected = sorted(sorted(free, key=lambda n: score[n])[:allowed])
        assert after.nonzero()[0].tolist() == expected


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3), torch.full((B, N), torch.nan), [1.0]])
def test_scores_that_are_none_are_refused(given, wrong):
    with pytest.raises(ValueError, match=r"^score: got .* allowed is a tensor \(5, 12\)"):
        decoded(Scored(lambda tokens, conditions: wrong), *given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EntropyBound(-1), "gamma: got -1, allowed is a number >= 0"),
        (lambda: EntropyBound(float("nan")), "gamma: got nan"),
        (lambda: EntropyBound("1"), "gamma: got '1'"),
        (lambda: Klass(confidence=1.1), r"confidence: got 1.1, allowed is a number in \[0, 1\]"),
        (lambda: Klass(divergence=-0.1), "divergence: got -0.1"),
        (lambda: Klass(history=0), "history: got 0, allowed is a whole number >= 1"),
        (lambda: Klass(history=1.5), "history: got 1.5"),
        (lambda: ReMDM(1.5), "eta: got 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.parametrize(
    "sampler",
    [
        Halton(),
        EntropyBound(0.5),
        Klass(0.5, 0.5),
        ReMDM(0.5),
        Scored(lambda tokens, _: tokens / 1),
    ],
)
def test_images_do_not_depend_on_the_batch_they_are_decoded_in(sampler):
    bundle = load_bundle("digits", dtype="float32")
    policy = ScheduledPolicy(heuristic_schedule(4).by(sampler))
    together = generate(bundle, policy, [0, 3, 5, 9], 4, seed=2)
    apart = generate(bundle, policy, [0, 3, 5, 9], 4, seed=2, batch_size=1)
    torch.testing.assert_close(together, apart)
    plain = generate(bundle, ScheduledPolicy(heuristic_schedule(4)), [0, 3, 5, 9], 4, seed=2)
    assert not torch.equal(together, plain)


def test_a_wide_bound_ends_after_one_pass():
    bundle = load_bundle("digits", dtype="float32")
    steps = []
    policy = ScheduledPolicy(heuristic_schedule(4).by(EntropyBound(1e6)))
    generate(bundle, policy, [1, 2], 4, seed=0, on_step=steps.append)
    assert [step.passed.tolist() for step in steps] == [[True, True], *[[False, False]] * 3]


def test_logits_that_forbid_codes_tell_a_sampler_of_each_step_once(given):
    """-inf takes the slow path; KLASS, told twice, would find every distribution stable."""
    logits, uniforms, ids = given
    logits = logits + np.random.default_rng(9).standard_normal(logits.shape).astype(np.float32)
    logits[..., 2] = -np.inf
    sampler = Klass(confidence=0.0, divergence=1e-9)
    found = decoded(sampler, logits, uniforms, ids)
    counts = [(step == MASK).sum(axis=1).tolist() for step in found]
    free = (ids == MASK).sum(axis=1)
    assert counts == [[allowed_of(n, step) for n in free] for step in range(T)]
    assert (found != 2).all()
