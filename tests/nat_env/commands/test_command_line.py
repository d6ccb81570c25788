"""Options from the command line."""

import sys
from dataclasses import dataclass

import pytest
import tyro

from nat_env.commands.command_line import parse, parse_preset


@dataclass(frozen=True)
class Options:
    """A command."""

    count: int = 1


def helped(parser, capsys, monkeypatch, **environment):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(tyro._experimental_options, "ansi_codes", True)
    monkeypatch.setattr(sys, "argv", ["it", "--help"])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(SystemExit):
        parser()
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "parser",
    [lambda: parse(Options, "it"), lambda: parse_preset({"a": ("About a.", Options())}, "it")],
)
def test_no_color_takes_the_colours_away(parser, capsys, monkeypatch):
    coloured = helped(parser, capsys, monkeypatch, TERM="xterm")
    plain = helped(parser, capsys, monkeypatch, TERM="xterm", NO_COLOR="1")
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain and "usage: it" in plain


def test_options_and_presets(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["it", "--count", "3"])
    assert parse(Options, "it") == Options(3)
    monkeypatch.setattr(sys, "argv", ["it", "b", "--count", "5"])
    presets = {"a": ("A.", Options(1)), "b": ("B.", Options(2))}
    assert parse_preset(presets, "it") == Options(5)
