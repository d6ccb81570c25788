"""How long it takes until something happens: imports, `gym.make`, the first finished episode."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch

from eval.bench.measuring.report import Row, Section, target
from eval.bench.measuring.timing import by_turns
from eval.bench.options import StartOptions
from nat_env.bundles.loading import load_bundle

HEAVY = ("diffusers", "transformers", "matplotlib", "stable_baselines3")
"""Slow to import, so to be left to what needs them."""

_EPISODE = """
import json, sys, time
seconds, since = {}, time.perf_counter()
def ended(what):
    global since
    seconds[what], since = time.perf_counter() - since, time.perf_counter()
import torch, gymnasium
ended("import torch, gymnasium")
import nat_env
ended("import nat_env")
bundle, num_steps, device, *heavy = sys.argv[1:]
env = gymnasium.make("NATDecode-v0", bundle=bundle, num_steps=int(num_steps), device=device)
ended("gym.make, loads the bundle")
env.reset(seed=0)
env.action_space.seed(0)
while not env.step(env.action_space.sample())[2]:
    pass
ended("the first episode")
imported = [name for name in heavy if sys.modules.get(name)]
print(json.dumps({"seconds": seconds, "imported": imported}))
"""


def run(options: StartOptions, repeats: int) -> list[Section]:
    """Measure; an unknown bundle, or a process that fails, is a ValueError."""
    load_bundle(options.bundle)
    found: list[Any] = []
    whole = by_turns({"process": lambda: found.append(first_episode(options))}, repeats)["process"]
    seconds = {what: median(one["seconds"][what] for one in found) for what in found[0]["seconds"]}
    rows: list[Row] = [{"what": "a process, from its start to its end", "seconds": whole}]
    rows += [{"what": f"of that: {what}", "seconds": spent} for what, spent in seconds.items()]
    imported = found[-1]["imported"]
    note = (
        f"Bundle {options.bundle}, T = {options.num_steps}; a fresh process each time, medians. "
        f"Of {', '.join(HEAVY)} it had imported {', '.join(imported) or 'none'} by its end."
    )
    return [Section("Start", rows, note, targets(seconds, imported))]


def targets(seconds: Mapping[str, float], imported: Sequence[str]) -> list[Row]:
    """What is held against a limit."""
    made = sum(seconds[what] for what in ("import nat_env", "gym.make, loads the bundle"))
    # Together, as `import nat_env` leaves its own imports to what is used first.
    found = [target("seconds of import nat_env and gym.make", made, at_most=0.7)]
    of_text = "transformers imported by the first episode"
    return [*found, target(of_text, int("transformers" in imported), at_most=0)]


def first_episode(options: StartOptions) -> Any:
    """Play an episode in a fresh process: its seconds by what they went to, what it imported.

    Raises:
        ValueError: the process failed; with the last line of what it said about that.
    """
    given = options.bundle, str(options.num_steps), options.device
    command = [sys.executable, "-c", _EPISODE, *given, *HEAVY]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    if result.returncode:
        said = result.stderr.strip().splitlines() or ["nothing said"]
        raise ValueError(f"start: a fresh process ended with {result.returncode}: {said[-1]}")
    return json.loads(result.stdout)
