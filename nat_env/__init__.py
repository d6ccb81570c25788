"""The decoding loop of a frozen masked image transformer as a Gymnasium environment.

Importing the package registers `NATDecode-v0`. Each name below is imported when it is first asked
for (PEP 562), and torch with it: a command's `--help` needs neither.

Where another program keeps a core busy, set `GOMP_SPINCOUNT=1000` in the environment before torch
is imported, as the commands do: torch's threads else lose most of the time waiting.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register

if TYPE_CHECKING:
    from nat_env.actions import ActionMap
    from nat_env.bundles.bundle import Bundle
    from nat_env.bundles.judging import frechet_of
    from nat_env.bundles.loading import load_bundle, shipped_bundles
    from nat_env.env import NATDecodeEnv
    from nat_env.frozen.conditions import balanced_conditions
    from nat_env.generation import generate
    from nat_env.policies import DecodingPolicy, ScheduledPolicy
    from nat_env.render import image_grid
    from nat_env.rewards.names import named_reward
    from nat_env.schedules import Schedule, heuristic_schedule
    from nat_env.vector_env import NATDecodeVectorEnv
    from nat_env.wrappers.adversarial import AdversarialReward
    from nat_env.wrappers.passes import PassDiscount, StepCost
    from nat_env.wrappers.shaping import PotentialShaping

__version__ = "0.1.0"
__all__ = [
    "ActionMap",
    "AdversarialReward",
    "Bundle",
    "DecodingPolicy",
    "NATDecodeEnv",
    "NATDecodeVectorEnv",
    "PassDiscount",
    "PotentialShaping",
    "Schedule",
    "ScheduledPolicy",
    "StepCost",
    "balanced_conditions",
    "frechet_of",
    "generate",
    "heuristic_schedule",
    "image_grid",
    "load_bundle",
    "named_reward",
    "shipped_bundles",
]

_MODULES = {
    "ActionMap": "nat_env.actions",
    "AdversarialReward": "nat_env.wrappers.adversarial",
    "Bundle": "nat_env.bundles.bundle",
    "DecodingPolicy": "nat_env.policies",
    "NATDecodeEnv": "nat_env.env",
    "NATDecodeVectorEnv": "nat_env.vector_env",
    "PassDiscount": "nat_env.wrappers.passes",
    "PotentialShaping": "nat_env.wrappers.shaping",
    "Schedule": "nat_env.schedules",
    "ScheduledPolicy": "nat_env.policies",
    "StepCost": "nat_env.wrappers.passes",
    "balanced_conditions": "nat_env.frozen.conditions",
    "frechet_of": "nat_env.bundles.judging",
    "generate": "nat_env.generation",
    "heuristic_schedule": "nat_env.schedules",
    "image_grid": "nat_env.render",
    "load_bundle": "nat_env.bundles.loading",
    "named_reward": "nat_env.rewards.names",
    "shipped_bundles": "nat_env.bundles.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# No max_episode_steps: the end of decoding is a termination, never a time limit's truncation.
register(
    id="NATDecode-v0",
    entry_point="nat_env.env:NATDecodeEnv",
    vector_entry_point="nat_env.vector_env:NATDecodeVectorEnv",
)
