"""An evaluation of which several processes decode a part each."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from agents.runs.checkpoint import load_policy
from eval.commands.arguments import Eval
from eval.commands.nat_eval import run
from eval.evaluation.measure import measure
from eval.judges.judge import bundle_judge
from eval.judges.references import reference
from nat_env.parallel.processes import Processes
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule


class Taken(Processes):
    """One process after the other; the main one, the last, is given what the others had."""

    given: list = []  # noqa: RUF012

    def gathered(self, value):
        self.given.append(value)
        return [self.given[-1], *self.given[:-1]] if self.is_main else []

    def from_main(self, value):
        return value


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("options", [{}, {"uniform": True}, {"shuffle_features": True}])
def test_slices_are_the_whole(digits, pixels, make_run, count, options):
    """Seven batches, dealt unevenly; a policy that adapts, so that actions have a spread."""
    policy = load_policy(make_run(num_steps=2), digits)
    judges = [reference(digits, j, metrics=True) for j in (bundle_judge(digits), pixels)]
    arguments = (digits, policy, 2, 100, 3, judges, 16)
    whole = measure(*arguments, **options)
    Taken.given = []
    for index in (*range(1, count), 0):
        found = measure(*arguments, **options, processes=Taken(index, count))
    assert found.num_samples == 100 and found.class_accuracy == whole.class_accuracy
    for name, distance in whole.frechet_distances.items():
        assert found.frechet_distances[name] == pytest.approx(distance, rel=1e-9)
        assert asdict(found.metrics[name]) == pytest.approx(asdict(whole.metrics[name]), rel=1e-9)
    assert asdict(found.scores["digits-judge"]) == pytest.approx(
        asdict(whole.scores["digits-judge"])
    )
    for name in ("mean", "std", "std_within"):
        there, here = getattr(found.quantities, name), getattr(whole.quantities, name)
        np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-9)


def test_a_schedule_still_has_no_spread(digits):
    policy = ScheduledPolicy(heuristic_schedule(2))
    Taken.given = []
    for index in (1, 0):
        found = measure(digits, policy, 2, 50, 0, [], 16, processes=Taken(index, 2))
    np.testing.assert_array_equal(found.quantities.std, np.zeros((2, 4)))


def test_processes_without_a_batch_help_no_one(digits):
    policy = ScheduledPolicy(heuristic_schedule(2))
    judges = [reference(digits, bundle_judge(digits))]
    whole = measure(digits, policy, 2, 70, 0, judges)
    Taken.given = []
    for index in (1, 2, 0):
        found = measure(digits, policy, 2, 70, 0, judges, processes=Taken(index, 3))
    assert found.frechet_distances == pytest.approx(whole.frechet_distances, rel=1e-9)


def test_nat_eval_under_accelerate_writes_the_row_of_one_process(tmp_path, launch):
    words = ["--policies", "heuristic", "--bundle", "digits", "--num-samples", "100"]
    words += ["--batch-size", "16", "--judges", "--no-pictures", "--dtype", "float32"]
    ended = launch("-m", "nat_env", "nat-eval", *words, "--out", str(tmp_path / "two"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("| heuristic | 4 |") == 1
    run(
        Eval(
            policies=("heuristic",), bundle="digits", num_samples=100, batch_size=16,
            judges=(), pictures=False, dtype="float32", out=tmp_path / "one",
        )
    )  # fmt: skip
    ((one,), (two,)) = (
        json.loads((tmp_path / name / "results.json").read_text())["rows"]
        for name in ("one", "two")
    )
    assert two.pop("processes") == 2 and "processes" not in one
    assert two["command"].startswith("nat-eval --policies heuristic")
    different = ("seconds", "images_per_second", "judge_seconds", "date", "command")
    for name in different:
        one.pop(name), two.pop(name)
    assert one.pop("frechet_distance") == pytest.approx(two.pop("frechet_distance"), rel=1e-9)
    assert one.pop("score") == pytest.approx(two.pop("score"), rel=1e-9)
    assert one.pop("score_std") == pytest.approx(two.pop("score_std"), rel=1e-9)
    for action, there in one.pop("actions").items():
        for name, values in two["actions"][action].items():
            np.testing.assert_allclose(values, there[name], atol=1e-12, err_msg=action)
    two.pop("actions")
    assert one == two
