"""The commands of the page are accepted: by torchrun its part, by nat-train the rest."""

import re
import shlex
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from nat_env.commands import command_line
from nat_env.commands.entry import COMMANDS

PAGE = Path(__file__).parents[3] / "docs" / "parallel.md"

LINES = re.findall(
    r"^    (?:srun )?(torchrun .*)$", PAGE.read_text("utf-8").replace("\\\n", ""), re.MULTILINE
)


class Parsed(BaseException):
    pass


def stopped(options):
    raise Parsed


def test_there_are_some():
    assert len(LINES) >= 4


@pytest.mark.parametrize("line", LINES)
def test_the_commands_take_these_arguments(line, monkeypatch):
    line = re.sub(r"\$\(.*?\)|\$\w+", "1", line)
    given = get_args_parser().parse_args(shlex.split(line)[1:])
    assert given.module and given.training_script == "nat_env"
    name, *words = given.training_script_args
    assert name == "nat-train"
    if "--resume" in words:  # what a run's folder would say
        words = ["digits", *(word for word in words if word != "--resume")]
    monkeypatch.setattr(command_line, "_set_up_torch", stopped)
    with pytest.raises(Parsed):
        command_line.run_command("nat-train", COMMANDS["nat-train"], words)
