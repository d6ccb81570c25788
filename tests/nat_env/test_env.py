"""The single environment: other libraries' checkers, its spec, episodes, pictures, bad input."""

import json
import shutil
import subprocess

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.wrappers import RecordVideo
from stable_baselines3.common.env_checker import check_env as stable_baselines_check_env

import nat_env.bundles.loading
import nat_env.frozen.weights
from nat_env import NATDecodeEnv, load_bundle
from nat_env.bundles.loading import bundle_folder
from nat_env.render import MASK_COLOUR

FORMS = ("features", "pooled", "tokens")
NUM_STEPS = 3


def make(**kwargs):
    kwargs = {"num_steps": NUM_STEPS, "observation": "tokens"} | kwargs
    return gym.make("NATDecode-v0", bundle="digits", dtype="float32", **kwargs)


def assert_same(left, right):
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            np.testing.assert_array_equal(left[key], right[key])
    else:
        np.testing.assert_array_equal(left, right)


def snapshot(env):
    vector = env.unwrapped.vector
    state = vector.state_dict()
    tensors = [state[k].clone() for k in ("ids", "conditions", "timesteps")]
    tensors += [part.clone() for part in vector._passes]
    return tensors, str(state["generators"]), str(env.unwrapped.np_random.bit_generator.state)


def assert_unchanged(env, before):
    tensors, *states = snapshot(env)
    for now, then in zip(tensors, before[0], strict=True):
        assert torch.equal(now, then)
    assert states == list(before[1:])


@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
@pytest.mark.parametrize("form", FORMS)
def test_gymnasiums_checker_has_nothing_to_say(form, render_mode, recwarn):
    env = make(observation=form, render_mode=render_mode)
    gymnasium_check_env(env.unwrapped)
    assert not recwarn.list


@pytest.mark.parametrize("form", FORMS)
def test_stable_baselines_checker_has_nothing_to_say(form, recwarn):
    stable_baselines_check_env(make(observation=form).unwrapped)
    stable_baselines_check_env(make(observation=form))
    assert not recwarn.list


def test_no_time_limit_is_registered():
    assert gym.spec("NATDecode-v0").max_episode_steps is None
    env = make()
    while isinstance(env, gym.Wrapper):
        assert not isinstance(env, gym.wrappers.TimeLimit)
        env = env.env
    assert type(env) is NATDecodeEnv


def test_name_with_module_registers_first():
    env = gym.make("nat_env:NATDecode-v0", bundle="digits", dtype="float32")
    assert type(env.unwrapped) is NATDecodeEnv


@pytest.mark.parametrize("form", FORMS)
def test_spec_round_trip(form):
    env = make(observation=form, residual="heuristic")
    text = env.spec.to_json()
    assert json.loads(text)["kwargs"]["num_steps"] == NUM_STEPS
    again = gym.make(EnvSpec.from_json(text))
    assert again.spec == env.spec
    assert again.observation_space == env.observation_space
    assert_same(again.reset(seed=0)[0], env.reset(seed=0)[0])
    rng = np.random.default_rng(0)
    for _ in range(NUM_STEPS):
        action = rng.uniform(-1, 1, 4)
        left, right = again.step(action), env.step(action)
        assert_same(left[0], right[0])
        assert left[1:4] == right[1:4]
        assert_same(left[4], right[4])


def test_vector_spec_round_trip():
    kwargs = {"num_steps": NUM_STEPS, "observation": "tokens", "autoreset_mode": "NextStep"}
    env = gym.make_vec("NATDecode-v0", 2, bundle="digits", dtype="float32", **kwargs)
    again = gym.make_vec(EnvSpec.from_json(env.spec.to_json()))
    assert again.num_envs == 2
    assert again.autoreset_mode is env.autoreset_mode
    assert_same(again.reset(seed=0)[0], env.reset(seed=0)[0])


def test_many_environments_load_the_models_once(tmp_path, monkeypatch):
    folder = shutil.copytree(bundle_folder("digits"), tmp_path / "mine")
    loaded = []
    original = nat_env.bundles.loading.load_file

    def load_file(path):
        loaded.append(path.relative_to(folder).as_posix())
        return original(path)

    for module in (nat_env.bundles.loading, nat_env.frozen.weights):
        monkeypatch.setattr(module, "load_file", load_file)
    kwargs = {"bundle": str(folder), "dtype": "float32", "num_steps": 2}
    envs = [gym.make("NATDecode-v0", **kwargs) for _ in range(8)]
    envs.append(gym.make_vec("NATDecode-v0", 4, **kwargs))
    envs.append(gym.make_vec("NATDecode-v0", 4, vectorization_mode="sync", **kwargs))
    kwargs["bundle"] = str(folder / ".." / "mine")  # the same folder by another name
    envs.append(gym.make("NATDecode-v0", **kwargs))
    assert sorted(loaded) == [
        "judge/model.safetensors",
        "reals.safetensors",
        "statistics.safetensors",
        "transformer/model.safetensors",
        "trunk/model.safetensors",
    ]
    models = {id(env.unwrapped.vector.bundle.nat.transformer) for env in envs[:8]}
    assert len(models | {id(envs[8].unwrapped.bundle.nat.transformer)}) == 1


def test_an_episode():
    env = make()
    observation, info = env.reset(seed=0, options={"condition": 6})
    assert info == {}
    assert observation["condition"].tolist() == [6]
    for step in range(1, NUM_STEPS + 1):
        observation, reward, terminated, truncated, info = env.step(np.zeros(4))
        assert observation["timestep"].tolist() == [step]
        assert observation["condition"].tolist() == [6]
        assert (terminated, truncated) == (step == NUM_STEPS, False)
        assert type(terminated) is type(truncated) is bool
        assert type(reward) is float
        assert (reward != 0) == terminated
        np.testing.assert_allclose(info["action"], [0.5, *[np.log(2)] * 3], rtol=1e-6)
    ids = torch.from_numpy(observation["ids"])[None]
    bundle = load_bundle("digits", "float32")
    logits = bundle.yardstick.judge(bundle.tokenizer.decode(ids))
    assert reward == pytest.approx(logits.log_softmax(dim=1)[0, 6].item(), rel=1e-5)


def test_seeds_repeat():
    def play(env, seed):
        seen = [env.reset(seed=seed)[0]]
        seen += [env.step(np.zeros(4))[0] for _ in range(NUM_STEPS)]
        seen += [env.reset()[0]]
        return np.array([[*s["ids"], *s["condition"]] for s in seen])

    env = make()
    first = play(env, 1)
    np.testing.assert_array_equal(play(env, 1), first)
    np.testing.assert_array_equal(play(make(), 1), first)
    assert (play(env, 2) != first).any()
    labels = {env.reset()[0]["condition"][0] for _ in range(60)}
    assert labels == set(range(10))


def test_no_step_after_the_end():
    env = make().unwrapped
    env.reset(seed=0)
    for _ in range(NUM_STEPS):
        env.step(np.zeros(4))
    before = snapshot(env)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(4))
    assert_unchanged(env, before)
    assert env.reset()[0]["timestep"].tolist() == [0]
    assert env.step(np.zeros(4))[0]["timestep"].tolist() == [1]


def test_no_step_before_the_first_reset():
    with pytest.raises(gym.error.ResetNeeded):
        make().unwrapped.step(np.zeros(4))


def test_frames():
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    for covered in (16, 8, 8, 0):
        frame = env.render()
        assert frame.shape == (64, 64, 3)
        assert frame.dtype == np.uint8
        masked = (frame == np.array(MASK_COLOUR)).all(axis=2)
        assert masked.sum() == covered * 16 * 16
        tokens = env.unwrapped.vector.ids == env.unwrapped.vector.bundle.nat.mask_id
        assert tokens.sum() == covered
        if covered:
            env.step(np.zeros(4))
    assert make().unwrapped.render() is None


def test_an_episode_as_a_video(tmp_path):
    env = RecordVideo(
        make(render_mode="rgb_array"), str(tmp_path / "videos"), episode_trigger=lambda _: True
    )
    env.reset(seed=0)
    for _ in range(NUM_STEPS):
        env.step(np.zeros(4))
    last = env.unwrapped.render()
    env.close()
    (path,) = (tmp_path / "videos").iterdir()
    assert imageio_ffmpeg.count_frames_and_secs(str(path)) == (NUM_STEPS + 1, (NUM_STEPS + 1) / 2)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    frames = np.frombuffer(raw.stdout, np.uint8).reshape(-1, 64, 64, 3).astype(int)
    assert abs(frames[0] - MASK_COLOUR).mean() < 8  # compression has a loss
    assert abs(frames[-1] - last).mean() < 8


def test_closing_twice_is_fine():
    env = make()
    env.reset(seed=0)
    env.close()
    env.close()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("bundle", "nonesuch"),
        ("num_steps", 0),
        ("observation", "pixels"),
        ("dtype", "float64"),
        ("residual", "nonesuch"),
    ],
)
def test_bad_arguments_are_named(argument, value):
    good = {"bundle": "digits", "dtype": "float32"}
    with pytest.raises(ValueError, match=f"^{argument}: got "):
        gym.make("NATDecode-v0", **(good | {argument: value}))


@pytest.mark.parametrize(
    "action",
    [
        np.zeros(3),
        np.zeros((1, 4)),
        np.zeros(()),
        np.array([0, 0, 0, np.nan]),
        np.array([0, -np.inf, 0, 0]),
        np.array([0, 0, 1.01, 0]),
        np.array([-1.01, 0, 0, 0]),
    ],
)
def test_bad_actions_change_nothing(action):
    env = make().unwrapped
    env.reset(seed=0)
    env.step(np.zeros(4))
    before = snapshot(env)
    with pytest.raises(ValueError, match=r"^actions: got "):
        env.step(action)
    assert_unchanged(env, before)


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("condition", [10, -1, [1, 2], [], 2.5, "seven"])
def test_bad_conditions_change_nothing(condition, seed):
    env = make().unwrapped
    env.reset(seed=0)
    env.step(np.zeros(4))
    before = snapshot(env)
    with pytest.raises(ValueError, match=r"^conditions?: "):
        env.reset(seed=seed, options={"condition": condition})
    assert_unchanged(env, before)
