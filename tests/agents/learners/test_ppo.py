import errno
import os
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers.vector import TransformReward
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from agents.learners.buffers import EpisodeRolloutBuffer
from agents.learners.config import PRESETS
from agents.learners.factory import make_learner
from agents.learners.policy import AdaNATPolicy
from agents.learners.ppo import PPO
from agents.learners.vec_env import GymnasiumVecEnv
from nat_env.generation import generate
from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.adversarial import AdversarialReward

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


def test_the_mean_of_a_group_is_taken_off_its_returns():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 6)).astype("f"), rng.normal(size=(2, 6)).astype("f")
    rewards[:, 3:] += 7.0  # of a label that pays more, whatever is done
    buffer = filled_buffer(rewards, np.array([[1] * 6, [0] * 6]), values)
    buffer.group_size = 3
    buffer.compute_returns_and_advantage(torch.zeros(6), np.ones(6, bool))
    left = np.stack([rewards[0] + rewards[1], rewards[1]]).astype(float)
    for step in range(2):
        for first in (0, 3):
            left[step, first : first + 3] -= left[step, first : first + 3].mean()
    expected = left / left.std()
    assert buffer.returns == pytest.approx(expected, abs=1e-5)
    assert buffer.advantages == pytest.approx(expected - values, abs=1e-5)


def test_ppo_learns_from_an_environments_groups_as_such(tmp_path):
    env = NATDecodeVectorEnv(8, "digits", 2, group_size=4, aligned=True)
    model = PPO(env, batch_size=16, policy_kwargs={"hidden_size": 16}, seed=0)
    model.learn(32)
    returns = model.rollout_buffer.returns.reshape(2, 4, -1)  # [groups, 4, steps], as flattened
    np.testing.assert_allclose(returns.mean(axis=1), 0.0, atol=1e-5)
    assert returns.std() > 0.5
    model.save(tmp_path / "model")
    assert PPO.load(tmp_path / "model", env=env).rollout_buffer.group_size == 4
    model.set_env(NATDecodeVectorEnv(8, "digits", 2))  # whose rows are no groups
    assert model.rollout_buffer.group_size == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_wrappers_reward_that_is_not_finite_leaves_the_policy_as_it_was(wrong):
    env = NATDecodeVectorEnv(4, "digits", num_steps=2)
    spoilt = TransformReward(env, lambda rewards: np.where([0, 0, 1, 0], wrong, rewards))
    model = PPO(spoilt, n_steps=2, batch_size=8, policy_kwargs={"hidden_size": 16}, seed=0)
    before = [part.clone() for part in model.policy.parameters()]
    told = rf"^rewards: got {wrong} in 2 of 8 steps, allowed are finite numbers$"
    with pytest.raises(ValueError, match=told):
        model.learn(16)
    assert all(map(torch.equal, before, model.policy.parameters()))


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
        env,
        n_steps=1,
        batch_size=64,
        n_epochs=5,
        learning_rate=2e-3,
        policy_kwargs={"hidden_size": 32},
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


def test_a_gymnasium_environment_is_enough_and_the_rest_follows_from_it():
    env = AdversarialReward(NATDecodeVectorEnv(96, "digits", 2, residual="heuristic"))
    model = PPO(env, batch_size=192, seed=3, policy_kwargs={"hidden_size": 16})
    assert isinstance(model.env, GymnasiumVecEnv) and model.env.env is env
    assert model.n_steps == 6  # 3 x 96 images: not fewer than 256
    assert model.warmup_timesteps == 5 * 6 * 96
    assert PPO(env.env, batch_size=192, policy_kwargs={"hidden_size": 16}).warmup_timesteps == 0
    rates = [model.lr_schedule(left) for left in (1.0, 0.5, 0.0)]
    assert rates == pytest.approx([1.2e-3, 6.5e-4, 1e-4])
    assert [model.action_std(left) for left in (1.0, 0.51, 0.5, 0.0)] == [1.0, 1.0, 0.6, 0.6]
    assert model.n_epochs == 5
    assert tuple(model.policy.grid) == env.decoder.bundle.nat.feature_grid
    model.env.reset()
    states = [g.bit_generator.state for g in env.decoder.generators]
    evaluations = [np.random.Generator(np.random.PCG64(3 + i)) for i in range(96)]
    for generator in evaluations:
        generator.integers(10)  # the label
        assert generator.bit_generator.state not in states


def test_defaults_are_those_of_nat_train(tmp_path):
    config = replace(PRESETS["digits"][1], out=tmp_path, num_steps=2)
    env = NATDecodeVectorEnv(config.environments, "digits", 2)
    ours = make_learner(config, GymnasiumVecEnv(env), env.bundle)
    theirs = PPO(env)
    names = (
        "batch_size",
        "n_epochs",
        "n_steps",
        "max_grad_norm",
        "ent_coef",
        "vf_coef",
        "accumulate",
    )
    for name in names:
        assert getattr(ours, name) == getattr(theirs, name), name
    for left in (1.0, 0.7, 0.5, 0.1):
        assert ours.action_std(left) == theirs.action_std(left)
        assert ours.lr_schedule(left) == theirs.lr_schedule(left)
        assert ours.clip_range(left) == theirs.clip_range(left)
    assert ours.policy.optimizer.defaults == theirs.policy.optimizer.defaults
    shapes = [[p.shape for p in model.policy.parameters()] for model in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_the_discriminator_learns_between_rollouts_and_nothing_is_printed(capsys):
    env = AdversarialReward(NATDecodeVectorEnv(32, "digits", 2))
    given, update = [], env.update

    def spy(num_updates):
        given.append((num_updates, sum(map(len, env._images)), model.num_timesteps))
        return update(num_updates)

    env.update = spy
    options = {"n_steps": 2, "batch_size": 32, "policy_kwargs": {"hidden_size": 16}}
    model = PPO(env, discriminator_updates=2, **options)
    rollouts = []
    model.learn(192, callback=lambda names, _: rollouts.append(names["self"].num_timesteps) or True)
    assert given == [(2, 32, 64), (2, 32, 128), (2, 32, 192)]
    assert rollouts == [32, 64, 96, 128, 160, 192]
    assert capsys.readouterr().out == ""
    model = PPO(env, discriminator_updates=0, **options).learn(64)
    assert len(given) == 3


def test_what_was_learned_decodes_as_after_nat_train_also_when_loaded(tmp_path):
    env = NATDecodeVectorEnv(16, "digits", 2, residual="heuristic")
    model = PPO(env, n_steps=2, batch_size=32, seed=0, policy_kwargs={"hidden_size": 16})
    torch.nn.init.normal_(model.policy.actor.head.weight, std=0.3)
    model.learn(64)
    model.save(tmp_path / "model")
    features = torch.randn(3, env.bundle.num_tokens, env.bundle.nat.feature_size)
    timestep = torch.tensor([0, 1, 0])
    with torch.no_grad():
        mean = model.policy.actor(features.half().float(), timestep) / 5
    expected = env.action_map.mean_physical(mean, 0.6 / 5, timestep)
    learned = model.decoding_policy()
    assert learned.num_steps == 2
    torch.testing.assert_close(learned(features, timestep), expected)

    with pytest.raises(ValueError, match=r"^env: got none, allowed is PPO.load"):
        PPO.load(tmp_path / "model").decoding_policy()
    loaded = PPO.load(tmp_path / "model", env=env)
    assert isinstance(loaded.env, GymnasiumVecEnv)
    assert torch.equal(loaded.decoding_policy()(features, timestep), learned(features, timestep))
    generate(env.bundle, learned, torch.arange(3), 2, seed=0)  # as the environment, T = 2
    with pytest.raises(ValueError, match="num_steps"):
        generate(env.bundle, learned, torch.arange(3), 4, seed=0)


def test_the_example_in_a_few_lines_gives_the_same_images_when_loaded(tmp_path):
    def environment():
        return AdversarialReward(NATDecodeVectorEnv(256, "digits", 2, residual="heuristic"))

    env = environment()
    model = PPO(env, seed=0, warmup_timesteps=0, discriminator_updates=2)
    model.learn(2 * 256)
    policy = model.decoding_policy()
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=environment()).decoding_policy()
    images = generate(env.decoder.bundle, policy, range(10), 2, seed=0)
    assert torch.equal(generate(env.decoder.bundle, loaded, range(10), 2, seed=0), images)
    untrained = PPO(environment(), seed=0).decoding_policy()
    assert not torch.equal(generate(env.decoder.bundle, untrained, range(10), 2, seed=0), images)


def one_update(batch_size, accumulate, max_grad_norm):
    reward = {"reward_fn": lambda images, labels: images.mean(dim=(1, 2, 3)) * (labels + 1)}
    env = NATDecodeVectorEnv(64, "digits", 2, **reward)
    model = PPO(
        env,
        n_steps=2,
        batch_size=batch_size,
        n_epochs=3,
        accumulate=accumulate,
        max_grad_norm=max_grad_norm,
        learning_rate=1e-3,
        policy_kwargs={"hidden_size": 16},
        seed=0,
    )
    model.learn(128)
    steps = {int(s["step"]) for s in model.policy.optimizer.state.values()}
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()]), steps


@pytest.mark.parametrize("max_grad_norm", [1e9, 0.05])
def test_minibatches_accumulated_are_one_batch_also_when_the_gradient_is_shortened(max_grad_norm):
    whole, steps = one_update(128, 1, max_grad_norm)
    gathered, gathered_steps = one_update(32, 4, max_grad_norm)
    assert steps == gathered_steps == {3}
    # Adam makes steps of 1e-3 of gradients that rounding alone may turn.
    torch.testing.assert_close(gathered, whole, rtol=0, atol=1e-4)
    apart, _ = one_update(32, 1, max_grad_norm)
    assert (apart - whole).abs().max() > 1e-3


@pytest.mark.parametrize(("batch_size", "accumulate"), [(32, 3), (64, 4)])
def test_minibatches_that_do_not_fill_a_step_are_refused(batch_size, accumulate):
    with pytest.raises(ValueError, match=f"^accumulate: got {accumulate}, allowed is a divisor"):
        one_update(batch_size, accumulate, 0.5)


def test_the_deviation_is_kept_by_both_ways_of_saving(tmp_path):
    model, env, _ = make(action_std=lambda left: 0.2)
    model.learn(64)
    model.save(tmp_path / "model")
    model.policy.save(tmp_path / "policy")
    assert PPO.load(tmp_path / "model").policy.action_std == pytest.approx(0.2)
    assert PPO.load(tmp_path / "model", env=env).policy.action_std == pytest.approx(0.2)
    assert type(model.policy).load(tmp_path / "policy").action_std == pytest.approx(0.2)
    before = model.policy.state_dict()
    del before["sigma"]  # of an older file
    model.policy.action_std = 0.7
    model.policy.load_state_dict(before)
    assert model.policy.action_std == pytest.approx(0.7)


def test_a_normalised_timestep_is_refused():
    env = GymnasiumVecEnv(NATDecodeVectorEnv(8, "digits", 2))
    small = {"n_steps": 2, "batch_size": 16, "policy_kwargs": {"hidden_size": 16}}
    with pytest.raises(ValueError, match=r"^timestep: .*norm_obs_keys=\['features'\]"):
        PPO(VecMonitor(VecNormalize(env, gamma=1.0)), **small)
    model = PPO(VecNormalize(env, gamma=1.0, norm_obs_keys=["features"]), **small)
    model.learn(16)


@pytest.mark.parametrize("grid", [(2, 8), (16, 16)])
def test_another_grid_than_the_environments_is_refused(grid):
    env = NATDecodeVectorEnv(8, "digits", 2)
    with pytest.raises(ValueError, match=r"^grid: got .* allowed is the environment's \(4, 4\)"):
        PPO(env, n_steps=2, batch_size=16, policy_kwargs={"grid": grid})


@pytest.mark.parametrize("form", ["pooled", "tokens"])
def test_another_form_of_observation_is_refused(form):
    env = NATDecodeVectorEnv(8, "digits", 2, observation=form)
    with pytest.raises(ValueError, match=r"^observation_space: .*AdaNATPolicy.*'features'"):
        PPO(env, n_steps=2, batch_size=16)


def test_the_policy_before_the_environment_is_refused():
    with pytest.raises(ValueError, match=r"^env: got .* it comes before the policy"):
        PPO(AdaNATPolicy)


def test_going_on_amid_episodes_that_something_else_has_begun_is_refused():
    env = NATDecodeVectorEnv(8, "digits", 2)
    model = PPO(env, n_steps=2, batch_size=16, policy_kwargs={"hidden_size": 16})
    model.learn(16)
    env.reset()
    env.step(np.zeros((8, 4), np.float32))
    with pytest.raises(ValueError, match=r"^env: it is at steps 1 .. 1 of episodes"):
        model.learn(16, reset_num_timesteps=False)
    model.set_env(model.get_env())
    model.learn(16, reset_num_timesteps=False)
    assert model.num_timesteps == 32


def test_going_on_after_a_reset_by_something_else_is_refused(tmp_path):
    env = NATDecodeVectorEnv(8, "digits", 2)
    model = PPO(env, n_steps=2, batch_size=16, policy_kwargs={"hidden_size": 16})
    model.learn(16)
    model.learn(16, reset_num_timesteps=False)
    env.reset(options={"condition": env.conditions.clone()})  # what the policy has seen
    model.learn(16, reset_num_timesteps=False)
    model.save(tmp_path / "model")
    env.reset(options={"condition": (env.conditions + 1) % 10})
    with pytest.raises(ValueError, match=r"^env: it is at steps 0 .. 0 of episodes that something"):
        model.learn(16, reset_num_timesteps=False)
    PPO.load(tmp_path / "model", env=env).learn(16, reset_num_timesteps=False)
    model.set_env(model.get_env())
    model.learn(16, reset_num_timesteps=False)
    model.learn(16)
    assert model.num_timesteps == 16


@pytest.mark.parametrize("scale", [2.0, 12.0])
def test_policy_and_environment_agree_on_how_far_actions_reach(tmp_path, scale):
    env = NATDecodeVectorEnv(8, "digits", 2, raw_scale=scale)
    model = PPO(env, n_steps=2, batch_size=16, seed=0, policy_kwargs={"hidden_size": 16})
    torch.nn.init.normal_(model.policy.actor.head.weight, std=0.2)
    observation = model.get_env().reset()
    tensors = {key: torch.from_numpy(value) for key, value in observation.items()}
    features, first = tensors["features"].unflatten(1, (16, 64)), 0 * env.timesteps
    with torch.no_grad():
        raw = model.policy.actor(features.half().float(), first)
    expected = torch.cat([raw[:, :1].sigmoid(), torch.nn.functional.softplus(raw[:, 1:])], dim=1)
    actions, _ = model.predict(observation, deterministic=True)
    *_, info = env.step(actions)
    torch.testing.assert_close(torch.from_numpy(info["action"]), expected)
    model.save(tmp_path / "model")
    for each in (model, PPO.load(tmp_path / "model", env=env)):
        found = each.decoding_policy("mean")(features, first)
        torch.testing.assert_close(found, expected)


def test_a_folder_without_room_is_refused_with_the_size(tmp_path, monkeypatch):
    def full(file, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match=r"^folder: no room in .* for 131,072 bytes"):
        make(rollout_buffer_kwargs={"folder": tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_the_room_before_the_rollout(tmp_path, monkeypatch):
    taken, reserve = [], os.posix_fallocate

    def spy(file, start, size):
        reserve(file, start, size)
        taken.append(os.fstat(file).st_blocks * 512)

    monkeypatch.setattr(os, "posix_fallocate", spy)
    make(rollout_buffer_kwargs={"folder": tmp_path})
    assert taken[0] >= 64 * 16 * 64 * 2


def test_policy_rests_during_the_warm_up_and_std_follows_its_schedule():
    seen = []
    model, _, _ = make(
        warmup_timesteps=3 * 64, action_std=lambda left: seen.append(left) or 0.1 + left
    )
    before = {k: v.clone() for k, v in model.policy.named_parameters()}
    model.learn(3 * 64)
    assert all(torch.equal(v, before[k]) for k, v in model.policy.named_parameters())
    model.learn(64, reset_num_timesteps=False)
    assert any(not torch.equal(v, before[k]) for k, v in model.policy.named_parameters())
    assert seen[:3] == pytest.approx([1.0, 2 / 3, 1 / 3])
    assert model.policy.action_std == pytest.approx(0.1 + seen[-1])
