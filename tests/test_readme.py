"""README's examples and commands, as a reader would copy them."""

import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

from nat_env.commands import command_line
from nat_env.commands.command_line import load
from nat_env.commands.entry import COMMANDS as COMMANDS_BY_NAME

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_examples_run_one_after_the_other(capsys):
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 3
    shorter = blocks[0].replace("model.learn(100 * ", "model.learn(9 * ")  # 8 are the warm-up
    assert shorter != blocks[0]
    before = "before = model.policy.actor.head.weight.clone()\n"
    exec(shorter.replace("model.learn(", before + "model.learn("), names)
    assert capsys.readouterr().out.count("accuracy_real") == 9
    assert (names["model"].policy.actor.head.weight != names["before"]).any()

    exec(blocks[1], names)
    images, _, rewards = decoded(names["env"])
    np.testing.assert_allclose(rewards, images.mean(axis=(1, 2, 3)), rtol=1e-5)

    exec(blocks[2], names)
    images, conditions, rewards = decoded(names["env"])
    for label in range(10):
        typical = np.zeros_like(images[0])
        for i in np.flatnonzero(conditions == label):
            assert rewards[i] == pytest.approx(((images[i] - typical) ** 2).mean(), rel=1e-4)
            typical = 0.95 * typical + 0.05 * images[i]


def decoded(env):
    """Final images, labels and rewards of an episode of each sub-environment."""
    env.reset(seed=0)
    for _ in range(env.num_steps):
        _, rewards, terminated, _, _ = env.step(np.zeros((64, 4), np.float32))
    assert terminated.all()
    return env.final_images.numpy(), env.final_conditions.numpy(), rewards


COMMANDS = re.findall(r"^\| `(nat-.*?)` \|", README, re.MULTILINE)


class Parsed(BaseException):
    """The arguments were accepted; what comes next would take long."""


def stopped(options):
    raise Parsed


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_take_these_arguments(command, monkeypatch):
    name, *arguments = shlex.split(command)
    monkeypatch.setattr(command_line, "_set_threads", stopped)
    with pytest.raises(Parsed):
        command_line.run_command(name, COMMANDS_BY_NAME[name], arguments)


def test_the_list_of_commands_is_complete():
    listed = {shlex.split(command)[0] for command in COMMANDS}
    assert COMMANDS_BY_NAME.keys() - listed == {"nat-tune"}  # in the line of nat-study learners


def test_every_command_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"].keys() == COMMANDS_BY_NAME.keys()
    for name, place in project["scripts"].items():
        assert load(place).args == (name, COMMANDS_BY_NAME[name])
