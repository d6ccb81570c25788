"""AutoNAT's ablations, at a size at which nothing is learned but everything runs as it should."""

import json
import shutil
from dataclasses import replace

import cma
import numpy as np
import pytest
import torch

import eval.autonat.ablations
import eval.autonat.concurrent
import eval.autonat.laboratory
import pretrain.strategy
from agents.search.trials import read_trials
from eval.autonat.ablations import report
from eval.autonat.arguments import Ablations
from eval.autonat.concurrent import concurrent
from eval.autonat.laboratory import Laboratory
from eval.autonat.studies import CLAIMS, STUDIES, Line, alternating_or_concurrent, convergence
from eval.evaluation.measure import measure
from eval.judges.judge import bundle_judge
from eval.judges.names import JUDGES
from eval.judges.references import reference
from nat_env.bundles.judging import frechet_of
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.statistics import (
    GaussianStatistics,
    balanced_statistics,
    frechet_distance,
)
from nat_env.decoding.quantities import COLUMNS
from nat_env.frozen.conditions import balanced_conditions
from nat_env.generation import generate
from nat_env.models.uvit import UViT
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from nat_env.seeds import PROXIES


@pytest.fixture
def arguments(tmp_path) -> Ablations:
    return Ablations(
        tmp_path,
        seeds=(0,),
        num_steps=2,
        epochs=0.1,  # two steps
        budget=272,  # eight scores: a base, the six probes of its gradient, and an update
        search_samples=34,
        proxy_samples=34,
        num_samples=66,
        turns=1,
        judges=(),
        threads=1,
    )


def rows_of(folder) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["rows"]


def test_studies_share_models_and_go_on(arguments, tmp_path, monkeypatch):
    trained = []

    def train(ids, labels, config, training, folder, seed, execution):
        trained.append((training.mask_ratio, config.hidden_size))
        torch.manual_seed(sum(training.mask_ratio.encode()))
        model = UViT(config)
        torch.nn.init.normal_(model.head_bias)  # or no temperature had an effect
        return model

    monkeypatch.setattr(pretrain.strategy, "train_transformer", train)
    text = report(arguments)
    rows = {(row["study"], row["label"]): row for row in rows_of(tmp_path)}
    found = {key: row["frechet_distances"]["digits-judge"] for key, row in rows.items()}
    assert {study for study, _ in found} == set(STUDIES)
    for study, _, order in CLAIMS:
        for label in np.hstack(order).tolist():
            assert (study, label) in found or label in ("after turn 2", "after turn 3")

    # A distance is what evaluating that model with that schedule gives.
    lab = Laboratory(arguments, 0)
    bundle = lab.proxies.trained("fixed(0.8)")
    policy = ScheduledPolicy(heuristic_schedule(2))
    again = measure(bundle, policy, 2, 66, 0, [reference(bundle, bundle_judge(bundle))])
    assert found["table-2", "fixed(0.8)"] == again.frechet_distances["digits-judge"]
    # The same model and schedule in two studies.
    assert (
        found["table-6a", "optimised training, heuristic generation"]
        == (found["appendix-A2", "heuristic, no search"])
    )
    assert found["table-6b", "after turn 1"] == found["table-6c", "alternating"]
    assert found["table-6b", "arccos, heuristic schedule"] == found["table-2", "arccos"]
    # The larger model is wider, and the small one's ratio trains it.
    small = lab.proxies.architecture.hidden_size
    assert (lab.best_mask_ratio, 2 * small) in trained

    # What is left out stays as the heuristic has it. An update takes a score of its base and one
    # for each free entry, of which two are sampling temperatures, two guidance scales, one m and
    # one re-masking temperature; then what it gave is scored.
    images = {}
    for column, name in enumerate(COLUMNS):
        trials = read_trials(tmp_path / f"seed0/searches/without_{name}")
        tables = torch.tensor([row["table"] for row in trials])
        others = [c for c in range(4) if c != column]
        assert (tables[..., column] == heuristic_schedule(2).table[:, column]).all()
        assert len(tables[..., others].unique(dim=0)) > 1
        images[name] = 34 * len(tables)
        assert rows["table-6e", f"without {name}"]["cost"] == {"images": images[name], "updates": 1}
    assert list(images.values()) == [238, 204, 238, 204]
    assert rows["table-6e", "all four"]["cost"] == {"images": 272, "updates": 1}
    for name in COLUMNS:
        same = found["table-6e", f"without {name}"] == found["table-6e", "all four"]
        assert rows["table-6e", f"without {name}"]["note"].startswith("the same images") == same
    ratios = {
        rows["table-6a", f"{how} training, heuristic generation"]["note"]
        for how in ("optimised", "arccos")
    }
    assert ratios == {lab.best_mask_ratio, "arccos"}

    monkeypatch.setattr(eval.autonat.laboratory, "measure", None)
    monkeypatch.setattr(pretrain.strategy, "generate_batches", None)
    assert report(arguments) == text
    assert report(replace(arguments, studies=("table-6e",))) == text


def test_distances_are_reported_under_both_judges(arguments, tmp_path, pixels, monkeypatch):
    monkeypatch.setattr(eval.judges.references, "independent_judge", lambda *_, **__: pixels)
    both = replace(arguments, studies=("table-2",), judges=JUDGES)
    text = report(both)
    lab = Laboratory(both, 0)
    real = pixels.embeddings(lab.bundle.reals.images.float() / 255).double()
    policy = ScheduledPolicy(heuristic_schedule(2))
    for row in rows_of(tmp_path):
        model = lab.proxies.trained(row["label"])
        images = generate(model, policy, balanced_conditions(66, 10), 2, seed=0)
        made = pixels.embeddings(images).double()
        samples = GaussianStatistics(made.mean(0).numpy(), made.T.cov().numpy(), len(made))
        reference = balanced_statistics(real, lab.bundle.reals.conditions)
        expected = frechet_distance(samples, reference)
        assert row["frechet_distances"]["pixels"] == pytest.approx(expected, rel=1e-3)
    assert "| | digits-judge | pixels | seeds | cost | |" in text
    assert "Here: under digits-judge, " in text and "; under pixels, fixed(0.8) (" in text
    for floor in ("(tokenizer's reconstructions)", "(real images, against others)"):
        assert f"| {floor} | pixels | 66 |" in text
    parameters = sum(p.numel() for p in model.nat.transformer.parameters())
    assert f"{parameters:,} parameters" in text


def test_the_cost_is_that_of_the_rows_that_pass_through_the_nat(arguments, tmp_path, monkeypatch):
    passed = 0
    features = UViT.features

    def spy(self, ids, condition):
        nonlocal passed
        passed += len(ids) * (3 if self.training else 1)
        return features(self, ids, condition)

    monkeypatch.setattr(UViT, "features", spy)
    monkeypatch.setattr(Laboratory, "distances", lambda *_: {"j": 1.0})
    lab = Laboratory(arguments, 0)
    alternating, same, twice = (line.cost for line in alternating_or_concurrent(lab))
    # A proxy is two steps of 64 rows, three passes each; an image takes 2 (T - 1) = 2 rows.
    proxy = 2 * 64 * 3
    for cost in (alternating, same, twice):
        assert cost["row-passes"] == cost["proxies"] * proxy + cost["images"] * 2
    for factor, cost in ((1, same), (2, twice)):
        assert 0 <= cost["row-passes"] - factor * alternating["row-passes"] < proxy + 34 * 2
        assert cost["images"] == 34 * cost["points"]
        # 6 free entries and 2 of the distribution.
        population = cma.CMAEvolutionStrategy(np.zeros(8), 1.0, {"verbose": -9}).popsize
        assert cost[f"generations of {population}"] == (cost["points"] - 1) // population

    # The concurrent search starts with a proxy of the alternation's. Each model that generates has
    # the first passes of ten labels and of none, which the cost leaves out.
    trials = json.loads((tmp_path / "seed0/alternation/turn0/training/trials.json").read_text())
    models = 1 + len(trials) + twice["points"]
    assert passed == alternating["row-passes"] + twice["row-passes"] - proxy + 11 * models


def test_a_concurrent_point_is_a_model_and_a_schedule_of_its_own(arguments, tmp_path, monkeypatch):
    points = [np.zeros(8), np.full(8, -9.0), np.array([-9.0, -9.0, 9.0, 9.0, 9.0, 9.0, -9.0, -9.0])]
    monkeypatch.setattr(eval.autonat.concurrent, "cma_points", lambda *_: sending(points))
    lab = Laboratory(arguments, 0)
    proxy = lab.cost(1, 0)["row-passes"]
    found = concurrent(lab, 2 * proxy + 68 * 3)  # the last two points share a proxy
    assert (found.cost["points"], found.cost["proxies"]) == (3, 2)
    paths = [tmp_path / f"seed0/concurrent/{index}/trials.json" for index in range(3)]
    (start, first), (_, second), (clamped, third) = (
        json.loads(path.read_text())[0] for path in paths
    )
    assert (start, clamped) == ("beta(2, 1)", "beta(0.01, 0.1)")
    assert second != third
    model = lab.proxies.trained(found.mask_ratio.name)
    policy = ScheduledPolicy(found.schedule)
    images = generate(model, policy, balanced_conditions(34, 10), 2, PROXIES.seed_of(0))
    lowest = min(first, second, third)
    assert frechet_of(model, [images]) == pytest.approx(lowest)


def sending(points):
    for point in (*points, points[0]):
        value = yield point
        assert value > 0


def test_turns_that_an_alternation_left_out_are_as_its_last(arguments, monkeypatch):
    lab = Laboratory(replace(arguments, turns=3), 0)
    row = {"mask_ratio": "beta(2, 1)", "proxy_trainings": 1, "images": 9, "updates": 4}
    lab.alternation = [
        row | {"schedule": heuristic_schedule(2, remask).table.tolist()} for remask in (3.0, 2.0)
    ]
    measured = []

    def distances(model, schedule):
        measured.append((model, float(schedule.table[0, 2])))  # tau_2 = lambda at the first step
        return {"j": 0.0}

    monkeypatch.setattr(lab.proxies, "trained", lambda name: name)
    monkeypatch.setattr(lab, "distances", distances)
    labels = [line.label for line in convergence(lab)]
    assert dict(zip(labels, measured, strict=True)) == {
        "arccos, heuristic schedule": ("arccos", 1.0),
        "start of the alternation": ("beta(2, 1)", 1.0),
        "after turn 1": ("beta(2, 1)", 3.0),
        "after turn 2": ("beta(2, 1)", 2.0),
        "after turn 3": ("beta(2, 1)", 2.0),
    }


def test_a_report_is_of_all_that_its_folder_has_measured(arguments, tmp_path, monkeypatch):
    measured = {"table-2": 2.0, "table-6b": 4.0, "table-6e": 1.0}

    def study(name):
        return lambda lab: iter([Line(f"line of {name}", {"j": measured[name] + lab.seed})])

    monkeypatch.setattr(eval.autonat.ablations, "STUDIES", {name: study(name) for name in measured})
    report(replace(arguments, studies=("table-6e",), seeds=(1, 0)))
    text = report(replace(arguments, studies=("table-2", "table-6b")))
    measured["table-6b"] = 7.0
    text = report(replace(arguments, studies=("table-6b",), seeds=(2, 0)))
    found = [(r["study"], r["seed"], r["frechet_distances"]["j"]) for r in rows_of(tmp_path)]
    assert found == [
        ("table-2", 0, 2.0),
        ("table-6b", 0, 7.0),
        ("table-6b", 2, 9.0),
        ("table-6e", 0, 1.0),
        ("table-6e", 1, 2.0),
    ]
    lines = [line for line in text.splitlines() if line.startswith("| line")]
    assert lines == [
        "| line of table-2 | 2.00 | 0 | | |",
        "| line of table-6b | 8.00 ± 1.41 | 0, 2 | | |",
        "| line of table-6e | 1.50 ± 0.71 | 0, 1 | | |",
    ]
    before = rows_of(tmp_path)
    monkeypatch.setattr("sys.argv", ["again"])
    assert report(replace(arguments, studies=("table-2",))) == text
    assert rows_of(tmp_path) == before  # the command that measured it, not this one
    with pytest.raises(ValueError, match="evaluation_samples = 66, now 67 is asked for"):
        report(replace(arguments, num_samples=67))
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        report(arguments)


def test_shards_measure_seeds_of_their_own(arguments, tmp_path, monkeypatch):
    def study(lab):
        yield Line("line", {"j": 1.0 + lab.seed})

    def of_the_lines(folder):
        return [(r["study"], r["seed"], r["frechet_distances"]) for r in rows_of(folder)]

    names = ("table-2", "table-6e")
    monkeypatch.setattr(eval.autonat.ablations, "STUDIES", dict.fromkeys(names, study))
    asked = replace(arguments, seeds=(0, 1, 2))
    whole, together, merged = (
        replace(asked, out=tmp_path / n) for n in ("whole", "together", "merged")
    )
    report(whole)
    assert of_the_lines(whole.out) == [(n, s, {"j": 1.0 + s}) for n in names for s in (0, 1, 2)]

    missing = ("4 of 6 tables are there. Missing, study and seed: table-2 1, table-6e 1.", "")
    for index in (1, 2):
        text = report(replace(together, shard=f"{index}/2"))
        assert text.count("Missing") == (index == 1) and missing[index - 1] in text
        apart = replace(asked, out=tmp_path / f"{index}", shard=f"{index}/2")
        report(apart)
        assert not (apart.out / "results.json").exists()
        shutil.copytree(apart.out, merged.out, dirs_exist_ok=True)
    assert "Missing" not in report(together) + report(merged)
    assert of_the_lines(together.out) == of_the_lines(merged.out) == of_the_lines(whole.out)
    assert not list(tmp_path.glob("merged/results.*-of-*.json"))
    with pytest.raises(ValueError, match="evaluation_samples = 66, now 67 is asked for"):
        report(replace(apart, num_samples=67))


def test_too_few_samples_for_another_judge_are_refused_before_it_sees_real_images(arguments):
    with pytest.raises(ValueError, match=r"^num_samples: got 66, allowed is > 1280"):
        report(replace(arguments, judges=JUDGES))
    assert not list(arguments.out.iterdir())


@pytest.mark.parametrize("name", ["search_samples", "proxy_samples", "num_samples"])
def test_too_few_samples_are_refused_before_any_training(arguments, name):
    with pytest.raises(ValueError, match=rf"^{name}: got 32, allowed is > 32, .* digits-judge"):
        report(replace(arguments, **{name: 32}))
    assert not list(arguments.out.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [("studies", ("table-7",)), ("seeds", ()), ("turns", 0), ("budget", 1), ("proxy_samples", 1)],
)
def test_bad_arguments_are_refused(arguments, name, value):
    with pytest.raises(ValueError, match=name):
        replace(arguments, **{name: value})


def test_models_searches_and_judges_compute_as_asked(arguments, monkeypatch):
    asked = replace(arguments, dtype="bfloat16", batch_size=16, judges=JUDGES)
    seen = {}

    def judge(name, resolution, device):
        seen["judge"] = str(device)
        return bundle_judge(load_bundle("digits"))

    def searched(options, bundle):
        seen["search"] = options.computation()
        raise InterruptedError

    def evaluated(model, policy, num_steps, num_samples, seed, judges, batch_size):
        seen["batch_size"] = batch_size
        raise InterruptedError

    monkeypatch.setattr(eval.judges.references, "independent_judge", judge)
    monkeypatch.setattr(eval.autonat.laboratory.search, "search", searched)
    monkeypatch.setattr(eval.autonat.laboratory, "measure", evaluated)
    lab = Laboratory(asked, 0)
    assert lab.bundle.dtype == "bfloat16"
    assert asked.alternation(0).computation() == asked.computation()
    with pytest.raises(InterruptedError):
        lab.searched(lab.bundle, "x", 2)
    with pytest.raises(InterruptedError):
        lab.distances(lab.bundle, heuristic_schedule(2))
    assert seen == {"judge": "cpu", "search": asked.computation(), "batch_size": 16}


def test_a_distance_is_kept_by_dtype(arguments):
    schedule = heuristic_schedule(2)
    lab = Laboratory(replace(arguments, dtype="float32"), 0)
    found = {}
    for dtype in ("float32", "bfloat16"):
        found[dtype] = lab.distances(load_bundle("digits", dtype), schedule)
    assert found["float32"] != found["bfloat16"]
    assert lab.distances(load_bundle("digits", "float32"), schedule) == found["float32"]
