"""Environments that follow a sampler, held against `generate`, and against themselves stopped."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agents.parallel.shares import own_environment, whole_environment
from nat_env import (
    ActionMap,
    NATDecodeVectorEnv,
    ScheduledPolicy,
    generate,
    heuristic_schedule,
    load_bundle,
)
from nat_env.decoding.quantities import COLUMNS
from nat_env.generation import generate_batches
from nat_env.samplers.confidence_map import ConfidenceMap
from nat_env.samplers.remdm import ReMDM
from nat_env.schedules import residual_schedule

T, B = 4, 4
SAMPLERS = ("halton", "entropy-bound(4)", "klass(0.3, 1)", "remdm(0.5)", "confidence-map")
ACTION = dict(zip((*COLUMNS, "confidence_map"), (0.05, -0.1, 0.1, 0.05, 0.2), strict=True))
"""Away from the residual."""


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


def make(bundle, residual, **options):
    options = {"autoreset_mode": "Disabled", "observation": "tokens"} | options
    return NATDecodeVectorEnv(B, bundle, T, residual=residual, **options)


def applied(residual):
    """A policy of the quantities that the environment makes of `ACTION`."""
    schedule = residual_schedule(residual, T, 16)
    mapping = ActionMap(schedule, num_tokens=16)
    action = torch.tensor([[ACTION[name] for name in mapping.names]])
    # A map that is the same for all tokens changes nothing.
    table = mapping.physical(action.expand(T, -1), torch.arange(T))[:, :4]
    return ScheduledPolicy(type(schedule)(table, "applied", schedule.sampler))


def decoded(bundle, residual, condition, seed):
    """Tokens and passes of one image, by the loop of `generate`."""
    records = []
    batches = generate_batches(
        bundle, applied(residual), [condition], T, seed, on_step=records.append
    )
    list(batches)
    return records[-1].ids[0], sum(int(record.passed) for record in records)


def act(env):
    action = [ACTION[name] for name in env.action_map.names]
    return env.step(np.tile(np.array(action, np.float32), (B, 1)))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("residual", SAMPLERS)
def test_rows_that_begin_at_different_times_are_decoded_as_alone(bundle, residual, aligned):
    env = make(bundle, residual, aligned=aligned)
    env.reset(seed=10, options={"condition": [1, 2, 3, 4]})
    act(env)
    late = np.array([False, True, False, True])
    env.reset(seed=20, options={"condition": [5, 6, 7, 8], "reset_mask": late})
    plan = {0: (1, 10), 1: (6, 21), 2: (3, 12), 3: (8, 23)}
    finished = {}
    for _ in range(2 * T):
        done = env.timesteps == T
        for row in done.nonzero()[:, 0].tolist():
            finished.setdefault(row, (env.ids[row].clone(), int(env.passes[row])))
        if len(finished) == B:
            break
        if bool(done.any()):  # what they are given is of no matter any more
            env.reset(options={"reset_mask": done.numpy()})
        act(env)
    for row, (condition, seed) in plan.items():
        tokens, passes = decoded(bundle, residual, condition, seed)
        assert torch.equal(finished[row][0], tokens)
        assert finished[row][1] == passes


@pytest.mark.parametrize("residual", SAMPLERS)
def test_a_stored_state_goes_on_with_what_the_sampler_remembers(bundle, residual):
    env, other = make(bundle, residual), make(bundle, residual)
    env.reset(seed=1)
    act(env)
    act(env)
    other.load_state_dict(env.state_dict())
    for _ in range(T - 2):
        if bool((env.timesteps == T).any()):
            break
        act(env), act(other)
    assert torch.equal(env.ids, other.ids) and torch.equal(env.passes, other.passes)


def test_a_share_by_sample_is_remasked_of_each(bundle):
    """ReMDM's eta as a fifth number: each row is decoded as by a sampler of its own eta."""
    names = (*COLUMNS, "eta")
    env = make(bundle, "remdm(0.5)", quantities=names)
    assert env.action_space.shape == (B, 5)
    env.reset(seed=10, options={"condition": [1, 2, 3, 4]})
    actions = np.zeros((B, 5), np.float32)
    actions[:, 4] = np.linspace(-1, 1, B)
    for _ in range(T):
        info = env.step(actions)[-1]
    etas = 1 / (1 + np.exp(-5 * actions[:, 4].astype(np.float64)))
    np.testing.assert_allclose(info["action"][:, 4], etas, rtol=1e-5)
    for row in range(B):
        policy = ScheduledPolicy(heuristic_schedule(T).by(ReMDM(float(etas[row]))))
        records = []
        list(generate_batches(bundle, policy, [row + 1], T, 10 + row, on_step=records.append))
        assert torch.equal(env.ids[row], records[-1].ids[0])


def test_a_map_of_each_row_is_as_that_of_a_policy(bundle):
    """Rows are decoded as by a policy that gives the same map; 0 is the papers' schedule."""
    env = make(bundle, "confidence-map")
    assert env.action_space.shape == (B, 4 + 16)
    maps = np.random.default_rng(0).uniform(-0.5, 0.5, (T, B, 16)).astype(np.float32)
    maps[:, 0] = 0.0
    env.reset(seed=10, options={"condition": [1, 2, 3, 4]})
    for step in range(T):
        actions = np.concatenate([np.zeros((B, 4), np.float32), maps[step]], axis=1)
        info = env.step(actions)[-1]
        np.testing.assert_allclose(info["action"][:, 4:], 5 * maps[step], rtol=1e-6)
    table, differ = heuristic_schedule(T).table, 0
    for row in range(B):

        def policy(features, timestep, row=row):
            chosen = torch.from_numpy(5 * maps[timestep[0], row])
            return torch.cat([table[timestep[0]], chosen])[None]

        policy.sampler, policy.columns = ConfidenceMap(), (*COLUMNS, *["confidence_map"] * 16)
        records = []
        list(generate_batches(bundle, policy, [row + 1], T, 10 + row, on_step=records.append))
        assert torch.equal(env.ids[row], records[-1].ids[0])
        np.testing.assert_allclose(records[1].actions[0, 4:], 5 * maps[1, row], rtol=1e-6)
        plain = []
        heuristic = ScheduledPolicy(heuristic_schedule(T))
        list(generate_batches(bundle, heuristic, [row + 1], T, 10 + row, on_step=plain.append))
        differ += not torch.equal(plain[-1].ids, records[-1].ids)
        assert row or not differ
    assert differ


def test_a_share_above_one_is_refused(bundle):
    def policy(features, timestep):
        return torch.tensor([[0.5, 1.0, 1.0, 0.0, 1.5]]).expand(len(timestep), -1)

    policy.sampler, policy.columns = ReMDM(), (*COLUMNS, "eta")
    with pytest.raises(ValueError, match=r"actions: got eta = 1\.5, allowed is"):
        generate(bundle, policy, [1, 2], T, seed=0)
    del policy.columns
    with pytest.raises(ValueError, match=r"at step 0 it gave actions: got \(2, 5\)"):
        generate(bundle, policy, [1, 2], T, seed=0)


def test_a_state_of_another_sampler_is_refused_and_changes_nothing(bundle):
    env, plain, klass = (make(bundle, name) for name in ("remdm", "heuristic", "klass"))
    for one in (env, plain, klass):
        one.reset(seed=2)
        act(one)
    before = env.state_dict()
    for one, other in ((env, plain), (plain, env), (env, klass)):
        with pytest.raises(ValueError, match=r"^state: got .* allowed (is|are) "):
            one.load_state_dict(other.state_dict())
    assert torch.equal(env.ids, before["ids"])


def test_rows_that_all_begin_need_no_memory_in_a_state(bundle):
    """Which of KLASS is a number for each code of each token: a training saves it every round."""
    env, other = make(bundle, "klass(0.3, 1)"), make(bundle, "klass(0.3, 1)")
    env.reset(seed=6)
    assert env.state_dict()["sampler"] == {}
    other.reset(seed=7)
    act(other)
    other.load_state_dict(env.state_dict())
    for _ in range(2):
        act(env), act(other)
    assert torch.equal(env.ids, other.ids) and len(env.state_dict()["sampler"]) == 2


def test_states_are_shared_out_by_row(bundle):
    """As by `torchrun`: what was saved by one process goes on in two."""
    whole = make(bundle, "remdm(0.5)")
    whole.reset(seed=9)
    act(whole)
    halves = []
    options = {"residual": "remdm(0.5)", "observation": "tokens", "autoreset_mode": "Disabled"}
    for own in (slice(0, 2), slice(2, 4)):
        processes = SimpleNamespace(slice_of=lambda rows, own=own: own)
        half = NATDecodeVectorEnv(B // 2, bundle, T, **options)
        half.load_state_dict(own_environment(whole.state_dict(), processes))
        halves.append(half)
    gathered = SimpleNamespace(gathered=lambda _: [half.state_dict() for half in halves])
    joined = whole_environment(halves[0].state_dict(), gathered)
    for name, kept in whole.state_dict()["sampler"].items():
        assert torch.equal(joined["sampler"][name], kept)
    act(whole)
    for half in halves:
        action = [ACTION[name] for name in half.action_map.names]
        half.step(np.tile(np.array(action, np.float32), (B // 2, 1)))
    assert torch.equal(torch.cat([half.ids for half in halves]), whole.ids)


def test_known_tokens_are_not_remasked_in_an_environment(bundle):
    env = make(bundle, "remdm(1)")
    ids = np.zeros((B, 16), np.int64)
    known = np.zeros((B, 16), bool)
    known[:, :5] = True
    ids[:, :5] = 7
    env.reset(seed=3, options={"ids": ids, "known": known})
    for _ in range(T):
        act(env)
        assert (env.ids[:, :5] == 7).all()


def test_a_sampler_by_name_is_the_heuristic_by_it():
    schedule = residual_schedule("remdm(0.3)", 4, 16)
    assert schedule is not None and schedule.sampler == ReMDM(0.3)
    assert torch.equal(schedule.table, heuristic_schedule(4).table)
    with pytest.raises(
        ValueError, match=r"^residual: got 'nothing', .*'remdm', 'confidence-map' or a schedule"
    ):
        residual_schedule("nothing", 4, 16)


def test_images_of_an_environment_by_a_sampler_are_those_of_its_schedule(bundle):
    """At the action 0, whose quantities are the residual's."""
    env = make(bundle, "halton", aligned=True)
    env.reset(seed=5, options={"condition": [0, 1, 2, 3]})
    for _ in range(T):
        env.step(np.zeros((B, 3), np.float32))  # without tau_2, of which it has no use
    policy = ScheduledPolicy(residual_schedule("halton", T, 16))
    torch.testing.assert_close(env.final_images, generate(bundle, policy, [0, 1, 2, 3], T, seed=5))
