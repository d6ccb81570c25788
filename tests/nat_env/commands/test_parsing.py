"""Options from the command line into dataclasses, and their help."""

import re
from dataclasses import dataclass, field
from typing import Annotated

import pytest
import tyro
from annotated_types import Ge

from nat_env.commands.computation import Computation
from nat_env.commands.parsing import parse, parse_one_of


@dataclass(frozen=True)
class Inner:
    """What is inside."""

    width: Annotated[int, Ge(1)] = 3
    """Of it."""


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where it runs."""

    threads: int = 2
    """Of the
    machine."""


@dataclass(frozen=True)
class Options(MachineOptions):
    """A command that
    does something.

    A second paragraph.
    """

    name: Annotated[str, tyro.conf.Positional]
    """Called so."""
    count: int = 1
    """How many, told by a text that takes two lines in the source, of which the second one
    (this) begins with a bracket."""
    inner: Inner = field(default_factory=lambda: Inner(4))
    """Its inside."""


def test_groups_are_flat_on_the_command_line_and_in_the_result():
    words = ["a", "--count", "3", "--threads", "5", "--inner.width", "6"]
    assert parse(Options, "it", words) == Options("a", count=3, threads=5, inner=Inner(6))
    assert parse(Options, "it", ["a"]) == Options("a")


def test_a_choice_has_the_defaults_of_its_instance():
    choices = {"few": ("A few.", Options("x", count=2, inner=Inner(7))), "any": ("", Options)}
    assert parse_one_of(choices, "it", ["few", "b"]) == (
        "few", Options("b", count=2, inner=Inner(7)),
    )  # fmt: skip
    assert parse_one_of(choices, "it", ["any", "b", "--threads", "1"]) == (
        "any", Options("b", threads=1),
    )  # fmt: skip


def test_help_is_reflowed_and_grouped(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        parse(Options, "it", ["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert re.search(r"(?m)^  A command that does something.\n\n+  A second paragraph.$", text)
    words = " ".join(text.replace("│", " ").split())
    assert "of which the second one (this) begins with a bracket. (default: 1)" in words
    assert "Of the machine. (default: 2)" in words
    titles = re.findall(r"(?m)^\W+ (positional arguments|(?:\w+ )?options) \W+$", text)
    assert titles == ["positional arguments", "options", "machine options", "inner options"]


def test_an_unknown_option_ends_the_program(capsys):
    with pytest.raises(SystemExit) as end:
        parse(Options, "it", ["a", "--cuont", "3"])
    assert end.value.code == 2 and "--cuont" in capsys.readouterr().err


def test_the_help_of_a_choice_is_broken_and_explained_on_its_own_page_alone(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    about = "One that has a residual, told in a sentence of more than fifty letters."
    choices = {"one": (about, Options), "two": ("Another.", Options)}
    for words in (["one", "--help"], ["--help"]):
        with pytest.raises(SystemExit):
            parse_one_of(choices, "it", words, "A command with a bundle.")
        text = capsys.readouterr().out.partition("\n")[2]  # the usage is tyro's
        assert max(map(len, text.splitlines())) <= 50
        explained = re.findall(r"(?m)^  ([a-z]+): ", text)
        if len(words) == 2:
            assert "\n  more than fifty letters.\n" in text and explained == ["residual"]
        else:
            assert explained == ["bundle"]


@pytest.mark.parametrize("words", [[], ["--count", "3"], ["oen", "--help"]])
def test_a_command_without_its_choice_names_the_choices(words):
    first = words[0] if words else "nothing"
    message = f"got '{first}', allowed is first one of one, two; see it --help"
    with pytest.raises(ValueError, match=message):
        parse_one_of({"one": ("", Options), "two": ("", Options)}, "it", words)


@dataclass(frozen=True, kw_only=True)
class Middle(Computation):
    """Between them."""

    middle: int = 1
    """In the middle."""


@dataclass(frozen=True, kw_only=True)
class Last(Middle):
    """A command."""

    own: int = 1
    """Its own."""


def test_how_it_computes_comes_last(capsys):
    with pytest.raises(SystemExit):
        parse(Last, "it", ["--help"])
    titles = re.findall(r"(?m)^\W+ ((?:\w+ )?options) \W+$", capsys.readouterr().out)
    own, computing = ["options", "middle options"], ["device", "model", "computation"]
    assert titles == own + [f"{name} options" for name in computing]
