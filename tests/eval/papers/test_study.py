"""The papers' tables: their numbers, a command for each row, and two of them run, small."""

import json
import re
import shlex
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

import eval.commands.nat_eval
from agents.learners.algorithms import algorithm_of
from agents.search import search
from agents.training import train
from eval.commands.arguments import Eval
from eval.judges.judge import Judge
from eval.papers.arguments import Paper, TableName
from eval.papers.study import entries, study
from eval.papers.tables import TABLES
from nat_env.bundles.writer import save_bundle
from nat_env.commands import entry as commands
from nat_env.commands.parsing import parse
from nat_env.models.uvit import UViT, UViTConfig
from nat_env.schedules import heuristic_schedule


def test_the_numbers_are_the_papers():
    """Sums of a column, added up by hand from the papers."""
    assert set(TABLES) == set(get_args(TableName))
    fids = {name: sum(row.fid for row in table.rows) for name, table in TABLES.items()}
    expected = {
        "adanat-1": 14.74, "adanat-2": 3.66, "adanat-3": 5.75, "adanat-4": 21.51, "adanat-5": 17.59,
        "autonat-3": 45.33, "autonat-4": 5.36, "autonat-5": 21.58, "autonat-6a": 25.79,
        "autonat-6b": 21.66, "autonat-6c": 19.53, "autonat-6d": 47.50, "autonat-6e": 26.56,
    }  # fmt: skip
    assert fids == pytest.approx(expected)
    scores = {
        name: sum(row.inception_score or 0 for row in table.rows) for name, table in TABLES.items()
    }
    assert scores == pytest.approx(
        dict.fromkeys(expected, 0) | {"adanat-1": 489.9, "adanat-2": 297.3, "autonat-3": 2503.8}
    )


def test_every_row_is_a_command_line_of_nat_eval(tmp_path):
    arguments = Paper(tuple(TABLES), tmp_path / "out", tmp_path / "weights", threads=2)
    everything = [entry for rows in entries(arguments).values() for entry in rows]
    assert len({entry.out for entry in everything}) == len(everything) == 54
    for entry in everything:
        name, *words = shlex.split(entry.command)
        assert name == "nat-eval"
        assert parse(Eval, name, words) == entry.evaluation
        assert entry.evaluation.num_samples == (50_000 if "in" in entry.row.dataset else 30_000)
        assert entry.bundle in entry.missing


@pytest.fixture
def weights(tmp_path, digits, make_run):
    """Of table 5 of AdaNAT: a small random U-ViT, a run, but not the one that does not adapt."""
    torch.manual_seed(0)
    random = UViT(UViTConfig(64, (4, 4), 10, hidden_size=64, depth=3, num_heads=2))
    folder = tmp_path / "weights"
    save_bundle(
        folder / "bundles" / "in256-s", name="in256-s", conditions=digits.conditions,
        transformer=random.eval(), tokenizer=digits.tokenizer, yardstick=digits.yardstick,
        reals=digits.reals,
    )  # fmt: skip
    (folder / "policies").mkdir()
    heuristic_schedule(4, 3.0, 0.5, 0.7).save(folder / "policies" / "autonat-in256-s-t4.json")
    return folder


def test_a_table_runs_as_far_as_its_files_are_there(tmp_path, weights):
    arguments = Paper(
        ("autonat-6a",), tmp_path / "out", weights, num_samples=40, judge="bundle", threads=1,
        dtype="float32", progress=False,
    )  # fmt: skip
    listed = study(arguments)
    assert not list(tmp_path.glob("out/*/*/results.json"))
    assert listed.count("# missing:") == 2
    assert f"# missing: {weights / 'bundles' / 'in256-s-arccos'}" in listed
    assert listed.startswith("0 of 4 rows are measured.")
    third = study(replace(arguments, run=True, shard="3/4"))
    assert third.startswith("1 of 4 rows are measured.")
    (path,) = tmp_path.glob("out/*/*/results.json")
    assert path.parent.name == "3_training-alone-t4"
    report = study(replace(arguments, run=True))
    assert report.startswith("2 of 4 rows are measured.")
    assert report == (tmp_path / "out" / "paper.md").read_text().rstrip("\n")
    measured = {}
    for path in sorted(tmp_path.glob("out/autonat-6a/*/results.json")):
        (row,) = json.loads(path.read_text())["rows"]
        assert (row["num_samples"], row["judge"]) == (40, "digits-judge")
        measured[path.parent.name] = row
    assert list(measured) == ["1_both-t4", "3_training-alone-t4"]
    both, heuristic = measured.values()
    assert both["frechet_distance"] != heuristic["frechet_distance"]
    for label, fid, row in (("both", 4.30, both), ("training alone", 7.88, heuristic)):
        found, score = row["frechet_distance"], row["score"]
        line = (
            f"| {label} | ImageNet, 256 x 256 | 4 | 40 | {fid:.2f} | {found:.2f} | | {score:.2f} |"
        )
        assert line in report
    assert "| neither | ImageNet, 256 x 256 | 4 | 40 | 8.40 | | | |" in report
    assert "no FID and no IS. N is not the paper's: the numbers do not compare." in report


def test_with_inception_a_row_needs_its_weights_and_statistics(tmp_path, weights, monkeypatch):
    arguments = Paper(
        ("adanat-5",), tmp_path / "out", weights, run=True, num_samples=40, threads=1,
        dtype="float32", progress=False,
    )  # fmt: skip
    assert f"{weights / 'statistics' / 'in256.npz'}" in study(arguments)
    assert not list(tmp_path.glob("out/*/*/results.json"))
    (weights / "inception.pth").touch()
    (weights / "statistics").mkdir()
    np.savez(weights / "statistics" / "in256.npz", mu=np.zeros(3), sigma=np.eye(3))
    judge = Judge("inception-v3", lambda images: images.flatten(1)[:, :3], classifier=lambda e: e)
    monkeypatch.setattr(eval.commands.nat_eval, "inception_v3", lambda path, device: judge)
    report = study(arguments)
    (path,) = tmp_path.glob("out/adanat-5/*/results.json")
    rows = {row["judge"]: row for row in json.loads(path.read_text())["rows"]}
    found = rows["inception-v3"]["frechet_distance"]
    assert rows["inception-v3"]["conditions"] == "uniform"
    assert f"| neither | ImageNet, 256 x 256 | 4 | 40 | 7.65 | {found:.2f} |" in report
    assert "nat-train paper --bundle" in report and "--no-adaptive" in report


def test_the_commands_that_make_policies_are_taken(tmp_path, monkeypatch):
    trained, searched = [], []
    monkeypatch.setattr(train, "command", trained.append)
    monkeypatch.setattr(search, "command", searched.append)
    arguments = Paper(tuple(TABLES), tmp_path / "out", tmp_path / "weights")
    for row in (found for rows in entries(arguments).values() for found in rows):
        words = shlex.split(re.split(";|, from", row.making)[0])  # without what no option says
        monkeypatch.setattr("sys.argv", words)
        if words:
            {"nat-train": commands.train, "nat-search": commands.search}[words[0]]()
    policies = [row.policy.split("-")[0] for table in TABLES.values() for row in table.rows]
    assert (len(trained), len(searched)) == (policies.count("adanat"), policies.count("autonat"))
    for config in trained:
        assert algorithm_of(config).is_adanat
        assert config.accumulate * config.batch_size == 4096 * config.num_steps
    assert {found.budget / found.num_samples for found in searched} == {60}
