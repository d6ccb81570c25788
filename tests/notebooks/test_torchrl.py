"""torchrl's own wrapper around the vector environment, unmodified, and the example that uses it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import GymWrapper
from torchrl.envs.utils import check_env_specs

import nat_env  # noqa: F401 (registers NATDecode-v0)

ROOT = Path(__file__).parents[2]
NUM_ENVS, NUM_STEPS = 3, 4
FORMS = ("features", "pooled", "tokens")


def make(form):
    return gym.make_vec(
        "NATDecode-v0",
        NUM_ENVS,
        bundle="digits",
        dtype="float32",
        num_steps=NUM_STEPS,
        observation=form,
        autoreset_mode="Disabled",
        aligned=True,
    )


class Fixed(TensorDictModuleBase):
    """Plays given actions [steps, num_envs, 4] one after the other."""

    in_keys = ()
    out_keys = ("action",)

    def __init__(self, actions):
        super().__init__()
        self.actions = iter(actions)

    def forward(self, data):
        return data.set("action", torch.from_numpy(next(self.actions)))


@pytest.mark.parametrize("form", FORMS)
def test_specs(form):
    check_env_specs(GymWrapper(make(form)))


@pytest.mark.parametrize("form", FORMS)
def test_rollouts_equal_the_numpy_environments(form):
    """Two and a half episodes: torchrl restarts finished rows through `reset_mask`."""
    steps = 2 * NUM_STEPS + 2
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (steps, NUM_ENVS, 4)).astype(np.float32)
    wrapped, env = GymWrapper(make(form)), make(form)
    wrapped.set_seed(5)
    rollout = wrapped.rollout(steps, Fixed(actions), break_when_any_done=False)
    assert rollout.batch_size == (NUM_ENVS, steps)

    env.reset(seed=5)
    observation, _ = env.reset()  # torchrl resets when it is seeded, and again for the rollout
    for step in range(steps):
        named = observation if isinstance(observation, dict) else {"observation": observation}
        for key, value in named.items():
            np.testing.assert_array_equal(rollout[key][:, step], value)
        observation, rewards, terminated, truncated, _ = env.step(actions[step])
        after = rollout["next"][:, step]
        named = observation if isinstance(observation, dict) else {"observation": observation}
        for key, value in named.items():
            np.testing.assert_array_equal(after[key], value)
        np.testing.assert_allclose(after["reward"][:, 0], rewards, rtol=1e-6)
        np.testing.assert_array_equal(after["terminated"][:, 0], terminated)
        np.testing.assert_array_equal(after["truncated"][:, 0], truncated)
        if terminated.any():
            observation, _ = env.reset(options={"reset_mask": terminated})
    ends = rollout["next", "terminated"][0, :, 0].nonzero()[:, 0].tolist()
    assert ends == [NUM_STEPS - 1, 2 * NUM_STEPS - 1]
    assert not rollout["next", "truncated"].any()
    assert (rollout["next", "reward"][:, ends] != 0).all()


def test_a_rollout_stops_at_the_end():
    rollout = GymWrapper(make("pooled")).rollout(100)
    assert rollout.batch_size == (NUM_ENVS, NUM_STEPS)
    assert rollout["next", "done"][:, -1].all()


def greyness(images, conditions):
    """1 for an image of mid-grey, 0 for one of black and white: hot sampling blurs the digits."""
    return (4 * images * (1 - images)).mean(dim=(1, 2, 3))


def test_the_example_improves_a_reward():
    path = Path(__file__).parents[2] / "notebooks" / "torchrl_ppo.py"
    specification = importlib.util.spec_from_file_location(path.stem, path)
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    args = example.Args(num_steps=2, num_updates=30)
    env = example.make_env(args, greyness)
    torch.manual_seed(0)
    actor = example.make_actor(*env.observation_spec["observation"].shape[1:])
    hot = torch.tensor([[-1.0, 1.0, 0.0, -1.0]]).repeat(2, args.num_envs, 1)

    def mean_return(policy):
        env.set_seed(10_000)
        with torch.no_grad():
            return float(env.rollout(2, policy)["next", "reward"].sum(dim=1).mean())

    start, best = mean_return(actor), mean_return(Fixed(hot.numpy()))
    assert best > start * 1.15
    example.train(env, actor, args)
    assert mean_return(actor) > start + 0.4 * (best - start)


def test_without_torchrl_the_example_says_what_it_needs():
    hidden = "import runpy, sys; sys.modules['torchrl.envs'] = sys.modules['tensordict'] = None; "
    code = hidden + "runpy.run_path('notebooks/torchrl_ppo.py', run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.endswith("needs more: pip install tensordict torchrl\n")
    assert len(result.stderr.splitlines()) == 1
