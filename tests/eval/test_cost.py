import pytest
import torch

from eval.cost import sampling_cost
from nat_env.bundle import load_bundle
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule


def test_multiply_adds_are_those_counted_by_hand():
    bundle = load_bundle("digits", "float32")
    before = bundle.nat.passes, bundle.tokenizer.decode
    policy = ScheduledPolicy(heuristic_schedule(3))
    parts, seconds = sampling_cost(bundle, policy, num_steps=3, batch_size=4, repeats=1)
    config = bundle.nat.transformer.config
    size, length = config.hidden_size, config.num_tokens + 1  # with the class token
    block = 12 * size**2 * length + 2 * length**2 * size  # qkv, proj, MLP; attention
    skips = config.depth // 2 * 2 * size**2 * length
    head = (size**2 + size * config.codebook_size) * config.num_tokens
    row = config.depth * block + skips + head
    assert parts["transformer"].multiply_adds == pytest.approx(2 * 2 * row)  # T - 1 passes, 2 rows
    assert parts["policy"].multiply_adds == 0
    assert 0 < sum(part.seconds for part in parts.values()) < seconds
    assert (bundle.nat.passes, bundle.tokenizer.decode) == before


def test_a_learned_policys_share_is_counted():
    bundle = load_bundle("digits", "float32")
    layer = torch.nn.Linear(bundle.feature_size, 4)

    def policy(features, timestep):
        return layer(features.mean(dim=1)).sigmoid()

    parts, _ = sampling_cost(bundle, policy, num_steps=2, batch_size=3, repeats=1)
    assert parts["policy"].multiply_adds == 2 * 4 * bundle.feature_size


@pytest.mark.parametrize(("batch_size", "repeats"), [(0, 1), (1, 0)])
def test_nothing_to_measure_is_refused(batch_size, repeats):
    bundle = load_bundle("digits", "float32")
    with pytest.raises(ValueError, match="batch_size, repeats"):
        sampling_cost(bundle, ScheduledPolicy(heuristic_schedule(2)), 2, batch_size, repeats)
