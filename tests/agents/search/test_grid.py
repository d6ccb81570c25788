"""nat-search grid: every schedule is tried once, on samples of its own, and the best is kept."""

import json

import pytest

import agents.search.grid
from nat_env.bundles.judging import frechet_of
from nat_env.bundles.loading import load_bundle
from nat_env.commands import entry
from nat_env.frozen.conditions import balanced_conditions
from nat_env.generation import generate, generate_batches
from nat_env.policies import ScheduledPolicy
from nat_env.samplers.entropy_bound import EntropyBound
from nat_env.samplers.halton import Halton
from nat_env.schedules import Schedule, heuristic_schedule
from nat_env.seeds import GRID
from nat_env.storage.claims import locked


@pytest.fixture
def tried(monkeypatch):
    """The seeds that schedules were tried with."""
    seeds = []

    def spy(bundle, policy, conditions, num_steps, seed, *rest):
        seeds.append(seed)
        return generate_batches(bundle, policy, conditions, num_steps, seed, *rest)

    monkeypatch.setattr(agents.search.grid, "generate_batches", spy)
    return seeds


def grid(monkeypatch, folder, *options):
    words = ["grid", "--bundle", "digits", "--num-steps", "2", "--threads", "1"]
    words += ["--dtype", "float32", "--out", str(folder), *options]
    monkeypatch.setattr("sys.argv", ["nat-search", *words])
    entry.search()


def test_the_best_schedule_is_saved_and_none_is_tried_twice(tmp_path, tried, capsys, monkeypatch):
    options = ["--num-samples", "40", "--batch-size", "16", "--guidance-slopes", "0", "2"]
    options += ["--sampling-temperatures", "0.8", "1.0"]
    grid(monkeypatch, tmp_path, *options, "--remask-slopes", "1")
    assert tried == [GRID.seed_of(0)] * 4
    trials = json.loads((tmp_path / "trials_T2.json").read_text())
    best = min(trials, key=lambda trial: trial["frechet_distance"])
    assert Schedule.load(tmp_path / "best_T2.json").name == f"best {best['schedule']}"
    printed = capsys.readouterr().out.splitlines()
    assert best["schedule"] in printed[1] and len(printed) == 6
    expected = {heuristic_schedule(2, 1, k, t).name: (k, t) for k in (0, 2) for t in (0.8, 1.0)}
    assert {trial["schedule"] for trial in trials} == expected.keys()
    bundle = load_bundle("digits", "float32")
    policy = ScheduledPolicy(heuristic_schedule(2, 1, *expected[best["schedule"]]))
    conditions = balanced_conditions(40, len(bundle.conditions))
    images = generate(bundle, policy, conditions, 2, GRID.seed_of(0))
    assert best["frechet_distance"] == pytest.approx(frechet_of(bundle, [images]), rel=1e-6)

    grid(monkeypatch, tmp_path, *options, "--remask-slopes", "1", "2")
    assert len(tried) == 8
    assert len(json.loads((tmp_path / "trials_T2.json").read_text())) == 8


def test_distances_of_another_decoder_are_not_taken_for_its_own(tmp_path, tried, monkeypatch):
    path = tmp_path / "trials_T2.json"
    options = ["--num-samples", "40", "--guidance-slopes", "1", "--remask-slopes", "1"]
    options += ["--sampling-temperatures", "1"]
    grid(monkeypatch, tmp_path, *options, "--decoder-dtype", "bfloat16")
    grid(monkeypatch, tmp_path, *options)
    (other, own), best = json.loads(path.read_text()), Schedule.load(tmp_path / "best_T2.json")
    assert [other["decoder_dtype"], own["decoder_dtype"]] == ["bfloat16", "float32"]
    assert other["frechet_distance"] != own["frechet_distance"]
    assert (len(tried), best.name) == (2, f"best {own['schedule']}")
    del own["decoder_dtype"]  # as in trials before there was another
    path.write_text(json.dumps([other, own]))
    grid(monkeypatch, tmp_path, *options)
    assert len(tried) == 2


def test_samplers_are_tried_with_each_schedule(tmp_path, tried, monkeypatch):
    options = ["--num-samples", "40", "--remask-slopes", "1", "--sampling-temperatures", "1"]
    options += ["--guidance-slopes", "0", "2", "--samplers", "halton", "entropy-bound(3)"]
    grid(monkeypatch, tmp_path, *options)
    trials = json.loads((tmp_path / "trials_T2.json").read_text())
    schedules = {
        f"{name}, {heuristic_schedule(2, 1, k, 1).name}": heuristic_schedule(2, 1, k, 1).by(sampler)
        for name, sampler in {"halton": Halton(), "entropy-bound(3)": EntropyBound(3)}.items()
        for k in (0, 2)
    }
    assert {trial["schedule"] for trial in trials} == schedules.keys()
    bundle = load_bundle("digits", "float32")
    for trial in trials:
        policy = ScheduledPolicy(schedules[trial["schedule"]])
        conditions = balanced_conditions(40, len(bundle.conditions))
        images = generate(bundle, policy, conditions, 2, GRID.seed_of(0))
        assert trial["frechet_distance"] == pytest.approx(frechet_of(bundle, [images]), rel=1e-6)
    best = min(trials, key=lambda trial: trial["frechet_distance"])["schedule"]
    assert Schedule.load(tmp_path / "best_T2.json").sampler == schedules[best].sampler


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-samples", "20"], "num_samples: got 20, allowed is > 32"),
        (["--num-samples", "1"], "num_samples: got 1, allowed is >= 2"),
        (["--guidance-slopes"], "guidance_slopes: got none, allowed is at least one"),
        (["--seed", "-1"], "seed: got -1"),
        (["--samplers", "best"], "samplers: got 'best', allowed are halton, entropy-bound, "),
        (
            ["--samplers", "klass(2)"],
            r"sampler: got 'klass\(2\)', allowed is klass, and ",
        ),
    ],
)
def test_bad_input_is_refused_before_any_work(tmp_path, tried, monkeypatch, options, message):
    with pytest.raises(SystemExit, match=f"nat-search: {message}"):
        grid(monkeypatch, tmp_path / "out", *options)
    assert not tried and not (tmp_path / "out").exists()


def test_another_process_in_the_folder_is_refused(tmp_path, tried, monkeypatch):
    with locked(tmp_path), pytest.raises(SystemExit, match=r"out: .* is in use by process"):
        grid(monkeypatch, tmp_path, "--num-samples", "40")
    assert not tried
