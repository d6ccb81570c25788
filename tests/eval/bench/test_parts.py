"""The parts env, scale and start, and the command."""

import importlib
import json
from dataclasses import replace

import pytest
from torch.utils.benchmark import Measurement, TaskSpec

import eval.bench.decode
import eval.bench.environment
import eval.bench.growth
import eval.bench.run
import eval.bench.start
import eval.bench.training
from eval.bench.contestants import UVITS
from eval.bench.growth import exponents, works
from eval.bench.measuring.memory import Memory
from eval.bench.measuring.report import Section
from eval.bench.options import (
    QUICK,
    Bench,
    DecodeOptions,
    EnvOptions,
    MemoryOptions,
    PlanOptions,
    ScaleOptions,
    StartOptions,
    TrainOptions,
)
from eval.bench.run import run
from nat_env import canvases
from nat_env.storage.files import write_json
from nat_env.vector_env import NATDecodeVectorEnv

SMALL = replace(QUICK["scale"], num_steps=(2, 3))


def measured(*times):
    return Measurement(1, list(times), TaskSpec("", ""))


def test_every_environment_makes_the_steps_that_are_counted(monkeypatch):
    steps = []  # rows of each call of the environment's own step

    def counted(self, actions):
        steps.append(self.num_envs)
        return step(self, actions)

    step = NATDecodeVectorEnv.step
    monkeypatch.setattr(NATDecodeVectorEnv, "step", counted)
    (section,) = eval.bench.environment.run(EnvOptions("digits", 3, 2), repeats=2)
    batched, single = [3] * 2 * 2, [1] * 3 * 2 * 2  # once untimed and once timed
    assert steps == (batched * 2 + single) * 2
    for row in section.rows:
        assert row["steps_per_second"] == pytest.approx(3 * 2 / row["seconds"].median)
    assert section.rows[-1]["environment"].startswith("SyncVectorEnv")
    assert section.rows[-1]["ratio"] == 1
    assert section.targets[0]["measured"] == section.rows[0]["ratio"]


def growth_rows(seconds, memory):
    return [
        {"axis": "environments", "size": n, "seconds": measured(s, s, 99.0), "memory_mb": m}
        for n, s, m in zip((16, 1, 4), seconds, memory, strict=True)
    ]


def test_exponents_are_of_all_sizes_and_of_the_two_largest():
    (found,) = exponents(growth_rows(seconds=(8.0, 1.0, 4.0), memory=(160.0, 10.0, 10.0)))
    assert found["sizes"] == "1, 4, 16"
    assert found["time_exponent"] == pytest.approx(0.75)
    assert found["last_time_exponent"] == pytest.approx(0.5)
    # Flat, then times 16 where the size is times 4: half of that for the line through all three.
    assert found["memory_exponent"] == pytest.approx(1.0)
    assert found["last_memory_exponent"] == pytest.approx(2.0)
    held = eval.bench.growth.targets([found, found | {"axis": "tokens N"}])
    verdicts = ["reached", "reached", "reached", "NOT reached"]  # of each axis
    assert [row["verdict"].strip("*") for row in held] == verdicts * 2
    assert held[3]["target"] == "last memory exponent in environments"
    assert held[7]["target"] == "last memory exponent in tokens N"


def test_every_size_of_every_axis_is_the_work_that_it_says(monkeypatch):
    rows = {"canvases": [], "generation": []}  # of each decoding step
    decode_step = canvases.decode_step
    for module, steps in rows.items():

        def counted(ids, *rest, steps=steps, **named):
            steps.append(tuple(ids.shape))
            return decode_step(ids, *rest, **named)

        monkeypatch.setattr(importlib.import_module(f"nat_env.{module}"), "decode_step", counted)
    found = works(SMALL)
    for sizes in found.values():
        for prepare, given in sizes.values():
            prepare(given)()
    environments = [(2, 16)] * 4 + [(4, 16)] * 4
    rounds = [(2, 16)] * 4 * 2 + [(2, 16)] * 4 * 4
    assert rows["canvases"] == environments + rounds
    tokens = [(2, 4)] * 4 + [(2, 16)] * 4
    classes = [(2, 16)] * 2 * 2
    assert rows["generation"] == tokens + [(2, 16)] * (2 + 3) + classes
    assert {axis: list(sizes) for axis, sizes in found.items()} == {
        "environments": [2, 4],
        "tokens N": [4, 16],
        "steps T": [2, 3],
        "trajectories": [4, 8],
        "classes": [10, 20],
    }


def test_a_fresh_process_plays_its_first_episode(monkeypatch):
    found = eval.bench.start.first_episode(StartOptions("digits", num_steps=2))
    assert list(found["seconds"])[1:3] == ["import nat_env", "gym.make, loads the bundle"]
    assert all(seconds > 0 for seconds in found["seconds"].values())
    assert not {"matplotlib", "stable_baselines3"} & set(found["imported"])
    monkeypatch.setattr(eval.bench.start, "_EPISODE", "raise ImportError('no torch')")
    with pytest.raises(ValueError, match="ended with 1: ImportError: no torch"):
        eval.bench.start.first_episode(StartOptions())


def test_a_start_is_held_against_its_limits(monkeypatch):
    def episode(options):
        slow = {"import nat_env": 0.6, "gym.make, loads the bundle": 0.15, "the first episode": 3}
        return {"seconds": slow, "imported": ["transformers"]}

    monkeypatch.setattr(eval.bench.start, "first_episode", episode)
    (section,) = eval.bench.start.run(StartOptions("digits"), repeats=1)
    held = [(row["measured"], row["verdict"].strip("*")) for row in section.targets]
    assert held == [(pytest.approx(0.75), "NOT reached"), (1, "NOT reached")]
    assert section.rows[-1] == {"what": "of that: the first episode", "seconds": 3}


def test_a_table_has_medians_and_their_spread():
    rows = [{"name": "a", "seconds": measured(1.0, 2.0, 9.0), "nat_share": 0.25}, {"size": 1234.5}]
    section = Section("Times", rows, "How.")
    assert section.markdown().splitlines() == [
        "### Times",
        "",
        "| name | seconds | nat | size |",
        "| --- | ---: | ---: | ---: |",
        "| a | 2 ± 4 | 25 % | |",
        "| | | | 1234 |",
        "",
        "How.",
    ]
    seconds = section.as_json()["rows"][0]["seconds"]
    assert seconds == {"median": 2.0, "iqr": 4.0, "times": [1.0, 2.0, 9.0]}


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda out: Bench(out, parts=()), "parts"),
        (lambda out: Bench(out, repeats=0), "repeats"),
        (lambda out: ScaleOptions(num_envs=(4,)), "num_envs"),
        (lambda out: ScaleOptions(num_steps=(4, 0)), "num_steps"),
        (lambda out: ScaleOptions(trajectories=(256, 300)), "trajectories"),
        (lambda out: ScaleOptions(batch_size=0), "batch_size"),
        (lambda out: PlanOptions(trajectories=(64, 32)), "held"),
        (lambda out: PlanOptions(trajectories=(64, 96), held=80), "held"),
        (lambda out: run(Bench(out, device="none")), "device"),
        (lambda out: run(Bench(out, ("memory",), memory=MemoryOptions("paper"))), "preset"),
        (lambda out: DecodeOptions(bundles=(), random=()), "bundles"),
        (lambda out: DecodeOptions(batch_sizes=(-1,)), "batch_sizes"),
        (lambda out: EnvOptions(num_steps=0), "num_steps"),
        (lambda out: run(Bench(out, ("train",), train=TrainOptions("none"))), "preset"),
        (lambda out: run(Bench(out, decode=DecodeOptions(("none",)))), "bundle"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(make, name, tmp_path, monkeypatch):
    monkeypatch.setattr(eval.bench.run, "most_per_second", pytest.fail)
    with pytest.raises(ValueError, match=name):
        make(tmp_path)


def test_a_part_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def fails_after_a_section(options, repeats):
        yield Section("First", [{"a": 1.0}])
        raise RuntimeError("out of luck")

    monkeypatch.setattr(eval.bench.run, "most_per_second", lambda *given, **named: 1e9)
    parts = {"start": fails_after_a_section, "env": lambda *given: [Section("Then", [{"b": 2.0}])]}
    monkeypatch.setattr(eval.bench.run, "RUN", parts)
    with pytest.raises(SystemExit, match="failed: start"):
        run(Bench(tmp_path, ("start", "env"), progress=False))
    assert "RuntimeError: out of luck" in capsys.readouterr().err
    sections = json.loads((tmp_path / "bench.json").read_text())["sections"]
    assert [one["title"] for one in sections] == ["First", "start", "Then"]
    assert "out of luck" in (tmp_path / "bench.md").read_text()


def test_rows_name_the_accelerator(tmp_path, monkeypatch):
    monkeypatch.setattr(eval.bench.run, "most_per_second", lambda *given, **named: 1e9)
    monkeypatch.setattr(eval.bench.run, "check_device", lambda device: f"{device}:0")
    monkeypatch.setattr(eval.bench.run, "accelerator_name", lambda: "Some GPU")
    asked = []

    def part(options, repeats):
        asked.append(options.device)
        return [Section("One", [{"a": 1.0}])]

    monkeypatch.setattr(eval.bench.run, "RUN", {"env": part})
    text = run(Bench(tmp_path, ("env",), device="meta", progress=False))
    assert asked == ["meta:0"]
    assert text.startswith("Some GPU beside ") and "| Some GPU | 1 |" in text


@pytest.mark.parametrize("quick", [True, False])
def test_results_are_written_after_every_part_and_say_what_made_them(quick, tmp_path, monkeypatch):
    written = []

    def spy(path, values):
        written.append([section["title"] for section in values["sections"]])
        write_json(path, values)

    monkeypatch.setattr("sys.argv", ["nat-bench", "--quick"])
    monkeypatch.setattr(eval.bench.run, "write_json", spy)
    for part in (eval.bench.run, eval.bench.decode):
        monkeypatch.setattr(part, "most_per_second", lambda *given, **named: 1e9)
    for part in (eval.bench.training, eval.bench.growth):  # a process for each, tested elsewhere
        monkeypatch.setattr(part, "peak_memory", lambda *given: Memory(1.0, 2.0))
    parts = ("decode", "env", "scale") if quick else ("env",)
    env = EnvOptions("digits", 2, 2)
    text = run(Bench(tmp_path, parts, repeats=1, quick=quick, env=env, progress=False))
    growth = ["Growth", "Growth: exponents"]
    if quick:  # sizes this small say nothing about targets
        env = QUICK["env"]
        titles = ["Decoding", "Environment", *growth]
        assert written == [titles[:n] for n in (1, 2, 3, 4)]  # a section after the other
    else:
        assert written == [["Targets", "Environment"]]
    assert (tmp_path / "bench.md").read_text() == text + "\n"
    about = json.loads((tmp_path / "bench.json").read_text())["about"]
    assert about["command"].endswith("--quick")
    assert about["options"]["env"]["num_envs"] == env.num_envs
    assert about["commit"] in text
    assert UVITS["tiny"].hidden_size == 32
