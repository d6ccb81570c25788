"""How long it takes until something happens: imports, `gym.make`, the first finished episode."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import gymnasium as gym

from eval.bench.report import Row, Section
from eval.bench.timing import Spread, interleaved
from nat_env.bundles.bundle import load_bundle

NOT_AT_START = ("diffusers", "transformers")
"""Slow to import, so to be left to what needs them."""

_IMPORTS = """
import json, sys, time
import torch, gymnasium
packages = lambda: {name.partition(".")[0] for name, module in sys.modules.items() if module}
before, started = packages(), time.perf_counter()
import nat_env
seconds = time.perf_counter() - started
modules = sorted(packages() - before - {"nat_env"})
print(json.dumps({"seconds": seconds, "modules": modules}))
"""

_EPISODE = """
import builtins, json, sys, time
marks = {"interpreter": time.perf_counter()}
import torch, gymnasium
marks["import torch, gymnasium"] = time.perf_counter()
import nat_env
marks["import nat_env"] = time.perf_counter()
bundle, num_steps, threads, *packages = sys.argv[1:]
torch.set_num_threads(int(threads))
env = gymnasium.make("NATDecode-v0", bundle=bundle, num_steps=int(num_steps))
marks["gym.make, loads the bundle"] = time.perf_counter()
env.reset(seed=0)
env.action_space.seed(0)
marks["reset"] = time.perf_counter()
for _ in range(int(num_steps) - 1):
    env.step(env.action_space.sample())
marks["steps but the last"] = started = time.perf_counter()
early = [name for name in packages if sys.modules.get(name)]

plain, importing, seconds = builtins.__import__, False, 0.0
def timed(*args, **kwargs):
    global importing, seconds
    if importing:
        return plain(*args, **kwargs)
    importing, since = True, time.perf_counter()
    try:
        return plain(*args, **kwargs)
    finally:
        importing, seconds = False, seconds + time.perf_counter() - since
builtins.__import__ = timed
_, _, terminated, _, _ = env.step(env.action_space.sample())
ended = time.perf_counter()
builtins.__import__ = plain
assert terminated
marks["last step: imports"] = started + seconds
marks["last step: loads the tokenizer, decodes, judges"] = ended
late = [name for name in packages if sys.modules.get(name)]
found = {"marks": marks, "early": early, "late": late, "threads": torch.get_num_threads()}
print(json.dumps(found))
"""
"""The marks are where that has ended which they name; of the last step, in which imports are
wherever a function makes them, all imports are taken to come first."""


@dataclass(frozen=True)
class StartOptions:
    """Options of the part `start`."""

    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    num_steps: int = 4
    """T."""


@dataclass(frozen=True)
class FirstEpisode:
    """What a fresh process did until its first episode had ended."""

    seconds: dict[str, float]
    """From the process's start, by what they went to."""
    early: list[str]
    """Those of `NOT_AT_START` that are imported before the episode's last step."""
    late: list[str]
    """Those that are imported after it."""
    threads: int
    """Torch threads."""


def run(options: StartOptions, repeats: int, threads: int) -> list[Section]:
    """Measure.

    Raises:
        ValueError: an unknown bundle, a number that is not allowed, or a process that failed.
    """
    load_bundle(options.bundle)

    def make() -> None:
        gym.make("NATDecode-v0", bundle=options.bundle, num_steps=options.num_steps).close()

    imports: list[Row] = []
    episodes: list[FirstEpisode] = []
    seconds = interleaved(
        {
            "make": make,
            "import": lambda: imports.append(_output(_IMPORTS)[1]),
            "episode": lambda: episodes.append(first_episode(options, threads)),
        },
        repeats,
    )
    imported, last = imports[-1]["modules"], episodes[-1]
    parts = [episode.seconds for episode in episodes[-repeats:]]
    what: dict[str, Spread] = {
        "import nat_env, after torch and gymnasium": Spread.of(
            [found["seconds"] for found in imports[-repeats:]]
        ),
        "gym.make, the bundle in memory": Spread.of(seconds["make"]),
        "process start to the first finished episode": Spread.of([sum(p.values()) for p in parts]),
    }
    what |= {f"of that: {name}": Spread.of([p[name] for p in parts]) for name in last.seconds}
    rows = [{"what": name, "seconds": value} for name, value in what.items()]
    note = (
        f"Bundle {options.bundle}, T = {options.num_steps}. `import nat_env` also imports "
        f"{', '.join(imported) or 'nothing'}."
    )
    moments = {
        "by_import_nat_env": imported,
        "before_the_last_step": last.early,
        "by_the_first_episode": last.late,
    }
    packages = [
        {"package": name, "installed": int(find_spec(name) is not None)}
        | {moment: int(name in those) for moment, those in moments.items()}
        for name in NOT_AT_START
    ]
    about = "1: yes, 0: no. A package that is not installed is not imported either."
    return [Section("Start", rows, note), Section("Imported", packages, about)]


def first_episode(options: StartOptions, threads: int) -> FirstEpisode:
    """Play an episode in a fresh process.

    Raises:
        ValueError: the process failed.
    """
    arguments = (options.bundle, str(options.num_steps), str(threads), *NOT_AT_START)
    started, found = _output(_EPISODE, *arguments)
    marks = found.pop("marks")
    ends = list(marks.values())
    # perf_counter is the machine's clock on the usual systems, the same one in every process.
    starts = [started, *ends[:-1]]
    seconds = {name: end - start for name, end, start in zip(marks, ends, starts, strict=True)}
    return FirstEpisode(seconds, **found)


def _output(code: str, *arguments: str) -> tuple[float, Any]:
    """When a fresh interpreter was started to run `code`, and the json that it printed.

    Raises:
        ValueError: it failed; with the last line of what it said about that.
    """
    started = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        said = result.stderr.strip().splitlines() or ["nothing said"]
        raise ValueError(f"start: a fresh process ended with {result.returncode}: {said[-1]}")
    return started, json.loads(result.stdout)
