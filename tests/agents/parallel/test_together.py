"""Two and four processes train what one does, exchange what they should, and go on alike."""

import shutil

import numpy as np
import pytest
import torch

from nat_env.storage.state import load_state

OF_ROUNDING = {"branches.0.0.bias", "branches.0.3.bias", "critic.head.bias"}
"""Their gradient is nothing but rounding, and Adam takes steps of full length by it: a group norm
takes away what the first two add, and the mean of normalised returns is where the third is."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def alone(jobs, folder):
    return jobs["trained"](folder / "alone")


@pytest.fixture(scope="module")
def pair(together, folder):
    """What each of two processes has found."""
    return together("train_in_pairs", 2, folder)


@pytest.fixture(scope="module")
def four(together, folder, pair):
    shutil.copytree(folder / "left", folder / "left4")
    return together("train_in_fours", 4, folder)


def assert_close(found, expected):
    """To float32's rounding, of which ten rounds of Adam's steps make a little more.

    A step is 1e-3 long: of what is not shared, or drawn otherwise, many differ by 1e-2. Processors
    whose matrix products depend on the number of rows round a weight apart by a step.
    """
    for part in ("policy", "discriminator"):
        for name, weight in expected.get(part, {}).items():
            if name not in OF_ROUNDING:
                torch.testing.assert_close(found[part][name], weight, atol=2e-3, rtol=0)
    if "rewards" in expected:
        torch.testing.assert_close(found["rewards"], expected["rewards"], atol=1e-5, rtol=1e-4)
    assert len(found["history"]) == len(expected["history"])
    for row, other in zip(found["history"], expected["history"], strict=True):
        assert row == pytest.approx(other, rel=0.05)  # where rounding has turned a token or two


def test_processes_train_what_one_does(alone, pair, four):
    assert len(alone["history"]) == 3  # at the start, in the middle, at the end
    assert_close(pair[0]["whole"], alone)
    assert_close(four[0]["whole"], alone)


@pytest.mark.parametrize("name", ["fresh", "map", "a2c", "stock-ppo"])
def test_so_do_other_trainings(jobs, pair, folder, name):
    assert_close(pair[0][name], jobs["trained"](folder / f"{name}_alone", **jobs["OTHERS"][name]))


def test_their_weights_are_alike_to_the_bit(pair, four, assert_same):
    for first, *others in (pair, four):
        for name, found in first.items():
            for other in others:
                for part in found.keys() - {"history"}:
                    assert_same(found[part], other[name][part])


def test_two_go_on_exactly_where_two_were_stopped(pair, folder, assert_same):
    assert load_state(folder / "left" / "state.safetensors")["callback"]["rounds"] == 3
    assert_same(pair[0]["resumed"], pair[0]["whole"])
    states = [load_state(folder / run / "state.safetensors") for run in ("broken", "whole")]
    for part in ("learner", "reward", "environment", "random"):
        assert_same(states[0][part], states[1][part])


def test_four_and_one_go_on_where_two_were_stopped(jobs, alone, four, pair, folder):
    assert_close(four[0]["resumed"], alone)
    shutil.copytree(folder / "left", folder / "left1")
    assert_close(jobs["trained"](folder / "left1", resume=True), alone)


def test_their_state_and_their_events_are_those_of_one(alone, pair, folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    one, two = (load_state(folder / run / "state.safetensors") for run in ("alone", "whole"))
    assert two["learner"]["timesteps"] == one["learner"]["timesteps"] == 10 * 32 * 2
    assert two["environment"]["generators"] == one["environment"]["generators"]
    assert torch.equal(two["environment"]["conditions"], one["environment"]["conditions"])
    assert torch.equal(two["random"]["torch"], one["random"]["torch"])
    events = [
        EventAccumulator(str(folder / run / "tensorboard"), {"scalars": 0}).Reload()
        for run in ("alone", "whole")
    ]
    assert events[0].Tags()["scalars"] == events[1].Tags()["scalars"]
    for tag in events[0].Tags()["scalars"]:
        if tag.startswith(("eval/", "reward/", "discriminator/", "guidance_scale/")):
            one, two = ([event.value for event in e.Scalars(tag)] for e in events)
            np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5, err_msg=tag)
    written = [sorted(p.name for p in (folder / run).iterdir()) for run in ("alone", "whole")]
    assert written[0] == written[1]
