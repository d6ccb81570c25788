"""Commands by `python -m nat_env`."""

import sys

import pytest

import nat_env.__main__
from nat_env.commands.entry import COMMANDS


def test_a_command_is_run_by_its_name(monkeypatch):
    run = []
    monkeypatch.setattr(nat_env.__main__, "run_command", lambda *given: run.append(given))
    monkeypatch.setattr(sys, "argv", ["somewhere/__main__.py", "nat-eval", "--out", "x"])
    nat_env.__main__.main()
    assert run == [("nat-eval", COMMANDS["nat-eval"], ["--out", "x"])]
    assert sys.argv == ["nat-eval", "--out", "x"]  # which results say that they were made by


@pytest.mark.parametrize("words", [[], ["--help"], ["nat_eval"]])
def test_what_is_no_command_is_refused_with_their_names(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["nat_env", *words])
    with pytest.raises(SystemExit, match=r"^python -m nat_env: got .* one of nat-train, nat-eval"):
        nat_env.__main__.main()
