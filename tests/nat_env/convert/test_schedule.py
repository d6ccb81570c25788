"""AutoNAT's strategies as schedules."""

import pytest

from nat_env.commands.command_line import run_command
from nat_env.commands.entry import COMMANDS
from nat_env.schedules import Schedule

STRATEGY = """
manual_ratios: [0.9, 0.5]
manual_temp: [2.5, 1.25]
manual_samp_temp: [2.9, 1.1, 0.7]
manual_cfg: [0.0001, 1.5, 1.25]
"""


def convert(*words):
    run_command("nat-convert", COMMANDS["nat-convert"], ["schedule", *map(str, words)])


def test_a_strategy_becomes_a_schedule(tmp_path, capsys):
    (tmp_path / "L-T3.yaml").write_text(STRATEGY)
    convert(tmp_path / "L-T3.yaml", "--out", tmp_path / "schedule.json")
    assert "3 steps" in capsys.readouterr().out
    schedule = Schedule.load(tmp_path / "schedule.json")
    rows = [[0.9, 2.9, 2.5, 0.0001], [0.5, 1.1, 1.25, 1.5], [0.0, 0.7, 0.0, 1.25]]
    assert schedule.table.tolist() == [pytest.approx(row) for row in rows]
    assert schedule.name == "L-T3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STRATEGY.replace("2.9, ", ""), r"lists of \[2, 2, 2, 3\] numbers, allowed are T - 1, T"),
        (STRATEGY.replace("manual_cfg", "cfg"), "manual_cfg"),
        ("[", "is no strategy of AutoNAT"),
    ],
)
def test_another_file_is_refused_and_nothing_is_written(tmp_path, text, message):
    (tmp_path / "one.yaml").write_text(text)
    with pytest.raises(SystemExit, match=rf"^nat-convert: path: .*one.yaml.*{message}"):
        convert(tmp_path / "one.yaml", "--out", tmp_path / "schedule.json")
    with pytest.raises(SystemExit, match=r"^nat-convert: out: got .*, allowed is a file .*\.json"):
        convert(tmp_path / "one.yaml", "--out", tmp_path / "schedule.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["one.yaml"]
