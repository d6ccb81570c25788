"""A training's own evaluation against direct computation on the images of `generate`."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import agents.runs.validation
from agents.runs.validation import SHEET, validate, validate_together
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import frechet_of
from nat_env.bundles.loading import load_bundle
from nat_env.frozen.conditions import Conditions, balanced_conditions
from nat_env.generation import StepRecord, generate
from nat_env.parallel.processes import Processes
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from nat_env.seeds import TRAINING_EVALUATION

POLICY = ScheduledPolicy(heuristic_schedule(2))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle("digits", dtype="float32")


def test_distance_and_sheet_are_of_the_same_samples(bundle):
    found = validate(bundle, POLICY, 2, 140, seed=5)
    seed = TRAINING_EVALUATION.seed_of(5)
    images = generate(bundle, POLICY, balanced_conditions(140, 10), 2, seed)
    assert found.frechet_distance == pytest.approx(frechet_of(bundle, [images]), rel=1e-5)
    torch.testing.assert_close(found.shown, images[: SHEET * SHEET])
    judge, reals = bundle.yardstick.judge, bundle.reals
    taken = judge(images).argmax(dim=1)
    right = sum(int(taken[i]) == i % 10 for i in range(140))
    assert found.scores["class_accuracy"] == right / 140
    first = [[i for i in range(len(reals.images)) if reals.conditions[i] == c] for c in range(10)]
    numbers = [first[i % 10][i // 10] for i in range(140)]  # 14 of each class, the first ones
    real = judge.embeddings(reals.images[numbers].float() / 255).double()
    fake = judge.embeddings(images).double()
    apart = torch.cdist(real, fake)
    # The nearest of all is the image itself.
    real_radii, fake_radii = (torch.cdist(x, x).sort(dim=1).values[:, 3] for x in (real, fake))
    recall = (apart <= fake_radii).any(dim=1).double().mean().item()
    precision = (apart <= real_radii[:, None]).any(dim=0).double().mean().item()
    assert found.scores["recall"] == pytest.approx(recall, abs=0.008)
    assert found.scores["precision"] == pytest.approx(precision, abs=0.008)


class Taken(Processes):
    """One process after the other; the main one, the last, is given what the others had."""

    given: list = []  # noqa: RUF012

    def gathered(self, value):
        self.given.append(value)
        return [self.given[-1], *self.given[:-1]] if self.is_main else []


def test_shares_are_the_whole(bundle):
    whole = validate(bundle, POLICY, 2, 140, seed=5)
    Taken.given = []
    others = [validate_together(bundle, POLICY, 2, 140, 5, Taken(i, 3)) for i in (1, 2)]
    assert others == [None, None]
    found = validate_together(bundle, POLICY, 2, 140, 5, Taken(0, 3))
    assert found is not None and found.scores == pytest.approx(whole.scores, rel=1e-5)
    assert found.actions == whole.actions
    torch.testing.assert_close(found.shown, whole.shown)


def test_without_real_images_there_is_neither_precision_nor_recall(bundle):
    found = validate(replace(bundle, reals=None), POLICY, 2, 40)
    assert set(found.scores) == {"frechet_distance", "class_accuracy"}


def test_it_holds_a_batch_and_the_sheet_however_many_samples(bundle, images_alive):
    alive = images_alive(bundle)
    assert len(validate(bundle, POLICY, 2, 500).shown) == SHEET * SHEET
    assert len(alive) == 4 and max(alive) <= 128 + SHEET * SHEET


@pytest.mark.parametrize("kinds", [3, 10, 40, 300, 3800])
def test_a_sheet_shows_the_first_samples_of_the_first_conditions(bundle, monkeypatch, kinds):
    classes = Conditions(tuple(map(str, range(kinds))))
    asked = SimpleNamespace(conditions=classes, require=bundle.require, reals=None)
    numbers, drawn = torch.arange(450), classes.balanced(450)

    def numbered(bundle, policy, conditions, num_steps, seed, on_step):
        for part in numbers.split(64):
            on_step(StepRecord(0, part, torch.zeros(len(part), 4), part, part >= 0))
            noise = torch.rand(len(part), 1, 8, 8)
            noise[:, 0, 0, 0] = part
            yield noise, drawn[part]

    monkeypatch.setattr(agents.runs.validation, "generate_batches", numbered)
    shown = validate(cast(Any, asked), POLICY, 1, 450).shown[:, 0, 0, 0].long().tolist()
    if kinds > 225:  # most have one sample
        assert shown == list(range(100))
        return
    assert shown == [kinds * row + label for row in range(10) for label in range(min(10, kinds))]
