"""What a training is made of, and the presets of `nat-train`: light to import."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

import tyro

from agents.learners.options import (
    Algo,
    DecodingOptions,
    EvaluationOptions,
    ExplorationOptions,
    LearnerOptions,
    RewardOptions,
    RunOptions,
)
from nat_env.commands.computation import ModelOptions
from nat_env.commands.own_code import is_own, name_or_object
from nat_env.rewards.discriminator_config import DiscriminatorConfig

if TYPE_CHECKING:
    from nat_env.rewards.names import RewardChoice

_OF_THE_CALL = (
    *("device", "threads", "tf32", "compiled", "rows_per_pass"),
    *("wandb", "rollout_folder", "save_every_seconds"),
)

BATCH_ENVS = 32
"""Sub-environments where a round is made of many batches."""


def linear(start: float, end: float) -> Callable[[float], float]:
    """A stable-baselines3 schedule: from `start` to `end` as the remaining share goes 1 .. 0.

    Example:
        >>> linear(1.0, 0.0)(0.25)
        0.25
    """
    return lambda remaining: end + (start - end) * remaining


@dataclass(frozen=True)
class TrainConfig(
    ModelOptions,
    EvaluationOptions,
    RewardOptions,
    ExplorationOptions,
    LearnerOptions,
    DecodingOptions,
    RunOptions,
):
    """Learn an adaptive decoding policy for a frozen NAT by PPO and an adversarial reward."""

    discriminator: DiscriminatorConfig = field(
        default_factory=lambda: DiscriminatorConfig(trunk="bundle", widths=(64,)), kw_only=True
    )
    """Used by the reward `adversarial` alone."""

    def __post_init__(self) -> None:
        """Check every field, and what depends on one another.

        Raises:
            ValueError: a field out of its bounds, or counts that do not divide one another.
        """
        super().__post_init__()
        self._check_together()

    def _check_together(self) -> None:
        """Check what depends on one another."""
        if not is_own(self.algo) and self.algo not in get_args(Algo):
            raise ValueError(
                f"algo: got {self.algo!r}, allowed are {list(get_args(Algo))} and module:name"
            )
        if self.reward != "adversarial":
            for name in ("real_folder", "fresh_samples", "bypass_discriminator"):
                if getattr(self, name):
                    raise ValueError(
                        f"{name}: got {getattr(self, name)}, allowed is so only with the reward "
                        f"'adversarial', got {self.reward!r}"
                    )
        if self.pass_discount < 1 and (below_0 := self._reward_below_0):
            raise ValueError(
                f"pass_discount: got {self.pass_discount}, allowed with {below_0} is 1: of a "
                "reward below 0 a part is more; step_cost is for any"
            )
        if self.reward_path is not None and self.reward != "clip":
            raise ValueError(
                f"reward_path: got {self.reward_path!r}, allowed is a path only with the reward "
                f"'clip', got {self.reward!r}"
            )
        _ = self.fixed_reward
        if self.rewards_batches and self.trajectories_per_round == self.environments:
            raise ValueError(
                f"num_envs: got {self.environments} = trajectories_per_round, allowed is less with "
                "the reward 'frechet': it is one number a batch, and says nothing about one alone"
            )
        if self.trajectories_per_round % self.environments:
            raise ValueError(
                f"num_envs: got {self.environments}, must divide trajectories_per_round = "
                f"{self.trajectories_per_round}"
            )
        same = "reward" if self.rewards_batches else "shared_noise" if self.shared_noise else ""
        if self.group_size > 1 and same:
            raise ValueError(
                f"group_size: got {self.group_size}, allowed with {same} = {getattr(self, same)!r} "
                "is 1: the rewards of a group would all be the same"
            )
        if self.environments % self.group_size:
            raise ValueError(
                f"group_size: got {self.group_size}, must divide num_envs = {self.environments}"
            )
        if self.budget < self.trajectories_per_round + self.policy_rests_for:
            raise ValueError(
                f"budget: got {self.budget}, allowed is at least one round after "
                f"{self.warmup_rounds} warm-up rounds of {self.trajectories_per_round}"
            )

    @property
    def _reward_below_0(self) -> str:
        """Which option has rewards that may be; nothing where none has."""
        if self.reward != "adversarial":
            return f"the reward {self.reward!r}"
        if self.bypass_discriminator:
            return "bypass_discriminator"
        logit = self.discriminator.reward_form == "logit"
        return "the discriminator's reward_form 'logit'" if logit else ""

    @property
    def environments(self) -> int:
        """`num_envs`, or what it is by default."""
        if self.num_envs is not None:
            return self.num_envs
        in_batches = self.algo == "ars" or self.rewards_batches
        return BATCH_ENVS if in_batches else self.trajectories_per_round

    @property
    def rewards_batches(self) -> bool:
        """Whether the reward is, or is made of, one number a batch."""
        return "frechet" in self.reward_names

    @property
    def reward_names(self) -> frozenset[str]:
        """Of the reward, and of those that it is made of.

        Raises:
            ValueError: see `fixed_reward`.
        """
        learned = self.reward == "adversarial"
        return frozenset(_names(self.reward if learned else self.fixed_reward))

    @property
    def fixed_reward(self) -> "RewardChoice":
        """Of the environment itself; under a discriminator, what it reports beside.

        Raises:
            ValueError: `reward` begins as a JSON object and is none.
        """
        if self.reward == "adversarial":
            return "judge"
        if self.reward_path is not None:
            return {"name": self.reward, "path_or_id": self.reward_path}
        return name_or_object(self.reward, "reward")

    @property
    def policy_rests_for(self) -> int:
        """Trajectories before its first update: a fixed reward has nothing to learn first."""
        warmup = self.warmup_rounds if self.reward == "adversarial" else 0
        return warmup * self.trajectories_per_round

    @property
    def rounds(self) -> int:
        """Rollouts of the whole training, those of the warm-up included."""
        return self.budget // self.trajectories_per_round

    def as_json(self) -> dict[str, Any]:
        """What identifies the run: everything but where it is and how it was called."""
        values = asdict(self)
        for name in ("out", "resume", *_OF_THE_CALL):
            del values[name]
        return values

    def of_the_call(self) -> dict[str, Any]:
        """How it was called: what a resumed run takes over, and what makes it no other run."""
        values = asdict(self)
        folder = self.rollout_folder and str(self.rollout_folder)
        return {name: values[name] for name in _OF_THE_CALL} | {"rollout_folder": folder}


def _names(choice: Any) -> set[str]:
    """Names in a `RewardChoice` of JSON values, at any depth; other options may be any text.

    Example:
        >>> terms = [[1, {"name": "clip", "path_or_id": "frechet"}], [1, "judge"]]
        >>> sorted(_names({"name": "clipped", "reward": {"name": "sum", "terms": terms}}))
        ['clip', 'clipped', 'judge', 'sum']
    """
    if isinstance(choice, str):
        return {choice}
    if not isinstance(choice, dict):
        return set()
    terms = choice.get("terms")
    pairs = [term for term in terms if isinstance(term, list)] if isinstance(terms, list) else []
    found = [choice.get("name"), choice.get("reward"), *(pair[-1] for pair in pairs if pair)]
    return set().union(*map(_names, found))


PRESETS: dict[str, tuple[str, TrainConfig]] = {
    "fashion": (
        "The shipped Fashion-MNIST bundle, minutes on two cores.",
        TrainConfig(tyro.MISSING),
    ),
    "emoji": (
        "The shipped emoji, drawn from prompts.",
        TrainConfig(tyro.MISSING, bundle="emoji", num_samples=512, eval_every=10),
    ),
    "digits": (
        "The shipped 8x8 digits, under two minutes: for tests and first steps.",
        TrainConfig(
            tyro.MISSING,
            bundle="digits",
            budget=20_480,
            hidden_size=64,
            discriminator=DiscriminatorConfig(trunk="bundle", widths=(32,)),
        ),
    ),
    "custom": (
        "A bundle of your own, which --bundle names: the numbers of fashion.",
        TrainConfig(tyro.MISSING, bundle=tyro.MISSING),
    ),
    "paper": (
        "The paper's numbers (AdaNAT A.3 and the authors' code), for an ImageNet-sized bundle: "
        "five gradient steps a round, each on all of it, gathered from minibatches that fit one "
        "GPU. Not the paper's: the discriminator's trunk is the bundle's (theirs is DINO: "
        "--discriminator.trunk transformer --discriminator.trunk-path facebook/dino-vits16); its "
        "heads are smaller; m and tau_2 of the last step, which have no effect, are left out of "
        "the log-probability; features are kept in half precision.",
        TrainConfig(
            tyro.MISSING,
            num_steps=8,
            budget=4096 * 1000,
            trajectories_per_round=4096,
            num_envs=1024,
            residual=None,
            hidden_size=512,
            learning_rate=1e-5,
            final_learning_rate=1e-5,
            action_std=0.6,
            final_action_std=0.3,
            raw_scale=20.0,
            batch_size=2048,
            accumulate=16,
            test_action="mean",
            entropy_coefficient=0.01,
            max_grad_norm=1e9,
            reals="raw",
            real_crop="adm",
            discriminator=DiscriminatorConfig(
                trunk="bundle",
                trunk_resolution=224,
                widths=(64,),
                learning_rate=1e-4,
                batch_size=1024,
                flip=True,
            ),
            discriminator_updates=5,
            fresh_samples=True,
            warmup_rounds=0,
        ),
    ),
}


def preset_of(bundle: str) -> TrainConfig:
    """That of `nat-train` for a bundle: of its own name, or `custom` with it.

    Example:
        >>> preset_of("digits").hidden_size, preset_of("bundles/mine").bundle
        (64, 'bundles/mine')
    """
    own = PRESETS.get(bundle, PRESETS["custom"])[1]
    return own if own.bundle == bundle else replace(PRESETS["custom"][1], bundle=bundle)
