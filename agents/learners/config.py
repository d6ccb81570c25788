"""What a training is made of, and the presets of `nat-train`: light to import."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from annotated_types import Ge, Gt, Lt, MultipleOf

from nat_env.commands.computation import DeviceOptions
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.seeds import TRAINING

if TYPE_CHECKING:
    from nat_env.rewards.names import RewardChoice

Algo = Literal[
    "ppo", "stock-ppo", "a2c", "trpo", "recurrent-ppo", "sac", "td3", "tqc", "crossq", "ars"
]
"""The learners, see `agents.learners.algorithms`."""

_OF_THE_CALL = ("threads", "wandb", "rollout_folder", "save_every_seconds")

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
class RunOptions:
    """How much, and where it is kept."""

    out: Path
    """Run folder: configuration, checkpoints, TensorBoard events, pictures."""
    budget: Annotated[int, Ge(1)] = field(default=15_360, kw_only=True)
    """Images, an episode each, of the whole training, warm-up included."""
    trajectories_per_round: Annotated[int, Ge(1)] = field(default=256, kw_only=True)
    """Episodes between two policy updates."""
    seed: Annotated[int, Ge(0), Lt(TRAINING.limit)] = field(default=0, kw_only=True)
    """Of weights, conditions and random numbers; trainings of two seeds share none."""
    resume: bool = field(default=False, kw_only=True)
    """Go on with the run in `out`, with its options: none of them has to be given again. `budget`
    may be another, to make a training longer (schedules then go by the new one), and so may
    `eval_every`, `threads`, `wandb`, `rollout_folder` and `save_every_seconds`."""
    save_every_seconds: Annotated[float, Ge(0)] = field(default=60.0, kw_only=True)
    """Between writings of the state at least, but for evaluations, the end and Ctrl+C: what a power
    cut may cost."""
    wandb: str | None = field(default=None, kw_only=True)
    """Also send what TensorBoard is given to this project of Weights & Biases (extra `wandb`)."""


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """What is decoded, and how many images at once."""

    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    num_steps: Annotated[int, Ge(1)] = 4
    """T, decoding steps of an episode."""
    num_envs: Annotated[int, Ge(1)] | None = None
    """Sub-environments; bounds the memory of decoding. Must divide `trajectories_per_round`. By
    default that many, or 32 where a number is given to each batch and not to each sample: to a
    candidate policy of `ars`, or by the reward `frechet`."""
    rollout_folder: Path | None = None
    """Keep the features of a round in a file in this folder, not in memory (`ppo` alone)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the transformer; auto: bfloat16 where the hardware multiplies it fast."""


@dataclass(frozen=True, kw_only=True)
class LearnerOptions:
    """Who learns, and how."""

    algo: Algo = "ppo"
    """AdaNAT's is ppo. All but it see one pooled vector, and have defaults of their own in place of
    some options here, which they refuse."""
    algo_options: dict[str, int | float | bool | str | None] = field(default_factory=dict)
    """Of the learner's constructor, in place of defaults: `learning_rate 3e-4`."""
    residual: str | None = "heuristic"
    """Learn a correction of this schedule: `heuristic`, `authors` (AdaNAT's code for CC3M) or a
    schedule's file; None: from scratch."""
    adaptive: bool = True
    """False: the policy sees the timestep alone, a learned schedule for all samples (Table 5)."""
    hidden_size: Annotated[int, Gt(0), MultipleOf(4)] = 128
    """Width of actor and critic; the paper's is 512."""
    learning_rate: Annotated[float, Gt(0)] = 1.2e-3
    """Of the policy at the start."""
    final_learning_rate: Annotated[float, Ge(0)] = 1e-4
    """Reached linearly at the end."""
    epochs: Annotated[int, Ge(1)] = 5
    """PPO passes over a rollout."""
    batch_size: Annotated[int, Ge(1)] = 256
    """Transitions of a minibatch: of a gradient step, unless they are accumulated."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Minibatches of a gradient step: a large batch in the memory of a small one. Must divide the
    minibatches of a round."""
    clip_range: Annotated[float, Gt(0)] = 0.2
    """PPO's: probability ratios count within 1 - it and 1 + it."""
    value_coefficient: Annotated[float, Ge(0)] = 0.5
    """Weight of the critic's loss beside the actor's."""
    entropy_coefficient: Annotated[float, Ge(0)] = 0.0
    """Has no gradient while the standard deviation is scheduled; the authors' 0.01 is a name."""
    max_grad_norm: Annotated[float, Gt(0)] = 0.5
    """The gradient is shortened to this length, an accumulated one as a whole."""


@dataclass(frozen=True, kw_only=True)
class ExplorationOptions:
    """How far the policy strays from what it thinks best."""

    action_std: Annotated[float, Gt(0)] = 1.0
    """sigma of Eq. 9 in raw units, at the start. The paper's 0.6 is for 4096 trajectories a round;
    the fewer there are, the wider they have to explore for the reward to rise above its noise."""
    final_action_std: Annotated[float, Gt(0)] = 0.6
    """sigma after half of the training."""
    raw_scale: Annotated[float, Gt(0)] = 5.0
    """Raw actions reach from minus to plus this, and temperatures and guidance up to it; the paper
    sets no bound."""
    test_action: Literal["expectation", "mean"] = "expectation"
    """After training, and in evaluations: the expectation of m, tau_1, tau_2, w under the
    exploration, or, as in the paper, the activations of the Gaussian's mean."""
    shared_noise: bool = False
    """Explore by one draw for all samples of a batch, with --no-adaptive by one configuration: for
    the reward `frechet`, which is one number for all of them."""


@dataclass(frozen=True, kw_only=True)
class RewardOptions:
    """What is rewarded, and how the discriminator learns."""

    reward: Literal["adversarial", "judge", "frechet", "clip"] | str = "adversarial"
    """`adversarial`: the discriminator below, trained beside the policy (option C of AdaNAT 4.3).
    Fixed ones: `judge`, the judge's log-likelihood of the class, or `clip` (option B); `frechet`,
    how much a batch lowers the Frechet distance of the latest images (option A); `module:name`, a
    function of your own, or a class that makes one; or a JSON object of name and options, as
    `named_reward` has them: '{"name": "sum", "terms": [[1, "judge"], [0.5, "frechet"]]}'."""
    reward_path: str | None = None
    """Of `clip`: the model, a folder or a hub id."""
    discriminator_updates: Annotated[int, Ge(1)] = 30
    """Gradient steps of the discriminator a round."""
    fresh_samples: bool = False
    """Train the discriminator on new samples of the updated policy, as the paper: each of its
    updates on a batch of its own, which takes as long to decode. Otherwise on the rollout's."""
    reals: Literal["reconstructed", "raw"] = "reconstructed"
    """Real images as the discriminator sees them: raw, or reconstructed by the tokenizer."""
    real_folder: str | None = None
    """Take real images from here, one sub-folder per class, instead of from the bundle."""
    bypass_discriminator: bool = False
    """Debugging: train on the environment's own reward."""
    warmup_rounds: Annotated[int, Ge(0)] = 5
    """Rounds in which only the discriminator learns: an untrained one's normalised reward is
    noise at full amplitude."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How a training is watched."""

    eval_every: Annotated[int, Ge(0)] = 20
    """Rounds between evaluations. 0: none, which needs no judge; the run's policy is then its last
    one."""
    num_samples: Annotated[int, Ge(2)] = 1000
    """Images of an evaluation, more than the judge's embedding has numbers; their seeds are not
    nat-eval's."""


@dataclass(frozen=True)
class TrainConfig(
    DeviceOptions,
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
        if self.reward != "adversarial":
            for name in ("real_folder", "fresh_samples", "bypass_discriminator"):
                if getattr(self, name):
                    raise ValueError(
                        f"{name}: got {getattr(self, name)}, allowed is so only with the reward "
                        f"'adversarial', got {self.reward!r}"
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
        if self.budget < self.trajectories_per_round + self.policy_rests_for:
            raise ValueError(
                f"budget: got {self.budget}, allowed is at least one round after "
                f"{self.warmup_rounds} warm-up rounds of {self.trajectories_per_round}"
            )

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
        return self.reward == "frechet" or (
            self.reward.startswith("{") and '"frechet"' in self.reward
        )

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
        if not self.reward.startswith("{"):
            return self.reward
        try:
            return json.loads(self.reward)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"reward: got {self.reward!r}, allowed is a name or a JSON object ({error})"
            ) from error

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


PRESETS: dict[str, tuple[str, TrainConfig]] = {
    "fashion": (
        "The shipped Fashion-MNIST bundle, minutes on two cores.",
        TrainConfig(tyro.MISSING),
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
            discriminator=DiscriminatorConfig(
                trunk="bundle", widths=(64,), learning_rate=1e-4, batch_size=1024
            ),
            discriminator_updates=5,
            fresh_samples=True,
            warmup_rounds=0,
        ),
    ),
}
