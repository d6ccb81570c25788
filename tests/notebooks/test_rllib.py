"""What the example of RLlib is made of, without Ray: its environment and the policy it gives."""

import importlib.util
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from torch import nn

import nat_env

ROOT = Path(__file__).parents[2]
NUM_ENVS, NUM_STEPS = 5, 3
RAY = {
    "ray": (),
    "ray.rllib.algorithms.ppo": ("PPO", "PPOConfig"),
    "ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module": ("DefaultPPOTorchRLModule",),
    "ray.rllib.core.rl_module": ("RLModuleSpec",),
    "ray.rllib.core.rl_module.default_model_config": ("DefaultModelConfig",),
}


@pytest.fixture
def example(monkeypatch):
    for name, classes in RAY.items():
        module = types.ModuleType(name)
        for each in classes:
            setattr(module, each, object)
        monkeypatch.setitem(sys.modules, name, module)
    path = ROOT / "notebooks" / "rllib_ppo.py"
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Linear(nn.Module):
    """In the place of a trained module: means that depend on all that is seen, some too large."""

    def __init__(self, size):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(size, 8)

    def forward_inference(self, batch):
        return {"action_dist_inputs": 2 * self.layer(batch["obs"])}


def test_the_policy_draws_what_the_environment_draws_by_the_same_module(example):
    """Through the vector entry point with the example's arguments, as RLlib's runner steps it.

    The step after the last one begins the next episodes, whatever the action.
    """
    args = example.Args(num_steps=NUM_STEPS)
    envs = gym.make_vec(
        "NATDecode-v0",
        num_envs=NUM_ENVS,
        vectorization_mode=gym.VectorizeMode("vector_entry_point"),
        dtype="float32",
        **example.env_config(args),
    )
    module = Linear(*envs.single_observation_space.shape)
    bundle = nat_env.load_bundle("digits", "float32")
    policy = example.ModulePolicy(module, args, bundle.num_tokens)
    means = []

    observation, _ = envs.reset(seed=7)
    conditions = envs.unwrapped.conditions.clone()
    for step in range(NUM_STEPS):
        seen = {"obs": torch.from_numpy(observation)}
        means.append(module.forward_inference(seen)["action_dist_inputs"][:, :4])
        action = means[-1].clamp(-1, 1).detach().numpy()
        observation, reward, terminated, truncated, _ = envs.step(action)
        assert (terminated == (step == NUM_STEPS - 1)).all() and not truncated.any()
    drawn = envs.unwrapped.final_images
    assert drawn.std() > 0.1 and (reward < 0).all()

    # The environment has drawn the conditions from the rows' generators before.
    generators = [np.random.Generator(np.random.PCG64(7 + row)) for row in range(NUM_ENVS)]
    labels = [int(generator.integers(10)) for generator in generators]
    assert labels == conditions.tolist()
    ids = nat_env.generation.generate_tokens(bundle.nat, policy, conditions, NUM_STEPS, generators)
    torch.testing.assert_close(bundle.tokenizer.decode(ids), drawn)
    scores = nat_env.named_reward("judge", bundle)(drawn, conditions)
    np.testing.assert_allclose(reward, scores, rtol=1e-6)
    assert (torch.cat(means).abs() > 1).any()

    observation, reward, terminated, _, _ = envs.step(action)
    assert not reward.any() and not terminated.any()
    np.testing.assert_array_equal(observation[:, -1], 0)


def test_it_asks_for_a_gymnasium_that_the_library_supports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (ours,) = (r for d in project["dependencies"] if (r := Requirement(d)).name == "gymnasium")
    text = (ROOT / "notebooks" / "rllib-requirements.txt").read_text("utf-8")
    pinned = re.search(r"Ray pins gymnasium to (\S+),", text)
    assert pinned and pinned[1] in ours.specifier
    page = (ROOT / "docs" / "rllib.md").read_text("utf-8")
    (ray,) = re.findall(r"^ray\[rllib\]==(\S+)$", text, re.MULTILINE)
    assert f"ray {ray}" in page and f"gymnasium {pinned[1]}" in page


def test_without_ray_the_example_says_what_it_needs():
    hidden = "import runpy, sys; sys.modules['ray'] = None; "
    code = hidden + "runpy.run_path('notebooks/rllib_ppo.py', run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.endswith("needs more: pip install -r notebooks/rllib-requirements.txt\n")
    assert len(result.stderr.splitlines()) == 1
