"""Images partly known: counts by a loop, known tokens kept, one result however it is decoded."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from nat_env import NATDecodeEnv, NATDecodeVectorEnv, ScheduledPolicy, generate, load_bundle
from nat_env.decoding.remasking import remask
from nat_env.frozen.canvas import known_tokens
from nat_env.render import MASK_COLOUR
from nat_env.schedules import Schedule

NUM_STEPS = 4
TABLE = torch.tensor(
    [[0.9, 1.0, 1.0, 0.5], [0.61, 0.8, 0.5, 1.0], [0.61, 1.0, 0.2, 1.0], [0.5, 1.0, 0.1, 2.0]]
)
POLICY = ScheduledPolicy(Schedule(TABLE))
LABELS = torch.tensor([3, 1, 4, 1])


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


@pytest.fixture(scope="module")
def given(bundle):
    """Tokens of four images, of which 5, 15, none and 8 are known."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, bundle.nat.codebook_size, (4, 16))
    known = np.zeros((4, 16), bool)
    for row, count in enumerate((5, 15, 0, 8)):
        known[row, rng.permutation(16)[:count]] = True
    return {"ids": ids, "known": known}


def make(bundle, num_envs=4, **kwargs):
    kwargs = {"num_steps": NUM_STEPS, "observation": "tokens", "raw_scale": 20.0} | kwargs
    return NATDecodeVectorEnv(num_envs, bundle, **kwargs)


def actions_of(env):
    """The table's, as actions of the box."""
    rows = TABLE[env.timesteps.clamp_max(NUM_STEPS - 1)]
    return env.action_map.actions(rows, env.timesteps).numpy()


def test_as_many_stay_masked_as_a_loop_says_and_known_tokens_stay(bundle, given):
    records = []
    generate(bundle, POLICY, LABELS, NUM_STEPS, 0, on_step=records.append, **given)
    for row in range(4):
        unknown = 16 - int(given["known"][row].sum())
        masked = unknown
        for step, record in enumerate(records):
            share = float(np.floor(np.float32(unknown) * TABLE[step, 0].numpy()))
            masked = 0 if step == NUM_STEPS - 1 else min(masked, int(share))
            ids = record.ids[row].numpy()
            assert (ids == bundle.nat.mask_id).sum() == masked
            kept = given["known"][row]
            np.testing.assert_array_equal(ids[kept], given["ids"][row][kept])


def test_unknown_bounds_what_is_masked_again():
    rng = np.random.default_rng(1)
    confidence = torch.from_numpy(rng.normal(size=(50, 12)).astype(np.float32))
    masked = torch.from_numpy(rng.random((50, 12)) < 0.5)
    ratio = torch.from_numpy(rng.random(50).astype(np.float32))
    unknown = torch.from_numpy(rng.integers(1, 13, 50))
    found = remask(confidence, masked, ratio, unknown)
    for row in range(50):
        count = int(np.floor(ratio[row].numpy() * np.float32(unknown[row])))
        places = [p for p in np.argsort(confidence[row].numpy()) if masked[row, p]][:count]
        assert found[row].nonzero()[:, 0].tolist() == sorted(places)


def test_nothing_known_is_what_it_was_before(bundle, given):
    nothing = {"ids": given["ids"], "known": np.zeros((4, 16), bool)}
    expected = generate(bundle, POLICY, LABELS, NUM_STEPS, 5)
    assert torch.equal(generate(bundle, POLICY, LABELS, NUM_STEPS, 5, **nothing), expected)
    env, other = make(bundle), make(bundle)
    env.reset(seed=5, options={"condition": LABELS.numpy()} | nothing)
    other.reset(seed=5, options={"condition": LABELS.numpy()})
    assert env._passes is not None and other._passes is not None
    for left, right in zip(env._passes, other._passes, strict=True):
        assert torch.equal(left, right)


def test_vector_environment_single_environments_and_generate_agree(bundle, given):
    images = generate(bundle, POLICY, LABELS, NUM_STEPS, 7, batch_size=3, **given)
    env = make(bundle, autoreset_mode="Disabled", aligned=True)
    observation, _ = env.reset(seed=7, options={"condition": LABELS.numpy()} | given)
    np.testing.assert_array_equal(
        observation["ids"], np.where(given["known"], given["ids"], bundle.nat.mask_id)
    )
    singles = [
        NATDecodeEnv(bundle, NUM_STEPS, "tokens", raw_scale=20.0, aligned=True)
        for _ in range(len(LABELS))
    ]
    for row, single in enumerate(singles):
        options = {"condition": int(LABELS[row])} | {n: v[row] for n, v in given.items()}
        seen, _ = single.reset(seed=7 + row, options=options)
        np.testing.assert_array_equal(seen["ids"], observation["ids"][row])
    for _ in range(NUM_STEPS):
        actions = actions_of(env)
        observation, rewards, terminated, _, _ = env.step(actions)
        for row, single in enumerate(singles):
            seen, reward, done, _, _ = single.step(actions[row])
            np.testing.assert_array_equal(seen["ids"], observation["ids"][row])
            assert done == terminated[row]
            assert reward == pytest.approx(rewards[row], abs=1e-5)
    assert terminated.all()
    torch.testing.assert_close(env.final_images, images)


@pytest.mark.parametrize("form", ["features", "pooled"])
def test_what_is_seen_first_is_of_the_known_tokens(bundle, given, form):
    """Beside rows that start from the empty canvas, whose passes are kept ones."""
    env = make(bundle, observation=form)
    observation, _ = env.reset(seed=0, options={"condition": LABELS.numpy()} | given)
    canvas = np.where(given["known"], given["ids"], bundle.nat.mask_id)
    with torch.no_grad():
        output = bundle.nat.transformer(torch.from_numpy(canvas), LABELS)
    torch.testing.assert_close(env.logits, output.logits, atol=2e-4, rtol=1e-4)
    features = output.features.numpy()
    if form == "features":
        np.testing.assert_allclose(observation["features"], features.reshape(4, -1), atol=2e-5)
    else:
        np.testing.assert_allclose(observation[:, :-1], features.mean(axis=1), atol=2e-5)


@pytest.mark.parametrize("after", [0, 2])
def test_a_restored_state_goes_on_as_if_never_stopped(bundle, given, after):
    env, other = make(bundle), make(bundle)
    env.reset(seed=3, options={"condition": LABELS.numpy()} | given)
    other.reset(seed=9)
    for _ in range(after):
        env.step(actions_of(env))
    other.load_state_dict(env.state_dict())
    for _ in range(2 * NUM_STEPS - after):
        actions = actions_of(env)
        left, right = env.step(actions), other.step(actions)
        np.testing.assert_array_equal(left[0]["ids"], right[0]["ids"])
        np.testing.assert_allclose(left[1], right[1], rtol=1e-5)


def test_a_state_of_before_is_of_images_wholly_unknown(bundle):
    env, other = make(bundle), make(bundle)
    env.reset(seed=3)
    env.step(actions_of(env))
    state = env.state_dict()
    for name in ("unknown", "average", "masked", "passes"):
        del state[name]
    other.load_state_dict(state)
    assert other.masked.tolist() == env.masked.tolist() and other.passes.tolist() == [1] * 4
    actions = actions_of(env)
    left, right = env.step(actions), other.step(actions)
    np.testing.assert_array_equal(left[0]["ids"], right[0]["ids"])


def test_automatic_resets_start_from_the_empty_canvas(bundle, given):
    env = make(bundle, aligned=True)
    env.reset(seed=0, options=given)
    for _ in range(NUM_STEPS):
        observation, *_ = env.step(actions_of(env))
    assert (observation["ids"] == bundle.nat.mask_id).all()
    assert env.unknown.tolist() == [16] * 4
    observation, *_ = env.step(actions_of(env))
    assert (observation["ids"] == bundle.nat.mask_id).sum(axis=1).tolist() == [14] * 4


def test_some_rows_start_from_what_is_known_while_others_go_on(bundle, given):
    env = make(bundle, autoreset_mode="Disabled")
    env.reset(seed=0)
    before = env.step(actions_of(env))[0]["ids"]
    mask = np.array([False, True, False, True])
    observation, _ = env.reset(options={"reset_mask": mask, "condition": 2} | given)
    expected = np.where(given["known"], given["ids"], bundle.nat.mask_id)
    np.testing.assert_array_equal(observation["ids"][mask], expected[mask])
    np.testing.assert_array_equal(observation["ids"][~mask], before[~mask])
    assert env.unknown.tolist() == [16, 1, 16, 8]
    assert observation["timestep"][:, 0].tolist() == [1, 0, 1, 0]


def test_a_picture_covers_masked_tokens_alone(bundle, given):
    env = make(bundle, render_mode="rgb_array")
    env.reset(seed=0, options=given)
    frames = env.render()
    assert frames is not None
    for row, frame in enumerate(frames):
        side = frame.shape[0] // 4
        cells = frame.reshape(4, side, 4, side, 3).transpose(0, 2, 1, 3, 4).reshape(16, -1, 3)
        covered = (cells == MASK_COLOUR).all(axis=(1, 2))
        np.testing.assert_array_equal(covered, ~given["known"][row])


def test_it_goes_through_gymnasium_by_name(given):
    env = gym.make("NATDecode-v0", bundle="digits", num_steps=2, observation="tokens")
    options = {"ids": given["ids"][0].tolist(), "known": given["known"][0].tolist()}
    observation, _ = env.reset(seed=0, options=options)
    kept = given["known"][0]
    np.testing.assert_array_equal(observation["ids"][kept], given["ids"][0][kept])
    observation, _ = env.reset(options=None)
    assert (observation["ids"] == 64).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"known": None}, r"^known: got none beside ids"),
        ({"ids": None}, r"^ids: got none beside known"),
        ({"ids": np.zeros((4, 15), int)}, r"^ids: got int64 \(4, 15\), allowed are integers \(4"),
        ({"ids": np.zeros((4, 16))}, r"^ids: got float64 \(4, 16\), allowed are integers"),
        ({"ids": np.zeros((4, 16), bool)}, r"^ids: got bool"),
        ({"ids": "text"}, r"^ids: got"),
        ({"ids": [[1, 2], [3]]}, r"^ids: got what is no array"),
        ({"known": np.ones((4, 16), int)}, r"^known: got int64 \(4, 16\), allowed are bool"),
        ({"known": np.ones(16, bool)}, r"^known: got bool \(16,\), allowed are bool \(4, 16\)"),
        ({"known": np.ones((4, 16), bool)}, r"^known: got an image of which every token is known"),
        ({"ids": np.full((4, 16), 64)}, r"^ids: got 64 where it is known, allowed .* 0 \.\. 63"),
        ({"ids": np.full((4, 16), -1)}, r"^ids: got -1 where it is known"),
    ],
)
def test_what_cannot_be_known_is_refused_and_nothing_changes(bundle, given, change, message):
    env = make(bundle)
    env.reset(seed=0)
    ids, drawn = env.ids.clone(), str(env.state_dict()["generators"])
    with pytest.raises(ValueError, match=message):
        env.reset(seed=1, options=given | change)
    assert torch.equal(env.ids, ids) and str(env.state_dict()["generators"]) == drawn
    with pytest.raises(ValueError, match=message):
        generate(bundle, POLICY, LABELS, NUM_STEPS, 0, **(given | change))


def test_a_single_environment_names_its_own_shape(bundle, given):
    env = NATDecodeEnv(bundle, 2)
    with pytest.raises(
        ValueError, match=r"^ids: got int64 \(1, 16\), allowed are integers \(16,\)"
    ):
        env.reset(seed=1, options={"ids": given["ids"][:1], "known": given["known"][0]})


def test_a_token_is_known_where_all_its_pixels_are():
    rng = np.random.default_rng(0)
    pixels = rng.random((12, 8)) < 0.9
    found = known_tokens(pixels, (3, 4))
    for row in range(3):
        for column in range(4):
            cell = pixels[4 * row : 4 * row + 4, 2 * column : 2 * column + 2]
            assert found[4 * row + column] == cell.all()
