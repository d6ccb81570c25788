"""The options of a training by what they are about: light to import."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MultipleOf

from nat_env.seeds import TRAINING

Algo = Literal[
    "ppo", "stock-ppo", "a2c", "trpo", "recurrent-ppo", "sac", "td3", "tqc", "crossq", "ars"
]
"""The learners, see `agents.learners.algorithms`."""


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
    `eval_every`, what says how it computes but for `dtype` and `decoder_dtype`, `wandb`,
    `rollout_folder` and `save_every_seconds`."""
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
    prompts: str | None = None
    """Captions for the table of conditions, in place of the bundle's prompts: a text file of one a
    line, COCO's captions_*.json or CC3M's .tsv. Their embeddings are kept in ~/.cache/nat-env, and
    the run keeps the captions. Needs `--eval-every 0` but where the bundle's judge is a matcher,
    as `emoji`'s is: another knows the bundle's own alone."""
    num_steps: Annotated[int, Ge(1)] = 4
    """T, decoding steps of an episode."""
    num_envs: Annotated[int, Ge(1)] | None = None
    """Sub-environments; bounds the memory of decoding. Must divide `trajectories_per_round`. By
    default that many, or 32 where a number is given to each batch and not to each sample: to a
    candidate policy of `ars`, or by the reward `frechet`."""
    rollout_folder: Path | None = None
    """Keep the features of a round in a file in this folder, not in memory (`ppo` alone)."""


@dataclass(frozen=True, kw_only=True)
class LearnerOptions:
    """Who learns, and how."""

    algo: Algo | str = "ppo"
    """AdaNAT's is ppo. All but it see one pooled vector, and have defaults of their own in place of
    some options here, which they refuse. `module:name` is a learner of your own: a class of
    stable-baselines3's kind, or an `Algorithm`, see agents/learners/algorithms.py."""
    algo_options: dict[str, int | float | bool | str | None] = field(default_factory=dict)
    """Of the learner's constructor, in place of defaults: `learning_rate 3e-4`."""
    observation: Literal["features", "confidences"] = "features"
    """What the policy sees: the transformer's features, as the paper, or how sure it is of each
    token, and which are masked: the same numbers whatever the transformer, so that a policy goes
    with any bundle of as many tokens on the same grid."""
    residual: str | None = "heuristic"
    """Learn a correction of this schedule: `heuristic`, `authors` (AdaNAT's code for CC3M),
    `amused` (diffusers' pipeline), or a schedule's file, as nat-search writes it; None: from
    scratch. A file's sampler, or one by name as `remdm(0.3)`, is the rule that is learned by."""
    quantities: tuple[str, ...] | None = None
    """What is learned: some of the four, where the residual schedule has the others, and what its
    sampler takes by sample or token (`eta` of remdm, `confidence_map`). By default the four,
    without those that have no effect by the sampler, and the map."""
    action_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """alpha of AdaGen: what is before the activations is s_t = alpha s_(t-1) + (1 - alpha) a_t, a
    running average over the steps of an episode, the residual schedule added to it. 0: none."""
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
    group_size: Annotated[int, Ge(1)] = 1
    """Episodes of a round that decode the same condition with the same random numbers; their mean
    return is taken off theirs (a group baseline, as GRPO's). Must divide `num_envs`. 1: none."""
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
    """Take real images from here, one sub-folder per class, instead of from the bundle. Of ImageNet
    it is the folder `train`. More than 1 GB of them are read as they are drawn. For prompts:
    COCO's folder or captions_*.json, CC3M's .tsv with images in base64, or webdataset's .tar
    files."""
    real_crop: Literal["lanczos", "adm"] = "lanczos"
    """How those are brought to the bundle's size: cropped and resized once, or as ADM and the
    papers' code do with ImageNet at 256 and 512 pixels."""
    step_cost: Annotated[float, Ge(0)] = 0.0
    """Of each pass of the transformer: what is left of the reward weighs quality against speed. An
    image that has no masked token takes no more of them."""
    pass_discount: Annotated[float, Gt(0), Le(1)] = 1.0
    """The same as a factor, for each pass but the first: of a discriminator's reward, which is
    never below 0."""
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
