"""Options of nat-train's PPO compared: what each choice is worth, by changing it alone.

Where the paper (AdaNAT, A.3) or the authors' code has another value, the change is to that value.
"""

from agents.learners.config import TrainConfig
from eval.studies.arguments import Options
from eval.studies.learning import Changes, compare

CHANGES: Changes = {
    "defaults": ("nat-train's preset", {}),
    "from-scratch": ("no schedule to start from, as the paper on ImageNet", {"residual": None}),
    "narrow-std": (
        "sigma of Eq. 9 goes from 0.6 to 0.3, as in the paper",
        {"action_std": 0.6, "final_action_std": 0.3},
    ),
    "constant-rate": (
        "the learning rate stays as it is",
        {"final_learning_rate": TrainConfig.learning_rate},
    ),
    "one-epoch": ("one pass over a rollout, not five", {"epochs": 1}),
    "narrow-network": ("actor and critic 32 wide", {"hidden_size": 32}),
    "small-batches": ("64 transitions a gradient step", {"batch_size": 64}),
    "whole-rounds": ("a round is one gradient step, as in the paper", {"batch_size": 1024}),
    "no-critic": ("no advantage over what a critic expects", {"value_coefficient": 0.0}),
    "no-warm-up": ("policy and discriminator start together, as the paper", {"warmup_rounds": 0}),
    "five-updates": ("of the discriminator a round, as the paper", {"discriminator_updates": 5}),
    "fresh-samples": (
        "the discriminator learns on samples of the updated policy, as the paper",
        {"fresh_samples": True},
    ),
    "map": ("decisions by position, too", {"residual": "confidence-map"}),
    "averaged": ("the mean of the weights after the last 20 rounds", {"average_rounds": 20}),
    "by-condition": ("returns against the mean of their condition", {"returns": "condition"}),
    "groups": ("eight episodes each with common random numbers", {"group_size": 8}),
    "averaged-by-condition": (
        "both",
        {"average_rounds": 20, "returns": "condition"},
    ),
    "raw-reals": ("real images not reconstructed, as the paper", {"reals": "raw"}),
}


def command(arguments: Options) -> str:
    """Train with the changes asked for, and compare; see `eval.studies.learning.compare`."""
    names = arguments.changes or tuple(CHANGES)
    return compare(arguments, "options", {name: CHANGES[name] for name in names})
