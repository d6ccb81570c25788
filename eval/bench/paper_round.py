"""One round of nat-train's preset `paper` on a model of the papers' size with random weights."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch

from agents.learners.config import PRESETS, TrainConfig
from agents.training.train import Training
from eval.bench.decode import UVITS
from eval.bench.measure import Phases, measured_apart
from eval.bench.options import PaperRoundOptions
from eval.bench.report import Row, Section
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.writer import save_bundle
from nat_env.frozen.conditions import Conditions, balanced_conditions
from nat_env.frozen.weights import seeded_weights
from nat_env.models.classifier import Classifier, ClassifierConfig
from nat_env.models.maskgit_vqgan import MaskGITVQGAN, MaskGITVQGANConfig
from nat_env.models.uvit import UViT

TOKENIZERS = {
    "papers": MaskGITVQGANConfig(),
    "small": MaskGITVQGANConfig((56, 56), codebook_size=256, width=32, multipliers=(1, 1, 1, 1)),
    "tiny": MaskGITVQGANConfig((16, 16), codebook_size=16, width=32, multipliers=(1, 1, 1)),
}
"""MaskGIT's VQGAN, by the transformer's name in `UVITS`; the first is the published one."""

ROLLOUT, FRESH = "rollout", "fresh samples"
TRANSFORMER, TOKENIZER = "transformer", "tokenizer"


def run(options: PaperRoundOptions, repeats: int) -> list[Section]:
    """Measure one round, in a process of its own; `repeats` does not count."""
    del repeats
    memory, (seconds, totals) = measured_apart(prepared, options)
    rest = {"everything else": seconds - sum(totals.values())}
    rows: list[Row] = [
        {"phase": phase, "seconds": spent, "round_share": spent / seconds}
        for phase, spent in (totals | rest).items()
    ]
    rows.append({"phase": "the round", "seconds": seconds, "round_share": 1.0})
    sizes = UVITS[options.nat]
    config = configuration(options, Path())
    note = (
        f"Preset paper, T = {config.num_steps}, {config.trajectories_per_round} trajectories in "
        f"{config.environments} environments; {config.epochs} gradient steps of the policy, each "
        f"gathered from {config.accumulate} minibatches of {config.batch_size} transitions; "
        f"{config.discriminator_updates} of the discriminator, each on "
        f"{config.discriminator.batch_size} real images and as many fresh samples. U-ViT of "
        f"{sizes.hidden_size} x {sizes.depth} and tokenizer with random weights, a random trunk, "
        f"{len(_conditions(options))} random real images. Resident memory: {memory.start:.0f} MB "
        f"with everything loaded, {memory.peak:.0f} MB at most."
    )
    return [Section("A round of the preset paper", rows, note)]


def configuration(options: PaperRoundOptions, folder: Path) -> TrainConfig:
    """The preset with a round of so many trajectories, in the paper's proportions.

    Raises:
        ValueError: numbers that do not divide one another.
    """
    preset, count = PRESETS["paper"][1], options.trajectories_per_round
    transitions = count * options.num_steps
    if transitions % preset.accumulate:
        raise ValueError(
            f"trajectories_per_round: got {count}, allowed are numbers that, times num_steps = "
            f"{options.num_steps}, are multiples of {preset.accumulate}"
        )
    share = count / preset.trajectories_per_round
    size = max(1, round(preset.discriminator.batch_size * share))
    return replace(
        preset,
        out=folder / "run",
        bundle=str(folder / "bundle"),
        num_steps=options.num_steps,
        budget=count,
        trajectories_per_round=count,
        num_envs=options.num_envs,
        batch_size=transitions // preset.accumulate,
        discriminator=replace(preset.discriminator, batch_size=size),
        eval_every=0,
        dtype=options.dtype,
        threads=torch.get_num_threads(),
    )


def prepared(options: PaperRoundOptions) -> Callable[[], tuple[float, dict[str, float]]]:
    """A round with all set up; gives its seconds, and those of its phases."""
    folder = TemporaryDirectory()
    _save_bundle(options, Path(folder.name) / "bundle")
    config = configuration(options, Path(folder.name))
    training = Training(config, progress=False)

    def work() -> tuple[float, dict[str, float]]:
        phases = Phases()
        started = time.perf_counter()
        _watched(training, phases)
        seconds = time.perf_counter() - started
        folder.cleanup()
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

    transformer, tokenizer = bundle.nat.transformer, bundle.tokenizer
    with (
        patch.object(transformer, "forward", staged(TRANSFORMER, transformer.forward)),
        patch.object(tokenizer, "decode", staged(TOKENIZER, tokenizer.decode)),
        patch.object(model, "collect_rollouts", rollout),
        phases.watching(
            ("policy update", model, "train"), ("discriminator update", training.env, "update")
        ),
    ):
        training.run()


def _conditions(options: PaperRoundOptions) -> Conditions:
    return Conditions(tuple(map(str, range(UVITS[options.nat].num_classes))))


def _save_bundle(options: PaperRoundOptions, folder: Path) -> None:
    sizes, tokens, conditions = UVITS[options.nat], TOKENIZERS[options.nat], _conditions(options)
    with seeded_weights(0):
        trunk = Classifier(ClassifierConfig(3, sizes.num_classes, (32, 64, 128, 256)))
        save_bundle(
            folder,
            name="random",
            conditions=conditions,
            transformer=UViT(sizes).eval(),
            tokenizer=MaskGITVQGAN(tokens),
            trunk=trunk.eval(),
            # One of each class, which is as few as a discriminator takes.
            reals=TensorReals(
                torch.randint(0, 256, (len(conditions), 3, *tokens.image_size), dtype=torch.uint8),
                balanced_conditions(len(conditions), len(conditions)),
            ),
        )
