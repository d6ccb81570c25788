"""Shaping wrappers against a loop over what an unwrapped twin shows, in all autoreset modes."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from nat_env import AdversarialReward, NATDecodeVectorEnv, PotentialShaping, StepCost, load_bundle
from nat_env.bundles.reals import TensorReals
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.wrappers.shaping import confidence, revealed_share

NUM_STEPS = 3
NUM_ENVS = 4
MODES = ("SameStep", "NextStep", "Disabled")


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("digits", "float32")


def make(bundle, mode="SameStep", **kwargs):
    kwargs = {"num_steps": NUM_STEPS, "observation": "tokens"} | kwargs
    return NATDecodeVectorEnv(NUM_ENVS, bundle, autoreset_mode=mode, **kwargs)


def staggered(env, num_steps=14):
    """Steps of random actions and their observations; the even rows begin one step later.

    In the mode without automatic resets, rows that have ended are reset between the steps.
    """
    rng = np.random.default_rng(1)
    observation, _ = env.reset(seed=5)
    for step in range(num_steps):
        if step == 1:
            observation, _ = env.reset(options={"reset_mask": np.arange(NUM_ENVS) % 2 == 0})
        actions = rng.uniform(-1, 1, (NUM_ENVS, 4)).astype(np.float32)
        after, rewards, terminated, _, info = env.step(actions)
        yield observation, after, rewards, terminated, info
        observation = after
        if env.unwrapped.autoreset_mode.value == "Disabled" and terminated.any():
            observation, _ = env.reset(options={"reset_mask": terminated})


def height(ids, condition, mask_id):
    """A potential of one row's state: not 0 at the start, and different for each label."""
    return 0.7 + 0.2 * int(condition[0]) + float(np.mean(ids != mask_id)) ** 2


def heights(env):
    shares = (env.ids != env.bundle.nat.mask_id).double().mean(dim=1)
    return 0.7 + 0.2 * env.conditions + shares**2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_potential_shaping_by_a_loop_over_rows(bundle, mode, discount):
    plain, shaped = make(bundle, mode), PotentialShaping(make(bundle, mode), heights, discount)
    mask_id = bundle.nat.mask_id
    episodes = 0
    for seen, given in zip(staggered(plain), staggered(shaped), strict=True):
        before, after, original, terminated, info = seen
        _, _, rewards, shaped_terminated, shaped_info = given
        np.testing.assert_array_equal(shaped_terminated, terminated)
        for row in range(NUM_ENVS):
            now, then = (
                height(o["ids"][row], o["condition"][row], mask_id) for o in (before, after)
            )
            expected = discount * then - now
            if before["timestep"][row] == NUM_STEPS:  # this step is a reset
                expected = 0.0
            elif terminated[row]:
                expected = -now
                episodes += 1
            assert rewards[row] - original[row] == pytest.approx(expected, abs=1e-6)
            assert shaped_info["shaping"][row] == pytest.approx(expected, abs=1e-6)
        np.testing.assert_array_equal(shaped_info["_shaping"], before["timestep"][:, 0] < NUM_STEPS)
        assert ("final_info" in shaped_info) == ("final_info" in info)
        if "final_info" in info:
            final = shaped_info["final_info"]
            np.testing.assert_array_equal(final["shaping"], shaped_info["shaping"])
            np.testing.assert_array_equal(final["_shaping"], terminated)
            np.testing.assert_array_equal(final["action"], info["final_info"]["action"])
    assert episodes >= 2 * NUM_ENVS


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("potential", [heights, confidence])
def test_an_episode_sums_to_minus_the_first_potential(bundle, mode, potential):
    env = PotentialShaping(make(bundle, mode), potential)
    sums, starts, checked = np.zeros(NUM_ENVS), np.zeros(NUM_ENVS), 0
    original = make(bundle, mode)
    for seen, given in zip(staggered(original), staggered(env), strict=True):
        before, _, plain, terminated, _ = seen
        begins = before["timestep"][:, 0] == 0
        sums[begins] = 0.0
        labels = before["condition"][:, 0]
        if potential is heights:  # nothing is known at the start, or the label alone
            starts[begins] = 0.7 + 0.2 * labels[begins]
        else:
            first = bundle.nat.first_passes(torch.from_numpy(labels)).logits
            surest = first.softmax(dim=-1).amax(dim=-1).mean(dim=1).numpy()
            starts[begins] = surest[begins]
        sums += given[2] - plain
        np.testing.assert_allclose(sums[terminated], -starts[terminated], atol=1e-6)
        checked += terminated.sum()
    assert checked >= 2 * NUM_ENVS


def test_potentials_by_hand(bundle):
    env = make(bundle)
    env.reset(seed=0)
    for step in range(NUM_STEPS):
        ids, conditions = env.ids, env.conditions
        share, sure = revealed_share(env), confidence(env)
        with torch.no_grad():
            probabilities = bundle.nat.transformer(ids, conditions)[0].softmax(dim=-1).numpy()
        for row in range(NUM_ENVS):
            known = [n for n, token in enumerate(ids[row]) if token != bundle.nat.mask_id]
            assert bool(known) == bool(step)
            assert share[row].item() == pytest.approx(len(known) / len(ids[row]))
            masked = [n for n in range(len(ids[row])) if n not in known]
            total = len(known) + sum(probabilities[row, n].max() for n in masked)
            assert sure[row].item() == pytest.approx(total / len(ids[row]), abs=1e-6)
        env.step(np.zeros((NUM_ENVS, 4)))


@pytest.mark.parametrize("mode", MODES)
def test_a_step_costs_where_tokens_are_masked(bundle, mode):
    plain = make(bundle, mode, aligned=True)
    costly = StepCost(make(bundle, mode, aligned=True), 0.25)
    free = paid = 0
    for seen, given in zip(staggered(plain, 20), staggered(costly, 20), strict=True):
        before, _, original, _, _ = seen
        _, _, rewards, _, info = given
        for row in range(NUM_ENVS):
            masked = any(token == bundle.nat.mask_id for token in before["ids"][row])
            assert rewards[row] == pytest.approx(original[row] - 0.25 * masked)
            assert info["shaping"][row] == pytest.approx(-0.25 * masked)
            paid += masked
            free += not masked and not seen[3][row]
    assert paid
    assert free  # some row revealed everything early, and waited


def test_revealing_all_at_once_pays_one_step(bundle):
    for ratio, expected in [(-1.0, -0.1), (0.9, -0.3)]:
        nothing = make(bundle, reward_fn=lambda i, c: torch.zeros(len(i)), aligned=True)
        env = StepCost(nothing, 0.1)
        env.reset(seed=0)
        actions = np.tile([ratio, 0, 0, 0], (NUM_ENVS, 1))
        total = sum(env.step(actions)[1] for _ in range(NUM_STEPS))
        np.testing.assert_allclose(total, expected)


def test_wrappers_add_up_around_the_adversarial_reward(bundle):
    def model():
        reals = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        config = DiscriminatorConfig(widths=(8, 16), batch_size=16)
        return AdversarialRewardModel(TensorReals(reals, torch.arange(32) % 10), 10, config)

    inner = AdversarialReward(make(bundle), model())
    learning = AdversarialReward(make(bundle), model())
    outer = StepCost(PotentialShaping(learning, heights), 0.5)
    lone = PotentialShaping(make(bundle), heights)
    for adversarial, shaped, both in zip(
        staggered(inner), staggered(lone), staggered(outer), strict=True
    ):
        cost = 0.5 * (both[0]["ids"] == bundle.nat.mask_id).any(axis=1)
        expected = adversarial[2] + shaped[4]["shaping"] - cost
        np.testing.assert_allclose(both[2], expected, rtol=1e-6, atol=1e-9)
        assert "original_reward" in both[4]
    assert sorted(learning.update(1)) == ["accuracy_fake", "accuracy_real", "loss"]


def test_shaping_goes_on_from_a_restored_environment(bundle):
    whole = PotentialShaping(make(bundle), heights)
    whole.reset(seed=0)
    actions = np.zeros((NUM_ENVS, 4))
    whole.step(actions)
    state = whole.unwrapped.state_dict()
    resumed = PotentialShaping(make(bundle), heights)
    resumed.unwrapped.load_state_dict(state)
    np.testing.assert_allclose(resumed.step(actions)[1], whole.step(actions)[1], rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_a_finished_rows_potential_does_not_matter(bundle, mode):
    """There the logits are an older pass's, and a potential may give anything."""

    def wild(env):
        finished = env.timesteps == env.num_steps
        return torch.where(finished, torch.nan, heights(env))

    tame = staggered(PotentialShaping(make(bundle, mode), heights))
    for a, b in zip(tame, staggered(PotentialShaping(make(bundle, mode), wild)), strict=True):
        np.testing.assert_array_equal(a[2], b[2])


def test_what_does_not_fit_is_refused(bundle):
    cart = gym.make_vec("CartPole-v1", 2)
    for wrap in (lambda env: PotentialShaping(env, heights), lambda env: StepCost(env, 1.0)):
        with pytest.raises(ValueError, match=r"^env: got "):
            wrap(cart)
        with pytest.raises(gym.error.ResetNeeded):
            wrap(make(bundle)).step(np.zeros((NUM_ENVS, 4)))
    with pytest.raises(gym.error.ResetNeeded):
        confidence(make(bundle))
    for discount in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"^discount: got "):
            PotentialShaping(make(bundle), heights, discount)
    for cost in (-0.1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"^cost: got "):
            StepCost(make(bundle), cost)
    bad = {
        "gave shape": lambda env: torch.zeros(NUM_ENVS, 1),
        "gave None, allowed is one real number for each of the 4 rows": lambda env: None,
        "gave \\[nan": lambda env: torch.full((NUM_ENVS,), torch.nan),
    }
    for message, potential in bad.items():
        env = PotentialShaping(make(bundle), potential)
        env.reset(seed=0)
        with pytest.raises(ValueError, match=rf"^potential: {message}"):
            env.step(np.zeros((NUM_ENVS, 4)))
