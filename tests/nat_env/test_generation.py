"""Images batch by batch: they are those of `generate`, and nothing keeps them."""

import numpy as np
import pytest
import torch

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.frozen.conditions import balanced_conditions
from nat_env.generation import generate, generate_batches
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule

POLICY = ScheduledPolicy(heuristic_schedule(2))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle("digits", dtype="float32")


def test_batches_are_parts_of_the_whole_with_their_conditions(bundle):
    conditions = torch.tensor([3, 1, 4, 1, 5, 9, 2])
    whole = generate(bundle, POLICY, conditions, 2, seed=5)
    batches = list(generate_batches(bundle, POLICY, conditions, 2, 5, batch_size=3))
    assert [len(images) for images, _ in batches] == [3, 3, 1]
    assert torch.equal(torch.cat([labels for _, labels in batches]), conditions)
    torch.testing.assert_close(torch.cat([images for images, _ in batches]), whole)


def test_a_batch_is_decoded_when_it_is_asked_for(bundle):
    steps = []
    batches = generate_batches(bundle, POLICY, torch.arange(6), 2, 0, 2, steps.append)
    for asked in (1, 2, 3):
        next(batches)
        assert len(steps) == 2 * asked
    with pytest.raises(StopIteration):
        next(batches)


def test_the_caller_decides_how_many_images_are_in_memory(bundle, images_alive):
    alive = images_alive(bundle)
    conditions = balanced_conditions(50, 10)
    for images, _ in generate_batches(bundle, POLICY, conditions, 2, 0, batch_size=10):
        assert len(images) == 10
        del images
    assert alive == [0, 0, 0, 0, 0]
    alive.clear()
    generate(bundle, POLICY, conditions, 2, 0, batch_size=10)
    assert alive == [0, 10, 20, 30, 40]


def test_arguments_are_checked_at_the_call(bundle):
    for conditions, seed, message in (([10], 0, "conditions"), ([1], -1, "seed: got -1")):
        with pytest.raises(ValueError, match=message):
            generate_batches(bundle, POLICY, torch.tensor(conditions), 2, seed)
    with pytest.raises(ValueError, match="batch_size: got 0"):
        generate_batches(bundle, POLICY, torch.tensor([1]), 2, 0, batch_size=0)


def test_gradients_are_recorded_as_before_between_batches(bundle):
    weight = torch.ones((), requires_grad=True)
    for images, _ in generate_batches(bundle, POLICY, torch.arange(4), 2, 0, batch_size=2):
        assert (images.mean() * weight).requires_grad


def test_conditions_may_be_a_list_or_an_array(bundle):
    expected = generate(bundle, POLICY, torch.tensor([1, 2]), 2, seed=0)
    for given in ([1, 2], (1, 2), np.array([1, 2]), np.array([1, 2], np.uint8)):
        assert torch.equal(generate(bundle, POLICY, given, 2, seed=0), expected)


@pytest.mark.parametrize(
    "given", [[1.0, 2.0], [True, False], ["1"], "1", [], 1, [[1, 2]], [10], [-1], np.array([0.5])]
)
def test_other_conditions_are_refused_by_name(bundle, given):
    with pytest.raises(ValueError, match="conditions: got"):
        generate(bundle, POLICY, given, 2, seed=0)


@pytest.mark.parametrize(
    ("column", "value"),
    [(0, 2.0), (0, -0.1), (1, -1.0), (2, -1e-3), (3, -1.0), (2, np.nan), (3, np.inf)],
)
def test_a_policy_out_of_range_is_refused_by_name(bundle, column, value):
    def policy(features, timestep):
        actions = POLICY(features, timestep)
        actions[-1, column] = value if timestep[0] == 1 else actions[-1, column]
        return actions

    with pytest.raises(ValueError, match=r"^policy: at step 1 it gave actions: got m, tau_1"):
        generate(bundle, policy, [1, 2], 2, seed=0)


@pytest.mark.parametrize(
    "give",
    [lambda a: a[:, :3], lambda a: a[0], lambda a: a[:1], torch.Tensor.tolist, lambda a: None],
)
def test_a_policy_of_another_shape_is_refused_by_name(bundle, give):
    with pytest.raises(ValueError, match=r"^policy: at step 0 it gave actions: got"):
        generate(bundle, lambda f, t: give(POLICY(f, t)), [1, 2], 2, seed=0)
