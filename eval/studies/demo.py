"""`make demo`: train an adaptive policy on a shipped bundle, evaluate it, write a report."""

import dataclasses
import time
from pathlib import Path

import torch

from agents.learners.config import preset_of
from agents.runs.checkpoint import CONFIG
from agents.training.train import Training
from eval.commands import nat_eval
from eval.commands.arguments import Eval
from eval.judges.references import independent_judges
from eval.studies.arguments import Demo
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.storage.files import write_text

VALIDATION_SAMPLES = 500
"""Of the training's own evaluations: fewer than the preset's, which take a third as many images as
the training itself."""


SHOWN = 12
"""Classes or prompts that are named at most."""


def demo(arguments: Demo) -> None:
    """Train, evaluate, report; prints what it does and how long each part took."""
    run_folder = arguments.out / "policy"
    preset = preset_of(arguments.bundle)
    config = dataclasses.replace(
        preset,
        out=run_folder,
        budget=preset.budget // 2 if arguments.budget is None else arguments.budget,
        seed=arguments.seed,
        resume=(run_folder / CONFIG).is_file(),
        **arguments.training(),
        num_samples=min(preset.num_samples, VALIDATION_SAMPLES),
    )
    evaluation = Eval(
        policies=("heuristic", str(run_folder)),
        out=arguments.out,
        num_steps=config.num_steps,
        num_samples=arguments.num_samples,
        judges=arguments.judges,
        judge_images=arguments.num_samples,  # more take longer than the samples
        **arguments.computation(),
    )
    bundle = load_bundle(config.bundle, **config.models())
    # What they need is said before the training, not after it.
    independent_judges(bundle, arguments.judges, arguments.num_samples, arguments.num_samples)
    print(
        f"Bundle {bundle.name}: a frozen transformer that draws {what_it_draws(bundle)} in "
        f"{config.num_steps} steps.\n"
        f"1. Learning a policy for its decoding: {config.rounds} rounds of "
        f"{config.trajectories_per_round} images.",
        flush=True,
    )
    training = Training(config)
    results = training.run()
    training_seconds = training.callback.seconds
    start = results["history"][0]["frechet_distance"]
    print(
        f"   {training_seconds:.0f} s; FD {start:.2f} -> {results['best_frechet_distance']:.2f} "
        f"({results['judge']}, {results['num_samples']} images)\n"
        f"2. Evaluating it and the papers' schedule on {arguments.num_samples} other images each.",
        flush=True,
    )
    started = time.perf_counter()
    table, pictures = nat_eval.run(evaluation)
    evaluation_seconds = time.perf_counter() - started
    report = arguments.out / "report.md"
    write_text(report, _report(arguments, table, pictures, training_seconds))
    print(f"\n{table}\n")
    print(f"Trained in {training_seconds:.0f} s, evaluated in {evaluation_seconds:.0f} s.")
    print(*pictures, report, sep="\n")


def what_it_draws(bundle: Bundle) -> str:
    """How many classes or prompts there are, and some of them.

    Example:
        >>> what_it_draws(load_bundle("digits"))
        '10 classes of images (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)'
    """
    names = bundle.conditions.names
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    if bundle.conditions.are_prompts:
        return f"images of {len(names)} prompts ({shown})"
    return f"{len(names)} classes of images ({shown})"


def _report(arguments: Demo, table: str, pictures: list[Path], seconds: float) -> str:
    shown = "\n\n".join(f"![{p.stem}]({p.relative_to(arguments.out)})" for p in pictures)
    return (
        f"# Decoding policy for `{arguments.bundle}`\n\n{table}\n\n"
        f"Trained in {seconds:.0f} s, {torch.get_num_threads()} torch threads, "
        f"seed {arguments.seed}.\n\n{shown}\n"
    )
