"""A training's own evaluation against direct computation on the images of `generate`."""

import pytest
import torch

import agents.runs.validation
from agents.runs.validation import SHEET, validate
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import frechet_of
from nat_env.bundles.loading import load_bundle
from nat_env.generation import StepRecord, generate
from nat_env.models.conditions import balanced_conditions
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from nat_env.seeds import TRAINING_EVALUATION

POLICY = ScheduledPolicy(heuristic_schedule(2))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle("digits", dtype="float32")


def test_distance_and_sheet_are_of_the_same_samples(bundle):
    found = validate(bundle, POLICY, 2, 140)
    seed = TRAINING_EVALUATION.seed_of(0)
    images = generate(bundle, POLICY, balanced_conditions(140, 10), 2, seed)
    assert found.frechet_distance == pytest.approx(frechet_of(bundle, [images]), rel=1e-5)
    torch.testing.assert_close(found.shown, images[: SHEET * SHEET])


def test_it_holds_a_batch_and_the_sheet_however_many_samples(bundle, images_alive):
    alive = images_alive(bundle)
    assert len(validate(bundle, POLICY, 2, 500).shown) == SHEET * SHEET
    assert len(alive) == 4 and max(alive) <= 128 + SHEET * SHEET


def test_a_sheet_of_many_conditions_shows_the_first_samples_of_the_first_ones(bundle, monkeypatch):
    numbers = torch.arange(450)

    def numbered(bundle, policy, conditions, num_steps, seed, on_step):
        for part in numbers.split(64):
            on_step(StepRecord(0, part, torch.zeros(len(part), 4), part))
            noise = torch.rand(len(part), *bundle.reals.images.shape[1:])
            noise[:, 0, 0, 0] = part
            yield noise, part % 40

    monkeypatch.setattr(agents.runs.validation, "generate_batches", numbered)
    shown = validate(bundle, POLICY, 1, 450).shown[:, 0, 0, 0].long().tolist()
    assert shown == [40 * row + label for row in range(10) for label in range(10)]
