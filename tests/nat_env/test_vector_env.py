"""The vector environment against Gymnasium's own, against `generate`, and by hand."""

import dataclasses
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import nat_env
from agents.learners.vec_env import GymnasiumVecEnv
from nat_env import ActionMap, NATDecodeVectorEnv, generate, heuristic_schedule, load_bundle
from nat_env.episodes.inputs import checked_actions
from nat_env.frozen.nat import FrozenNAT
from nat_env.generation import draw_uniforms
from nat_env.render import MASK_COLOUR
from nat_env.wrappers.adversarial import AdversarialReward
from nat_env.wrappers.passes import StepCost
from nat_env.wrappers.shaping import PotentialShaping, confidence

NUM_STEPS = 3
FORMS = ("features", "confidences", "pooled", "tokens")
MODES = tuple(AutoresetMode)


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


@pytest.fixture
def fresh_bundle(bundle):
    """The same models with nothing kept from earlier passes."""
    nat = bundle.nat
    copy = FrozenNAT(nat.transformer, nat.null_condition)
    return dataclasses.replace(bundle, nat=copy)


@pytest.fixture
def rows_of_passes(bundle):
    """A list that grows by the number of rows of each forward call of the transformer."""
    rows = []
    hook = bundle.nat.transformer.register_forward_hook(
        lambda _, args, __: rows.append(len(args[0]))
    )
    yield rows
    hook.remove()


def make(bundle, num_envs=3, **kwargs):
    kwargs = {"num_steps": NUM_STEPS, "observation": "tokens"} | kwargs
    return NATDecodeVectorEnv(num_envs, bundle, **kwargs)


def make_by_name(num_envs=3, **kwargs):
    kwargs = {"num_steps": NUM_STEPS, "observation": "tokens"} | kwargs
    return gym.make_vec("NATDecode-v0", num_envs, bundle="digits", dtype="float32", **kwargs)


def random_actions(rng, num_envs=3):
    """Of m so large that a token stays masked, and episodes have all T steps."""
    actions = rng.uniform(-1, 1, (num_envs, 4)).astype(np.float32)
    actions[:, 0] = rng.uniform(-0.4, 1, num_envs)
    return actions


def any_actions(rng, num_envs=3):
    """Of which some reveal all that is left."""
    return rng.uniform(-1, 1, (num_envs, 4)).astype(np.float32)


def snapshot(env):
    """All that decides what an environment does next."""
    state = env.state_dict()
    tensors = [state[k].clone() for k in ("ids", "conditions", "timesteps")]
    tensors += [part.clone() for part in env._passes]
    return tensors, [str(g) for g in state["generators"]]


def assert_unchanged(env, before):
    tensors, generators = snapshot(env)
    for now, then in zip(tensors, before[0], strict=True):
        assert torch.equal(now, then)
    assert generators == before[1]


def assert_observations_match(left, right):
    """Tokens, labels and steps to the bit; features but for the rounding of other batch sizes."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_observations_match(left[key], right[key])
        return
    assert left.dtype == right.dtype
    if left.dtype == np.float32:
        np.testing.assert_allclose(left, right, atol=2e-5)
    else:
        np.testing.assert_array_equal(left, right)


# Registration and spaces


def test_make_vec_gives_the_batched_environment():
    env = make_by_name(2)
    assert type(env) is NATDecodeVectorEnv
    assert env.num_envs == 2
    assert env.autoreset_mode is env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.spec.max_episode_steps is None
    env.close()
    env.close()


def test_modes_are_kept_per_instance():
    modes = [
        make_by_name(1, autoreset_mode=mode.value).metadata["autoreset_mode"] for mode in MODES
    ]
    assert modes == list(MODES)
    assert NATDecodeVectorEnv.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert make_by_name(1, autoreset_mode=MODES[2]).autoreset_mode is MODES[2]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", MODES)
def test_everything_lies_in_its_space(bundle, form, mode):
    env = make(bundle, observation=form, autoreset_mode=mode)
    rng = np.random.default_rng(0)
    observation, info = env.reset(seed=0)
    assert info == {}
    assert observation in env.observation_space
    for _ in range(NUM_STEPS if mode is AutoresetMode.DISABLED else 2 * NUM_STEPS + 3):
        observation, rewards, terminated, truncated, info = env.step(random_actions(rng))
        assert observation in env.observation_space
        assert rewards.shape == terminated.shape == truncated.shape == (3,)
        assert rewards.dtype == np.float64
        assert terminated.dtype == truncated.dtype == np.bool_
        assert info["action"].shape == (3, 4)
        for row in np.flatnonzero(info.get("_final_obs", [])):
            assert info["final_obs"][row] in env.single_observation_space


@pytest.mark.parametrize("form", FORMS)
def test_observations_show_the_state(bundle, form):
    env = make(bundle, observation=form, autoreset_mode="Disabled")
    rng = np.random.default_rng(1)
    observation, _ = env.reset(seed=3)
    for step in range(NUM_STEPS + 1):
        nat = bundle.nat
        finished = step == NUM_STEPS
        with torch.no_grad():
            features = nat.transformer(env.ids, env.conditions).features.numpy() * (not finished)
        masked = (env.ids == nat.mask_id).float().mean(dim=1).numpy()
        if form == "features":
            expected = features.reshape(3, -1)
            np.testing.assert_allclose(observation["features"], expected, atol=2e-5)
        elif form == "confidences":
            sure = env.logits.softmax(dim=-1).amax(dim=-1).numpy()
            covered = (env.ids == nat.mask_id).numpy()
            expected = np.stack([np.where(covered, sure, 1.0), covered], axis=-1)
            expected = expected.reshape(3, -1) * (not finished)
            np.testing.assert_allclose(observation["features"], expected, atol=2e-5)
        elif form == "pooled":
            time = np.full(3, step / NUM_STEPS, np.float32)
            expected = np.column_stack([features.mean(axis=1), time])
            np.testing.assert_allclose(observation, expected, atol=2e-5)
        else:
            np.testing.assert_array_equal(observation["ids"], env.ids.numpy())
            np.testing.assert_array_equal(observation["condition"][:, 0], env.conditions.numpy())
        if form != "pooled":
            assert observation["timestep"].tolist() == [[step]] * 3
        assert (masked == 1).all() if step == 0 else (masked < 1).all()
        if not finished:
            observation, *_ = env.step(random_actions(rng))
    assert (masked == 0).all()


# Equal to other ways of doing the same


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", MODES)
def test_same_as_gymnasiums_vector_of_single_environments(form, mode):
    ours = make_by_name(autoreset_mode=mode, observation=form)
    theirs = make_by_name(
        observation=form, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}
    )
    assert isinstance(theirs, SyncVectorEnv)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng, early = np.random.default_rng(2), 0
    assert_observations_match(ours.reset(seed=11)[0], theirs.reset(seed=11)[0])
    for step in range(3 * NUM_STEPS + 2):
        actions = any_actions(rng)
        left, right = ours.step(actions), theirs.step(actions)
        assert_observations_match(left[0], right[0])
        np.testing.assert_allclose(left[1], right[1], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(left[2], right[2])
        np.testing.assert_array_equal(left[3], right[3])
        assert ("final_obs" in left[4]) == ("final_obs" in right[4])
        early += (left[2] & (left[4]["passes"] < NUM_STEPS)).sum()
        if "passes" in right[4]:
            told = right[4]["_passes"]
            np.testing.assert_array_equal(left[4]["passes"][told], right[4]["passes"][told])
        if "final_obs" in left[4]:
            np.testing.assert_array_equal(left[4]["_final_obs"], right[4]["_final_obs"])
            np.testing.assert_array_equal(left[4]["_final_info"], right[4]["_final_info"])
            for row in np.flatnonzero(left[4]["_final_obs"]):
                final = [info["final_obs"][row] for info in (left[4], right[4])]
                assert_observations_match(*final)
                last = [info["final_info"] for info in (left[4], right[4])]
                np.testing.assert_allclose(*(one["action"][row] for one in last), rtol=1e-6)
                assert last[0]["passes"][row] == last[1]["passes"][row]
        if mode is AutoresetMode.DISABLED:
            mask = left[2].copy()
            mask[1] |= step == 1  # in the middle of its episode: from here steps differ by row
            if mask.any():
                options = {"reset_mask": mask}
                left, right = ours.reset(options=options), theirs.reset(options=options.copy())
                assert_observations_match(left[0], right[0])
    assert early > 2


@pytest.mark.parametrize("num_envs", [1, 2, 7])
def test_a_row_equals_the_single_environment_of_its_seed(bundle, num_envs):
    vector = make(bundle, num_envs, autoreset_mode="Disabled", aligned=True)
    rng = np.random.default_rng(3)
    actions = rng.uniform(-1, 1, (2 * NUM_STEPS, 7, 4))
    seen = []
    for episode in range(2):
        seen.append(vector.reset(seed=20 if episode == 0 else None)[0])
        for step in range(NUM_STEPS):
            seen.append(vector.step(actions[episode * NUM_STEPS + step, :num_envs])[0])
    for row in range(num_envs):
        single = nat_env.NATDecodeEnv(bundle, NUM_STEPS, "tokens", aligned=True)
        alone = []
        for episode in range(2):
            alone.append(single.reset(seed=20 + row if episode == 0 else None)[0])
            for step in range(NUM_STEPS):
                alone.append(single.step(actions[episode * NUM_STEPS + step, row])[0])
        for together, by_itself in zip(seen, alone, strict=True):
            for key in ("ids", "condition", "timestep"):
                np.testing.assert_array_equal(together[key][row], by_itself[key])


def test_rows_at_different_steps_equal_single_environments(bundle):
    """Rows are restarted one by one, so that all steps occur side by side."""
    vector = make(bundle, 4, num_steps=4, autoreset_mode="Disabled", residual="heuristic")
    singles = [nat_env.NATDecodeEnv(bundle, 4, "tokens", residual="heuristic") for _ in range(4)]
    vector.reset(seed=5)
    for row, single in enumerate(singles):
        single.reset(seed=5 + row)
    rng = np.random.default_rng(4)
    seen = set()
    for step in range(12):
        actions = any_actions(rng, 4)
        observation, rewards, terminated, _, info = vector.step(actions)
        for row, single in enumerate(singles):
            alone, reward, done, _, single_info = single.step(actions[row])
            for key, value in alone.items():
                np.testing.assert_array_equal(observation[key][row], value)
            assert rewards[row] == pytest.approx(reward, rel=1e-4, abs=1e-5)
            assert terminated[row] == done
            np.testing.assert_allclose(info["action"][row], single_info["action"], rtol=1e-6)
        mask = terminated.copy()
        if step < 3:
            mask[step] = True
        if mask.any():
            observation, _ = vector.reset(options={"reset_mask": mask})
            for row in np.flatnonzero(mask):
                alone, _ = singles[row].reset()
                for key, value in alone.items():
                    np.testing.assert_array_equal(observation[key][row], value)
        seen.add(tuple(vector.timesteps.tolist()))
    assert any(len(set(steps)) >= 3 for steps in seen)


class FromFeatures:
    """A policy whose actions in the box depend on what it sees."""

    def __init__(self, feature_size, residual=None):
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn(feature_size, 4, generator=generator) * 0.3
        self.map = ActionMap(residual)

    def actions(self, features, timestep):
        return torch.tanh(features.mean(dim=1) @ self.weights + 0.2 * timestep[:, None])

    def __call__(self, features, timestep):
        return self.map.physical(self.actions(features, timestep), timestep)


@pytest.mark.parametrize("residual", [None, "heuristic"])
@pytest.mark.parametrize("batch_size", [1, 4, 128])
def test_images_equal_those_of_generate(bundle, residual, batch_size):
    labels = torch.tensor([3, 1, 4, 1, 5, 9, 2])
    schedule = None if residual is None else heuristic_schedule(NUM_STEPS)
    policy = FromFeatures(bundle.nat.feature_size, schedule)
    env = make(bundle, 7, observation="features", residual=residual, aligned=True)
    observation, _ = env.reset(seed=40, options={"condition": labels.numpy()})
    records = []
    images = generate(bundle, policy, labels, NUM_STEPS, 40, batch_size, records.append)
    for step in range(NUM_STEPS):
        features = torch.from_numpy(observation["features"]).view(7, bundle.num_tokens, -1)
        actions = policy.actions(features, torch.full((7,), step))
        observation, _, _, _, info = env.step(actions.numpy())
        applied = torch.cat([r.actions for r in records if r.timestep == step])
        decoded = info["passes"] > step  # others have nothing masked
        np.testing.assert_allclose(info["action"][decoded], applied[decoded], rtol=1e-4)
        if step < NUM_STEPS - 1:
            ids = torch.cat([r.ids for r in records if r.timestep == step])
            assert torch.equal(ids, env.ids)
    assert torch.equal(env.final_conditions, labels)
    assert images.shape == (7, 1, 8, 8)
    torch.testing.assert_close(env.final_images, images, rtol=0, atol=1e-5)


def test_the_physical_action_is_the_maps(bundle):
    env = make(bundle, residual="heuristic")
    env.reset(seed=0)
    rng = np.random.default_rng(5)
    for step in range(2 * NUM_STEPS):
        actions = random_actions(rng)
        info = env.step(actions)[4]
        steps = torch.full((3,), step % NUM_STEPS)
        expected = ActionMap(heuristic_schedule(NUM_STEPS)).physical(torch.tensor(actions), steps)
        np.testing.assert_allclose(info["action"], expected, rtol=1e-6)


def test_residual_from_a_file(bundle, tmp_path):
    schedule = heuristic_schedule(NUM_STEPS, 0.3, 2.0, 0.6)
    schedule.save(tmp_path / "schedule.json")
    env = make(bundle, residual=str(tmp_path / "schedule.json"))
    env.reset(seed=0)
    for step in range(NUM_STEPS):
        info = env.step(np.zeros((3, 4)))[4]
        np.testing.assert_allclose(
            info["action"], schedule.table[step].expand(3, 4), rtol=1e-4, atol=1.01e-4
        )


def test_a_stored_state_goes_on_as_if_never_stopped(bundle):
    """Rows that are at the start, under way and finished."""
    env = make(bundle, 4, autoreset_mode="Disabled", observation="features")
    rng = np.random.default_rng(6)
    env.reset(seed=1)
    mask = np.array([True, False, False, False])
    for _ in range(NUM_STEPS - 1):
        env.step(random_actions(rng, 4))
    env.reset(options={"reset_mask": mask})
    env.step(random_actions(rng, 4))
    env.reset(options={"reset_mask": np.roll(mask, 1)})
    assert env.timesteps.tolist() == [1, 0, NUM_STEPS, NUM_STEPS]
    state, observation = env.state_dict(), env._observation()
    other = make(bundle, 4, autoreset_mode="Disabled", observation="features")
    assert_observations_match(other.load_state_dict(state), observation)
    mask = np.array([False, False, True, True])
    for one in (env, other):
        one.reset(options={"reset_mask": mask})
    for _ in range(NUM_STEPS - 1):
        actions = random_actions(rng, 4)
        left, right = env.step(actions), other.step(actions)
        assert torch.equal(env.ids, other.ids)
        assert torch.equal(env.conditions, other.conditions)
        assert_observations_match(left[0], right[0])
        np.testing.assert_allclose(left[1], right[1], rtol=1e-5)


def test_a_state_of_other_sizes_is_refused_and_changes_nothing(bundle):
    env = make(bundle, 2)
    env.reset(seed=0)
    before = snapshot(env)
    wider, longer = make(bundle, 4), make(bundle, 2, num_steps=NUM_STEPS + 3)
    wider.reset(seed=0)
    longer.reset(seed=0)
    for _ in range(NUM_STEPS + 1):
        longer.step(np.zeros((2, 4), np.float32))
    for other, message in ((wider, "^state: got sizes"), (longer, "^state: got timesteps up to")):
        with pytest.raises(ValueError, match=message):
            env.load_state_dict(other.state_dict())
        assert_unchanged(env, before)


def test_finished_rows_start_again_whatever_finished_them(bundle):
    """A reward that raised, or a state of another mode: no row waits for ever."""
    broken = make(bundle, 2, num_steps=1, reward_fn=lambda i, c: torch.full((2,), torch.nan))
    broken.reset(seed=0)
    with pytest.raises(ValueError, match=r"^reward_fn"):
        broken.step(np.zeros((2, 4), np.float32))
    env = make(bundle, 2, num_steps=1)
    env.load_state_dict(broken.state_dict())
    for mended in (broken, env):
        mended.reward_fn = lambda images, conditions: torch.ones(2)
        _, rewards, terminated, _, _ = mended.step(np.zeros((2, 4), np.float32))
        assert not rewards.any() and not terminated.any()  # the step of a reset
        _, rewards, terminated, _, _ = mended.step(np.zeros((2, 4), np.float32))
        assert rewards.all() and terminated.all()


def test_actions_of_any_layout_are_taken(bundle):
    flat = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    for actions in (flat[::-1], np.broadcast_to(flat[:1], (3, 4)), np.asfortranarray(flat)):
        env, same = make(bundle), make(bundle)
        env.reset(seed=0), same.reset(seed=0)
        env.step(actions), same.step(np.ascontiguousarray(actions).copy())
        assert torch.equal(env.ids, same.ids)


def test_unknown_reset_options_are_refused(bundle):
    with pytest.raises(ValueError, match=r"^options: got conditions, allowed are reset_mask, cond"):
        make(bundle).reset(options={"conditions": 3})
    single = gym.make("NATDecode-v0", bundle="digits").unwrapped
    with pytest.raises(ValueError, match=r"^options: got reset_mask, allowed are condition"):
        single.reset(options={"reset_mask": np.ones(1, bool)})


# Randomness and conditions


def test_seeds_repeat_labels_and_tokens(bundle):
    def play(seed):
        env = make(bundle, 8)
        seen = [env.reset(seed=seed)[0]]
        rng = np.random.default_rng(7)
        seen += [
            env.step(random_actions(rng, 1).repeat(8, axis=0))[0] for _ in range(2 * NUM_STEPS)
        ]
        return np.stack([np.column_stack([s["ids"], s["condition"]]) for s in seen])

    np.testing.assert_array_equal(play(0), play(0))
    np.testing.assert_array_equal(play(0)[:, 1:], play(1)[:, :-1])  # row i has seed + i
    np.testing.assert_array_equal(play(0)[:, ::-1], play(list(range(8))[::-1]))
    assert len(np.unique(play(0)[:, :, -1])) > 5  # new labels in every episode
    assert (play(0) != play(100)).any(axis=(0, 2)).all()


def test_a_reset_without_a_seed_goes_on(bundle):
    env = make(bundle, 8)
    labels = [env.reset(seed=0)[0]["condition"].tolist()]
    labels += [env.reset()[0]["condition"].tolist() for _ in range(3)]
    assert len({str(x) for x in labels}) == 4
    assert env.reset(seed=0)[0]["condition"].tolist() == labels[0]
    assert [env.reset()[0]["condition"].tolist() for _ in range(3)] == labels[1:]


def test_global_generators_are_neither_used_nor_moved(bundle):
    def play():
        env = make(bundle)
        env.reset(seed=0)
        return [env.step(np.zeros((3, 4)))[0]["ids"] for _ in range(2 * NUM_STEPS)]

    first = play()
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1]
    np.testing.assert_array_equal(play(), first)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_a_masked_seed_leaves_the_other_rows_alone(bundle):
    env, reference = (make(bundle, autoreset_mode="Disabled") for _ in range(2))
    for one in (env, reference):
        one.reset(seed=0)
        one.step(np.zeros((3, 4)))
    env.reset(seed=0, options={"reset_mask": np.array([False, True, False])})
    after, expected = env.step(np.zeros((3, 4)))[0], reference.step(np.zeros((3, 4)))[0]
    for row in (0, 2):
        np.testing.assert_array_equal(after["ids"][row], expected["ids"][row])
    again = make(bundle)
    again.reset(seed=0)
    np.testing.assert_array_equal(after["ids"][1], again.step(np.zeros((3, 4)))[0]["ids"][1])


def test_labels_are_uniform(bundle):
    env = make(bundle, 2000)
    counts = np.bincount(env.reset(seed=0)[0]["condition"][:, 0], minlength=10)
    assert (np.abs(counts - 200) < 5 * np.sqrt(200)).all()


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_chosen_conditions(bundle, kind):
    env = make(bundle)
    assert env.reset(options={"condition": 7})[0]["condition"].tolist() == [[7], [7], [7]]
    one_each = {"condition": kind([9, 0, 4])}
    assert env.reset(options=one_each)[0]["condition"].tolist() == [[9], [0], [4]]
    for _ in range(NUM_STEPS - 1):
        assert env.step(np.zeros((3, 4)))[0]["condition"].tolist() == [[9], [0], [4]]
    mask = np.array([True, False, True])
    options = {"condition": kind([5, 6, 8]), "reset_mask": mask}
    assert env.reset(options=options)[0]["condition"].tolist() == [[5], [0], [8]]
    env.reset(options={"condition": 2, "reset_mask": ~mask})
    assert env.conditions.tolist() == [5, 2, 8]


def test_a_chosen_condition_acts(bundle):
    """The judge sees in the images what was asked for."""
    env = make(bundle, 40, residual="heuristic")
    for label in (0, 4):
        env.reset(seed=0, options={"condition": label})
        for _ in range(NUM_STEPS):
            env.step(np.zeros((40, 4)))
        assert (
            bundle.yardstick.judge(env.final_images).argmax(dim=1) == label
        ).float().mean() > 0.7


# Episodes


def episode_ends(steps):
    return [step % NUM_STEPS == 0 for step in range(1, steps + 1)]


def test_same_step(bundle):
    env = make(bundle, autoreset_mode="SameStep")
    rng = np.random.default_rng(8)
    env.reset(seed=0)
    for ends in episode_ends(2 * NUM_STEPS + 1):
        observation, rewards, terminated, _, info = env.step(random_actions(rng))
        assert terminated.tolist() == [ends] * 3
        assert (rewards != 0).tolist() == [ends] * 3
        assert info["_action"].tolist() == [True] * 3
        assert ("final_obs" in info) == ("final_info" in info) == ends
        if ends:
            assert observation["timestep"].tolist() == [[0]] * 3
            assert (observation["ids"] == bundle.nat.mask_id).all()
            assert info["_final_obs"].tolist() == info["_final_info"].tolist() == [True] * 3
            assert info["final_obs"].dtype == object
            for final in info["final_obs"]:
                assert final["timestep"].tolist() == [NUM_STEPS]
                assert (final["ids"] != bundle.nat.mask_id).all()
            images = bundle.tokenizer.decode(
                torch.from_numpy(np.stack([f["ids"] for f in info["final_obs"]]))
            )
            torch.testing.assert_close(env.final_images, images)
            labels = [int(f["condition"][0]) for f in info["final_obs"]]
            assert env.final_conditions.tolist() == labels
        else:
            assert env.final_images is None
            assert env.final_conditions is None


def test_same_step_of_rows_that_end_apart(bundle):
    env = make(bundle, autoreset_mode="SameStep")
    env.reset(seed=0)
    env.step(np.zeros((3, 4)))
    env.reset(options={"reset_mask": np.array([False, True, False])})
    env.step(np.zeros((3, 4)))
    observation, rewards, terminated, _, info = env.step(np.zeros((3, 4)))
    assert terminated.tolist() == info["_final_obs"].tolist() == [True, False, True]
    assert info["final_obs"][1] is None
    assert rewards[1] == 0 != rewards[0]
    assert observation["timestep"].tolist() == [[0], [2], [0]]
    assert len(env.final_images) == len(env.final_conditions) == 2
    assert env.step(np.zeros((3, 4)))[2].tolist() == [False, True, False]


def test_next_step(bundle):
    """The step after the end starts the next episode: its action is ignored, its reward 0."""
    one, other = (make(bundle, autoreset_mode="NextStep") for _ in range(2))
    for env in (one, other):
        env.reset(seed=0)
    rng = np.random.default_rng(9)
    for step in range(1, 2 * (NUM_STEPS + 1) + 1):
        resets = step % (NUM_STEPS + 1) == 0
        actions = random_actions(rng)
        observation, rewards, terminated, _, info = one.step(actions)
        same, *_ = other.step(-actions if resets else actions)
        assert_observations_match(observation, same)
        ends = step % (NUM_STEPS + 1) == NUM_STEPS
        assert terminated.tolist() == [ends] * 3
        assert (rewards != 0).tolist() == [ends] * 3
        assert "final_obs" not in info
        assert info["_action"].tolist() == [not resets] * 3
        assert observation["timestep"].tolist() == [[step % (NUM_STEPS + 1)]] * 3
        assert (observation["ids"] == bundle.nat.mask_id).all() == resets


def test_disabled(bundle):
    env = make(bundle, autoreset_mode="Disabled")
    env.reset(seed=0)
    for ends in episode_ends(NUM_STEPS):
        observation, _, terminated, _, info = env.step(np.zeros((3, 4)))
        assert terminated.tolist() == [ends] * 3
        assert "final_obs" not in info
    assert observation["timestep"].tolist() == [[NUM_STEPS]] * 3
    env.reset(options={"reset_mask": np.array([True, False, True])})
    assert env.timesteps.tolist() == [0, NUM_STEPS, 0]
    before = snapshot(env)
    with pytest.raises(gym.error.ResetNeeded, match=r"\[1\]"):
        env.step(np.zeros((3, 4)))
    assert_unchanged(env, before)
    env.reset(options={"reset_mask": np.array([False, True, False])})
    assert env.step(np.zeros((3, 4)))[0]["timestep"].tolist() == [[1]] * 3


@pytest.mark.parametrize("mode", MODES)
def test_a_row_that_has_nothing_masked_has_ended(fresh_bundle, rows_of_passes, mode):
    """m = 0 in the first step of row 1: the others go on, as if it were not there."""
    env, other = (make(fresh_bundle, autoreset_mode=mode) for _ in range(2))
    for one in (env, other):
        one.reset(seed=0, options={"condition": [1, 2, 3]})
    other.step(np.zeros((3, 4)))
    other.step(np.zeros((3, 4)))
    actions = np.zeros((3, 4))
    actions[1, 0] = -1.0
    rows_of_passes.clear()
    observation, rewards, terminated, truncated, info = env.step(actions)
    assert terminated.tolist() == [False, True, False] and not truncated.any()
    assert (rewards != 0).tolist() == [False, True, False]
    assert info["passes"].tolist() == [1, 1, 1]
    assert len(env.final_images) == 1 and env.final_conditions.tolist() == [2]
    images = env.final_images.clone()
    if mode is AutoresetMode.SAME_STEP:
        assert info["final_info"]["passes"][1] == 1
        ids = info["final_obs"][1]["ids"]
        assert observation["timestep"].tolist() == [[1], [0], [1]]
        assert sum(rows_of_passes) in (4, 5)  # of the two that go on; perhaps of a new label
    else:
        ids = observation["ids"][1]
        assert observation["timestep"].tolist() == [[1], [NUM_STEPS], [1]]
        assert rows_of_passes == [4]
    assert (ids != fresh_bundle.nat.mask_id).all()
    assert torch.equal(images, fresh_bundle.tokenizer.decode(torch.from_numpy(ids)[None]))
    if mode is AutoresetMode.DISABLED:
        env.reset(options={"reset_mask": terminated})
    _, rewards, terminated, _, info = env.step(np.zeros((3, 4)))
    assert not terminated.any() and not rewards.any()
    assert torch.equal(env.ids[[0, 2]], other.ids[[0, 2]])
    assert info["passes"].tolist() == [2, 1, 2]
    assert info["_passes"].tolist() == [True, mode is not AutoresetMode.NEXT_STEP, True]


def test_rows_that_are_aligned_wait_without_passes(fresh_bundle, rows_of_passes):
    """Their observation is that of an ended row; their image is that of a row that ends at once."""
    env, apart = make(fresh_bundle, aligned=True), make(fresh_bundle, autoreset_mode="NextStep")
    actions = np.zeros((3, 4))
    actions[1, 0] = -1.0
    for one in (env, apart):
        one.reset(seed=0, options={"condition": [1, 2, 3]})
    rows_of_passes.clear()
    seen = [env.step(actions)]
    ids = env.ids[1].clone()
    seen += [env.step(np.random.default_rng(0).uniform(-1, 1, (3, 4))) for _ in range(2)]
    assert rows_of_passes[:2] == [4, 4]
    assert [step[0]["timestep"][:, 0].tolist() for step in seen[:2]] == [[1, 3, 1], [2, 3, 2]]
    assert [step[2].tolist() for step in seen] == [[False] * 3, [False] * 3, [True] * 3]
    assert [step[4]["passes"].tolist() for step in seen] == [[1, 1, 1], [2, 1, 2], [3, 1, 3]]
    last = seen[-1][4]["final_obs"][1]
    assert last["ids"].tolist() == ids.tolist()
    reward = apart.step(actions)[1][1]
    assert seen[-1][1][1] == pytest.approx(reward, rel=1e-5)


def test_rows_of_a_group_differ_by_what_is_done_alone(bundle):
    """Two groups of three: the same labels and tokens in each, for three episodes, but where rows
    act otherwise; the first of each is as without groups."""
    options = {"observation": "tokens", "aligned": True}
    env = NATDecodeVectorEnv(6, bundle, NUM_STEPS, group_size=3, **options)
    alone = NATDecodeVectorEnv(6, bundle, NUM_STEPS, **options)
    for one in (env, alone):
        one.reset(seed=5)
    actions = np.zeros((6, 4), np.float32)
    actions[2, 0], actions[5, 1] = -1.0, 0.9  # one is complete at once, one is drawn otherwise
    for _ in range(3):
        labels = env.conditions.view(2, 3)
        assert (labels == labels[:, :1]).all() and labels[0, 0] == alone.conditions[0]
        for _ in range(NUM_STEPS):
            env.step(actions)
            alone.step(actions)
            ids = env.ids.view(2, 3, -1)
            assert torch.equal(ids[:, 0], ids[:, 1])
            assert torch.equal(ids[:, 0], alone.ids[::3])
        images = env.final_images.view(2, 3, -1)
        assert torch.equal(images[:, 0], images[:, 1])
        assert (images[:, 0] != images[:, 2]).any(dim=1).all()
    assert not torch.equal(images[0, 0], images[1, 0])


def test_a_group_draws_no_number_twice(bundle, monkeypatch):
    """Where the first of a group is complete before the others, it does not lead them back."""
    drawn = []

    def watched(generators, num_tokens):
        drawn.append(draw_uniforms(generators, num_tokens))
        return drawn[-1]

    monkeypatch.setattr(nat_env.canvases, "draw_uniforms", watched)
    env = NATDecodeVectorEnv(2, bundle, NUM_STEPS, group_size=2, aligned=True)
    env.reset(seed=0)
    actions = np.zeros((2, 4), np.float32)
    actions[0, 0] = -1.0
    for _ in range(2 * NUM_STEPS):
        env.step(actions)
    assert [len(rows) for rows in drawn] == [2, *[1] * (NUM_STEPS - 1)] * 2
    followers = torch.cat([torch.as_tensor(rows[-1]).flatten() for rows in drawn])
    assert len(followers.unique()) == len(followers)
    assert torch.equal(torch.as_tensor(drawn[NUM_STEPS][0]), torch.as_tensor(drawn[NUM_STEPS][1]))
    env.reset(seed=[7, 8])
    first = env.ids.clone(), env.step(np.zeros((2, 4), np.float32)) and env.ids.clone()
    env.reset(seed=[7, 9])
    again = env.ids.clone(), env.step(np.zeros((2, 4), np.float32)) and env.ids.clone()
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"condition": np.array([3, 3, 4, 5])},
        {"reset_mask": np.array([True, True, False, True])},
        {"ids": np.arange(4)[:, None] + np.zeros((1, 16), int), "known": np.eye(4, 16, dtype=bool)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_rows_of_a_group_start_alike(bundle, options):
    env = NATDecodeVectorEnv(4, bundle, NUM_STEPS, group_size=2, aligned=True)
    env.reset(seed=0)
    with pytest.raises(
        ValueError, match=f"^{next(iter(options))}: got rows of a group that differ"
    ):
        env.reset(options=options)
    env.reset(options={"condition": np.array([3, 3, 4, 4])})
    env.reset(options={"reset_mask": np.array([True, True, False, False])})


def test_rows_that_make_no_groups_are_refused(bundle):
    with pytest.raises(ValueError, match=r"^group_size: got 4, must divide num_envs = 6"):
        NATDecodeVectorEnv(6, bundle, NUM_STEPS, group_size=4, aligned=True)
    with pytest.raises(ValueError, match=r"^group_size: got 3, allowed is 1 of rows that are not"):
        NATDecodeVectorEnv(6, bundle, NUM_STEPS, group_size=3)
    with pytest.raises(ValueError, match=r"^group_size: got 0, allowed are integers >= 1"):
        NATDecodeVectorEnv(6, bundle, NUM_STEPS, group_size=0)


def test_a_row_that_waits_is_stored_as_such(bundle):
    env, other = (make(bundle, observation="features", aligned=True) for _ in range(2))
    env.reset(seed=0)
    env.step(np.array([[-1.0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]))
    observation = env._observation()
    assert observation["timestep"].tolist() == [[NUM_STEPS], [1], [1]]
    assert not observation["features"][0].any()
    assert_observations_match(other.load_state_dict(env.state_dict()), observation)
    rng = np.random.default_rng(0)
    for _ in range(NUM_STEPS - 1):
        actions = any_actions(rng)
        left, right = env.step(actions), other.step(actions)
        assert_observations_match(left[0], right[0])
        assert left[4]["passes"].tolist() == right[4]["passes"].tolist()
        np.testing.assert_allclose(left[1], right[1], rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_no_step_before_the_first_reset(bundle, mode):
    with pytest.raises(gym.error.ResetNeeded):
        make(bundle, autoreset_mode=mode).step(np.zeros((3, 4)))


@pytest.mark.parametrize("num_steps", [1, 2, 5])
@pytest.mark.parametrize("mode", MODES)
def test_the_end_is_a_termination(mode, num_steps):
    env = make_by_name(num_steps=num_steps, autoreset_mode=mode)
    env.reset(seed=0)
    for step in range(1, num_steps + 1):
        _, _, terminated, truncated, _ = env.step(np.zeros((3, 4)))
        assert terminated.tolist() == [step == num_steps] * 3
        assert not truncated.any()


def test_the_end_is_a_termination_for_stable_baselines():
    env = GymnasiumVecEnv(make_by_name())
    env.seed(0)
    env.reset()
    for ends in episode_ends(2 * NUM_STEPS):
        observation, rewards, dones, infos = env.step(np.zeros((3, 4), np.float32))
        assert dones.tolist() == [ends] * 3
        for row, info in enumerate(infos):
            assert ("terminal_observation" in info) == ends
            if ends:
                assert info["TimeLimit.truncated"] is False
                assert info["terminal_observation"]["timestep"].tolist() == [NUM_STEPS]
                assert observation["timestep"][row].tolist() == [0]
                assert rewards[row] != 0


@pytest.mark.parametrize("form", FORMS)
def test_observations_are_nobody_elses_memory(bundle, form):
    """What was returned stays as it was, whatever happens to the environment or to its copies."""

    def parts(observation):
        return list(observation.values()) if isinstance(observation, dict) else [observation]

    env, reference = (make(bundle, observation=form) for _ in range(2))
    rng = np.random.default_rng(10)
    returned = [env.reset(seed=0)[0]]
    kept = [reference.reset(seed=0)[0]]
    for _ in range(2 * NUM_STEPS):
        for array in parts(returned[-1]):
            array[...] = 0  # the user's own now: nothing the environment looks at
        actions = random_actions(rng)
        copy = actions.copy()
        observation, *_, info = env.step(actions)
        expected, *_, expected_info = reference.step(copy)
        actions[...] = 0
        assert_observations_match(observation, expected)
        if "final_obs" in info:
            for array in parts(observation):
                array[...] = 0
            for row, final in enumerate(info["final_obs"]):
                assert_observations_match(final, expected_info["final_obs"][row])
            info["action"][...] = 0
            np.testing.assert_array_equal(
                info["final_info"]["action"], expected_info["final_info"]["action"]
            )
        returned.append(observation)
        kept.append(expected)
    first = parts(kept[0])[0]
    assert not np.array_equal(first, parts(kept[1])[0])


# Passes of the frozen transformer


@pytest.mark.parametrize("num_steps", [1, 2, 4])
@pytest.mark.parametrize("mode", MODES)
def test_an_episode_costs_one_pass_less_than_its_steps(
    fresh_bundle, rows_of_passes, num_steps, mode
):
    env = make(fresh_bundle, 5, num_steps=num_steps, autoreset_mode=mode, observation="features")
    env.reset(seed=0, options={"condition": [0, 1, 2, 3, 4]})
    assert rows_of_passes == [6]  # five new labels and the null condition, in one batch
    env.reset(options={"condition": [5, 6, 7, 8, 9]})
    assert rows_of_passes == [6, 5]
    for _ in range(2):
        rows_of_passes.clear()
        if mode is AutoresetMode.DISABLED:
            env.reset()
        for step in range(num_steps):
            env.step(np.zeros((5, 4)))
            assert rows_of_passes == [10] * min(step + 1, num_steps - 1)
        if mode is AutoresetMode.NEXT_STEP:
            env.step(np.zeros((5, 4)))
        assert rows_of_passes == [10] * (num_steps - 1)


def test_only_unfinished_rows_are_passed(fresh_bundle, rows_of_passes):
    env = make(fresh_bundle, 3, autoreset_mode="NextStep")
    env.reset(seed=0, options={"condition": 3})
    assert rows_of_passes == [2]  # one label, and the null condition
    env.reset(seed=0, options={"condition": list(range(3))})
    env.reset(seed=0, options={"condition": list(range(3, 6))})
    env.reset(seed=0, options={"condition": list(range(6, 9))})
    env.reset(seed=0, options={"condition": 9})
    env.step(np.zeros((3, 4)))
    env.reset(options={"reset_mask": np.array([False, False, True])})
    rows_of_passes.clear()
    assert env.timesteps.tolist() == [1, 1, 0]
    steps = []
    for _ in range(5):
        env.step(np.zeros((3, 4)))
        steps.append(env.timesteps.tolist())
    assert steps == [[2, 2, 1], [3, 3, 2], [0, 0, 3], [1, 1, 0], [2, 2, 1]]
    assert rows_of_passes == [6, 2, 4, 6]


def test_generate_costs_the_same(fresh_bundle, rows_of_passes):
    policy = nat_env.ScheduledPolicy(heuristic_schedule(4))
    generate(fresh_bundle, policy, torch.tensor([2, 2, 7]), 4, 0)
    assert rows_of_passes == [3, 6, 6, 6]
    rows_of_passes.clear()
    generate(fresh_bundle, policy, torch.tensor([2, 7, 7, 2, 2]), 4, 0, batch_size=2)
    assert rows_of_passes == [4, 4, 4] * 2 + [2] * 3


def test_generate_takes_no_pass_for_what_is_complete(fresh_bundle, rows_of_passes):
    """Rows of one label in a schedule, of others at once: their images are those of m = 0."""
    heuristic = nat_env.ScheduledPolicy(heuristic_schedule(4))

    def early(features, timestep):
        actions = heuristic(features, timestep)
        if len(actions) == 4:
            actions[1:3, 0] = 0.0
        return actions

    labels = torch.tensor([2, 2, 7, 7])
    whole = generate(fresh_bundle, heuristic, labels, 4, 0)
    rows_of_passes.clear()
    found = generate(fresh_bundle, early, labels, 4, 0)
    assert rows_of_passes == [4, 4, 4]
    torch.testing.assert_close(found[[0, 3]], whole[[0, 3]], rtol=0, atol=1e-5)
    at_once = generate(fresh_bundle, lambda f, t: heuristic(f, t) * torch.tensor([0, 1, 1, 1]),
                       labels, 4, 0)  # fmt: skip
    torch.testing.assert_close(found[1:3], at_once[1:3], rtol=0, atol=1e-5)


@pytest.mark.parametrize("own", [2, 8])
def test_generate_refuses_another_t_than_the_policys(fresh_bundle, rows_of_passes, own):
    labels, schedule = torch.tensor([2, 7]), heuristic_schedule(own)
    message = rf"^num_steps: got 4, .* T = {own}; .*schedule\.resampled\(4\)$"
    with pytest.raises(ValueError, match=message):
        generate(fresh_bundle, nat_env.ScheduledPolicy(schedule), labels, 4, 0)
    assert not rows_of_passes  # before any work
    generate(fresh_bundle, nat_env.ScheduledPolicy(schedule.resampled(4)), labels, 4, 0)
    any_t = nat_env.ScheduledPolicy(heuristic_schedule(4)).__call__  # says nothing of its T
    generate(fresh_bundle, any_t, labels, 3, 0)


def test_passes_in_chunks_are_the_same(bundle, fresh_bundle, rows_of_passes):
    fresh_bundle.nat.rows_per_pass = 4
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(65, (5, 16), generator=generator)
    labels = torch.tensor([0, 9, 3, 3, 7])
    chunked = fresh_bundle.nat.passes(ids, labels)
    assert rows_of_passes == [4, 4, 2]
    with torch.no_grad():
        conditional = bundle.nat.transformer(ids, labels)
        unconditional = bundle.nat.transformer(ids, torch.full((5,), 10))
    for got, expected in [
        (chunked.logits, conditional.logits),
        (chunked.null_logits, unconditional.logits),
        (chunked.features, conditional.features),
    ]:
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)


def test_the_kept_first_pass_is_that_of_the_label(fresh_bundle):
    nat = fresh_bundle.nat
    nat.first_passes(torch.tensor([5, 1]))
    labels = torch.tensor([1, 8, 5, 1])
    kept = nat.first_passes(labels)
    direct = nat.passes(torch.full((4, 16), nat.mask_id), labels)
    for got, expected in zip(kept, direct, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)
    assert not torch.allclose(kept.features[0], kept.features[1])


# Pictures


def covered_cells(frame):
    """Which of the 4 x 4 cells have the mask's colour throughout; the others have none of it."""
    assert frame.shape == (64, 64, 3)
    assert frame.dtype == np.uint8
    same = (frame == np.array(MASK_COLOUR)).all(axis=2).reshape(4, 16, 4, 16)
    assert (same.all(axis=(1, 3)) == same.any(axis=(1, 3))).all()
    return same.all(axis=(1, 3)).ravel()


@pytest.mark.parametrize("mode", ["Disabled", "NextStep"])
def test_frames_cover_exactly_the_masked_tokens(bundle, mode):
    env = make(bundle, render_mode="rgb_array", autoreset_mode=mode)
    assert env.render() is None  # nothing to see before the first reset
    env.reset(seed=0)
    actions = np.tile(np.array([0.0, 0, 0, 0], np.float32), (3, 1))
    for step in range(NUM_STEPS + 1):
        frames = env.render()
        assert isinstance(frames, tuple)
        assert len(frames) == 3
        for frame, ids in zip(frames, env.ids, strict=True):
            np.testing.assert_array_equal(covered_cells(frame), (ids == bundle.nat.mask_id).numpy())
        covered = [int(covered_cells(frame).sum()) for frame in frames]
        assert covered == [[16, 8, 8, 0][step]] * 3  # m = sigmoid(0) = 1/2
        if step < NUM_STEPS:
            env.step(actions)
    images = bundle.tokenizer.decode(env.ids).mul(255).round().byte().numpy()
    for frame, image in zip(frames, images, strict=True):
        for channel in range(3):
            np.testing.assert_array_equal(frame[4::8, 4::8, channel], image[0])


def test_frames_after_an_automatic_reset_show_the_new_canvas(bundle):
    env = make(bundle, render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(NUM_STEPS):
        env.step(np.zeros((3, 4)))
    assert all(covered_cells(frame).all() for frame in env.render())


def test_no_frames_without_a_render_mode(bundle):
    env = make(bundle)
    env.reset(seed=0)
    assert env.render() is None


def test_rendering_changes_nothing(bundle):
    env = make(bundle, render_mode="rgb_array")
    env.reset(seed=0)
    env.step(np.zeros((3, 4)))
    before = snapshot(env)
    env.render()
    assert_unchanged(env, before)


# Bad input


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("num_envs", [0, -1]),
        ("num_steps", [0, -4]),
        ("bundle", ["nonesuch", "/nonesuch", ""]),
        ("observation", ["pixels", "", "Features"]),
        ("dtype", ["float64", "int8", ""]),
        ("autoreset_mode", ["Sometimes", "", 3]),
        ("residual", ["nonesuch", "", "/nonesuch.json"]),
        ("render_mode", ["ascii", "rgb_array_list"]),
    ],
)
def test_bad_arguments_are_named(argument, values):
    good = {"num_envs": 2, "bundle": "digits", "num_steps": 2, "dtype": "float32"}
    NATDecodeVectorEnv(**good)
    for value in values:
        with pytest.raises(ValueError, match=f"^{argument}: got "):
            NATDecodeVectorEnv(**(good | {argument: value}))
        if argument == "num_envs":
            continue
        with pytest.raises(ValueError, match=f"^{argument}: got "):
            gym.make_vec("NATDecode-v0", **(good | {argument: value}))


def test_residual_of_another_length_is_refused(bundle, tmp_path):
    heuristic_schedule(NUM_STEPS + 1).save(tmp_path / "long.json")
    with pytest.raises(
        ValueError, match=f"^residual: .* num_steps = {NUM_STEPS + 1}, got {NUM_STEPS}; take"
    ):
        make(bundle, residual=str(tmp_path / "long.json"))


@pytest.mark.parametrize(
    "actions",
    [
        np.zeros((2, 4)),
        np.zeros((4, 4)),
        np.zeros((3, 3)),
        np.zeros((3, 5)),
        np.zeros(4),
        np.zeros(12),
        np.zeros((3, 4, 1)),
        np.zeros((0, 4)),
        np.array(0.0),
        np.full((3, 4), np.nan),
        np.full((3, 4), np.inf),
        np.eye(3, 4) * np.nan,
        np.eye(3, 4) * 1.001,
        np.eye(3, 4) * -1.5,
        np.eye(3, 4) * 1e30,
        np.zeros((3, 4), complex),
        np.full((3, 4), "a"),
        torch.full((3, 4), 2.0, requires_grad=True),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_bad_actions_change_nothing(bundle, actions, mode):
    env = make(bundle, autoreset_mode=mode)
    env.reset(seed=0)
    env.step(np.zeros((3, 4)))
    before = snapshot(env)
    with pytest.raises(ValueError, match=r"^actions: got "):
        env.step(actions)
    assert_unchanged(env, before)
    env.step(np.ones((3, 4)))
    env.step(-np.ones((3, 4)))


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("condition", 10),
        ("condition", -1),
        ("condition", [0, 1, 10]),
        ("condition", [-1, 0, 1]),
        ("condition", [0, 1]),
        ("condition", [0, 1, 2, 3]),
        ("condition", []),
        ("condition", [[0], [1], [2]]),
        ("condition", 1.5),
        ("condition", float("nan")),
        ("condition", "seven"),
        ("reset_mask", [True, False, True]),
        ("reset_mask", np.array([1, 0, 1])),
        ("reset_mask", np.array([True, False])),
        ("reset_mask", np.array([[True, False, True]])),
        ("reset_mask", np.zeros(3, bool)),
        ("reset_mask", True),
    ],
)
def test_bad_options_change_nothing(bundle, seed, name, value):
    env = make(bundle)
    env.reset(seed=0)
    env.step(np.zeros((3, 4)))
    before = snapshot(env)
    with pytest.raises(ValueError, match=f"^{name}s?: "):
        env.reset(seed=seed, options={name: value})
    assert_unchanged(env, before)


def test_bad_seeds_change_nothing(bundle):
    env = make(bundle)
    env.reset(seed=0)
    before = snapshot(env)
    for seeds in ([1, 2], [1, 2, 3, 4], [], -1, [1, -1, 2], 1.5, True, "abc", [1, 2, "a"]):
        with pytest.raises(ValueError, match=r"^seed: "):
            env.reset(seed=seeds)
        assert_unchanged(env, before)


@pytest.mark.parametrize("number", [0, -1, True, 2.0, "2", None])
@pytest.mark.parametrize("name", ["num_envs", "num_steps"])
def test_numbers_that_are_no_integers_are_refused(bundle, name, number):
    with pytest.raises(ValueError, match=rf"^{name}: got .*, allowed are integers >= 1"):
        NATDecodeVectorEnv(**({"num_envs": 2, "bundle": bundle} | {name: number}))


def test_the_first_reset_cannot_be_of_some_rows(bundle):
    env = make(bundle)
    with pytest.raises(ValueError, match=r"^reset_mask: "):
        env.reset(seed=0, options={"reset_mask": np.array([True, False, True])})
    env.reset(seed=0, options={"reset_mask": np.ones(3, bool)})
    assert env.timesteps.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("conditions", [[10], [-1], [[1]], [1.0], []]),
        ("num_steps", [0, -1]),
        ("seed", [-1]),
    ],
)
def test_generate_names_bad_arguments(bundle, argument, values):
    good = {"conditions": torch.tensor([1]), "num_steps": 1, "seed": 0}
    policy = nat_env.ScheduledPolicy(heuristic_schedule(1))
    assert len(generate(bundle, policy, **good)) == 1
    for value in values:
        bad = torch.tensor(value) if argument == "conditions" else value
        with pytest.raises(ValueError, match=f"^{argument}: got "):
            generate(bundle, policy, **(good | {argument: bad}))


@pytest.mark.parametrize("form", ["features", "pooled"])
def test_last_observations_are_one_row_that_nobody_can_write_to(bundle, form):
    env = make(bundle, observation=form, autoreset_mode="SameStep", num_steps=1)
    env.reset(seed=0)
    *_, info = env.step(np.zeros((3, 4), np.float32))
    arrays = [final["features"] if form == "features" else final for final in info["final_obs"]]
    assert arrays[0] is arrays[1] is arrays[2]
    assert not arrays[0].any() if form == "features" else arrays[0].tolist() == [0.0] * 64 + [1.0]
    with pytest.raises(ValueError, match="read-only"):
        arrays[0][0] = 1
    if form == "features":
        info["final_obs"][0].pop("timestep")  # one row's dict is no other row's
        assert info["final_obs"][1]["timestep"].tolist() == [1]
    adapted = GymnasiumVecEnv(make(bundle, observation=form, num_steps=1))
    adapted.reset()
    infos = adapted.step(np.zeros((3, 4), np.float32))[3]
    finals = [i["terminal_observation"] for i in infos]
    parts = [final["features"] if form == "features" else final for final in finals]
    assert parts[0] is parts[1] is parts[2]


@pytest.mark.parametrize("scale", [5.0, 20.0])
def test_raw_values_reach_as_far_as_asked(scale):
    env = gym.make_vec("NATDecode-v0", 2, bundle="digits", raw_scale=scale)
    one = gym.make("NATDecode-v0", bundle="digits", raw_scale=scale)
    env.reset(seed=0), one.reset(seed=0)
    found = env.step(np.ones((2, 4), np.float32))[-1]["action"]
    assert found[0, 1:] == pytest.approx(np.log1p(np.exp(scale)), rel=1e-6)
    np.testing.assert_array_equal(one.step(np.ones(4, np.float32))[-1]["action"], found[0])
    with pytest.raises(ValueError, match="raw_scale: got 0"):
        gym.make("NATDecode-v0", bundle="digits", raw_scale=0)


@pytest.mark.parametrize("low", [0.3, -0.7, 1e-3])
def test_actions_past_the_box_by_rounding_are_clipped(low):
    env = gym.wrappers.RescaleAction(
        gym.make("NATDecode-v0", bundle="digits"), np.float32(low), np.float32(low + 1.4)
    )
    for end in (env.action_space.low, env.action_space.high):
        env.reset(seed=0)
        action = env.step(end)[-1]["action"]
        bound = np.sign(end[0] - low - 0.7)
        exact = ActionMap().physical(torch.full((1, 4), float(bound)), torch.tensor([0]))
        np.testing.assert_allclose(action, exact[0], rtol=5e-6)
    with pytest.raises(ValueError, match=r"actions: got 0.0 .. 1.00000[0-9]+, allowed"):
        checked_actions(np.array([[0, 0, 0, 1 + 3e-6]]), (1, 4))


@pytest.mark.parametrize("form", ["features", "pooled", "tokens"])
@pytest.mark.parametrize("wrapped", [None, "gym", "adversarial", "shaping", "cost"])
def test_a_pickled_copy_goes_on_identically(form, wrapped):
    if wrapped == "gym":
        env = gym.make("NATDecode-v0", bundle="digits", observation=form)
    else:
        env = NATDecodeVectorEnv(2, "digits", observation=form, reward_fn="frechet")
        wrap = {"adversarial": AdversarialReward, "cost": lambda e: StepCost(e, 0.1)}
        wrap["shaping"] = lambda e: PotentialShaping(e, confidence)
        env = wrap.get(wrapped, lambda e: e)(env)
    env.reset(seed=0)
    actions = np.zeros(env.action_space.shape, np.float32)
    env.step(actions)
    copy = pickle.loads(pickle.dumps(env))
    for _ in range(3):
        left, right = env.step(actions), copy.step(actions)
        assert_same_arrays(left[:4], right[:4])
    assert copy.observation_space == env.observation_space


def assert_same_arrays(left, right):
    for one, other in zip(left, right, strict=True):
        parts = (one.values(), other.values()) if isinstance(one, dict) else ([one], [other])
        for a, b in zip(*parts, strict=True):
            np.testing.assert_array_equal(a, b)
