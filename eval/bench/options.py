"""What can be said to nat-bench about each of its parts."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from annotated_types import Ge, Gt, Len

from nat_env.commands.bounds import check_bounds

Dtype = Literal["float32", "bfloat16", "float16", "auto"]
DecoderDtype = Literal["float32", "bfloat16"]
Part = Literal["decode", "env", "train", "scale", "start", "memory", "paper-round", "plan"]
RandomNAT = Literal["S", "B", "L", "small", "tiny"]
"""A U-ViT with random weights, of `contestants.UVITS`: S, B and L are the published sizes."""

Count = Annotated[int, Ge(1)]
Counts = Annotated[tuple[Count, ...], Len(1)]
Sizes = Annotated[tuple[Count, ...], Len(2)]
"""Of an axis."""


@dataclass(frozen=True)
class _Checked:
    def __post_init__(self) -> None:
        """Check the numbers; one that its field does not allow is a ValueError."""
        check_bounds(self)


@dataclass(frozen=True)
class _OfPart(_Checked):
    device: Annotated[str, tyro.conf.Suppress] = field(default="cpu", kw_only=True)
    decoder_dtype: Annotated[DecoderDtype, tyro.conf.Suppress] = field(
        default="float32", kw_only=True
    )
    compiled: Annotated[bool, tyro.conf.Suppress] = field(default=False, kw_only=True)
    tf32: Annotated[bool, tyro.conf.Suppress] = field(default=False, kw_only=True)
    """What `Bench` says."""


@dataclass(frozen=True)
class DecodeOptions(_OfPart):
    """Options of the part `decode`."""

    bundles: tuple[str, ...] = ("fashion",)
    """Shipped names or folders."""
    num_steps: Counts = (4, 8)
    """Values of T."""
    batch_sizes: Counts = (16, 256)
    dtypes: Annotated[tuple[Dtype, ...], Len(1)] = ("float32", "auto")
    """Of the transformer, in this library's loop. The authors' loop is in float32, and on an
    accelerator in float16 by autocast. auto: bfloat16 where the hardware multiplies it fast."""
    policy: str = "untrained"
    """A policy network before its training, which does what the heuristic does, or whatever
    nat-eval takes for a policy."""
    random: tuple[RandomNAT, ...] = ("S",)
    """Also U-ViTs with random weights: at the papers' size S minutes on a CPU. For none give
    --decode.random and nothing after it."""
    random_num_steps: Counts = (8,)
    """Values of T of those."""
    random_batch_sizes: Counts = (16,)
    random_tokenizer: bool = False
    """Decode their tokens by MaskGIT's VQGAN with random weights, too, twice the multiply-adds of a
    pass of the size L; else they stay tokens."""

    def __post_init__(self) -> None:
        """Check the numbers, and that there is something to decode."""
        super().__post_init__()
        if not self.bundles and not self.random:
            raise ValueError("bundles: got none, allowed is none only where random names some")


@dataclass(frozen=True)
class EnvOptions(_OfPart):
    """Options of the part `env`."""

    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    num_envs: Count = 256
    num_steps: Count = 4
    """T."""
    dtype: Dtype = "auto"
    """Of the transformer."""


@dataclass(frozen=True)
class TrainOptions(_OfPart):
    """Options of the part `train`."""

    preset: str = "fashion"
    """Of nat-train; all else is its configuration's."""
    trajectories_per_round: Count | None = None
    """In place of the preset's."""
    num_envs: Count | None = None
    """Sub-environments, which divide the trajectories; by default as many."""


@dataclass(frozen=True)
class ScaleOptions(_OfPart):
    """Options of the part `scale`: at least two sizes on each axis."""

    bundle: str = "fashion"
    """A shipped bundle's name or a folder; for numbers of environments and of steps."""
    num_envs: Sizes = (16, 64, 256, 1024)
    token_grid: Sizes = (7, 10, 16, 32)
    """Tokens along each side of a U-ViT with random weights; N is the square."""
    num_steps: Sizes = (4, 8, 16, 32)
    """Values of T."""
    trajectories: Sizes = (256, 1024, 4096)
    """Of a round of training."""
    preset: str = "digits"
    """Of nat-train, for those."""
    round_num_envs: Count = 256
    """Sub-environments of a round; divides every number of trajectories."""
    classes: Sizes = (10, 100, 1000)
    """Of a U-ViT with random weights."""
    class_nat: RandomNAT = "S"
    """That U-ViT, but for its classes."""
    class_batch_size: Count = 8
    """Samples that it decodes at once, in 2 steps."""
    batch_size: Count = 32
    """Samples decoded at once, where the number of environments does not say it."""
    dtype: Dtype = "auto"
    """Of the transformer."""
    nat: Annotated[RandomNAT, tyro.conf.Suppress] = "small"

    def __post_init__(self) -> None:
        """Check that each axis has different sizes, and that environments divide trajectories."""
        super().__post_init__()
        for name in ("num_envs", "token_grid", "num_steps", "trajectories", "classes"):
            if len(set(getattr(self, name))) < 2:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed are different sizes")
        if math.gcd(*self.trajectories) % self.round_num_envs:
            raise ValueError(
                f"trajectories: got {self.trajectories}, allowed are multiples of "
                f"round_num_envs = {self.round_num_envs}"
            )


@dataclass(frozen=True)
class StartOptions(_OfPart):
    """Options of the part `start`."""

    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    num_steps: Count = 4
    """T."""


@dataclass(frozen=True)
class PaperRoundOptions(_OfPart):
    """Options of the part `paper-round`."""

    num_steps: Count = 4
    """T."""
    trajectories: Annotated[tuple[Annotated[int, Ge(4)], ...], Len(1)] = (64,)
    """Of a round, one after another. The paper has 4096; all else of a round shrinks with them."""
    num_envs: Count = 16
    """Sub-environments, which divide the trajectories."""
    dtype: Dtype = "auto"
    """Of the transformer."""
    nat: RandomNAT = "S"
    """With random weights."""


@dataclass(frozen=True)
class PlanOptions(_OfPart):
    """Options of the part `plan`.

    What GPUs are joined by is not measured.
    """

    nat: RandomNAT = "small"
    """Whose rounds, with random weights, say what each part of a round costs."""
    trajectories: Annotated[tuple[Annotated[int, Ge(4)], ...], Len(2, 2)] = (64, 128)
    """Of these two rounds."""
    held: Annotated[int, Ge(4)] = 256
    """Trajectories of the round that what they predict is held against."""
    num_steps: Count = 4
    """T of these."""
    num_envs: Count = 64
    """Sub-environments of these."""
    dtype: Dtype = "auto"
    """Of the transformer."""
    models: Annotated[tuple[Literal["S", "B", "L", "Muse-CC3M"], ...], Len(1)] = (
        "S",
        "L",
        "Muse-CC3M",
    )
    """Published sizes that are planned for."""
    plan_num_steps: Counts = (4, 8)
    """Values of T that are planned for."""
    gpus: Counts = (1, 8, 64)
    rounds: Count = 1000
    """Of a training."""
    gpus_per_machine: Count = 8
    inside: Annotated[float, Gt(0)] = 300.0
    """GB per second between the GPUs of a machine, in each direction."""
    between: Annotated[float, Gt(0)] = 25.0
    """GB per second of each GPU's share of the network between machines."""
    latency: Annotated[float, Ge(0)] = 10.0
    """Microseconds of each message round a ring of GPUs, however small."""
    report: str | None = None
    """A bench.json with two rounds of the part `paper-round`, of a machine with a GPU: costs are
    taken from there, and nothing is measured here."""

    def __post_init__(self) -> None:
        """Check the numbers, and that the rounds are of rising size."""
        super().__post_init__()
        if not self.trajectories[0] < self.trajectories[1] < self.held:
            raise ValueError(
                f"held: got {self.held} after trajectories = {self.trajectories}, allowed are "
                "rising numbers"
            )


@dataclass(frozen=True)
class MemoryOptions(_OfPart):
    """Options of the part `memory`."""

    preset: str = "digits"
    """Of nat-train."""
    rounds: Annotated[int, Ge(4)] = 200
    """Of one training in one process; the first quarter is left out of the slope."""
    trajectories_per_round: Count = 64
    images: Sizes = (1000, 5000, 50_000)
    """Evaluated, of the preset's bundle, each in a process of its own."""


QUICK: dict[str, Any] = {
    "decode": DecodeOptions(
        ("digits",), (2,), (2,), random=("tiny",), random_num_steps=(2,), random_batch_sizes=(2,)
    ),
    "env": EnvOptions("digits", num_envs=4, num_steps=2),
    "train": TrainOptions("digits", trajectories_per_round=8),
    "scale": ScaleOptions(
        "digits",
        (2, 4),
        (2, 4),
        (2, 4),
        (4, 8),
        round_num_envs=2,
        classes=(10, 20),
        class_nat="tiny",
        class_batch_size=2,
        batch_size=2,
        nat="tiny",
    ),
    "start": StartOptions("digits", num_steps=2),
    "memory": MemoryOptions("digits", rounds=4, trajectories_per_round=8, images=(100, 200)),
    "plan": PlanOptions("tiny", (8, 16), 32, num_steps=2, num_envs=8, models=("S",)),
    "paper_round": PaperRoundOptions(num_steps=2, trajectories=(16,), num_envs=8, nat="tiny"),
}
"""The parts' options for `--quick`."""


@dataclass(frozen=True)
class Bench(_Checked):
    """Measure the library's speed, with what one would use instead by turns.

    Writes bench.json and bench.md after every part. Wants a machine that does nothing else.
    """

    out: Path
    """Folder for bench.json and bench.md."""
    parts: Annotated[tuple[Part, ...], Len(1)] = ("decode", "env", "train", "scale", "start")
    """decode: generation against the authors' loop. env: steps of the environment. train: a round
    of PPO. scale: how time and memory grow. start: until the first episode has finished. Not among
    them by default: memory, of hundreds of rounds and of evaluations; paper-round, rounds of
    nat-train's preset paper on a published size with random weights, many minutes and several GB;
    plan, an estimate of memory and time of whole trainings on several GPUs."""
    repeats: Count = 5
    """Turns of all that is timed; memory is measured once."""
    threads: Count = 2
    """Torch threads."""
    device: str = "cpu"
    """A torch device, of all parts."""
    tf32: bool = False
    """Multiply float32 in TF32 where an accelerator has it; the authors' loop is as torch has it by
    default, TF32 in convolutions alone."""
    decoder_dtype: DecoderDtype = "float32"
    """Of the tokenizer's decoder, but for the authors' loop."""
    compiled: bool = False
    """Compile the transformer by torch.compile; decode then shows both."""
    quick: bool = False
    """Tiny sizes, whatever the parts' options say: shows that everything runs."""
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    env: EnvOptions = field(default_factory=EnvOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    scale: ScaleOptions = field(default_factory=ScaleOptions)
    start: StartOptions = field(default_factory=StartOptions)
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    paper_round: PaperRoundOptions = field(default_factory=PaperRoundOptions)
    plan: PlanOptions = field(default_factory=PlanOptions)
    progress: Annotated[bool, tyro.conf.Suppress] = True
