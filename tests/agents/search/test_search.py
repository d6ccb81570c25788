"""nat-search: AutoNAT's finite differences and CMA-ES on schedules."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import agents.search.objective
import agents.search.search
from agents.search.arguments import Arguments, CmaEsConfig, FiniteDifferencesConfig
from agents.search.cma_es import cma_es
from agents.search.finite_differences import (
    allowed_table,
    finite_differences,
    gradient_variance,
    initial_schedule,
)
from agents.search.objective import Objective
from agents.search.search import search, variance
from agents.search.trials import add_trial
from nat_env.bundles.loading import load_bundle
from nat_env.commands import entry
from nat_env.decoding.quantities import COLUMNS
from nat_env.schedules import Schedule, heuristic_schedule
from nat_env.storage.files import WriteError

TARGET = torch.tensor([[0.8, 1.5, 0.7, 0.3], [0.4, 0.9, 0.5, 0.6], [0.0, 0.6, 0.0, 1.2]])


def drive(proposals, function, count):
    """The proposals that a function of the table answers."""
    found = [next(proposals)]
    while len(found) < count:
        found.append(proposals.send(function(found[-1].table)))
    return found


def quadratic(table):
    free = torch.ones(3, 4)
    free[2, [0, 2]] = 0
    return float((free * (table - TARGET) ** 2).sum())


def test_gradient_descent_by_hand():
    config = FiniteDifferencesConfig(
        learning_rates=(0.02, 0.1, 0.2, 0.3), steps=(0.01, 0.1, 0.1, 0.1)
    )
    found = drive(
        finite_differences(3, config, 256), quadratic, 3 * 11 + 1
    )  # 4 T - 2 probes, 1 base
    table = heuristic_schedule(3).table.double().numpy()
    target, rates, steps = TARGET.double().numpy(), config.learning_rates, config.steps
    for iteration in range(4):
        proposal = found[11 * iteration]
        assert proposal.candidate
        np.testing.assert_allclose(proposal.table, table, atol=2e-4)
        after = table.copy()
        for row in range(3):
            for column in range(4):
                if row == 2 and column in (0, 2):
                    continue
                # The difference of (x - a)^2 is 2 (x - a) + eps; - eps where m cannot rise.
                step = steps[column]
                step = -step if column == 0 and table[row, 0] + step > 1 else step
                slope = 2 * (table[row, column] - target[row, column]) + step
                after[row, column] -= rates[column] * slope
        table = after
    probes = [p.candidate for p in found]
    assert sum(probes) == 4 and not any(probes[1:11])


def test_where_m_cannot_rise_its_difference_is_taken_backwards(tmp_path):
    Schedule(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]])).save(tmp_path / "s.json")
    config = FiniteDifferencesConfig(
        str(tmp_path / "s.json"),
        learning_rates=(0.1, 0.0, 0.0, 0.0),
        steps=(0.5, 0.1, 0.1, 0.1),
    )
    found = drive(finite_differences(2, config, 256), lambda t: 2 * float(t[0, 0]), 4)
    # Slope 2 at a rate of 0.1: 1, its probe half a step lower, 0.8, and again.
    values = [float(p.table[0, 0]) for p in found]
    assert values == pytest.approx([1.0, 0.5, 0.8, 0.3])


def test_momentum_and_clipping_by_hand():
    def candidates(function, **changes):
        config = FiniteDifferencesConfig(learning_rates=(0.0, 1.0, 0.0, 0.5), **changes)
        found = drive(finite_differences(1, config, 256), function, 7)
        return [p.table[0, [1, 3]].tolist() for p in found if p.candidate]

    # One step: tau_1 and w alone move; the velocity of tau_1 is -3, then -1.5 - 3.
    rising = candidates(lambda t: -3 * float(t[0, 1]), momentum=0.5)
    assert [tau for tau, _ in rising] == pytest.approx([1.0, 4.0, 8.5], abs=1e-2)
    falling = candidates(lambda t: 3 * float(t[0, 1]), momentum=0.5)
    assert [tau for tau, _ in falling] == pytest.approx([1.0, 0.0, 0.0], abs=1e-3)  # allowed >= 0
    # The gradient (0.3, -4) becomes (0.3, -0.5), each element by itself.
    both = candidates(lambda t: 0.3 * float(t[0, 1]) - 4 * float(t[0, 3]), clip=0.5)
    start = both[0]
    moved = [[tau - start[0], w - start[1]] for tau, w in both]
    np.testing.assert_allclose(moved, [[0, 0], [-0.3, 0.25], [-0.6, 0.5]], atol=2e-3)


@pytest.mark.parametrize("num_tokens", [16, 49, 50, 64, 100, 256])
def test_a_probe_from_a_whole_number_of_tokens_re_masks_others(tmp_path, num_tokens):
    """Where N m is whole, in float32 as in the decoding, m + 1 / N may round to the same count."""

    def count(m):
        return int((torch.tensor(m, dtype=torch.float32) * num_tokens).floor())

    config = FiniteDifferencesConfig(str(tmp_path / "s.json"))
    for kept in range(num_tokens + 1):
        table = torch.tensor([[kept / num_tokens, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]])
        Schedule(table).save(tmp_path / "s.json")
        base, probe = drive(finite_differences(2, config, num_tokens), lambda _: 1.0, 2)
        assert base.table[0, 0] != probe.table[0, 0]
        assert abs(count(float(probe.table[0, 0])) - count(float(base.table[0, 0]))) >= 1


@pytest.mark.parametrize("num_tokens", [16, 49, 256])
def test_a_probe_of_m_re_masks_other_tokens(num_tokens):
    found = drive(finite_differences(4, FiniteDifferencesConfig(), num_tokens), lambda _: 1.0, 15)
    before = np.floor(num_tokens * found[0].table[:, 0].double().numpy())
    moved = [np.floor(num_tokens * p.table[:, 0].double().numpy()) - before for p in found[1:]]
    of_m = [m for m in moved if m.any()]
    steps = np.abs(np.sum(of_m, axis=0))
    expected = max(1, int(0.01 * num_tokens))
    assert len(of_m) == 3 and ((steps == expected) | (steps == expected + 1))[:3].all()


def test_tables_stay_allowed():
    wild = torch.tensor([[1.5, -1.0, 2.0, -0.1], [-0.5, 1.0, -2.0, 3.0]])
    Schedule(allowed_table(wild))
    config = FiniteDifferencesConfig(learning_rates=(50.0, 50.0, 50.0, 50.0))
    for function in (quadratic, lambda t: -quadratic(t)):
        for proposal in drive(finite_differences(3, config, 256), function, 40):
            Schedule(proposal.table)
    for proposal in drive(cma_es(3, CmaEsConfig(scales=(5.0, 5.0, 5.0, 5.0)), 0), quadratic, 40):
        Schedule(proposal.table)
        assert proposal.table[2, 0] == 0


def test_cma_es_finds_the_minimum_and_leaves_numpys_generator_alone():
    np.random.seed(3)
    expected = np.random.RandomState(3).random_sample()
    found = drive(cma_es(3, CmaEsConfig(), 1), quadratic, 1500)
    assert np.random.random_sample() == expected
    values = [quadratic(p.table) for p in found]
    assert values[0] > 0.5 and min(values) < 1e-3
    again = drive(cma_es(3, CmaEsConfig(), 1), quadratic, 50)
    assert all(torch.equal(a.table, b.table) for a, b in zip(again, found, strict=False))
    other = drive(cma_es(3, CmaEsConfig(), 2), quadratic, 5)
    assert not torch.equal(other[1].table, found[1].table)


def test_both_initialisations():
    assert torch.equal(initial_schedule("heuristic", 5).table, heuristic_schedule(5).table)
    naive = initial_schedule("naive", 4).table.numpy()
    np.testing.assert_allclose(naive[:, 0], [0.75, 0.5, 0.25, 0.0])
    assert (naive[:, 1:] == 1).all()


def test_a_search_goes_on_from_a_file_of_its_own_t(tmp_path):
    schedule = heuristic_schedule(2, 3.0, 0.5)
    schedule.save(tmp_path / "s.json")
    for proposals in (
        finite_differences(2, FiniteDifferencesConfig(str(tmp_path / "s.json")), 256),
        cma_es(2, CmaEsConfig(str(tmp_path / "s.json")), 0),
    ):
        assert torch.equal(next(proposals).table, schedule.table)
    with pytest.raises(
        ValueError, match=r"is for num_steps = 2, got 4; take 2 steps, or .*resampled"
    ):
        initial_schedule(str(tmp_path / "s.json"), 4)


@pytest.fixture
def generated(monkeypatch) -> list[tuple[int, int]]:
    """First seed and number of the images of each call of generate_batches."""
    calls = []
    generate = agents.search.objective.generate_batches

    def spy(bundle, policy, conditions, num_steps, seed, batch_size):
        calls.append((seed, len(conditions)))
        return generate(bundle, policy, conditions, num_steps, seed, batch_size)

    monkeypatch.setattr(agents.search.objective, "generate_batches", spy)
    return calls


def test_common_random_numbers_and_independent_ones(generated):
    bundle = load_bundle("digits", dtype="float32")
    schedule = heuristic_schedule(2)
    common = Objective(bundle, "judge", num_samples=20)
    assert common(schedule) == common(schedule) and common.images == 40
    independent = Objective(bundle, "judge", num_samples=20, common_random_numbers=False)
    assert independent(schedule) != independent(schedule)
    seeds = [seed for seed, _ in generated]
    assert seeds[0] == seeds[1] == seeds[2] == seeds[3] - 20
    # A score known from before takes its random numbers with it.
    resumed = Objective(bundle, "judge", num_samples=20, common_random_numbers=False)
    resumed.skip()
    resumed(schedule)
    assert generated[-1][0] == seeds[3]


def test_objectives_are_those_of_their_names():
    bundle = load_bundle("digits", dtype="float32")
    kept = []

    def keep(batches):
        kept.extend(batches)
        return 0.5

    schedule = heuristic_schedule(2)
    assert Objective(bundle, keep, num_samples=300)(schedule) == 0.5
    pictures, conditions = (torch.cat(parts) for parts in zip(*kept, strict=True))
    likelihood = (
        bundle.yardstick.judge(pictures).log_softmax(dim=1)[torch.arange(300), conditions].mean()
    )
    value = Objective(bundle, "judge", num_samples=300)(schedule)
    assert value == pytest.approx(-float(likelihood), rel=1e-4)
    features = bundle.yardstick.judge.embeddings(pictures).double().numpy()
    mean_distance = float(((features.mean(axis=0) - bundle.yardstick.statistics.mean) ** 2).sum())
    assert Objective(bundle, "frechet", num_samples=300)(schedule) > mean_distance > 0


@pytest.mark.parametrize(
    "score",
    ['{"name": "normalized", "reward": "judge"}', '{"name": "frechet", "capacity": 128}'],
)
def test_an_objective_that_remembers_is_refused(score):
    with pytest.raises(ValueError, match=r"^objective: got .*allowed is a reward that remembers"):
        Objective(load_bundle("digits", dtype="float32"), score, num_samples=300)


@pytest.mark.parametrize("score", ["frechet", "judge"])
def test_a_score_holds_a_batch_of_images_however_many_it_is_of(score, images_alive):
    bundle = load_bundle("digits", dtype="float32")
    alive = images_alive(bundle)
    Objective(bundle, score, num_samples=60, batch_size=10)(heuristic_schedule(2))
    assert len(alive) == 6 and max(alive) <= 10


def test_common_random_numbers_lower_the_gradients_variance():
    bundle = load_bundle("digits", dtype="float32")
    result: dict = {}
    for common in (True, False):
        objective = Objective(bundle, num_samples=50, common_random_numbers=common)
        schedule = heuristic_schedule(2)
        config = FiniteDifferencesConfig()
        result[common] = gradient_variance(objective, schedule, config, repeats=4)
        assert objective.calls == 4 * 7
    assert set(result[True]) == set(COLUMNS)
    for name in COLUMNS:
        assert 0 < result[True][name] < result[False][name] / 2


SMALL = Arguments(
    "autonat",
    Path(),
    bundle="digits",
    num_steps=2,
    budget=400,
    num_samples=20,
    objective="judge",
    finite_differences=FiniteDifferencesConfig(learning_rates=(0.0005, 0.05, 0.05, 0.05)),
    threads=1,
    dtype="float32",
)


@pytest.mark.parametrize("method", ["autonat", "cma"])
@pytest.mark.parametrize("common", [True, False])
def test_a_search_counts_its_images_keeps_the_best_and_resumes(
    tmp_path, generated, monkeypatch, method, common
):
    arguments = dataclasses.replace(
        SMALL, method=method, out=tmp_path / "whole", common_random_numbers=common
    )
    whole = search(arguments)
    assert whole.images == sum(count for _, count in generated) == 400
    candidates = [t for t in whole.trials if t["candidate"]]
    lowest = min(candidates, key=lambda t: t["value"])
    assert whole.value == lowest["value"] and len(candidates) > 2
    assert whole.updates == len(candidates) - 1
    stored = Schedule.load(tmp_path / "whole" / "schedule.json")
    assert torch.equal(stored.table, torch.tensor(lowest["table"]))

    generated.clear()
    broken = dataclasses.replace(arguments, out=tmp_path / "broken")
    search(dataclasses.replace(broken, budget=170))  # 8 scores
    assert search(broken).trials == whole.trials
    assert sum(count for _, count in generated) == 400


def test_the_best_is_kept_although_later_ones_are_worse(tmp_path, monkeypatch):
    values = iter([0.5, *[1.0] * 6, 0.2, *[1.0] * 6, 0.9, *[1.0] * 6])
    monkeypatch.setattr(
        Objective, "__call__", lambda self, schedule: (self.skip(), next(values))[1]
    )
    result = search(dataclasses.replace(SMALL, out=tmp_path))
    assert result.value == 0.2
    assert torch.equal(result.best.table, torch.tensor(result.trials[7]["table"]))


def test_a_folder_belongs_to_one_search(tmp_path):
    short = dataclasses.replace(SMALL, out=tmp_path, budget=40)
    search(short)
    search(short)  # nothing is left to do
    other = dataclasses.replace(short, decoder_dtype="bfloat16")
    with pytest.raises(ValueError, match="decoder_dtype = None, now 'bfloat16' is asked for"):
        search(other)
    for name, value in {"num_samples": 10, "seed": 1, "method": "cma", "num_steps": 3}.items():
        differs = f"{name} = {getattr(short, name)!r}, now {value!r}"
        with pytest.raises(ValueError, match=f"^out: .* was made with .*{differs}"):
            search(dataclasses.replace(short, **{name: value}))
    whole = (tmp_path / "trials.jsonl").read_text()
    for text in ("[\n", "1\n", "\n", '{"images": 20}\n', '{"value": null}\n', "[\n" + whole):
        (tmp_path / "trials.jsonl").write_text(text)
        with pytest.raises(ValueError, match=r"^out: .*trials\.jsonl is damaged"):
            search(short)
        assert (tmp_path / "trials.jsonl").read_text() == text
    (tmp_path / "trials.jsonl").write_text('{"value": 1.0}\n')
    with pytest.raises(ValueError, match="are of another search"):
        search(short)


@pytest.mark.parametrize("cut", [1, 2, 100, "another byte"])
def test_a_line_that_was_cut_by_a_kill_is_scored_again(tmp_path, generated, cut):
    path = tmp_path / "trials.jsonl"
    arguments = dataclasses.replace(SMALL, out=tmp_path, budget=100)
    expected = search(arguments).trials
    whole = path.read_bytes()
    assert [json.loads(line) for line in whole.splitlines()] == expected
    path.write_bytes(whole + b"\xff" if cut == "another byte" else whole[:-cut])
    generated.clear()
    assert search(dataclasses.replace(arguments, budget=120)).trials[:5] == expected
    assert len(generated) == (1 if cut == "another byte" else 2)
    assert path.read_bytes().startswith(whole) and path.read_bytes().count(b"\n") == 6


def test_a_score_writes_its_own_line_alone(tmp_path, monkeypatch):
    added = []
    add = agents.search.search.add_trial
    monkeypatch.setattr(
        agents.search.search, "add_trial", lambda f, t: (added.append(t), add(f, t))[1]
    )
    monkeypatch.setattr(Objective, "__call__", lambda self, schedule: (self.skip(), 1.0)[1])
    result = search(dataclasses.replace(SMALL, out=tmp_path))
    assert added == result.trials[1:]


def test_a_score_that_cannot_be_written_names_its_file(tmp_path):
    with pytest.raises(WriteError, match=r"^cannot write .*trials\.jsonl.*No such file"):
        add_trial(tmp_path / "gone", {"images": 0, "value": 1.0, "table": []})


def test_a_folder_of_the_form_before_goes_on(tmp_path, generated):
    arguments = dataclasses.replace(SMALL, out=tmp_path, budget=100)
    expected = search(arguments).trials
    (tmp_path / "trials.jsonl").unlink()
    old = tmp_path / "trials.json"
    for text in ("[", '{"a": 1}', "[1]", '[{"images": 20}]', '[{"value": null}]'):
        old.write_text(text)
        with pytest.raises(ValueError, match=r"^out: .*trials\.json is damaged"):
            search(arguments)
    old.write_text(json.dumps(expected, indent=2))
    generated.clear()
    assert search(dataclasses.replace(arguments, budget=120)).trials[:5] == expected
    assert len(generated) == 1
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines][:5] == expected and len(lines) == 6


@pytest.mark.parametrize("name", ["trials.jsonl", "trials.json", "schedule.json", "config.json"])
def test_files_of_something_else_are_not_touched(tmp_path, generated, name):
    (tmp_path / name).write_text("[]")
    with pytest.raises(ValueError, match=rf"^out: .* has a {name} of something else"):
        search(dataclasses.replace(SMALL, out=tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == [name] and not generated
    assert (tmp_path / name).read_text() == "[]"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, generated):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        search(dataclasses.replace(SMALL, out=tmp_path / "file"))
    assert not generated


def test_a_smaller_budget_loses_nothing(tmp_path):
    found = search(dataclasses.replace(SMALL, method="cma", out=tmp_path))
    assert found.value < found.trials[0]["value"]
    stored = {p.name: p.read_text() for p in tmp_path.iterdir()}
    again = search(dataclasses.replace(SMALL, method="cma", out=tmp_path, budget=20))
    assert (again.value, again.images) == (found.value, found.images)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == stored


def test_the_command(tmp_path, monkeypatch, capsys):
    options = ["cma", "--bundle", "digits", "--num-steps", "2", "--budget", "105"]
    options += ["--num-samples", "35", "--threads", "1", "--dtype", "float32"]
    monkeypatch.setattr("sys.argv", ["nat-search", *options, "--out", str(tmp_path / "a")])
    entry.search()
    trials = [json.loads(x) for x in (tmp_path / "a" / "trials.jsonl").read_text().splitlines()]
    assert [t["images"] for t in trials] == [35, 70, 105]
    lowest = min(t["value"] for t in trials)
    assert f"{lowest:.3f} at best, after 105 images" in capsys.readouterr().out
    monkeypatch.setattr(
        "sys.argv", ["nat-search", *options, "--out", str(tmp_path / "a"), "--seed", "1"]
    )
    with pytest.raises(SystemExit, match=r"nat-search: out: .* with seed = 0, now 1 is asked for"):
        entry.search()


def test_the_variance_command(tmp_path, monkeypatch, capsys):
    options = ["variance", "--bundle", "digits", "--num-steps", "1", "--num-samples", "20"]
    options += ["--repeats", "2", "--threads", "1", "--dtype", "float32", "--out", str(tmp_path)]
    options += ["--objective", "judge"]
    monkeypatch.setattr("sys.argv", ["nat-search", *options])
    entry.search()
    stored = json.loads((tmp_path / "variance.json").read_text())
    printed = capsys.readouterr().out
    assert list(stored["variance"]["common"]) == ["sampling_temperature", "guidance_scale"]  # T = 1
    for name, value in stored["variance"]["common"].items():
        assert f"{name}: {value:.3g}, {stored['variance']['independent'][name]:.3g}\n" in printed
    assert stored["images"] == 2 * 2 * 3 * 20  # ways, repeats, scores of a gradient, samples
    again = variance(
        dataclasses.replace(
            SMALL, method="variance", out=tmp_path, num_steps=1, repeats=2, num_samples=20,
            finite_differences=FiniteDifferencesConfig(),
        )
    )  # fmt: skip
    assert again == stored["variance"]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: dataclasses.replace(SMALL, num_steps=0), "num_steps"),
        (lambda: dataclasses.replace(SMALL, budget=10), "budget"),
        (lambda: dataclasses.replace(SMALL, threads=0), "threads"),
        (lambda: initial_schedule("x", 2), "initialisation"),
        (lambda: FiniteDifferencesConfig(steps=(0.0, 1.0, 1.0, 1.0)), "steps"),
        (lambda: FiniteDifferencesConfig(steps=(0.6, 0.1, 0.1, 0.1)), "steps"),
        (lambda: FiniteDifferencesConfig(clip=0.0), "clip"),
        (lambda: FiniteDifferencesConfig(momentum=1.0), "momentum"),
        (lambda: CmaEsConfig(scales=(0.0, 1.0, 1.0, 1.0)), "scales"),
        (lambda: CmaEsConfig(population=2), "population"),
        (lambda: Objective(load_bundle("digits"), seed=-1), "seed"),
        (lambda: Objective(load_bundle("digits"), "fid"), "objective"),
        (lambda: Objective(load_bundle("digits"), num_samples=32), "num_samples: got 32.* > 32"),
        (lambda: Objective(load_bundle("digits"), "judge", num_samples=1), "num_samples: got 1"),
    ],
)
def test_numbers_that_are_not_allowed(make, name):
    with pytest.raises(ValueError, match=rf"^{name}"):
        make()
