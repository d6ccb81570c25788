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
    "whole-rounds": ("gradient steps on a whole round, as in the paper", {"batch_size": 1024}),
    "no-critic": ("no advantage over what a critic expects", {"value_coefficient": 0.0}),
    "no-warm-up": ("policy and discriminator start together, as the paper", {"warmup_rounds": 0}),
    "five-updates": ("of the discriminator a round, as the paper", {"discriminator_updates": 5}),
    "fresh-samples": (
        "the discriminator learns on samples of the updated policy, as the paper",
        {"fresh_samples": True},
    ),
    "map": ("decisions by position, too", {"residual": "confidence-map"}),
    "groups": ("eight episodes each of common random numbers", {"group_size": 8}),
    "raw-reals": ("real images not reconstructed, as the paper", {"reals": "raw"}),
}


def changes_of(arguments: Options) -> Changes:
    """`CHANGES` with the size of the study's rounds, in transitions."""
    about, _ = CHANGES["whole-rounds"]
    size = arguments.preset.trajectories_per_round * arguments.num_steps
    return {**CHANGES, "whole-rounds": (about, {"batch_size": size})}


def command(arguments: Options) -> str:
    """Train with the changes asked for, and compare; see `eval.studies.learning.compare`."""
    found = changes_of(arguments)
    return compare(arguments, "options", {name: found[name] for name in arguments.changes or found})
