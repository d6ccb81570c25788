"""The adapter against SB3's own DummyVecEnv, and against environments that are a batch already."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import DictInfoToList
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from agents.learners.vec_env import GymnasiumVecEnv

SAME_STEP = AutoresetMode.SAME_STEP
NUM_ENVS = 3


def adapt(env: Any, **kwargs: Any) -> Any:
    """The adapter, untyped: SB3's types allow three kinds of observations everywhere."""
    return GymnasiumVecEnv(env, **kwargs)


class CountingEnv(gym.Env):
    """Counts to a random goal; ends there (termination) or at `limit` (truncation), or at both."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012
    observation_space = spaces.Dict(
        {
            "position": spaces.Box(-100, 100, (2,), np.float32),
            "count": spaces.Box(0, 100, (1,), np.int32),
        }
    )

    def __init__(self, limit: int = 5, discrete: bool = False, render_mode: str | None = None):
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (2,), np.float32)
        self.limit = limit
        self.difficulty = 1
        self.names = ["a"]
        self.render_mode = render_mode

    def _observation(self) -> dict[str, np.ndarray]:
        return {"position": self.position.copy(), "count": np.array([self.count], np.int32)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.count = 0
        self.goal = int(self.np_random.integers(2, 8))
        start = 0.0 if options is None else options["start"]
        self.position = (self.np_random.normal(size=2) + start).astype(np.float32)
        return self._observation(), {"goal": self.goal}

    def step(self, action):
        self.count += 1
        self.position = self.position + np.asarray(action, np.float32)
        info = {"count": self.count, "nested": {"where": self.position.copy()}}
        terminated, truncated = self.count == self.goal, self.count == self.limit
        if terminated:  # a key that only some rows have
            info["reached"] = f"goal {self.goal}"
        return self._observation(), float(self.position.sum()), terminated, truncated, info

    def render(self):
        return np.full((4, 6, 3), self.count, np.uint8)

    def double(self, number: int, plus: int = 0) -> int:
        self.doubled = 2 * number + plus
        return self.doubled


class BatchCountdown(VectorEnv):
    """A batch with no sub-environments: row i ends after i + 1 steps, even rows by truncation.

    It writes observations into one buffer, as fast environments do, and keeps its reward array.
    """

    def __init__(
        self,
        num_envs: int = NUM_ENVS,
        final: str = "array",
        autoreset_mode: Any = SAME_STEP,
        render_mode: str | None = None,
    ):
        self.num_envs = num_envs
        self.final = final
        self.metadata = {"autoreset_mode": autoreset_mode, "render_modes": ["rgb_array"]}
        self.render_mode = render_mode
        column = spaces.Box(0, 99, (1,), np.float32)
        self.single_observation_space = spaces.Dict({"left": column, "row": column})
        self.single_action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.observation_space = gym.vector.utils.batch_space(
            self.single_observation_space, num_envs
        )
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.left = np.zeros((num_envs, 1), np.float32)
        self.row = np.arange(num_envs, dtype=np.float64)[:, None]  # the space says float32
        self.rewards = np.zeros(num_envs, np.float32)
        self.episodes = np.zeros(num_envs, np.int64)
        self.frames: Any = None
        self.temperature = 0.5
        self.close_calls = self.calls = 0
        self.seen: list[Any] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seen.append((seed, options))
        self.left[:, 0] = np.arange(self.num_envs) + 1
        return {"left": self.left, "row": self.row}, {"begun": self.episodes.copy()}

    def step(self, actions):
        self.left -= 1
        self.rewards[:] = self.left[:, 0]
        ended = self.left[:, 0] == 0
        self.episodes += ended
        even = np.arange(self.num_envs) % 2 == 0
        rows = [{"left": a, "row": b} for a, b in zip(self.left.copy(), self.row, strict=True)]
        final = {
            "array": {"left": self.left.copy(), "row": self.row},
            "objects": np.array(rows, dtype=object),
            "list": [obs if end else None for obs, end in zip(rows, ended, strict=True)],
            "missing": None,
        }[self.final]
        info: dict[str, Any] = {"begun": self.episodes.copy(), "_begun": ended}
        if self.final != "missing":
            info |= {"final_obs": final, "_final_obs": ended}
            info |= {"final_info": {"row": np.arange(self.num_envs), "unit": "s"}}
        self.left[ended, 0] = np.arange(self.num_envs)[ended] + 1
        obs = {"left": self.left, "row": self.row}
        return obs, self.rewards, ended & ~even, ended & even, info

    def render(self):
        return self.frames

    def close(self, **kwargs):
        self.close_calls += 1

    def heat(self, by: float) -> float:
        self.calls += 1
        self.temperature += by
        return self.temperature


class RewardOffset(VectorWrapper):
    """A vector wrapper with state of its own."""

    def __init__(self, env: VectorEnv, offset: float):
        super().__init__(env)
        self.offset = offset

    def step(self, actions):
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        return obs, rewards + self.offset, terminated, truncated, infos


def counting_fns(**kwargs: Any) -> list[Any]:
    return [lambda: CountingEnv(**kwargs) for _ in range(NUM_ENVS)]


def counting_sync(copy: bool = True, **kwargs: Any) -> SyncVectorEnv:
    return SyncVectorEnv(counting_fns(**kwargs), copy=copy, autoreset_mode=SAME_STEP)


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal values through dicts and arrays (numpy scalars equal Python's)."""
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


def compare_with_dummy(ours: Any, theirs: Any, num_steps: int = 40) -> list[dict[str, Any]]:
    """Step both with the same seeds and actions; all that SB3 reads must be equal."""
    assert ours.seed(11) == theirs.seed(11) == [11, 12, 13]
    assert_same(ours.reset(), theirs.reset())
    assert_same(dict(enumerate(ours.reset_infos)), dict(enumerate(theirs.reset_infos)))
    theirs.action_space.seed(0)
    finished = []
    for _ in range(num_steps):
        actions = np.stack([theirs.action_space.sample() for _ in range(NUM_ENVS)])
        obs, rewards, dones, infos = ours.step(actions)
        obs_dummy, rewards_dummy, dones_dummy, infos_dummy = theirs.step(actions)
        assert_same(obs, obs_dummy)
        assert_same(rewards, rewards_dummy)
        assert_same(dones, dones_dummy)
        assert_same(dict(enumerate(ours.reset_infos)), dict(enumerate(theirs.reset_infos)))
        for row, done in enumerate(dones):
            if done:
                assert_same(infos[row], infos_dummy[row])
                finished.append(infos[row])
            else:
                assert infos[row] == {}
        assert len({id(info) for info in infos}) == NUM_ENVS
    return finished


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("copy", [False, True])
def test_trajectories_equal_dummy_vec_env(discrete, copy):
    ours = adapt(counting_sync(copy=copy, discrete=discrete))
    finished = compare_with_dummy(ours, DummyVecEnv(counting_fns(discrete=discrete)))
    cut = [info["TimeLimit.truncated"] for info in finished]
    at_both = [i for i in finished if "reached" in i and i["terminal_observation"]["count"] == 5]
    # The comparison means nothing unless every way of ending happened.
    assert any(cut) and not all(cut) and at_both
    assert not any(info["TimeLimit.truncated"] for info in at_both)


def test_trajectories_equal_through_async_processes():
    env = AsyncVectorEnv(counting_fns(), autoreset_mode=SAME_STEP)
    ours = adapt(env)
    try:
        compare_with_dummy(ours, DummyVecEnv(counting_fns()), num_steps=12)
        # What lies in other processes is out of reach.
        assert not ours.has_attr("limit")
        with pytest.raises(AttributeError, match="double"):
            ours.env_method("double", 4)
        assert ours.env_is_wrapped(Monitor) == [False] * NUM_ENVS
    finally:
        ours.close()
    ours.close()
    assert env.closed


def test_wrapped_vector_envs_keep_their_wrappers():
    ours = adapt(DictInfoToList(RewardOffset(counting_sync(), 0.0)))
    compare_with_dummy(ours, DummyVecEnv(counting_fns()))

    plain = adapt(counting_sync())
    shifted = adapt(RewardOffset(counting_sync(), 2.5))
    for venv in (plain, shifted):
        venv.seed(0)
        venv.reset()
    actions = np.zeros((NUM_ENVS, 2), np.float32)
    np.testing.assert_allclose(shifted.step(actions)[1], plain.step(actions)[1] + 2.5, rtol=1e-6)


@pytest.mark.parametrize("final", ["array", "objects", "list"])
def test_batch_env_with_every_form_of_final_obs(final):
    venv = adapt(BatchCountdown(final=final))
    first = venv.reset()
    np.testing.assert_array_equal(first["left"][:, 0], [1, 2, 3])
    assert venv.reset_infos == [{"begun": 0}] * 3
    actions = np.zeros((3, 1), np.float32)

    obs, rewards, dones, infos = venv.step(actions)
    np.testing.assert_array_equal(first["left"][:, 0], [1, 2, 3])  # not the environment's buffer
    np.testing.assert_array_equal(obs["left"][:, 0], [1, 1, 2])
    assert obs["row"].dtype == infos[0]["terminal_observation"]["row"].dtype == np.float32
    assert rewards.dtype == np.float32 and rewards.tolist() == [0, 1, 2]
    assert dones.dtype == bool and dones.tolist() == [True, False, False]
    assert infos[0].pop("terminal_observation") == {"left": [0], "row": [0]}
    assert infos == [{"row": 0, "unit": "s", "TimeLimit.truncated": True}, {}, {}]
    assert venv.reset_infos == [{"begun": 1}, {"begun": 0}, {"begun": 0}]

    _, _, dones, infos = venv.step(actions)
    assert dones.tolist() == [True, True, False]
    assert [info.get("TimeLimit.truncated") for info in infos] == [True, False, None]
    assert infos[1]["terminal_observation"] == {"left": [0], "row": [1]}


def test_nothing_handed_out_is_shared():
    env = BatchCountdown(num_envs=2)
    venv = adapt(env)
    venv.reset()
    obs, rewards, _, infos = venv.step(np.zeros((2, 1), np.float32))
    left, kept = env.left.copy(), env.rewards.copy()
    obs["left"] += 50
    rewards += 50
    np.testing.assert_array_equal(infos[0]["terminal_observation"]["left"], [0])
    infos[0]["terminal_observation"]["left"] += 50
    infos[0]["note"] = 1
    assert infos[1] == {}
    np.testing.assert_array_equal(env.left, left)
    np.testing.assert_array_equal(env.rewards, kept)


def test_terminal_observation_is_no_view_of_the_sub_env_memory():
    last = []

    class Remembering(CountingEnv):
        def step(self, action):
            result = super().step(action)
            last.append(result[0])
            return result

    venv = adapt(SyncVectorEnv([lambda: Remembering(2)], autoreset_mode=SAME_STEP))
    venv.reset()
    for _ in range(2):
        _, _, dones, infos = venv.step(np.ones((1, 2), np.float32))
    assert dones[0]
    kept = infos[0]["terminal_observation"]["position"].copy()
    last[-1]["position"] += 50
    np.testing.assert_array_equal(infos[0]["terminal_observation"]["position"], kept)


def test_observations_outlive_the_next_step():
    venv = adapt(counting_sync(copy=False))
    first = venv.reset()
    venv.step(np.ones((NUM_ENVS, 2), np.float32))
    assert first["count"].tolist() == [[0]] * NUM_ENVS


def test_copies_can_be_left_out():
    env = BatchCountdown()
    assert adapt(env, copy_observations=False).reset()["left"] is env.left
    assert not np.shares_memory(adapt(env).reset()["left"], env.left)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED, None])
def test_other_autoreset_modes_are_refused(mode):
    with pytest.raises(ValueError, match="SAME_STEP") as error:
        adapt(BatchCountdown(autoreset_mode=mode))
    assert f"got {mode}" in str(error.value) and "BatchCountdown" in str(error.value)


def test_the_refusal_says_what_works():
    kwargs: dict[str, Any] = {"num_envs": 2, "vectorization_mode": "sync"}
    with pytest.raises(ValueError, match=r"vector_kwargs=\{'autoreset_mode': 'SameStep'\}"):
        adapt(gym.make_vec("CartPole-v1", **kwargs))
    env = gym.make_vec("CartPole-v1", **kwargs, vector_kwargs={"autoreset_mode": "SameStep"})
    assert adapt(env).reset().shape == (2, 4)


def test_what_sb3_cannot_take_is_refused():
    with pytest.raises(TypeError, match="CountingEnv"):
        adapt(CountingEnv())
    env = BatchCountdown()
    env.single_observation_space = spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)})})
    with pytest.raises(ValueError, match="flat Dict"):
        adapt(env)


def test_contract_violations_are_loud():
    venv = adapt(BatchCountdown(final="missing"))
    venv.reset()
    venv.step_async(np.zeros((3, 1), np.float32))
    venv.reset()  # cancels the step
    with pytest.raises(RuntimeError, match="step_async"):
        venv.step_wait()
    with pytest.raises(RuntimeError, match=r"row 0.*final_obs"):
        venv.step(np.zeros((3, 1), np.float32))
    with pytest.raises(RuntimeError, match="step_async"):
        venv.step_wait()


def test_seeds_are_used_once_and_count_up_by_row():
    venv = adapt(counting_sync())
    assert venv.seed(np.int64(5)) == [5, 6, 7]
    first = venv.reset()
    for row in range(NUM_ENVS):
        single, info = CountingEnv().reset(seed=5 + row)
        np.testing.assert_array_equal(first["position"][row], single["position"])
        assert venv.reset_infos[row] == info
    second = venv.reset()
    assert not np.array_equal(first["position"], second["position"])
    venv.seed(5)
    np.testing.assert_array_equal(venv.reset()["position"], first["position"])

    env = BatchCountdown()
    venv = adapt(env)
    venv.seed(3)
    for _ in range(2):
        venv.reset()
    assert env.seen == [(3, None), (None, None)]


def test_options_are_used_once_and_are_the_same_for_all():
    venv = adapt(counting_sync())
    positions = {}
    for name, options in {
        "none": None,
        "one": {"start": np.full(2, 20.0)},
        "list": [{"start": 20.0} for _ in range(NUM_ENVS)],
        "after": None,
    }.items():
        venv.seed(0)
        if options is not None:
            venv.set_options(options)
        positions[name] = venv.reset()["position"]
    np.testing.assert_allclose(positions["one"], positions["none"] + 20, rtol=1e-6)
    np.testing.assert_array_equal(positions["list"], positions["one"])
    np.testing.assert_array_equal(positions["after"], positions["none"])
    venv.set_options([{"start": 1.0}, {"start": 2.0}, {"start": 1.0}])
    with pytest.raises(ValueError, match="same options"):
        venv.reset()


def test_attributes_of_sub_envs():
    env = counting_sync()
    venv = adapt(RewardOffset(env, 1.0))
    assert venv.get_attr("difficulty") == [1, 1, 1]
    venv.set_attr("difficulty", 4, indices=1)
    assert [sub.get_wrapper_attr("difficulty") for sub in env.envs] == [1, 4, 1]
    assert venv.get_attr("difficulty", [1, 2]) == [4, 1]
    venv.set_attr("names", ["x", "y", "z"])  # one list for each, not one item for each
    assert venv.get_attr("names") == [["x", "y", "z"]] * NUM_ENVS
    assert venv.env_method("double", 3, plus=1, indices=[2]) == [7]
    assert [hasattr(sub, "doubled") for sub in env.envs] == [False, False, True]
    assert venv.get_attr("double", 2)[0](1) == 2  # a method is handed out, not called
    assert venv.get_attr("action_space") == [CountingEnv().action_space] * NUM_ENVS
    # What no sub-environment has is looked for in the vector wrappers.
    assert venv.get_attr("offset") == [1.0] * NUM_ENVS
    venv.set_attr("offset", 2.0)
    assert venv.env.offset == 2.0
    for call in (venv.get_attr, venv.env_method, lambda name: venv.set_attr(name, 1)):
        with pytest.raises(AttributeError, match="no_such_attribute"):
            call("no_such_attribute")
    assert venv.has_attr("offset") and not venv.has_attr("no_such_attribute")


def test_attributes_below_gym_wrappers_are_set_where_they_live():
    env = SyncVectorEnv([lambda: TimeLimit(CountingEnv(), 3)] * 2, autoreset_mode=SAME_STEP)
    venv = adapt(env)
    venv.set_attr("difficulty", 8)
    assert [vars(sub.unwrapped)["difficulty"] for sub in env.envs] == [8, 8]
    assert venv.env_is_wrapped(TimeLimit) == [True, True]
    assert venv.env_is_wrapped(TimeLimit, indices=1) == [True]
    assert venv.env_is_wrapped(Monitor) == [False, False]
    assert all(is_wrapped(sub, TimeLimit) for sub in env.envs)


def test_attributes_of_a_batch_are_repeated():
    env = BatchCountdown()
    venv = adapt(RewardOffset(env, 1.0))
    assert venv.get_attr("temperature", [0, 2]) == [0.5, 0.5]
    venv.set_attr("temperature", 1.0)
    assert env.temperature == 1.0
    assert venv.env_method("heat", 0.5) == [1.5] * 3 and env.calls == 1
    assert venv.get_attr("action_space") == [env.single_action_space] * 3
    assert venv.env_is_wrapped(Monitor) == [False] * 3
    assert venv.env_is_wrapped(Monitor, indices=[1]) == [False]


def test_render_tiles_the_frames():
    env = BatchCountdown(num_envs=4, render_mode="rgb_array")
    venv = adapt(env)
    assert venv.render_mode == "rgb_array"
    assert venv.get_images() == [None] * 4 and venv.render() is None  # nothing to show yet
    frames = np.arange(4 * 2 * 5 * 3, dtype=np.uint8).reshape(4, 2, 5, 3)
    by_hand = np.block([[[frames[0]], [frames[1]]], [[frames[2]], [frames[3]]]])
    for given in (frames, tuple(frames)):
        env.frames = given
        np.testing.assert_array_equal(np.stack(list(venv.get_images())), frames)
        np.testing.assert_array_equal(venv.render(), by_hand)

    sync = adapt(counting_sync(render_mode="rgb_array"))
    sync.reset()
    sync.step(np.zeros((NUM_ENVS, 2), np.float32))
    assert [frame[0, 0, 0] for frame in sync.get_images()] == [1] * NUM_ENVS
    assert sync.metadata["render_fps"] == 7


def test_images_without_a_render_mode_warn():
    venv = adapt(BatchCountdown())
    with pytest.warns(UserWarning, match="rgb_array"):
        assert venv.get_images() == [None] * 3


def test_close_twice_closes_once():
    env = BatchCountdown()
    venv = adapt(env)
    venv.close()
    venv.close()
    assert env.close_calls == 1


def test_vec_monitor_counts_episodes():
    venv = VecMonitor(adapt(BatchCountdown()), info_keywords=("row",))
    venv.reset()
    episodes = []
    for _ in range(6):
        infos = venv.step(np.zeros((3, 1), np.float32))[3]
        episodes += [info["episode"] for info in infos if "episode" in info]
    # Row i lasts i + 1 steps and is paid i + ... + 1 + 0.
    counted = sorted((int(e["row"]), int(e["l"]), float(e["r"])) for e in episodes)
    assert counted == [(0, 1, 0.0)] * 6 + [(1, 2, 1.0)] * 3 + [(2, 3, 3.0)] * 2


@pytest.mark.filterwarnings("error")  # evaluate_policy warns if it sees no Monitor
def test_monitor_in_the_sub_envs_reaches_the_infos():
    fns: list[Any] = [lambda: Monitor(CountingEnv()) for _ in range(NUM_ENVS)]
    venv = adapt(SyncVectorEnv(fns, autoreset_mode=SAME_STEP))
    model = PPO("MultiInputPolicy", venv, n_steps=8, batch_size=24, seed=0)
    mean, _ = evaluate_policy(model, venv, n_eval_episodes=6, deterministic=True)
    venv_dummy = DummyVecEnv(fns)
    model_dummy = PPO("MultiInputPolicy", venv_dummy, n_steps=8, batch_size=24, seed=0)
    assert mean == evaluate_policy(model_dummy, venv_dummy, n_eval_episodes=6)[0]


@pytest.mark.parametrize(
    ("algorithm", "discrete", "kwargs"),
    [
        (PPO, False, {"n_steps": 16, "batch_size": 24, "n_epochs": 2}),
        (A2C, True, {"n_steps": 5}),
        (DQN, True, {"learning_starts": 10, "buffer_size": 200, "batch_size": 8}),
    ],
)
def test_learning_equals_dummy_vec_env(algorithm, discrete, kwargs):
    # Truncations are bootstrapped with the value of the terminal observation: it must be the same.
    parameters, returns = [], []
    for venv in (
        adapt(counting_sync(discrete=discrete)),
        DummyVecEnv(counting_fns(discrete=discrete)),
    ):
        model = algorithm("MultiInputPolicy", VecMonitor(venv), seed=1, device="cpu", **kwargs)
        start = {name: value.clone() for name, value in model.policy.state_dict().items()}
        model.learn(96)
        parameters.append(model.policy.state_dict())
        returns.append([episode["r"] for episode in model.ep_info_buffer])
        assert any(not torch.equal(start[name], parameters[-1][name]) for name in start)
    assert returns[0] == returns[1] and len(returns[0]) > 5
    for name, value in parameters[1].items():
        assert torch.equal(parameters[0][name], value), name
