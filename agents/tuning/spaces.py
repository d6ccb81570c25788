"""Search spaces of `nat-tune`: which options of a training are varied, and between what bounds."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.learners.config import TrainConfig

OF_LEARNER = "algo_options."
"""What the name of an option begins with that is one of the learner's constructor."""


@dataclass(frozen=True)
class Span:
    """All numbers from `low` to `high`; whole ones if both are."""

    low: float
    high: float
    log: bool = False
    """Tried evenly by their logarithm."""


Space = Mapping[str, Span | tuple[Any, ...]]
"""By the name of a field of `TrainConfig`, or `OF_LEARNER` and that of a constructor's option: a
span, or some values."""


def with_options(config: TrainConfig, options: Mapping[str, Any]) -> TrainConfig:
    """`config` with options named as in a `Space`.

    Raises:
        ValueError: see `TrainConfig`.

    Example:
        >>> from pathlib import Path
        >>> found = with_options(TrainConfig(Path()), {"epochs": 3, "algo_options.tau": 0.1})
        >>> found.epochs, found.algo_options
        (3, {'tau': 0.1})
    """
    learner = {
        name.removeprefix(OF_LEARNER): value
        for name, value in options.items()
        if name.startswith(OF_LEARNER)
    }
    own = {name: value for name, value in options.items() if not name.startswith(OF_LEARNER)}
    return dataclasses.replace(config, algo_options=config.algo_options | learner, **own)


def arguments_of(options: Mapping[str, Any]) -> list[str]:
    """Options named as in a `Space`, as nat-train takes them.

    Example:
        >>> " ".join(arguments_of({"algo_options.tau": 0.1, "batch_size": 64, "algo_options.c": 2}))
        '--batch-size 64 --algo-options tau 0.1 c 2'
    """
    words: list[str] = []
    learner: list[str] = []
    for name, value in options.items():
        if name.startswith(OF_LEARNER):
            learner += [name.removeprefix(OF_LEARNER), str(value)]
        else:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return [*words, "--algo-options", *learner] if learner else words


_NETWORK: Space = {"hidden_size": (64, 128, 256), "action_std": Span(0.4, 1.6)}
_BATCHES: Space = {"batch_size": (64, 128, 256)}

ADANAT: Space = {
    "learning_rate": Span(2e-4, 5e-3, log=True),
    "action_std": Span(0.4, 1.6),
    "final_action_std": Span(0.2, 1.0),
    "epochs": Span(2, 10),
    "clip_range": Span(0.1, 0.4),
    "discriminator_updates": (15, 30, 60),
    **_BATCHES,
}
CLIPPED: Space = {
    "algo_options.learning_rate": Span(1e-4, 3e-3, log=True),
    "algo_options.n_epochs": Span(3, 20),
    "algo_options.clip_range": Span(0.1, 0.4),
    **_NETWORK,
    **_BATCHES,
}
A2C: Space = {
    "algo_options.learning_rate": Span(2e-4, 1e-2, log=True),
    "algo_options.max_grad_norm": Span(0.2, 2.0, log=True),
    **_NETWORK,
}
TRPO: Space = {
    "algo_options.target_kl": Span(2e-3, 0.1, log=True),
    "algo_options.learning_rate": Span(2e-4, 5e-3, log=True),
    "algo_options.n_critic_updates": Span(5, 30),
    **_NETWORK,
}
OFF_POLICY: Space = {
    "algo_options.learning_rate": Span(1e-4, 3e-3, log=True),
    "epochs": Span(2, 20),
    **_NETWORK,
    **_BATCHES,
}
WITH_TARGETS: Space = {**OFF_POLICY, "algo_options.tau": Span(2e-3, 0.05, log=True)}
ARS: Space = {
    "algo_options.learning_rate": Span(2e-3, 0.1, log=True),
    "algo_options.delta_std": Span(2e-3, 0.1, log=True),
    "num_envs": (16, 32, 64),
}

SPACES: dict[str, Space] = {
    "ppo": ADANAT,
    "stock-ppo": CLIPPED,
    "a2c": A2C,
    "trpo": TRPO,
    "recurrent-ppo": CLIPPED,
    "sac": WITH_TARGETS,
    "td3": WITH_TARGETS,
    "tqc": WITH_TARGETS,
    "crossq": OFF_POLICY,
    "ars": ARS,
}
"""By the name of the algorithm."""
