"""A study in shards: each line is made once, by one of them, and all together are the study."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

import eval.studies.methods
import eval.studies.suite
from agents.learners.config import PRESETS
from eval.commands.shards import Shard, ShardOptions
from eval.papers.arguments import Paper
from eval.studies.arguments import Learners, Options, Suite
from eval.studies.methods import METHODS
from eval.studies.suite import suite
from eval.studies.trials import Group

RUN = """
import pickle, sys
from agents.learners.config import PRESETS
from eval.studies.suite import suite
PRESETS["digits"], arguments = pickle.load(sys.stdin.buffer)
suite(arguments)
"""
OF_A_RUN = {
    "seconds", "images_per_second", "judge_seconds", "date", "machine", "commit", "command",
}  # fmt: skip


@pytest.fixture
def arguments(tmp_path, small_preset, monkeypatch) -> Suite:
    two_rounds = replace(PRESETS["digits"][1], trajectories_per_round=128, eval_every=2)
    monkeypatch.setitem(PRESETS, "digits", ("", two_rounds))
    return Suite(
        tmp_path / "whole",
        bundle="digits",
        methods=("adaptive", "cma"),
        num_steps=(2,),
        seeds=(0, 1),
        budget=256,
        num_samples=40,
        judges=(),
        threads=1,
        dtype="float32",
        progress=False,
    )


def run_at_once(*every):
    """A process for each of the arguments; all are waited for."""
    processes = [
        subprocess.Popen([sys.executable, "-c", RUN], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in every
    ]
    for process, arguments in zip(processes, every, strict=True):
        assert process.stdin is not None
        process.stdin.write(pickle.dumps((PRESETS["digits"], arguments)))
        process.stdin.close()
    for process in processes:
        assert process.stderr is not None
        with process.stderr:
            told = process.stderr.read()
        assert process.wait() == 0, told.decode()


def measured(folder):
    """What results.json has of each line, without when and how fast it was."""
    rows = json.loads((folder / "T2" / "results.json").read_text("utf-8"))["rows"]
    found = [{key: row[key] for key in row.keys() - OF_A_RUN} for row in rows]
    return sorted(found, key=lambda row: (row["policy"], row["seed"]))


def test_shards_in_one_folder_and_in_their_own_are_the_study(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.comparison._draw", lambda *_: [])  # the processes do
    suite(arguments)
    expected = measured(arguments.out)
    assert len(expected) == 6

    together = replace(arguments, out=tmp_path / "together")
    run_at_once(*(replace(together, shard=f"{i}/2") for i in (1, 2)))
    assert measured(together.out) == expected
    report = (together.out / "suite.md").read_text("utf-8")
    assert "Missing" not in report and "samples_T2_adaptive" in report

    apart = [replace(arguments, out=tmp_path / f"{i}", shard=f"{i}/3") for i in (1, 2, 3)]
    merged = replace(arguments, out=tmp_path / "merged")
    for shard in apart:
        report = suite(shard)
        assert (shard.out / "suite.md").read_text("utf-8") == report + "\n"
        assert report.count("2 of 6 rows are there. Missing, policy and seed: ") == 1
        assert not list(shard.out.glob("T2/*.png"))
        shutil.copytree(shard.out, merged.out, dirs_exist_ok=True)
    assert re.search(r"Missing, policy and seed: .*\.", report)[0] == (  # of the third
        "Missing, policy and seed: heuristic 0, heuristic 1, adaptive 1, cma 0."
    )

    def refuse(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(eval.studies.methods, "Training", refuse)
    monkeypatch.setattr(eval.studies.methods.search, "search", refuse)
    monkeypatch.setattr("eval.evaluation.cells.measure", refuse)
    assert "Missing" not in suite(merged)
    assert measured(merged.out) == expected
    assert not list(merged.out.glob("T2/results.*-of-*.json"))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 40])
def test_every_line_is_one_shards_and_none_has_two_trainings_more_than_another(tmp_path, count):
    """Of each T, too, whose trainings cost the same."""
    study = Suite(tmp_path, num_steps=(4, 8), seeds=(0, 1, 2))
    made: Counter = Counter()
    trainings: dict[int, Counter] = {4: Counter(), 8: Counter()}
    for index in range(1, count + 1):
        first = 0
        for num_steps, of_shards in trainings.items():
            shard = replace(study, shard=f"{index}/{count}")
            group = Group(shard, METHODS, num_steps, tmp_path, first=first)
            first += len(group.lines)
            made.update((num_steps, *line) for line in group.own)
            of_shards[index] = sum(name != "heuristic" for name, _ in group.own)
    assert len(made) == 2 * 3 * (1 + len(METHODS)) and set(made.values()) == {1}
    for of_shards in trainings.values():
        assert max(of_shards.values()) - min(of_shards.values()) <= 1


def test_a_line_that_another_makes_is_refused_by_name(arguments, monkeypatch):
    def in_use(config, progress, goes_on):
        raise ValueError(f"out: {str(config.out)!r} is in use by process 1 on a")

    monkeypatch.setattr(eval.studies.methods, "Training", in_use)
    with pytest.raises(ValueError, match=r"^out: '.*adaptive/0' is in use by process 1"):
        suite(replace(arguments, shard="1/2"))


@pytest.mark.parametrize("text", ["3/2", "0/2", "1/0", "1", "a/b", "1/2/3", "-1/2", "", "1 / 2"])
def test_what_is_no_shard_is_refused(tmp_path, text):
    message = r"^shard: got '.*', allowed is i/n with 1 <= i <= n$"
    with pytest.raises(ValueError, match=message):
        Suite(tmp_path, shard=text)
    with pytest.raises(ValueError, match=message):
        Paper(("adanat-1",), tmp_path, shard=text)


def test_the_studies_of_several_lines_take_a_shard(tmp_path):
    assert all(issubclass(kind, ShardOptions) for kind in (Suite, Learners, Options, Paper))
    assert Suite(tmp_path, shard="2/3").part == Shard(2, 3)
    assert Suite(tmp_path).part.of("abc") == ["a", "b", "c"]
    assert "shard" not in Suite(tmp_path, shard="2/3").computation()
