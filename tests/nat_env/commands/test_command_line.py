"""From a command's name to its work: errors in one sentence, quick help, NO_COLOR."""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from nat_env.commands import command_line
from nat_env.commands.command_line import Choice, Command, load, run_command
from nat_env.commands.entry import COMMANDS

ROOT = Path(__file__).parents[3]
HEAVY = {"torch", "stable_baselines3", "matplotlib", "diffusers", "transformers"}


def words_of_help():
    for name, command in COMMANDS.items():
        yield [name]
        if isinstance(command, Choice):
            yield from ([name, part] for part in command.parts)
    yield ["nat-train", "paper"]


@pytest.mark.parametrize("words", list(words_of_help()), ids=" ".join)
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys; from nat_env.commands.command_line import run_command\n"
        "from nat_env.commands.entry import COMMANDS\n"
        "name, *words = sys.argv[1:]\n"
        "try: run_command(name, COMMANDS[name], [*words, '--help'])\n"
        "except SystemExit as end: print(end.code, *sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *_, last = result.stdout.splitlines()
    code, *modules = last.split()
    assert result.stdout.startswith(f"usage: {' '.join(words)}")
    assert code == "0" and not HEAVY & set(modules)


def parts():
    for command in COMMANDS.values():
        yield from command.parts.values() if isinstance(command, Choice) else [command]


@pytest.mark.parametrize("part", list(parts()), ids=lambda part: part.run)
def test_what_a_command_runs_is_there(part):
    assert callable(load(part.run))


OPTIONS = Command("nat_env.commands.computation:DeviceOptions", "builtins:print")


def ending(monkeypatch, error, command=OPTIONS):
    """What the program says when its work raises `error`."""

    def work(options):
        raise error

    found = command_line.load
    monkeypatch.setattr(command_line, "load", lambda p: work if p == command.run else found(p))
    with pytest.raises(SystemExit) as caught:
        run_command("nat-x", command, ["--device", "meta", "--threads", "1"])
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("seed: got -1"), "nat-x: seed: got -1"),
        (ImportError("no optuna"), "nat-x: no optuna"),
        (OSError(28, "No space left on device", "a"), "[Errno 28] No space left on device: 'a'"),
        (KeyboardInterrupt(), "nat-x: interrupted; the same command goes on"),
    ],
)
def test_what_goes_wrong_is_one_sentence(monkeypatch, error, sentence):
    assert ending(monkeypatch, error).endswith(sentence)


def test_the_sentence_after_an_interruption_may_name_options(monkeypatch):
    command = Command(OPTIONS.options, OPTIONS.run, "goes on on {device}")
    assert (
        ending(monkeypatch, KeyboardInterrupt(), command) == "nat-x: interrupted; goes on on meta"
    )
    command = Command(OPTIONS.options, OPTIONS.run, "")
    assert ending(monkeypatch, KeyboardInterrupt(), command) == "nat-x: interrupted"


def test_a_bug_is_no_sentence(monkeypatch):
    with pytest.raises(KeyError):
        ending(monkeypatch, KeyError("bug"))


@pytest.mark.parametrize(("variable", "coloured"), [(None, True), ("1", False), ("", True)])
def test_no_color_takes_the_colours_away(variable, coloured):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHON_TYRO_ANSI_CODES"}
    environment |= {"TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    if variable is not None:
        environment["NO_COLOR"] = variable
    ours, theirs = pty.openpty()
    code = "from nat_env.commands.entry import sample; sample()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, env=environment, stdout=theirs
    ) as program:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # how Linux says that the other side has closed
            pass
        os.close(ours)
    assert program.returncode == 0 and b"--help" in shown
    assert (b"\x1b[" in shown) == coloured


def test_choices_are_the_names_in_the_tables():
    from agents.learners.algorithms import ALGORITHMS
    from agents.learners.config import Algo
    from agents.search.arguments import Arguments
    from agents.search.objective import OBJECTIVES
    from eval.autonat.arguments import StudyName
    from eval.autonat.studies import STUDIES
    from eval.studies.arguments import ChangeName, MethodName
    from eval.studies.options import CHANGES
    from eval.studies.suite import METHODS

    assert get_args(Algo) == tuple(ALGORITHMS)
    assert get_args(StudyName) == tuple(STUDIES)
    assert get_args(ChangeName) == tuple(CHANGES)
    assert get_args(MethodName) == tuple(METHODS)
    assert get_args(get_type_hints(Arguments)["objective"]) == OBJECTIVES
