"""The Frechet distances of a policy's samples to real images, judge by judge."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.evaluation.policies import ShuffledPolicy
from eval.evaluation.quantities import Quantities, QuantitiesAccumulator
from eval.judges.clip import Agreement
from eval.judges.embedding import image_bar
from eval.judges.references import Reference
from eval.metrics.sample_metrics import SampleMetrics, sample_metrics
from eval.metrics.score import Score, ScoreAccumulator
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_rank
from nat_env.bundles.statistics import EmbeddingAccumulator, frechet_distance
from nat_env.frozen.conditions import balanced_conditions, uniform_conditions
from nat_env.frozen.nat import FIRST_PASSES_KEPT
from nat_env.generation import StepRecord, generate_batches
from nat_env.policies import DecodingPolicy
from nat_env.seeds import NAT_EVAL, SeedRange


@dataclass(frozen=True, eq=False)
class Measurement:
    """What `measure` found."""

    frechet_distances: Mapping[str, float]
    """By the judge's name."""
    metrics: Mapping[str, SampleMetrics]
    """By the judge's name, of the references that hold features."""
    scores: Mapping[str, Score]
    """By the judge's name, of the judges that are classifiers, see `eval.metrics.score`."""
    agreements: Mapping[str, float]
    """By the judge's name: the mean of what it says of an image and its prompt."""
    class_accuracy: float | None
    """Share of the samples that the bundle's judge, a classifier, takes for their class; None where
    the bundle has none."""
    num_samples: int
    seconds: float
    """Of generating the samples, the judges' time left out."""
    judge_seconds: float
    quantities: Quantities
    """What the policy chose."""

    @property
    def images_per_second(self) -> float:
        """Samples generated a second."""
        return self.num_samples / self.seconds


def measure(
    bundle: Bundle,
    policy: DecodingPolicy,
    num_steps: int,
    num_samples: int,
    seed: int,
    judges: Sequence[Reference],
    batch_size: int | None = None,
    progress: str | None = None,
    shuffle_features: bool = False,
    uniform: bool = False,
    agreements: Sequence[Agreement] = (),
    seeds: SeedRange = NAT_EVAL,
) -> Measurement:
    """Generate samples of all classes alike, and compare them with real images.

    Only one batch of images is held at a time, and of their embeddings mean and covariance, in
    float64. Whatever is kept of every sample is its class and its part of the score, 16 bytes; and
    its embedding where a reference holds those of real images, for precision and its kin.

    Args:
        bundle: the frozen models.
        policy: (features, timestep) -> m, tau_1, tau_2, w.
        num_steps: T >= 1.
        num_samples: N, 2 to the stride of `seeds`. A Frechet distance falls as N grows.
        seed: a run seed of `seeds`; no two share a random number.
        judges: with their references, see `eval.judges.references.reference`.
        batch_size: samples decoded at once; by default as `generate` has it.
        progress: label of a progress bar; None for no bar.
        shuffle_features: the policy sees the features of other samples of the batch.
        uniform: draw each sample's class, as the papers do, instead of taking them in turn.
        agreements: of images and their prompts, see `eval.judges.clip`.
        seeds: which samples; whatever chooses a policy takes others than what judges it.

    Raises:
        ValueError: a number out of its range, or no more samples than a judge's embedding has
            numbers.
    """
    check_numbers(num_samples, seed, batch_size, seeds)
    for judged in judges:
        check_rank(judged.judge.name, judged.statistics, num_samples)
    if shuffle_features:
        policy = ShuffledPolicy(policy, seed)
    first_seed = seeds.seed_of(seed)
    if uniform:
        conditions = uniform_conditions(num_samples, len(bundle.conditions), first_seed)
    else:
        conditions = balanced_conditions(num_samples, len(bundle.conditions))
    features = [EmbeddingAccumulator() for _ in judges]
    kept: list[list[NDArray[np.float32]]] = [[] for _ in judges]
    classifiers = [judged.judge for judged in judges if judged.judge.classifier is not None]
    scores = {j.name: ScoreAccumulator(num_samples, min(10, num_samples)) for j in classifiers}
    sums = {agreement.name: 0.0 for agreement in agreements}
    quantities = QuantitiesAccumulator(num_steps, len(bundle.conditions))
    seconds = judge_seconds = 0.0
    correct = done = 0

    def record(step: StepRecord) -> None:
        taken = step.actions.double().cpu().numpy()
        classes = conditions[done : done + len(taken)].numpy()  # of the batch being decoded
        quantities.update(step.timestep, taken, classes)

    batches = generate_batches(
        bundle, policy, conditions, num_steps, first_seed, batch_size, record
    )
    judge = bundle.yardstick and bundle.yardstick.judge
    _warm_up(bundle, conditions.unique(), batch_size)
    with image_bar(num_samples, progress) as bar:
        started = _now(bundle)
        for images, labels in batches:
            generated = _now(bundle)
            for judged, accumulator, every in zip(judges, features, kept, strict=True):
                vectors = judged.judge.embeddings(images)
                accumulator.update(vectors.cpu().numpy())
                if judged.embeddings is not None:
                    every.append(vectors.cpu().numpy())
                if judged.judge.name in scores:
                    chances = judged.judge.probabilities(vectors)
                    scores[judged.judge.name].update(chances.cpu().numpy())
            for agreement in agreements:
                sums[agreement.name] += float(agreement.score(images, labels).double().sum())
            if judge is not None:
                correct += int((judge(images).argmax(dim=1) == labels).sum())
            done += len(labels)
            seconds += generated - started
            judge_seconds += _now(bundle) - generated
            bar.update(len(labels))
            started = _now(bundle)  # the next batch is generated when the loop asks for it

    return Measurement(
        frechet_distances={
            judged.judge.name: frechet_distance(accumulator.statistics(), judged.statistics)
            for judged, accumulator in zip(judges, features, strict=True)
        },
        metrics={
            judged.judge.name: sample_metrics(judged.embeddings, np.concatenate(every))
            for judged, every in zip(judges, kept, strict=True)
            if judged.embeddings is not None
        },
        scores={name: accumulator.score() for name, accumulator in scores.items()},
        agreements={name: total / num_samples for name, total in sums.items()},
        class_accuracy=None if judge is None else correct / num_samples,
        num_samples=num_samples,
        seconds=seconds,
        judge_seconds=judge_seconds,
        quantities=quantities.result(),
    )


def check_numbers(
    num_samples: int, seed: int, batch_size: int | None, seeds: SeedRange = NAT_EVAL
) -> None:
    """Check the numbers of an evaluation, before anything is computed for it.

    Raises:
        ValueError: one of them is out of the range given at `measure`.
    """
    if not 2 <= num_samples <= seeds.stride:
        raise ValueError(f"num_samples: got {num_samples}, allowed are 2 .. {seeds.stride}")
    seeds.seed_of(seed)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, allowed is >= 1")


def _warm_up(bundle: Bundle, conditions: Tensor, batch_size: int | None) -> None:
    """Load the tokenizer and fill the cache of first passes, outside of what is timed."""
    at_once = batch_size or bundle.nat.rows_per_pass
    for part in conditions[: FIRST_PASSES_KEPT - 1].split(at_once):
        bundle.nat.first_passes(part)
    ids = torch.zeros(1, bundle.num_tokens, dtype=torch.int64, device=bundle.device)
    bundle.tokenizer.decode(ids)


def _now(bundle: Bundle) -> float:
    if bundle.device.type == "cuda":  # kernels run on after their call has returned
        torch.cuda.synchronize(bundle.device)
    return time.perf_counter()
