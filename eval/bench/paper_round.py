"""Rounds of nat-train's preset `paper` on a model of a published size with random weights."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch.utils import benchmark

from agents.learners.config import PRESETS, TrainConfig
from agents.training.train import Training
from eval.bench.contestants import UVITS
from eval.bench.measuring.memory import Memory, measured_apart
from eval.bench.measuring.phases import Phases
from eval.bench.measuring.report import Row, Section, target
from eval.bench.options import PaperRoundOptions
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.writer import save_bundle
from nat_env.frozen.conditions import Conditions, balanced_conditions
from nat_env.frozen.weights import seeded_weights
from nat_env.models.classifier import Classifier, ClassifierConfig
from nat_env.models.maskgit_vqgan import MaskGITVQGAN, MaskGITVQGANConfig
from nat_env.models.uvit import UViT

TOKENIZERS = {
    **dict.fromkeys(("S", "B", "L"), MaskGITVQGANConfig()),
    "small": MaskGITVQGANConfig((56, 56), codebook_size=256, width=32, multipliers=(1, 1, 1, 1)),
    "tiny": MaskGITVQGANConfig((16, 16), codebook_size=16, width=32, multipliers=(1, 1, 1)),
}
"""MaskGIT's VQGAN, by the transformer's name in `UVITS`; the first is the published one."""

ROLLOUT, FRESH = "rollout", "fresh samples"
TRANSFORMER, TOKENIZER = "transformer", "tokenizer"
_ACCELERATED = {("L", 8, 4096): 60.0}
"""Seconds of a round that are aimed at on an accelerator."""
_WARM_UP = 16
"""Trajectories of a round before the one that is measured."""


def run(options: PaperRoundOptions, repeats: int) -> Iterator[Section]:
    """Measure each round once, in a process of its own; `repeats` does not count."""
    del repeats
    with TemporaryDirectory() as folder:
        save_random_bundle(options, Path(folder))
        for count in options.trajectories:
            yield _section(options, count, *measured_apart(prepared, options, count, Path(folder)))


def _section(
    options: PaperRoundOptions, count: int, memory: Memory, found: tuple[float, dict[str, float]]
) -> Section:
    seconds, totals = found
    rest = {"everything else": seconds - sum(totals.values())}
    rows: list[Row] = [
        {"phase": phase, "seconds": spent, "round_share": spent / seconds}
        for phase, spent in (totals | rest).items()
    ]
    rows.append({"phase": "the round", "seconds": seconds, "round_share": 1.0})
    sizes = UVITS[options.nat]
    config = configuration(options, count, Path())
    note = (
        f"Preset paper, T = {config.num_steps}, {config.trajectories_per_round} trajectories in "
        f"{config.environments} environments; {config.epochs} gradient steps of the policy, each "
        f"gathered from {config.accumulate} minibatches of {config.batch_size} transitions; "
        f"{config.discriminator_updates} of the discriminator, each on "
        f"{config.discriminator.batch_size} real images and as many fresh samples. U-ViT of "
        f"{sizes.hidden_size} x {sizes.depth} and tokenizer with random weights, a random trunk, "
        f"{_num_reals(options)} random real images. Resident memory: {memory.start:.0f} MB "
        f"with everything loaded, {memory.peak:.0f} MB at most."
    )
    if memory.accelerator is not None:
        note += f" Memory of the accelerator: {memory.accelerator:.0f} MB at most."
    return Section(title(options.nat, count), rows, note, _targets(options, count, seconds, totals))


def _targets(
    options: PaperRoundOptions, count: int, seconds: float, totals: dict[str, float]
) -> list[Row]:
    if torch.device(options.device).type == "cpu":
        return []
    spent = {part: totals[f"{ROLLOUT}, {part}"] for part in (TRANSFORMER, TOKENIZER, "rest")}
    where = f"{options.nat}, T = {options.num_steps}, {count} trajectories"
    outside = spent["rest"] / sum(spent.values())
    held = [target(f"{where}: share of a rollout outside NAT and tokenizer", outside, at_most=0.1)]
    goal = _ACCELERATED.get((options.nat, options.num_steps, count))
    return [*held, target(f"{where}: seconds of a round", seconds, at_most=goal)] if goal else held


def configuration(options: PaperRoundOptions, count: int, folder: Path) -> TrainConfig:
    """The preset with a round of so many trajectories, in the paper's proportions.

    Raises:
        ValueError: numbers that do not divide one another.
    """
    preset = PRESETS["paper"][1]
    transitions = count * options.num_steps
    if transitions % preset.accumulate:
        raise ValueError(
            f"trajectories: got {count}, allowed are numbers that, times num_steps = "
            f"{options.num_steps}, are multiples of {preset.accumulate}"
        )
    return replace(
        preset,
        out=folder / f"run_{count}",
        bundle=str(folder / "bundle"),
        num_steps=options.num_steps,
        budget=count,
        trajectories_per_round=count,
        num_envs=min(options.num_envs, count),
        batch_size=transitions // preset.accumulate,
        discriminator=replace(preset.discriminator, batch_size=_discriminator_batch(count)),
        eval_every=0,
        dtype=options.dtype,
        device=options.device,
        tf32=options.tf32,
        decoder_dtype=options.decoder_dtype,
        compiled=options.compiled,
        threads=torch.get_num_threads(),
    )


def _discriminator_batch(count: int) -> int:
    """Real images of an update, of which the paper's 4096 trajectories have 1024."""
    preset = PRESETS["paper"][1]
    share = count / preset.trajectories_per_round
    return max(1, round(preset.discriminator.batch_size * share))


def prepared(
    options: PaperRoundOptions, count: int, folder: Path
) -> Callable[[], tuple[float, dict[str, float]]]:
    """A round with all set up; gives its seconds, and those of its phases.

    `folder` has what `save_random_bundle` wrote. A short round has come before, but for one on a
    CPU with a model so large that it takes minutes and that what is made once does not count.
    """
    if torch.device(options.device).type != "cpu" or options.nat in ("small", "tiny"):
        warm_up = replace(configuration(options, _WARM_UP, folder), out=folder / f"before_{count}")
        Training(warm_up, progress=False).run()
    training = Training(configuration(options, count, folder), progress=False)

    def work() -> tuple[float, dict[str, float]]:
        phases = Phases.on(options.device)
        started = benchmark.timer()
        _watched(training, phases)
        seconds = benchmark.timer() - started
        return seconds, dict(phases.totals)

    return work


def _watched(training: Any, phases: Phases) -> None:
    """The round, its phases told apart: the same models serve rollout and fresh samples."""
    bundle, model = training.env.decoder.bundle, training.model
    stage, collect = [FRESH], phases.of(f"{ROLLOUT}, rest", model.collect_rollouts)

    def staged(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        by_stage = {s: phases.of(f"{s}, {part}", function) for s in (ROLLOUT, FRESH)}
        return lambda *args, **kwargs: by_stage[stage[0]](*args, **kwargs)

    def rollout(*args: Any, **kwargs: Any) -> Any:
        stage[0] = ROLLOUT
        try:
            return collect(*args, **kwargs)
        finally:
            stage[0] = FRESH

    nat, tokenizer = bundle.nat, bundle.tokenizer
    with (
        patch.object(nat, "_network", staged(TRANSFORMER, nat._network)),  # compiled, or not
        patch.object(tokenizer, "decode", staged(TOKENIZER, tokenizer.decode)),
        patch.object(model, "collect_rollouts", rollout),
        phases.watching(
            ("policy update", model, "train"), ("discriminator update", training.env, "update")
        ),
    ):
        training.run()


def _num_reals(options: PaperRoundOptions) -> int:
    """One of each class, and at least as many as an update of the discriminator draws."""
    batches = map(_discriminator_batch, options.trajectories)
    return max(UVITS[options.nat].num_classes, *batches)


def title(nat: str, count: int) -> str:
    """Of the section about a round of so many trajectories."""
    return f"A round of the preset paper, {nat}, {count} trajectories"


def random_trunk(num_classes: int) -> Classifier:
    """What the discriminator stands on."""
    return Classifier(ClassifierConfig(3, num_classes, (32, 64, 128, 256)))


def save_random_bundle(options: PaperRoundOptions, folder: Path) -> None:
    """Write the bundle of `configuration`."""
    sizes, tokens, count = UVITS[options.nat], TOKENIZERS[options.nat], _num_reals(options)
    conditions = Conditions(tuple(map(str, range(sizes.num_classes))))
    with seeded_weights(0):
        trunk = random_trunk(sizes.num_classes)
        save_bundle(
            folder / "bundle",
            name="random",
            conditions=conditions,
            transformer=UViT(sizes).eval(),
            tokenizer=MaskGITVQGAN(tokens),
            trunk=trunk.eval(),
            reals=TensorReals(
                torch.randint(0, 256, (count, 3, *tokens.image_size), dtype=torch.uint8),
                balanced_conditions(count, len(conditions)),
            ),
        )
