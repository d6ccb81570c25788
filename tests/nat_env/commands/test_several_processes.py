"""What all processes of one command would say is said by the first."""

import time
from dataclasses import dataclass

import pytest

from nat_env.commands import endings
from nat_env.commands.command_line import Command, run_command


@dataclass(frozen=True)
class Options:
    """Of a command."""

    number: int = 1
    """A number."""


def failing(options):
    print("at work")
    raise {1: ValueError("number: got 1"), 2: KeyboardInterrupt(), 3: KeyError("bug")}[
        options.number
    ]


@pytest.fixture
def outcome(monkeypatch, capfd):
    """How the command ends on a process: with what, what it printed, and whether it waited."""
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setattr(endings, "rank", lambda: 0)
    monkeypatch.setattr(
        "nat_env.commands.command_line.load", {"options": Options, "run": failing}.get
    )

    def run(rank, *words):
        waited.clear()
        monkeypatch.setattr(endings, "rank", lambda: rank)
        with pytest.raises(BaseException) as caught:
            run_command("nat-x", Command("options", "run", ""), list(words))
        said = capfd.readouterr()
        return caught.value, said.out + said.err, bool(waited)

    return run


def test_the_first_says_what_is_wrong_and_the_others_after_it(outcome):
    for rank, told in ((0, "nat-x: number: got 1"), (2, "nat-x (process 2): number: got 1")):
        error, said, waited = outcome(rank)
        assert (type(error), str(error), waited) == (SystemExit, told, rank > 0)
        assert said == ("at work\n" if rank == 0 else "")


def test_words_that_are_none_are_told_once(outcome):
    error, said, waited = outcome(0, "--nonesuch", "1")
    assert error.code == 2 and "nonesuch" in said and not waited
    error, said, waited = outcome(1, "--nonesuch", "1")
    assert error.code == 2 and said == "" and waited


def test_an_interruption_is_told_at_once_by_the_first_alone(outcome):
    assert str(outcome(0, "--number", "2")[0]) == "nat-x: interrupted"
    error, said, waited = outcome(1, "--number", "2")
    assert (error.code, said, waited) == (1, "", False)


def test_a_mistake_in_the_program_is_shown_as_it_is(outcome):
    for rank in (0, 1):
        error, _, waited = outcome(rank, "--number", "3")
        assert type(error) is KeyError and waited == (rank > 0)


def test_the_number_is_the_launchers(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert endings.rank() == 0
    monkeypatch.setenv("RANK", "3")
    assert endings.rank() == 0  # without saying of how many
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert endings.rank() == 3
