from dataclasses import replace

import pytest

from agents.learners.config import PRESETS
from eval.bench.planning.estimate import (
    Costs,
    Line,
    Links,
    communication_share,
    gpus_for_a_policy,
    round_seconds,
)
from eval.bench.planning.sizes import Frozen, policy_of
from nat_env.models.maskgit_vqgan import MaskGITVQGANConfig
from nat_env.models.uvit import UViTConfig

MODEL = Frozen(
    UViTConfig(16, (2, 2), 10, 32, 3, 2),
    MaskGITVQGANConfig((16, 16), codebook_size=16, width=32, multipliers=(1, 1)),
)
COSTS = Costs(
    passes=Line(0.5, 2.0),
    tokenizer=Line(0.25, 3.0),
    step=Line(7.0, 0.125),
    gradient=Line(1.0, 0.5),
    fresh=Line(2.0, 0.25),
    discriminator=Line(3.0, 0.75),
    features=MODEL.features,
    pixels=MODEL.pixels,
    heads=1000,
)
TRAINING = replace(
    PRESETS["paper"][1],
    num_steps=3,
    trajectories_per_round=16,
    num_envs=8,
    batch_size=12,
    accumulate=4,
    budget=16,
    discriminator=replace(PRESETS["paper"][1].discriminator, batch_size=4),
)
"""16 trajectories of 3 steps in 8 environments; 5 updates of the discriminator with 4 images each,
5 epochs."""


def test_a_round_by_hand():
    found = round_seconds(COSTS, MODEL, TRAINING)
    # Two passes after the first, of two batches of episodes and of five of fresh samples.
    calls, rows = 2 * 2 + 2 * 5, 2 * 2 * (16 + 5 * 4)
    assert found["transformer"] == pytest.approx(calls * 0.5 + rows * MODEL.row * 2.0)
    assert found["tokenizer"] == pytest.approx((2 + 5) * 0.25 + 36 * MODEL.image * 3.0)
    assert found["rest of rollouts"] == 7.0 + 0.125 * 48
    assert found["rest of fresh samples"] == 5 * (2.0 + 0.25 * 12)
    assert found["policy update"] == 5 * (1.0 + 0.5 * 48)
    assert found["discriminator update"] == 5 * (3.0 + 0.75 * 8)
    assert found["communication"] == 0


def test_the_first_round_makes_the_passes_on_the_empty_canvas():
    later, first = (round_seconds(COSTS, MODEL, TRAINING, first=f) for f in (False, True))
    more = (first.pop("transformer") - later.pop("transformer")) / (2.0 * MODEL.row)
    assert 9.5 < more < 11  # 36 samples of 10 classes, and the null condition
    assert first == later


def test_gpus_share_the_work_and_not_what_each_call_costs():
    found = round_seconds(COSTS, MODEL, TRAINING, 4, Links(8, 100.0, 10.0, 0.5))
    # 4 trajectories at once, and 1 fresh sample of an update, on each.
    rows = 2 * 2 * (4 + 5)
    assert found["transformer"] == pytest.approx((2 + 2 * 5) * 0.5 + rows * MODEL.row * 2.0)
    assert found["policy update"] == 5 * (1.0 + 0.5 * 12)
    policy = policy_of(MODEL.transformer, TRAINING.hidden_size)
    sent = 2 * 3 / 4 * 4
    expected = 5 * (sent * policy / 100 + 6 * 0.5)  # a ring of 4: 6 messages
    expected += 5 * (sent * 1000 / 100 + 6 * 0.5)
    assert found["communication"] == pytest.approx(expected)


def test_a_model_of_twice_the_features_and_four_times_the_pixels():
    larger = Frozen(
        replace(MODEL.transformer, hidden_size=64), replace(MODEL.tokenizer, image_size=(32, 32))
    )
    found, before = (round_seconds(COSTS, m, TRAINING) for m in (larger, MODEL))
    for phase in ("rest of rollouts", "rest of fresh samples", "policy update"):
        assert found[phase] == 2 * before[phase]
    assert found["discriminator update"] == 4 * before["discriminator update"]


def test_between_machines_the_slower_link_counts():
    links, learned = Links(8, 100.0, 10.0, 0.0), 1000
    assert links.reduction(learned, 1) == 0
    assert links.reduction(learned, 8) == pytest.approx(2 * 7 / 8 * 4000 / 100)
    assert links.reduction(learned, 16) == pytest.approx(2 * 15 / 16 * 4000 / 10)


def test_gpus_that_are_worth_it():
    phases = {"transformer": 80.0, "policy update": 10.0, "communication": 10.0}
    assert communication_share(phases) == pytest.approx(0.1)
    assert gpus_for_a_policy({1: 0.0, 2: 0.1, 4: 0.1001}) == 2


def test_lines_of_noise_are_not_below_nothing():
    assert Line.through((1, 4.0), (3, 3.0)) == Line(4.0, 0.0)
