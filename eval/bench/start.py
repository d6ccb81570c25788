"""How long it takes until something happens: imports, `gym.make`, the first finished episode."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from eval.bench.report import Row, Section
from eval.bench.timing import Spread, interleaved
from nat_env.bundle import load_bundle

NOT_AT_START = ("diffusers", "transformers")
"""Slow to import, so to be left to what needs them."""

_IMPORTS = """
import json, sys, time
import torch, gymnasium
packages = lambda: {name.partition(".")[0] for name in sys.modules}
before, started = packages(), time.perf_counter()
import nat_env
seconds = time.perf_counter() - started
modules = sorted(packages() - before - {"nat_env"})
print(json.dumps({"seconds": seconds, "modules": modules}))
"""

_EPISODE = """
import json, sys, time
marks = {"interpreter": time.perf_counter()}
import torch, gymnasium
marks["import torch, gymnasium"] = time.perf_counter()
import nat_env
marks["import nat_env"] = time.perf_counter()
torch.set_num_threads(int(sys.argv[3]))
env = gymnasium.make("NATDecode-v0", bundle=sys.argv[1], num_steps=int(sys.argv[2]))
marks["gym.make, loads the bundle"] = time.perf_counter()
env.reset(seed=0)
env.action_space.seed(0)
marks["reset"] = time.perf_counter()
for _ in range(int(sys.argv[2]) - 1):
    env.step(env.action_space.sample())
marks["steps but the last"] = time.perf_counter()
_, _, terminated, _, _ = env.step(env.action_space.sample())
assert terminated
marks["last step, loads the tokenizer"] = time.perf_counter()
print(json.dumps({"marks": marks, "modules": sorted(sys.modules)}))
"""


@dataclass(frozen=True)
class StartOptions:
    """Options of the part `start`."""

    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    num_steps: int = 4
    """T."""


def run(options: StartOptions, repeats: int, threads: int) -> list[Section]:
    """Measure.

    Raises:
        ValueError: an unknown bundle, or a number that is not allowed.
    """
    load_bundle(options.bundle)

    def make() -> None:
        gym.make("NATDecode-v0", bundle=options.bundle, num_steps=options.num_steps).close()

    imports: list[Row] = []
    episodes: list[dict[str, float]] = []
    in_the_end: set[str] = set()

    def episode() -> None:
        seconds, modules = first_episode(options, threads)
        episodes.append(seconds)
        in_the_end.update(modules)

    seconds = interleaved(
        {
            "make": make,
            "import": lambda: imports.append(_output(_IMPORTS)[1]),
            "episode": episode,
        },
        repeats,
    )
    imported = imports[-1]["modules"]
    heavy = [name for name in NOT_AT_START if name in imported]
    what: dict[str, Spread] = {
        "import nat_env, after torch and gymnasium": Spread.of(
            [found["seconds"] for found in imports[-repeats:]]
        ),
        "gym.make, the bundle in memory": Spread.of(seconds["make"]),
        "process start to the first finished episode": Spread.of(
            [sum(parts.values()) for parts in episodes[-repeats:]]
        ),
    }
    what |= {
        f"of that: {name}": Spread.of([parts[name] for parts in episodes[-repeats:]])
        for name in episodes[-1]
    }
    rows = [{"what": name, "seconds": value} for name, value in what.items()]
    note = (
        f"Bundle {options.bundle}, T = {options.num_steps}. `import nat_env` also imports "
        f"{', '.join(imported)}; of {' and '.join(NOT_AT_START)}: {_named(heavy)}. The episode's "
        f"last step, of these: {_named(name for name in NOT_AT_START if name in in_the_end)}."
    )
    return [Section("Start", rows, note)]


def first_episode(options: StartOptions, threads: int) -> tuple[dict[str, float], list[str]]:
    """From a process's start to the end of its first episode.

    Returns:
        The seconds by what they went to, and the modules that are imported then.
    """
    arguments = (options.bundle, str(options.num_steps), str(threads))
    started, found = _output(_EPISODE, *arguments)
    marks = found["marks"]
    ends = list(marks.values())
    # perf_counter is the machine's clock on the usual systems, the same one in every process.
    starts = [started, *ends[:-1]]
    seconds = {name: end - start for name, end, start in zip(marks, ends, starts, strict=True)}
    return seconds, found["modules"]


def _named(modules: Iterable[str]) -> str:
    return ", ".join(modules) or "none"


def _output(code: str, *arguments: str) -> tuple[float, Any]:
    """When a fresh interpreter was started to run `code`, and the json that it printed."""
    started = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return started, json.loads(result.stdout)
