import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.stats import norm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecFrameStack

from agents.learners.network import AdaNATNetwork, MapHead, folded
from agents.learners.policy import AdaNATPolicy
from agents.learners.ppo import PPO
from agents.learners.trained import ExploringPolicy, LearnedPolicy
from agents.learners.vec_env import GymnasiumVecEnv
from nat_env.actions import RAW_SCALE, ActionMap
from nat_env.schedules import heuristic_schedule
from nat_env.vector_env import NATDecodeVectorEnv

GRID, FEATURE_SIZE, NUM_STEPS = (3, 5), 6, 4


def make_policy(std=0.6, seed=0, away_from_zero=True, **options):
    torch.manual_seed(seed)
    space = spaces.Dict(
        {
            "features": spaces.Box(-9, 9, (15 * FEATURE_SIZE,), np.float32),
            "timestep": spaces.Box(0, NUM_STEPS, (1,), np.int64),
        }
    )
    box = spaces.Box(-1, 1, (4,), np.float32)
    policy = AdaNATPolicy(
        space,
        box,
        lambda _: 1e-3,
        grid=GRID,
        hidden_size=16,
        action_std=std,
        **options,
    )
    for network in (policy.actor, policy.critic) if away_from_zero else ():
        torch.nn.init.normal_(network.head.weight, std=0.3)
    return policy


def observations(size=8, seed=1):
    """Features are numbers of half precision, to which the policy rounds."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "features": torch.randn(size, 15 * FEATURE_SIZE, generator=generator).half().float(),
        "timestep": (torch.arange(size) % (NUM_STEPS + 1))[:, None],
    }


def test_untrained_policy_is_the_residual_schedule_and_has_value_zero():
    torch.manual_seed(0)
    actor = AdaNATNetwork(FEATURE_SIZE, GRID, 4, 16)
    schedule = heuristic_schedule(NUM_STEPS)
    timestep = torch.arange(NUM_STEPS)
    learned = LearnedPolicy(actor, ActionMap(schedule), 0.0, NUM_STEPS)
    actions = learned(torch.randn(NUM_STEPS, 15, FEATURE_SIZE), timestep)
    torch.testing.assert_close(actions[:-1], schedule.table[:-1], rtol=1e-4, atol=1e-4)
    fresh = make_policy(away_from_zero=False)
    assert not fresh.predict_values(observations()).any()


def test_log_probability_is_the_gaussians_without_the_idle_dimensions():
    policy, obs = make_policy(std=0.45), observations()
    actions, values, log_prob = policy(obs)
    features = obs["features"].view(8, 15, FEATURE_SIZE)
    mean = policy.actor(features, obs["timestep"][:, 0]).detach().numpy().astype(float)
    raw = actions.detach().numpy().astype(float) * RAW_SCALE
    for row in range(8):
        # Of a row that waits, at step T, nothing has an effect.
        dims = {NUM_STEPS - 1: (1, 3), NUM_STEPS: ()}.get(int(obs["timestep"][row, 0]), range(4))
        expected = sum(
            -0.5 * ((raw[row, d] - mean[row, d]) / 0.45) ** 2
            - math.log(0.45)
            - 0.5 * math.log(2 * math.pi)
            for d in dims
        )
        assert log_prob[row].item() == pytest.approx(expected, abs=1e-4)
    again, log_prob_again, _ = policy.evaluate_actions(obs, actions)
    torch.testing.assert_close(log_prob_again, log_prob, rtol=0, atol=1e-4)
    torch.testing.assert_close(again, values)
    torch.testing.assert_close(policy.predict_values(obs), values)


def test_idle_dimensions_do_not_move_the_ratio():
    policy, obs = make_policy(), observations()
    actions, _, before = policy(obs)
    changed = actions.clone()
    changed[:, [0, 2]] += 0.1
    after = policy.evaluate_actions(obs, changed)[1]
    last = obs["timestep"][:, 0] >= NUM_STEPS - 1
    torch.testing.assert_close(after[last], before[last], rtol=0, atol=1e-4)
    assert bool(((after[~last] - before[~last]).abs() > 1e-3).all())


def test_exploration_has_the_scheduled_standard_deviation():
    policy = make_policy(std=0.3)
    obs = {k: v[:1].expand(4000, *v.shape[1:]) for k, v in observations().items()}
    raw = policy(obs)[0].detach() * RAW_SCALE
    assert raw.std(dim=0).numpy() == pytest.approx(0.3, rel=0.06)
    torch.manual_seed(3)
    features = obs["features"].view(4000, 15, FEATURE_SIZE)
    physical = ExploringPolicy(policy, ActionMap())(features, obs["timestep"][:, 0])
    logit = physical[:, 0].logit()
    assert logit.std().item() == pytest.approx(0.3, rel=0.06)


def test_the_learned_policy_is_the_mean_of_what_was_explored():
    policy, obs = make_policy(std=1.0), observations(size=1)
    features = obs["features"].view(1, 15, FEATURE_SIZE)
    timestep = obs["timestep"][:, 0]
    learned = LearnedPolicy(policy.actor, ActionMap(), 1.0, NUM_STEPS)(features, timestep)
    torch.manual_seed(3)
    explored = ExploringPolicy(policy, ActionMap())(
        features.expand(40_000, -1, -1), timestep.expand(40_000)
    )
    error = explored.std(dim=0) / 200
    assert bool(((learned[0] - explored.mean(dim=0)).abs() < 4 * error).all())
    of_the_mean = ActionMap().physical(policy.actor(features, timestep) / RAW_SCALE, timestep)
    differs = (of_the_mean[0] - explored.mean(dim=0)).abs() > 4 * error
    assert bool(differs[1:].all())  # m is about 1/2 here, where a sigmoid is straight


def test_the_papers_test_time_action_is_the_activation_of_the_mean():
    policy, obs = make_policy(std=1.0), observations()
    features, timestep = obs["features"].view(8, 15, FEATURE_SIZE), obs["timestep"][:, 0]
    learned = LearnedPolicy(policy.actor, ActionMap(), 1.0, NUM_STEPS, "mean")
    with torch.no_grad():
        raw = policy.actor(features, timestep).numpy().astype(float)
    expected = np.log1p(np.exp(raw))
    expected[:, 0] = 1 / (1 + np.exp(-raw[:, 0]))
    assert learned(features, timestep).numpy() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match=r"^test_action: got 'mode', allowed are 'expectation'"):
        LearnedPolicy(policy.actor, ActionMap(), 1.0, NUM_STEPS, "mode")


def test_features_are_rounded_after_training_as_in_it():
    policy = make_policy()
    features, timestep = torch.randn(4, 15, FEATURE_SIZE), torch.arange(4)
    for test_action in ("expectation", "mean"):
        learned = LearnedPolicy(policy.actor, ActionMap(), 0.5, NUM_STEPS, test_action)
        rounded = learned(features.half().float(), timestep)
        assert torch.equal(learned(features, timestep), rounded)


@pytest.mark.parametrize("timestep", [0.5, -1.0, NUM_STEPS + 1.0, math.nan])
def test_a_timestep_that_is_none_is_refused_wherever_it_enters(timestep):
    policy, obs = make_policy(), observations()
    actions = torch.zeros(8, 4)
    obs["timestep"] = torch.full((8, 1), timestep)
    for enters in (
        policy,
        policy.predict_values,
        policy.get_distribution,
        lambda obs: policy.evaluate_actions(obs, actions),
        lambda obs: policy.predict({key: value.numpy() for key, value in obs.items()}),
    ):
        with pytest.raises(ValueError, match=r"^timestep: got .* allowed are the integers 0 .. 4"):
            enters(obs)


def test_deterministic_prediction_is_the_mean():
    policy, obs = make_policy(), observations()
    as_numpy = {k: v.numpy() for k, v in obs.items()}
    first, _ = policy.predict(as_numpy, deterministic=True)
    mean = policy.actor(obs["features"].view(8, 15, FEATURE_SIZE), obs["timestep"][:, 0])
    assert first == pytest.approx((mean / RAW_SCALE).detach().numpy(), abs=1e-6)


def test_actor_and_critic_share_nothing_and_are_all_that_is_optimised():
    policy = make_policy()
    actor = {id(p) for p in policy.actor.parameters()}
    critic = {id(p) for p in policy.critic.parameters()}
    optimised = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert not actor & critic
    assert optimised == actor | critic


def test_timestep_and_every_token_reach_the_output():
    policy, obs = make_policy(), observations(size=2)
    torch.nn.init.normal_(policy.actor.norm1.modulation.weight, std=0.1)
    features = obs["features"].view(2, 15, FEATURE_SIZE)
    zero, one = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    assert not torch.allclose(policy.actor(features, zero), policy.actor(features, one))
    features.requires_grad_(True)
    policy.actor(features, zero).sum().backward()
    assert bool((features.grad.abs().sum(dim=2) > 0).all())


def test_a_token_moves_the_cells_of_its_neighbourhood_alone():
    """Tokens lie row by row: the convolution's cells are those within one row and one column."""
    actor, grid = make_policy().actor, GRID
    features = torch.zeros(1, 15, 16)
    before = actor.depthwise(folded(features, actor.grid))
    for token in range(15):
        moved = features.clone()
        moved[0, token] = 1.0
        changed = (actor.depthwise(folded(moved, actor.grid)) != before).any(dim=1)[0]  # [2, 3]
        row, column = divmod(token, grid[1])
        rows, columns = (np.abs(2 * np.arange(n) - x) <= 1 for n, x in ((2, row), (3, column)))
        np.testing.assert_array_equal(changed, np.outer(rows, columns))


def map_policy(**options):
    torch.manual_seed(0)
    space = spaces.Dict(
        {
            "features": spaces.Box(-9, 9, (5 * FEATURE_SIZE,), np.float32),
            "timestep": spaces.Box(0, NUM_STEPS, (1,), np.int64),
        }
    )
    box = spaces.Box(-1, 1, (6,), np.float32)
    policy = AdaNATPolicy(
        space, box, lambda _: 1e-3, (1, 5), 16,
        idle_at_last=(False, *[True] * 5), map_size=5, **options,
    )  # fmt: skip
    assert policy.actor.map_head is not None
    torch.nn.init.normal_(policy.actor.map_head.pointwise.weight)
    torch.nn.init.normal_(policy.actor.head.weight)
    return policy


def map_observations(size=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        "features": torch.randn(size, 5 * FEATURE_SIZE, generator=generator).half().float(),
        "timestep": (torch.arange(size) % NUM_STEPS)[:, None],
    }


def test_numbers_of_tokens_lie_on_the_grid_row_by_row():
    """Each place of the features, here 2 x 3, stands for 2 x 2 tokens of 4 x 6."""
    torch.manual_seed(0)
    head = MapHead(8, (2, 3), 24)
    embedded, condition = torch.randn(2, 6, 8), torch.randn(2, 8)
    assert not head(embedded, condition).any()
    torch.nn.init.normal_(head.pointwise.weight)
    torch.nn.init.normal_(head.norm.modulation.weight)
    with torch.no_grad():
        found = head(embedded, condition).view(2, 4, 6)
        x = head.norm(embedded + head.position, condition).view(2, 2, 3, 8).permute(0, 3, 1, 2)
        each = head.pointwise(torch.nn.functional.gelu(head.depthwise(x)))  # [2, 4, 2, 3]
    for row in range(4):
        for column in range(6):
            part = 2 * (row % 2) + column % 2
            torch.testing.assert_close(found[:, row, column], each[:, part, row // 2, column // 2])
    with pytest.raises(ValueError, match=r"^map_size: got 12, allowed are 6 places"):
        MapHead(8, (2, 3), 12)


def test_the_log_probability_counts_every_token():
    policy, obs = map_policy(action_std=0.5), map_observations()
    with torch.no_grad():
        actions, _, log_prob = policy(obs)
        mean = policy.actor(obs["features"].view(8, 5, FEATURE_SIZE), obs["timestep"][:, 0])
    assert mean.shape == (8, 6) and mean[:, 1:].std(dim=1).min() > 0.01
    density = norm.logpdf(actions.numpy() * RAW_SCALE, mean.numpy(), 0.5)
    at_last = obs["timestep"][:, 0].numpy() == NUM_STEPS - 1
    expected = np.where(at_last, density[:, 0], density.sum(axis=1))
    np.testing.assert_allclose(log_prob, expected, atol=1e-4)


def test_a_map_that_is_blind_to_the_sample_is_an_order_of_the_tokens():
    policy = map_policy(adaptive=False)
    one, other = map_observations(seed=1), map_observations(seed=2)
    with torch.no_grad():
        actions = policy(one, deterministic=True)[0]
        assert torch.equal(actions, policy(other, deterministic=True)[0])
    assert actions[0, 1:].std() > 1e-3
    seeing = map_policy()
    with torch.no_grad():
        differ = seeing(one, deterministic=True)[0] - seeing(other, deterministic=True)[0]
    assert differ[:, 1:].abs().min() > 0


def test_the_distribution_is_that_of_the_log_probabilities():
    policy, obs = make_policy(std=0.45), observations()
    with torch.no_grad():
        actions, _, log_prob = policy(obs)
        distribution = policy.get_distribution(obs)
    inner = obs["timestep"][:, 0] < NUM_STEPS - 1  # there all four count
    in_box = log_prob + 4 * math.log(RAW_SCALE)  # a density in units of the box
    torch.testing.assert_close(distribution.log_prob(actions)[inner], in_box[inner])


def test_save_and_load_gives_the_same_actions(tmp_path):
    policy, obs = make_policy(), {k: v.numpy() for k, v in observations().items()}
    policy.save(str(tmp_path / "policy.pt"))
    loaded = AdaNATPolicy.load(str(tmp_path / "policy.pt"))
    assert isinstance(loaded, ActorCriticPolicy)
    assert (
        loaded.predict(obs, deterministic=True)[0] == policy.predict(obs, deterministic=True)[0]
    ).all()


def test_a_policy_that_is_not_adaptive_sees_the_timestep_alone_and_its_critic_sees_all():
    policy = make_policy(adaptive=False)
    torch.nn.init.normal_(policy.actor.norm1.modulation.weight)  # zero at the start
    steps = NUM_STEPS + 1
    one, other = observations(2 * steps, seed=1), observations(2 * steps, seed=2)
    with torch.no_grad():
        actions = policy(one, deterministic=True)[0]
        assert torch.equal(actions, policy(other, deterministic=True)[0])
        # The timesteps come again; a matrix product may round rows apart on some processors.
        torch.testing.assert_close(actions[:steps], actions[steps:])
        assert len(actions[:steps, 0].unique()) == steps
        assert not torch.equal(policy.predict_values(one), policy.predict_values(other))


def test_shared_noise_is_one_draw_for_all_samples_of_a_batch():
    policy = make_policy(adaptive=False, shared_noise=True)
    obs = observations(seed=1)
    with torch.no_grad():
        actions, _, log_prob = policy(obs)
        mean = policy(obs, deterministic=True)[0]
    noise = (actions - mean) * RAW_SCALE
    torch.testing.assert_close(noise, noise[:1].expand_as(noise))
    assert noise[0].abs().min() > 0
    again = policy(obs)[0]
    assert not torch.allclose(again, actions)
    torch.testing.assert_close(policy.evaluate_actions(obs, actions)[1], log_prob)
    features = obs["features"].view(-1, 15, FEATURE_SIZE)
    explored = ExploringPolicy(policy, ActionMap())(features, obs["timestep"][:, 0])
    inner = obs["timestep"][:, 0] < NUM_STEPS - 1
    guidance_logits = explored[inner, 0].logit()  # m: one configuration for all of a timestep
    for t in range(NUM_STEPS - 1):
        same = guidance_logits[obs["timestep"][inner, 0] == t]
        torch.testing.assert_close(same, same[:1].expand_as(same))
    kwargs = policy._get_constructor_parameters()
    assert kwargs["shared_noise"] and not kwargs["adaptive"]


def test_weights_start_as_the_authors():
    torch.manual_seed(0)
    network = AdaNATNetwork(48, (16, 16), 4, 64)
    default = torch.nn.Conv2d(64, 64, 3, groups=64).weight  # torch's own
    spread = {name: p.std().item() for name, p in network.named_parameters()}
    for name in ("embedding", "linear1", "linear2"):
        rows, columns = getattr(network, name).weight.shape
        bound = math.sqrt(6 / (rows + columns))
        weight = getattr(network, name).weight
        assert weight.abs().max().item() == pytest.approx(bound, rel=0.02)
        assert spread[f"{name}.weight"] == pytest.approx(bound / math.sqrt(3), rel=0.05)
    for place in (0, 2):
        assert spread[f"time_mlp.{place}.weight"] == pytest.approx(0.02, rel=0.05)
    assert spread["depthwise.weight"] == pytest.approx(default.std().item(), rel=0.15)
    for name, p in network.named_parameters():
        if name.startswith("head") or "modulation" in name or name.endswith("bias"):
            assert name.split(".")[0] in ("depthwise", "pointwise") or not p.any(), name
    assert network.depthwise.bias.any() and network.pointwise.bias.any()


@pytest.mark.parametrize("kwargs", [{}, {"optimizer_class": torch.optim.Adam}])
def test_adam_is_the_authors_however_the_policy_is_made(kwargs):
    defaults = make_policy(**kwargs).optimizer.defaults
    assert defaults["eps"] == 1e-8 and defaults["betas"] == (0.9, 0.999)
    assert defaults["weight_decay"] == 0


@pytest.mark.parametrize("grid", [(2, 2), (7, 7), (16, 16), (5, 8)])
def test_any_grid(grid):
    network = AdaNATNetwork(8, grid, 4, 16)
    torch.nn.init.normal_(network.head.weight)
    features = torch.randn(3, grid[0] * grid[1], 8)
    out = network(features, torch.tensor([0, 1, 2]))
    alone = network(features[1:2], torch.tensor([1]))
    torch.testing.assert_close(out[1:2], alone)


def test_the_papers_size():
    # Measured on the authors' released network: 11.483 M parameters for 512 features, 16 x 16.
    actor = AdaNATNetwork(512, (16, 16), 4, 512)
    assert sum(p.numel() for p in actor.parameters()) == pytest.approx(11.483e6, rel=1e-4)


def test_wrong_observations_and_grids_are_refused():
    box = spaces.Box(-1, 1, (4,), np.float32)
    with pytest.raises(ValueError, match="observation_space"):
        AdaNATPolicy(spaces.Box(-1, 1, (3,)), box, lambda _: 1e-3, grid=(1, 3))
    with pytest.raises(ValueError, match="grid"):
        AdaNATPolicy(make_policy().observation_space, box, lambda _: 1e-3, grid=(7, 7))


def test_stacked_observations_are_refused():
    """Of several timesteps none is the one; of stacked features a grid would be another's."""
    env = GymnasiumVecEnv(NATDecodeVectorEnv(4, "digits", num_steps=2))
    with pytest.raises(ValueError, match=r"^observation_space: got Dict"):
        PPO(VecFrameStack(env, 2), n_steps=2, batch_size=8)


@pytest.mark.parametrize("scale", [5.0, 20.0])
def test_sigma_is_in_raw_units_whatever_the_box_stands_for(scale):
    """The same actor gives the same physical values, if none is cut off by the box."""
    policy = make_policy(0.3, raw_scale=scale)
    features = torch.randn(64, 15, FEATURE_SIZE, generator=torch.Generator().manual_seed(0))
    obs = {"features": features.flatten(1), "timestep": torch.zeros(64, 1, dtype=torch.int64)}
    step = torch.zeros(64, dtype=torch.int64)
    means = policy.actor(features.half().float(), step)
    torch.testing.assert_close(policy(obs, deterministic=True)[0] * scale, means)
    torch.manual_seed(0)
    actions, _, log_prob = policy(obs)
    torch.testing.assert_close((actions * scale - means).std().item(), 0.3, atol=0.05, rtol=0)
    torch.testing.assert_close(policy.evaluate_actions(obs, actions)[1], log_prob)
    expected = torch.distributions.Normal(means, 0.3).log_prob(actions * scale).sum(dim=1)
    torch.testing.assert_close(log_prob, expected)
    learned = LearnedPolicy(policy.actor, ActionMap(raw_scale=scale), 0.3, NUM_STEPS)
    usual = LearnedPolicy(policy.actor, ActionMap(), 0.3, NUM_STEPS)
    torch.testing.assert_close(learned(features, step), usual(features, step), atol=1e-3, rtol=0)
    assert policy._get_constructor_parameters()["raw_scale"] == scale


def test_a_mean_beyond_five_needs_the_larger_scale():
    class Constant(torch.nn.Module):
        def forward(self, features, timestep):
            return torch.tensor([0.0, 1.0, 1.0, 10.0]).expand(len(features), -1)

    features, step = torch.zeros(2, 16, 64), torch.zeros(2, dtype=torch.int64)
    near, far = (
        LearnedPolicy(Constant(), ActionMap(raw_scale=scale), 1e-3, NUM_STEPS)(features, step)
        for scale in (5.0, 20.0)
    )
    assert near[0, 3].item() == pytest.approx(5.0067, abs=1e-3)
    assert far[0, 3].item() == pytest.approx(10.0, abs=1e-3)
    torch.testing.assert_close(near[:, :3], far[:, :3])
