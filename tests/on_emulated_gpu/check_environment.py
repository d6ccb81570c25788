"""The environment: the same numbers as on the CPU, and how often it waits for the device."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import nat_env  # noqa: F401 (registers the environment)
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.passes import StepCost
from nat_env.wrappers.shaping import PotentialShaping, confidence, revealed_share

ROOT = Path(__file__).resolve().parents[2]

STEPS = 3
WAITS = {"handles": 2, "features": 3, "pooled": 3, "tokens": 3}
"""Of a step within episodes, at most: whether what was drawn is in order, whether the transformer's
numbers are, and, where the host looks at what is on the device, the observation."""
WAITS_AT_END = 1
"""More of a step at which episodes end: their rewards."""
WAITS_OF_GENERATE = 3
"""Of a step of `generate`, at most: as above, and which rows are complete, by a policy's numbers
that the host does not know."""


def made(device, **options):
    options = {"num_envs": 3, "bundle": "digits", "num_steps": STEPS, "dtype": "float32"} | options
    return NATDecodeVectorEnv(device=device, **options)


def actions(count=3):
    return [np.random.default_rng(step).uniform(-1, 1, (count, 4)) for step in range(2 * STEPS + 1)]


def flat(part):
    """All arrays and numbers in what an environment gives, in order."""
    if isinstance(part, dict):
        return [leaf for key in sorted(part) for leaf in flat(part[key])]
    if isinstance(part, (list, tuple)) or (isinstance(part, np.ndarray) and part.dtype == object):
        return [leaf for element in part for leaf in flat(element)]
    return [np.asarray(part)]


def assert_equal(left, right):
    left, right = flat(left), flat(right)
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_every_autoreset_mode_gives_what_it_gives_on_the_cpu(mode):
    def rolled_out(device):
        env = made(device, autoreset_mode=mode)
        found, done = [env.reset(seed=5)], np.zeros(3, bool)
        for chosen in actions():
            if mode == "Disabled" and done.any():
                found.append(env.reset(options={"reset_mask": done}))
            found.append(env.step(chosen))
            done = found[-1][2]
        return found

    assert_equal(rolled_out("emulated"), rolled_out("cpu"))


@pytest.mark.parametrize(
    "options",
    [
        {"observation": "pooled", "residual": "heuristic"},
        {"observation": "tokens", "action_smoothing": 0.5},
        {"reward_fn": "frechet"},
    ],
    ids=["pooled", "tokens", "frechet"],
)
def test_every_observation_is_what_it_is_on_the_cpu(options):
    def rolled_out(device):
        env = made(device, **options)
        return [env.reset(seed=1), *(env.step(chosen) for chosen in actions())]

    assert_equal(rolled_out("emulated"), rolled_out("cpu"))


def test_wrappers_pictures_and_states_are_what_they_are_on_the_cpu():
    def rolled_out(device):
        env = made(device, render_mode="rgb_array")
        shaped = StepCost(PotentialShaping(PotentialShaping(env, revealed_share), confidence), 0.1)
        found = [shaped.reset(seed=1)]
        for chosen in actions()[: STEPS + 1]:
            found += [shaped.step(chosen), env.render()]
        other = made(device)
        found += [other.load_state_dict(env.state_dict())]
        return [*found, other.step(actions()[0])]

    assert_equal(rolled_out("emulated"), rolled_out("cpu"))


@pytest.mark.parametrize("observation", WAITS)
def test_a_step_waits_for_the_device_no_more_often_than_it_has_to(observation, recorded):
    env = made("emulated", observation=observation, aligned=True)
    env.reset(seed=0)
    for chosen in actions()[:STEPS]:  # what is put on the device once, is there then
        env.step(chosen)
    for step, chosen in enumerate(actions()[:STEPS]):
        with recorded() as events:
            env.step(chosen)
        allowed = WAITS[observation] + WAITS_AT_END * (step == STEPS - 1)
        assert events.syncs().total() <= allowed, f"at step {step}:\n{events}"
        # Any other way to the device has the host wait on CUDA until the copy has arrived.
        assert all(line.startswith("nat_env/frozen/transfers.py") for line in events.sent)
        if observation == "handles":  # no feature reaches the host
            assert events.bytes_to_host < 4 * env.bundle.nat.feature_size, f"{events}"


def test_generation_waits_for_the_device_no_more_often_than_it_has_to(recorded):
    bundle = made("emulated").bundle
    policy = ScheduledPolicy(heuristic_schedule(8))
    generate(bundle, policy, torch.arange(10), 8, seed=0)
    with recorded() as events:
        generate(bundle, policy, torch.arange(10), 8, seed=0)
    assert events.syncs().total() <= 8 * WAITS_OF_GENERATE, str(events)


@pytest.mark.parametrize("line", ["env.ids.any().item()", "env.ids.cpu()", "env.ids[env.ids > 0]"])
def test_a_wait_that_someone_adds_is_counted_where_it_is(line, recorded):
    env = made("emulated")
    code = compile(line, str(ROOT / "nat_env" / "added.py"), "eval")
    with recorded() as events:
        eval(code, {"env": env})
    assert events.syncs() == {"nat_env/added.py:1": 1}


def test_the_device_refuses_what_a_gpu_refuses():
    there, here = torch.ones(3, device="emulated"), torch.ones(3)
    for mixed in (
        lambda: there + here,
        lambda: torch.cat([there, here]),
        lambda: here[torch.tensor([0], device="emulated")],
        lambda: torch.rand(2, device="emulated", generator=torch.Generator()),
    ):
        with pytest.raises(RuntimeError, match="expected"):
            mixed()
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(there)
    assert torch.equal((there + torch.tensor(1.0)).cpu(), here + 1)  # a number may be anywhere


def test_gymnasium_makes_it_there():
    def first(device):
        env = gym.make("NATDecode-v0", bundle="digits", device=device, dtype="float32")
        return [env.reset(seed=3), env.step(np.zeros(4, np.float32))]

    assert_equal(first("emulated"), first("cpu"))
