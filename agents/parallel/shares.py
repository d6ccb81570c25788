"""Each process's share: of a configuration, whose numbers are those of all, and of a state."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import torch

from agents.learners.algorithms import Algorithm
from agents.learners.config import TrainConfig
from agents.runs.snapshot import on_host
from nat_env.parallel.processes import Processes
from nat_env.rewards.protocol import remembers

_GENERATORS = "generators"
"""In an environment's state: one for each row."""


def check_shared(config: TrainConfig, algorithm: Algorithm, processes: Processes) -> None:
    """Check that several processes can run a training together.

    Raises:
        ValueError: a learner that cannot, an option of it that would let them part, or numbers that
            do not divide by the processes.
    """
    if processes.count == 1:
        return
    if algorithm.alone:
        raise ValueError(
            f"algo: got {config.algo!r} in {processes.count} processes, allowed is one: "
            f"{algorithm.alone}"
        )
    if config.algo_options.get("target_kl") is not None:
        raise ValueError(
            f"algo_options: got target_kl in {processes.count} processes, allowed is so in one "
            "alone: each would stop at another minibatch, and the others wait for it"
        )
    shared = {"num_envs": config.environments}
    if "batch_size" not in algorithm.refuses:
        shared["batch_size"] = config.batch_size
    if config.reward == "adversarial":
        shared["discriminator.batch_size"] = config.discriminator.batch_size
    for name, number in shared.items():
        if number % processes.count:
            raise ValueError(
                f"{name}: got {number}, allowed in {processes.count} processes are its multiples: "
                "each has as large a share"
            )
    if config.num_samples < processes.count:
        raise ValueError(
            f"num_samples: got {config.num_samples}, allowed is one for each of {processes.count} "
            "processes"
        )


def check_shared_reward(reward: Any, name: str, processes: Processes) -> None:
    """Check that a reward is one of each image alone, wherever that was decoded.

    Raises:
        ValueError: it learns or remembers: `frechet` and running normalisation do.
    """
    if processes.count > 1 and remembers(reward):
        raise ValueError(
            f"reward: got {name!r} in {processes.count} processes, allowed is one that remembers "
            f"nothing: {type(reward).__name__} would have seen other images on each"
        )


def own_share(config: TrainConfig, algorithm: Algorithm, processes: Processes) -> TrainConfig:
    """What a training of `config` is for this process alone; `check_shared` comes before.

    The discriminator's batch stays that of all: its model takes the own part.
    """
    if processes.count == 1:
        return config
    share = config.trajectories_per_round // processes.count
    has_batches = "batch_size" not in algorithm.refuses
    return replace(
        config,
        device=str(processes.device),
        budget=config.rounds * share,
        trajectories_per_round=share,
        num_envs=config.environments // processes.count,
        batch_size=config.batch_size // processes.count if has_batches else config.batch_size,
    )


def whole_environment(own: Mapping[str, Any], processes: Processes) -> dict[str, Any]:
    """The state of all rows, as one process's environment gives it; empty but on the main one."""
    parts = processes.gathered(on_host(dict(own)))
    return {name: _joined(name, [part[name] for part in parts]) for name in own if parts}


def _joined(name: str, parts: list[Any]) -> Any:
    if isinstance(parts[0], Mapping):  # of a sampler, by name
        return {key: _joined(key, [part[key] for part in parts]) for key in parts[0]}
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)
    return list(chain(*parts)) if name == _GENERATORS else parts[0]


def own_environment(whole: Mapping[str, Any], processes: Processes) -> dict[str, Any]:
    """This process's rows of the state of all, however many processes it was saved by."""
    rows = processes.slice_of(len(whole[_GENERATORS]))

    def own(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: own(key, part) for key, part in value.items()}
        return value[rows] if isinstance(value, torch.Tensor) or name == _GENERATORS else value

    return {name: own(name, value) for name, value in whole.items()}
