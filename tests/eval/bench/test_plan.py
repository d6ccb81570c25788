"""The part `plan`: its prediction is held against a round, and its advice follows from it."""

import json
from dataclasses import replace

import pytest

import eval.bench.plan
import eval.bench.run
from agents.learners.config import PRESETS
from eval.bench import plan
from eval.bench.measuring.memory import Memory
from eval.bench.options import QUICK, Bench, PlanOptions
from eval.bench.planning.estimate import Costs, Line, round_seconds

TINY = QUICK["plan"]
COSTS = Costs(
    passes=Line(0.0, 1e-13),
    tokenizer=Line(0.0, 1e-13),
    step=Line(0.0, 1e-6),
    gradient=Line(0.0, 1e-6),
    fresh=Line(0.0, 1e-6),
    discriminator=Line(0.0, 1e-5),
    features=256 * 512,
    pixels=256**2,
    heads=65_000,
)


def test_a_prediction_is_held_against_what_was_measured():
    config = eval.bench.paper_round.configuration(plan.rounds_of(TINY), 32, plan.Path())
    predicted = sum(round_seconds(COSTS, plan.frozen(TINY), config, first=True).values())
    phases = {
        "rollout, transformer": 1.0,
        "fresh samples, transformer": 2.0,
        "rollout, tokenizer": 3.0,
        "fresh samples, tokenizer": 4.0,
        "rollout, rest": 5.0,
        "policy update": 6.0,
        "discriminator update": 7.0,
    }
    section = plan.held(TINY, COSTS, 36.0, phases)
    measured = {row["phase"]: row["measured_seconds"] for row in section.rows}
    assert list(measured.values()) == [3.0, 7.0, 5.0, 8.0, 6.0, 7.0, 36.0]
    assert section.rows[-1]["ratio"] == pytest.approx(predicted / 36)
    assert section.targets[0]["measured"] == pytest.approx(abs(predicted / 36 - 1))
    assert section.targets[0]["goal"] == "<= 0.25"


def test_advice_follows_from_the_links():
    def advice(**changes):
        estimate, found = plan.planned(PlanOptions(models=("L",), **changes), COSTS)
        return estimate.rows, found.rows

    rows, found = advice(between=1e6, inside=1e6, latency=0.0)
    assert [row["most_gpus_of_a_policy"] for row in found] == [64, 64]
    assert found[0]["with_64"] == "one policy"
    assert [(row["T"], row["gpus"]) for row in rows] == [
        (4, 1), (4, 8), (4, 64), (8, 1), (8, 8), (8, 64)
    ]  # fmt: skip
    assert [row["speedup"] for row in rows[3:]] == pytest.approx([1, 8, 64], rel=0.05)
    assert rows[0]["hours"] == pytest.approx(1000 * rows[0]["seconds_of_a_round"] / 3600)
    seconds = [row["seconds_of_a_round"] for row in rows[3:]]
    assert seconds[1] == pytest.approx(seconds[0] / 8, rel=0.01)
    # Between machines a step takes longer than the whole round: not past one machine.
    _, found = advice(between=0.01)
    assert [row["most_gpus_of_a_policy"] for row in found] == [8, 8]
    assert found[0]["with_64"].startswith("8 policies side by side")


def test_costs_are_measured_and_predict_the_rounds_that_they_are_of(monkeypatch, tmp_path):
    """With seconds that are made up: so many for each call and each of what it is about."""
    made_up = {
        "rollout, rest": Line(2.0, 0.5),
        "policy update": Line(5.0, 10.0),
        "discriminator update": Line(10.0, 5.0),
        "rollout, transformer": Line(0.0, 0.0),
        "rollout, tokenizer": Line(0.0, 0.0),
    }
    counts = {8: 16, 16: 32}  # trajectories: steps, T = 2; a quarter as many real images, 5 times

    def prepared(options, count, folder):
        reals = {8: 2, 16: 4}[count]
        about = {"discriminator update": 2 * reals}

        def work():
            found = {n: line.at(about.get(n, counts[count])) for n, line in made_up.items()}
            return sum(found.values()) + 15.0 + 10 * reals, found

        return work

    monkeypatch.setattr(eval.bench.paper_round, "prepared", prepared)
    eval.bench.paper_round.save_random_bundle(plan.rounds_of(TINY), tmp_path)
    costs = plan.prepared(TINY, 1, tmp_path)()
    assert costs.step == Line(2.0, 0.5)
    assert costs.gradient == pytest.approx(Line(1.0, 2.0))  # of each of 5 epochs
    assert costs.discriminator == pytest.approx(Line(2.0, 1.0))  # of each of 5 updates
    assert costs.fresh == pytest.approx(Line(3.0, 1.0))  # 15 + 10 a sample of 2 steps, of 5 updates
    assert costs.passes.at(1e9) > 0 and costs.tokenizer.at(1e9) > 0
    assert costs.heads > 10  # an embedding of ten classes at least


def test_a_round_here_and_a_plan_come_out_of_the_command(monkeypatch):
    calls = []

    def apart(prepare, *given):
        calls.append((prepare, given))
        phases = dict.fromkeys(
            ["rollout, transformer", "fresh samples, transformer", "rollout, tokenizer",
             "fresh samples, tokenizer", "rollout, rest", "policy update", "discriminator update"],
            1.0,
        )  # fmt: skip
        return Memory(1.0, 2.0), COSTS if prepare is plan.prepared else (8.0, phases)

    monkeypatch.setattr(plan, "measured_apart", apart)
    titles = [section.title for section in plan.run(replace(TINY, models=("L",)), 1)]
    assert titles == [
        "Plan: held against a round here",
        "Plan: an estimate of whole trainings",
        "Plan: how many GPUs for a policy",
    ]
    (_, first), (prepare, second) = calls
    assert first[1] == 1 and first[0].trajectories == (8, 16)
    assert prepare is eval.bench.paper_round.prepared and second[1] == 32


def test_a_report_of_another_machine_gives_the_costs(tmp_path):
    """Rounds whose seconds are those of costs that are known: the costs come out again."""
    options = PlanOptions("tiny", (64, 128), 256, num_steps=4)
    seconds = {}
    for count in (64, 128):
        config = replace(
            PRESETS["paper"][1],
            num_steps=4,
            trajectories_per_round=count,
            num_envs=count,
            discriminator=replace(PRESETS["paper"][1].discriminator, batch_size=count // 4),
        )
        found = round_seconds(COSTS, plan.frozen(options), config)
        width = plan.frozen(options).features / COSTS.features
        area = plan.frozen(options).pixels / COSTS.pixels
        seconds[count] = {
            "rollout, transformer": found["transformer"] / 3,
            "fresh samples, transformer": 2 * found["transformer"] / 3,
            "rollout, tokenizer": found["tokenizer"],
            "fresh samples, tokenizer": 0.0,
            "rollout, rest": found["rest of rollouts"] / width,
            "policy update": found["policy update"] / width,
            "discriminator update": found["discriminator update"] / area,
            "everything else": found["rest of fresh samples"] / width,
        }
    asked = {"nat": "tiny", "num_steps": 4, "trajectories": [64, 128], "num_envs": 128}
    sections = [
        {
            "title": f"A round of the preset paper, tiny, {count} trajectories",
            "rows": [{"phase": name, "seconds": spent} for name, spent in phases.items()],
        }
        for count, phases in seconds.items()
    ]
    about = {"options": {"paper-round": asked}, "accelerator": "Some GPU"}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"about": about, "sections": sections}))
    nat, where, costs = plan.reported(path)
    assert (nat, where) == ("tiny", "Some GPU")
    for name in ("passes", "tokenizer", "step", "gradient", "fresh", "discriminator"):
        assert getattr(costs, name).each == pytest.approx(getattr(COSTS, name).each)
        assert getattr(costs, name).fixed == pytest.approx(0, abs=1e-9)
    bench = Bench(tmp_path / "out", ("plan",), plan=PlanOptions(report=str(path)), progress=False)
    assert "what tiny costs: Some GPU" in eval.bench.run.run(bench)
    path.write_text(json.dumps({"about": about, "sections": sections[:1]}))
    with pytest.raises(ValueError, match=r"^report: .*bench.json"):
        plan.reported(path)
