import tracemalloc

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer

from agents.learners.buffers import EpisodeRolloutBuffer
from agents.learners.policy import AdaNATPolicy
from agents.learners.ppo import PPO
from agents.learners.vec_env import GymnasiumVecEnv
from nat_env.vector_env import NATDecodeVectorEnv

SPACE = spaces.Dict(
    {
        "features": spaces.Box(-1, 1, (4,), np.float32),
        "timestep": spaces.Box(0, 2, (1,), np.int64),
    }
)


def filled_buffer(rewards, starts, values):
    steps, envs = rewards.shape
    buffer = EpisodeRolloutBuffer(steps, SPACE, spaces.Box(-1, 1, (4,)), n_envs=envs)
    for t in range(steps):
        buffer.add(
            {"features": np.zeros((envs, 4)), "timestep": np.zeros((envs, 1))},
            np.zeros((envs, 4)),
            rewards[t],
            starts[t],
            torch.from_numpy(values[t]),
            torch.zeros(envs),
        )
    return buffer


def test_advantage_is_the_normalised_return_minus_the_value():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(4, 3)).astype("f"), rng.normal(size=(4, 3)).astype("f")
    starts = np.zeros((4, 3))
    starts[0], starts[2] = 1, 1  # two episodes of two steps each
    buffer = filled_buffer(rewards, starts, values)
    buffer.compute_returns_and_advantage(torch.zeros(3), np.ones(3, bool))

    returns = np.zeros((4, 3))
    for env in range(3):
        for first in (0, 2):
            returns[first, env] = rewards[first, env] + rewards[first + 1, env]
            returns[first + 1, env] = rewards[first + 1, env]
    normalised = (returns - returns.mean()) / returns.std()
    assert buffer.returns == pytest.approx(normalised, abs=1e-5)
    assert buffer.advantages == pytest.approx(normalised - values, abs=1e-5)


def test_a_rollout_that_ends_inside_an_episode_is_refused():
    buffer = filled_buffer(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="n_steps"):
        buffer.compute_returns_and_advantage(torch.zeros(2), np.array([True, False]))


@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_rollout_is_kept_once_and_given_in_the_order_of_stable_baselines3(tmp_path, in_a_file):
    folder = tmp_path / "made" if in_a_file else None
    box = spaces.Box(-1, 1, (4,))
    ours = EpisodeRolloutBuffer(2, SPACE, box, n_envs=3, folder=folder)
    theirs = DictRolloutBuffer(2, SPACE, box, n_envs=3)
    rng = np.random.default_rng(0)
    for _ in range(2):  # the second rollout is not the first one
        for buffer in (ours, theirs):
            buffer.reset()
        for t in range(2):
            features = rng.integers(-9, 9, (3, 4))  # whole numbers: half precision has them
            observation = {"features": features, "timestep": np.full((3, 1), t)}
            for buffer in (ours, theirs):
                numbers = np.zeros(3)
                values = torch.zeros(3)
                buffer.add(observation, np.zeros((3, 4)), numbers, numbers, values, values)
        stored = ours.observations["features"]
        assert isinstance(stored, np.memmap) == in_a_file
        for buffer in (ours, theirs):
            next(buffer.get())  # makes it flat
        assert np.shares_memory(stored, ours.observations["features"])
        for name, expected in theirs.observations.items():
            np.testing.assert_array_equal(ours.observations[name], expected)
    assert not in_a_file or list(folder.iterdir()) == []  # nothing to clear away


@pytest.mark.parametrize(("in_a_file", "at_most"), [(False, 2.1), (True, 0.1)])
def test_features_take_no_memory_but_their_own_in_half_precision(tmp_path, in_a_file, at_most):
    space = SPACE.spaces | {"features": spaces.Box(-1, 1, (2000,), np.float32)}
    tracemalloc.start()
    buffer = EpisodeRolloutBuffer(
        50,
        spaces.Dict(space),
        spaces.Box(-1, 1, (4,)),
        n_envs=20,
        folder=tmp_path if in_a_file else None,
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert buffer.observations["features"].shape == (50, 20, 2000)
    assert peak <= at_most * 50 * 20 * 2000  # bytes


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^folder: cannot write in .*inside"):
        make(rollout_buffer_kwargs={"folder": tmp_path / "file" / "inside"})


def test_half_precision_features_leave_the_probability_ratios_at_one():
    model, _, _ = make()
    torch.nn.init.normal_(model.policy.actor.head.weight)
    buffer = model.rollout_buffer
    obs = model.get_env().reset()
    tensors = {key: torch.from_numpy(value) for key, value in obs.items()}
    with torch.no_grad():
        actions, values, log_prob = model.policy(tensors)
    buffer.add(obs, actions.numpy(), np.zeros(64), np.ones(64), values, log_prob)
    for samples in buffer.get(batch_size=16):
        with torch.no_grad():
            _, again, _ = model.policy.evaluate_actions(samples.observations, samples.actions)
        assert torch.allclose(again, samples.old_log_prob, atol=1e-4)
        assert samples.observations["features"].dtype == torch.float16


class Target:
    """Rewards an episode by how near its guidance was to a target that depends on the label."""

    def __init__(self, targets):
        self.targets = targets
        self.env = None

    def __call__(self, images, conditions):
        guidance = self.env.applied[:, 3]
        return -(guidance - self.targets[conditions]).square()


class RecordingEnv(NATDecodeVectorEnv):
    def step(self, actions):
        tensor = torch.from_numpy(np.asarray(actions, np.float32))
        self.applied = self.action_map.physical(tensor, self.timesteps)
        return super().step(actions)


def make(seed=0, **kwargs):
    targets = torch.where(torch.arange(10) < 5, 0.3, 1.5)
    reward = Target(targets)
    env = RecordingEnv(64, "digits", num_steps=1, reward_fn=reward)
    reward.env = env
    model = PPO(
        AdaNATPolicy,
        GymnasiumVecEnv(env),
        n_steps=1,
        batch_size=64,
        n_epochs=5,
        learning_rate=2e-3,
        policy_kwargs={"grid": env.bundle.nat.feature_grid, "hidden_size": 32},
        seed=seed,
        device="cpu",
        **kwargs,
    )
    return model, env, targets


def test_ppo_finds_an_optimum_that_depends_on_the_sample():
    model, env, targets = make()
    model.learn(64 * 150)
    conditions = torch.arange(10)
    passes = env.bundle.nat.first_passes(conditions)
    mean = model.policy.actor(passes.features, torch.zeros(10, dtype=torch.int64)) / 5
    guidance = env.action_map.physical(mean, torch.zeros(10, dtype=torch.int64))[:, 3]
    assert (guidance - targets).abs().mean() < 0.2  # ln 2 at the start: 0.6 away


@pytest.mark.parametrize("name", ["gamma", "gae_lambda"])
def test_a_discount_is_refused(name):
    with pytest.raises(ValueError, match=f"^{name}: allowed is 1"):
        make(**{name: 0.5})


def test_a_saved_model_keeps_its_exploration(tmp_path):
    model, _, _ = make(action_std=lambda left: 2 * left)
    model.save(tmp_path / "model")
    assert PPO.load(tmp_path / "model").action_std(0.25) == 0.5


def test_policy_rests_during_the_warm_up_and_std_follows_its_schedule():
    seen = []
    model, _, _ = make(
        warmup_timesteps=3 * 64, action_std=lambda left: seen.append(left) or 0.1 + left
    )
    before = {k: v.clone() for k, v in model.policy.state_dict().items()}
    model.learn(3 * 64)
    assert all(torch.equal(v, before[k]) for k, v in model.policy.state_dict().items())
    model.learn(64, reset_num_timesteps=False)
    assert any(not torch.equal(v, before[k]) for k, v in model.policy.state_dict().items())
    assert seen[:3] == pytest.approx([1.0, 2 / 3, 1 / 3])
    assert model.policy.action_std == pytest.approx(0.1 + seen[-1])
