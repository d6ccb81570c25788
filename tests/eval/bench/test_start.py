import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

import eval.bench.start
from eval.bench.start import FirstEpisode, StartOptions, first_episode, run
from eval.bench.timing import Spread

DIGITS = StartOptions("digits", num_steps=2)


def python_after(seconds, tmp_path):
    """An interpreter that takes its time to start."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nsleep {seconds}\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_the_parts_of_a_start_are_all_of_it_the_interpreters_own_included(tmp_path, monkeypatch):
    monkeypatch.setattr(eval.bench.start.sys, "executable", python_after(0.5, tmp_path))
    started = time.perf_counter()
    found = first_episode(DIGITS, threads=3)
    elapsed = time.perf_counter() - started
    assert all(seconds >= 0 for seconds in found.seconds.values())
    assert 0.5 < found.seconds["interpreter"] < 0.5 + sum(found.seconds.values()) / 2
    # What is left is the end of the process.
    assert 0.5 * elapsed < sum(found.seconds.values()) < elapsed
    assert found.threads == 3
    assert (found.early, found.late[:1]) == ([], ["diffusers"])
    # Imports are nearly all of the last step, which decodes one digit.
    last = {name: s for name, s in found.seconds.items() if name.startswith("last step")}
    imports, rest = last.values()
    assert imports > rest > 0


def test_diffusers_is_imported_by_the_last_step_of_an_episode_alone():
    code = """
import sys
import gymnasium, nat_env
env = gymnasium.make("NATDecode-v0", bundle="digits", num_steps=2)
env.reset(seed=0)
for _ in range(2):
    print("diffusers" in sys.modules)
    env.step(env.action_space.sample())
print("diffusers" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False", "True"]


def test_imports_are_those_that_nat_env_adds():
    _, found = eval.bench.start._output(eval.bench.start._IMPORTS)
    assert {"safetensors", "PIL"} <= set(found["modules"])
    assert not {"torch", "gymnasium", "json", "nat_env", "diffusers"} & set(found["modules"])
    assert 0 < found["seconds"] < 10


def test_a_process_that_fails_is_refused_with_its_last_line():
    with pytest.raises(ValueError, match="ended with 1: ImportError: no torch"):
        eval.bench.start._output("raise ImportError('no torch')")
    with pytest.raises(ValueError, match="ended with 3: nothing said"):
        eval.bench.start._output("raise SystemExit(3)")


def test_tables_are_of_the_repeats_without_the_warm_up(monkeypatch):
    episodes = iter([100.0, 1.0, 3.0])
    imports = iter([50.0, 0.5, 0.7])

    def episode(options, threads):
        assert (options, threads) == (DIGITS, 5)
        seconds = next(episodes)
        parts = {"interpreter": seconds, "last step: imports": 2 * seconds}
        return FirstEpisode(parts, ["transformers"], ["transformers"], threads)

    def output(code):
        assert code == eval.bench.start._IMPORTS
        return 0.0, {"seconds": next(imports), "modules": ["PIL", "diffusers"]}

    monkeypatch.setattr(eval.bench.start, "first_episode", episode)
    monkeypatch.setattr(eval.bench.start, "_output", output)
    start, imported = run(DIGITS, repeats=2, threads=5)
    seconds = {row["what"]: row["seconds"] for row in start.rows}
    assert seconds["process start to the first finished episode"] == Spread(6, 3, 9)
    assert seconds["of that: last step: imports"] == Spread(4, 2, 6)
    assert seconds["import nat_env, after torch and gymnasium"] == Spread(0.6, 0.5, 0.7)
    assert 0 < seconds["gym.make, the bundle in memory"].median < 1
    assert "`import nat_env` also imports PIL, diffusers." in start.note
    moments = ("by_import_nat_env", "before_the_last_step", "by_the_first_episode")
    rows = {row["package"]: [row[moment] for moment in moments] for row in imported.rows}
    assert rows == {"diffusers": [1, 0, 0], "transformers": [0, 1, 1]}
    for row in imported.rows:
        assert row["installed"] == int(find_spec(row["package"]) is not None)
