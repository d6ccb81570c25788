"""The decoding loop of a frozen masked image transformer as a Gymnasium environment.

Importing the package registers `NATDecode-v0`.
"""

from gymnasium.envs.registration import register

from nat_env.actions import ActionMap
from nat_env.bundles.bundle import Bundle, load_bundle, shipped_bundles
from nat_env.env import NATDecodeEnv
from nat_env.generation import generate
from nat_env.policies import DecodingPolicy, ScheduledPolicy
from nat_env.rewards.names import named_reward
from nat_env.schedules import Schedule, heuristic_schedule
from nat_env.vector_env import NATDecodeVectorEnv
from nat_env.wrappers.adversarial import AdversarialReward
from nat_env.wrappers.shaping import PotentialShaping, StepCost

__version__ = "0.1.0"
__all__ = [
    "ActionMap",
    "AdversarialReward",
    "Bundle",
    "DecodingPolicy",
    "NATDecodeEnv",
    "NATDecodeVectorEnv",
    "PotentialShaping",
    "Schedule",
    "ScheduledPolicy",
    "StepCost",
    "generate",
    "heuristic_schedule",
    "load_bundle",
    "named_reward",
    "shipped_bundles",
]

# No max_episode_steps: the end of decoding is a termination, never a time limit's truncation.
register(
    id="NATDecode-v0",
    entry_point="nat_env.env:NATDecodeEnv",
    vector_entry_point="nat_env.vector_env:NATDecodeVectorEnv",
)
