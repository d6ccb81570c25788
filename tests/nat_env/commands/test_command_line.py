"""From a command's name to its work: errors in one sentence, quick help, NO_COLOR."""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
import torch
from safetensors import SafetensorError

from nat_env.commands import command_line
from nat_env.commands.command_line import (
    Choice,
    Command,
    home_expanded,
    load,
    refuse_empty,
    run_command,
)
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
        (
            OSError(28, "No space left on device", "a"),
            "nat-x: [Errno 28] No space left on device: 'a'; make room, then the same command "
            "goes on: nat-x --device meta --threads 1",
        ),
        (
            SafetensorError("I/O error: No space left on device (os error 28)"),
            "nat-x: I/O error: No space left on device (os error 28); make room, then the same "
            "command goes on: nat-x --device meta --threads 1",
        ),
        (SafetensorError("header too small"), "nat-x: header too small"),
        (
            OSError(30, "Read-only file system", "a"),
            "nat-x: [Errno 30] Read-only file system: 'a'; choose a folder that can be written",
        ),
        (PermissionError(13, "Permission denied", "a"), "nat-x: [Errno 13] Permission denied: 'a'"),
        (MemoryError(), "nat-x: out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), "nat-x: out of memory"),
        (OSError(12, "Cannot allocate memory"), "nat-x: out of memory"),
        (
            KeyboardInterrupt(),
            "nat-x: interrupted; the same command goes on: nat-x --device meta --threads 1",
        ),
    ],
)
def test_what_goes_wrong_is_one_sentence(monkeypatch, error, sentence):
    assert ending(monkeypatch, error) == sentence


def test_torch_without_memory_on_a_cpu_names_the_options_that_help(monkeypatch):
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**14)
    command = Command("nat_env.commands.computation:Computation", OPTIONS.run)
    sentence = "nat-x: out of memory; choose a smaller --batch-size"
    assert ending(monkeypatch, caught.value, command) == sentence


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_has_gone_ends_the_command_quietly(buffered):
    """As `nat-sample --help | head -1` may, while it writes or when what was kept is written."""
    code = "from nat_env.commands.entry import sample; sample()"
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | ({} if buffered else {"PYTHONUNBUFFERED": "1"})
    result = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE,
        env=environment,
    )  # fmt: skip
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, b"")


def test_names_that_the_output_cannot_show_are_shown_all_the_same(tmp_path):
    code = (
        "from nat_env.commands.command_line import Command, run_command\n"
        "run_command('x', Command('nat_env.commands.computation:DeviceOptions', "
        "'builtins:print'), ['--device', 'k\\udce4tzchen', '--threads', '1'])"
    )
    for encoding in ("utf-8:strict", "ascii:strict"):
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
            env=os.environ | {"PYTHONIOENCODING": encoding},
        )  # fmt: skip
        assert (result.returncode, result.stderr) == (0, "")
        assert "tzchen" in result.stdout


def test_the_sentence_after_an_interruption_may_name_options(monkeypatch):
    command = Command(OPTIONS.options, OPTIONS.run, "goes on on {device}")
    assert (
        ending(monkeypatch, KeyboardInterrupt(), command) == "nat-x: interrupted; goes on on meta"
    )
    command = Command(OPTIONS.options, OPTIONS.run, "")
    assert ending(monkeypatch, KeyboardInterrupt(), command) == "nat-x: interrupted"


def option_types(hint):
    """A type and all that it is made of."""
    yield hint
    for part in get_args(hint):
        yield from option_types(part)


def float_options():
    """Command, word of a choice, and field, wherever an option may be a float."""
    for name, command in COMMANDS.items():
        parts = command.parts if isinstance(command, Choice) else {"": command}
        for word, part in parts.items():
            options = load(part.options)
            choices = options if isinstance(options, dict) else {word: options}
            for choice, found in choices.items():
                kind = found[1] if isinstance(found, tuple) else found
                hints = get_type_hints(kind if isinstance(kind, type) else type(kind))
                for field, hint in hints.items():
                    if get_origin(hint) is not dict and float in option_types(hint):
                        length = len(get_args(hint)) if get_origin(hint) is tuple else 1
                        yield name, choice, field, length


@pytest.mark.parametrize(("name", "choice", "field", "length"), list(float_options()))
def test_a_float_that_is_not_finite_is_refused(tmp_path, monkeypatch, name, choice, field, length):
    """Before anything is written, with a sentence that names the option."""
    monkeypatch.chdir(tmp_path)
    required = {"--out": "out", "--data": "data"} if choice == "folder" else {"--out": "out"}
    required |= {"--bundle": "mine"} if choice in ("custom", "policy") else {}
    required |= {"--num-steps": "4"} if choice == "policy" else {}
    words = [choice] * bool(choice) + [word for pair in required.items() for word in pair]
    words += ["file"] if choice == "policy" else []
    option = [f"--{field.replace('_', '-')}", *["nan"] * length]
    with pytest.raises(SystemExit, match=rf"^{name}: {field}: got nan, allowed is a finite number"):
        run_command(name, COMMANDS[name], words + option)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["--out=~/x", "--out=~", "~/x", "a=~/x", 'x:{"y": "~/x"}'])
def test_home_is_expanded_wherever_a_path_may_begin(monkeypatch, word):
    monkeypatch.setenv("HOME", "/home/me")
    assert home_expanded([word]) == [word.replace("~", "/home/me")]


@pytest.mark.parametrize("word", ["a~b", "x/~/y", "~no-such-user~", "about ~5 s", "it is ~ 5"])
def test_another_tilde_is_left_alone(word):
    assert home_expanded([word]) == [word]


def test_a_command_gets_its_folders_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    command = Command("nat_env.convert.arguments:ConvertBundle", "work")
    found, given = command_line.load, []
    monkeypatch.setattr(
        command_line, "load", lambda place: given.append if place == "work" else found(place)
    )
    run_command("nat-convert", command, ["~/old", "--out=~/new"])
    assert (given[0].old, given[0].out) == (Path("/home/me/old"), Path("/home/me/new"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", ""], "--out: got an empty word"),
        (["digits", "--out="], "--out: got an empty word"),
        (["--policies", "heuristic", "", "--out", "x"], "got an empty word"),
        ([""], "got an empty word"),
    ],
)
def test_an_empty_word_is_refused(words, told):
    """As a path it would be the working directory, and a run's files would lie about there."""
    with pytest.raises(ValueError, match=f"^{told}, allowed is a value; is a variable not set"):
        refuse_empty(words)


def test_other_words_are_left_alone():
    refuse_empty(["digits", "--out", "a b", "--reward={}", "best=", "--", "-1", "a==b"])


def test_a_command_without_a_folder_does_nothing():
    command = Command("nat_env.convert.arguments:Convert", "builtins:print")
    with pytest.raises(SystemExit, match=r"^nat-convert: --out: got an empty word"):
        run_command("nat-convert", command, ["old", "--out", ""])


def test_a_name_that_is_no_utf_8_can_be_said():
    """By a program whose output takes UTF-8 alone, in what it prints and in its last sentence."""
    code = (
        "from nat_env.commands import command_line as c\n"
        "def work(options):\n"
        "    print('read k\\udce4tzchen')\n"
        "    raise ValueError('folder: k\\udce4tzchen')\n"
        "found = c.load\n"
        "c.load = lambda place: work if place == 'work' else found(place)\n"
        "command = c.Command('nat_env.convert.arguments:ConvertBundle', 'work')\n"
        "c.run_command('nat-x', command, ['old', '--out', 'new'])\n"
    )
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert result.stdout == b"read k\\udce4tzchen\n"
    assert result.stderr == b"nat-x: folder: k\\udce4tzchen\n"


def test_a_bug_is_no_sentence(monkeypatch):
    for error in (KeyError("bug"), TypeError("bug"), RuntimeError("bug"), AttributeError("bug")):
        with pytest.raises(type(error)):
            ending(monkeypatch, error)


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


def test_a_path_that_is_too_long_is_told_with_what_helps(tmp_path):
    with pytest.raises(SystemExit, match=r"^nat-search: .*too long.*; choose a (folder|shorter)"):
        words = ["cma", "--bundle", "digits", "--budget", "40", "--num-samples", "40"]
        words += ["--threads", "1", "--out", str(tmp_path / ("x" * 300))]
        command_line.run_command("nat-search", COMMANDS["nat-search"], words)


def test_a_terminated_command_ends_as_an_interrupted_one():
    code = """
import os, signal, sys, types
from dataclasses import dataclass
from nat_env.commands.command_line import Command, run_command

@dataclass
class Options:
    pass

def work(options):
    print("working", flush=True)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        print("saved", flush=True)

module = types.ModuleType("long_work")
module.Options, module.work = Options, work
sys.modules["long_work"] = module
run_command("nat-long", Command("long_work:Options", "long_work:work"), [])
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split() == ["working", "saved"]
    assert result.stderr == "nat-long: interrupted; the same command goes on: nat-long\n"
    assert result.returncode == 1


def test_choices_are_the_names_in_the_tables():
    from agents.learners.algorithms import ALGORITHMS
    from agents.learners.options import Algo
    from agents.search.arguments import Arguments
    from agents.search.objective import OBJECTIVES
    from eval.autonat.arguments import StudyName
    from eval.autonat.studies import STUDIES
    from eval.studies.arguments import ChangeName, MethodName
    from eval.studies.methods import METHODS
    from eval.studies.options import CHANGES

    assert get_args(Algo) == tuple(ALGORITHMS)
    assert get_args(StudyName) == tuple(STUDIES)
    assert get_args(ChangeName) == tuple(CHANGES)
    assert get_args(MethodName) == tuple(METHODS)
    named, _ = get_args(get_type_hints(Arguments)["objective"])  # or a text, module:name
    assert get_args(named) == OBJECTIVES
