"""What tells policies apart, and the shuffled policy."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.runs.checkpoint import load_policy
from eval.evaluation.fingerprint import policy_fingerprint
from eval.evaluation.policies import ShuffledPolicy, is_trained_by
from nat_env.bundles.loading import load_bundle
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule


def all_steps(policy, num_steps: int, rows: int = 6) -> torch.Tensor:
    """Actions [T, rows, 4] on fixed features of digits' size."""
    features = torch.randn(rows, 16, 64, generator=torch.Generator().manual_seed(0))
    steps = [torch.full((rows,), step) for step in range(num_steps)]
    return torch.stack([policy(features, step) for step in steps])


def test_the_shuffled_policy_permutes_features_among_samples():
    def first_number(features, timestep):
        return torch.stack([features[:, 0, 0], timestep.float()], dim=1)

    features = torch.arange(64.0)[:, None, None].expand(64, 16, 8)
    timestep = torch.full((64,), 2)
    policy = ShuffledPolicy(first_number, seed=3)
    first, second = policy(features, timestep), policy(features, timestep)
    for seen in (first, second):
        assert not torch.equal(seen[:, 0], torch.arange(64.0))
        assert torch.equal(seen[:, 0].sort().values, torch.arange(64.0))
        assert (seen[:, 1] == 2).all()
    assert not torch.equal(first, second)
    assert torch.equal(ShuffledPolicy(first_number, seed=3)(features, timestep), first)
    assert not torch.equal(ShuffledPolicy(first_number, seed=4)(features, timestep), first)


def test_shuffling_draws_from_no_global_generator(digits):
    policy = ShuffledPolicy(ScheduledPolicy(heuristic_schedule(2)), seed=0)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)
    all_steps(policy, 2)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_equal(np.random.get_state(legacy=False), numpy_state)


def test_a_shuffled_policy_is_for_the_t_of_what_it_shuffles(digits):
    policy = ShuffledPolicy(ScheduledPolicy(heuristic_schedule(8)), seed=0)
    with pytest.raises(ValueError, match=r"^num_steps: got 4, .* T = 8"):
        generate(digits, policy, torch.tensor([1]), 4, 0)


def test_fingerprints_tell_policies_apart(digits, make_run):
    runs = [make_run("a"), make_run("b", weights=1)]
    learned = [load_policy(run, digits) for run in runs]
    scheduled = [ScheduledPolicy(heuristic_schedule(2, k)) for k in (1.0, 2.0)]
    prints = [policy_fingerprint(policy) for policy in learned + scheduled]
    assert len(set(prints)) == 4
    assert policy_fingerprint(load_policy(runs[0], digits)) == prints[0]
    learned[0].actor.head.bias += 1.0  # type: ignore[union-attr, operator]
    assert policy_fingerprint(learned[0]) != prints[0]
    learned[1].test_action = "mean"
    assert policy_fingerprint(learned[1]) != prints[1]
    unknown = ShuffledPolicy(scheduled[0], 0)
    assert policy_fingerprint(unknown) != policy_fingerprint(unknown)


def test_networks_of_a_trunks_family_are_no_independent_judges(make_run):
    run, bundle = make_run(), load_bundle("digits")
    config = json.loads((run / "config.json").read_text())
    for trunk, kin in (("bundle", False), ("scratch", False), ("efficientnet", True)):
        config["config"]["discriminator"]["trunk"] = trunk
        (run / "config.json").write_text(json.dumps(config))
        for judge in ("efficientnet-lite0@112", "efficientnet-lite2@112"):
            assert is_trained_by(str(run), judge, bundle) == kin
        assert not is_trained_by(str(run), "inception-v3", bundle)


@pytest.mark.parametrize(
    ("reward", "given"),
    [
        ("judge", True),
        ("frechet", True),
        ('{"name": "clipped", "reward": "judge"}', True),
        ("judges:Mine", False),
        ('{"name": "clip", "path_or_id": "judge"}', False),
        ("adversarial", False),
    ],
)
def test_the_bundles_judge_gave_a_reward_that_is_made_of_it(make_run, reward, given):
    run = make_run()
    config = json.loads((run / "config.json").read_text())
    config["config"]["reward"] = reward
    (run / "config.json").write_text(json.dumps(config))
    bundle = load_bundle("digits")
    assert is_trained_by(str(run), "digits-judge", bundle) == given
    assert not is_trained_by(str(run), "another", bundle)
    # Of a policy that was carried to another bundle that bundle's judge knows nothing.
    other = replace(bundle, fingerprint="another")
    assert not is_trained_by(str(run), "digits-judge", other)


def test_the_bundles_judge_gave_the_reward_where_the_discriminator_is_passed_by(make_run):
    run = make_run()
    config = json.loads((run / "config.json").read_text())
    config["config"] |= {"reward": "adversarial", "bypass_discriminator": True}
    (run / "config.json").write_text(json.dumps(config))
    bundle = load_bundle("digits")
    assert is_trained_by(str(run), "digits-judge", bundle)
    assert not is_trained_by(str(run), "efficientnet-lite0", bundle)
