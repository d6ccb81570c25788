"""The Frechet distances of a policy's samples to real images, judge by judge."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.evaluation.policies import ShuffledPolicy
from eval.evaluation.quantities import Quantities, QuantitiesAccumulator
from eval.judges.clip import Agreement
from eval.judges.embedding import image_bar
from eval.judges.references import Reference
from eval.metrics.alignment import aligned
from eval.metrics.sample_metrics import SampleMetrics, sample_metrics
from eval.metrics.score import Score, ScoreAccumulator
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_rank
from nat_env.bundles.statistics import EmbeddingAccumulator, frechet_distance
from nat_env.frozen.conditions import uniform_conditions
from nat_env.frozen.nat import FIRST_PASSES_KEPT
from nat_env.frozen.precision import full_float32
from nat_env.generation import StepRecord, generate_batches
from nat_env.parallel.processes import ALONE, Processes
from nat_env.policies import DecodingPolicy, columns_of
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
    """Share of the samples that the bundle's judge takes for their class, or for their prompt, of
    all of the table; None where the bundle has none."""
    alignment: float | None
    """Share of the samples that are nearer to their own prompt than to others, by the bundle's
    aligner, see `eval.metrics.alignment`; None where the bundle has none."""
    passes: float
    """Of the transformer that a sample took, on average: conditional and null pass count as one."""
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
    processes: Processes = ALONE,
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
        processes: that share the work, and all are given the result; by default this one does all.
            Each decodes whole batches of those that one process decodes: the images are the same.

    Raises:
        ValueError: a number out of its range, or no more samples than a judge's embedding has
            numbers.
    """
    check_numbers(num_samples, seed, batch_size, seeds)
    for judged in judges:
        check_rank(judged.judge.name, judged.statistics, num_samples)
    at_once = processes.from_main(batch_size or bundle.nat.rows_per_pass)
    own = processes.slice_of(num_samples, multiple=at_once)
    if shuffle_features:
        policy = ShuffledPolicy(policy, seed)
        policy.skip(own.start // at_once, at_once, num_steps)
    first_seed = seeds.seed_of(seed)
    if uniform:
        own_stream = [first_seed, 2]  # the seed alone is image 0's
        conditions = uniform_conditions(num_samples, len(bundle.conditions), own_stream)
    else:
        conditions = bundle.conditions.balanced(num_samples)
    columns = columns_of(policy)
    sums = _Sums(bundle, num_steps, num_samples, judges, agreements, own.start, columns)
    mine = conditions[own]
    if not len(mine):  # fewer batches than processes
        return sums.together(processes)
    _warm_up(bundle, mine.unique(), at_once)

    def record(step: StepRecord) -> None:
        classes = mine[sums.count : sums.count + len(step.actions)]  # of the batch in work
        actions = step.actions[step.passed].double().cpu().numpy()
        if len(actions):
            sums.quantities.update(step.timestep, actions, classes[step.passed].numpy())
        sums.passes += int(step.passed.sum())

    batches = generate_batches(
        bundle, policy, mine, num_steps, first_seed + own.start, at_once, record
    )
    with image_bar(len(mine), progress) as bar:
        started = _now(bundle)
        for images, labels in batches:
            generated = _now(bundle)
            sums.update(images, labels)
            sums.seconds += generated - started
            sums.judge_seconds += _now(bundle) - generated
            bar.update(len(labels))
            started = _now(bundle)  # the next batch is generated when the loop asks for it
    return sums.together(processes)


class _Sums:
    """What is kept of the samples of a process; of all of them, a measurement."""

    def __init__(
        self,
        bundle: Bundle,
        num_steps: int,
        num_samples: int,
        judges: Sequence[Reference],
        agreements: Sequence[Agreement],
        first: int,
        columns: tuple[str, ...],
    ) -> None:
        """Start with no samples; the first one will be of that number."""
        self._judge = bundle.yardstick and bundle.yardstick.judge
        self._aligner = bundle.aligner
        self._judges, self._agreements, self._num_samples = judges, agreements, num_samples
        self.features = [EmbeddingAccumulator() for _ in judges]
        self.kept: list[list[NDArray[np.float32]]] = [[] for _ in judges]
        self.scores = {
            judged.judge.name: ScoreAccumulator(num_samples, min(10, num_samples), first=first)
            for judged in judges
            if judged.judge.classifier is not None
        }
        self.sums = {agreement.name: 0.0 for agreement in agreements}
        self.quantities = QuantitiesAccumulator(num_steps, len(bundle.conditions), columns)
        self.count = self.correct = self.aligned = self.passes = 0
        self.seconds = self.judge_seconds = 0.0

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add a batch."""
        for judged, accumulator, every in zip(self._judges, self.features, self.kept, strict=True):
            vectors = judged.judge.embeddings(images)
            accumulator.update(vectors.cpu().numpy())
            if judged.embeddings is not None:
                every.append(vectors.cpu().numpy())
            if judged.judge.name in self.scores:
                chances = judged.judge.probabilities(vectors)
                self.scores[judged.judge.name].update(chances.cpu().numpy())
        for agreement in self._agreements:
            self.sums[agreement.name] += float(agreement.score(images, labels).double().sum())
        if self._judge is not None:
            with full_float32():
                logits = self._judge(images)
            self.correct += int((logits.argmax(dim=1) == labels).sum())
        if self._aligner is not None:
            with full_float32():
                scores = self._aligner(images)
            self.aligned += int(aligned(scores, labels).sum())
        self.count += len(labels)

    def together(self, processes: Processes) -> Measurement:
        """Of the samples of all processes, in all of them."""
        for state in processes.gathered(self._state())[1:]:
            self._merge(state)
        return processes.from_main(self._measurement() if processes.is_main else None)

    def _state(self) -> dict[str, Any]:
        """Without what all processes have."""
        return {name: value for name, value in vars(self).items() if name[0] != "_"}

    def _merge(self, state: Mapping[str, Any]) -> None:
        """Add the samples that come next in their order."""
        for mine, theirs in zip(self.features, state["features"], strict=True):
            mine.merge(theirs)
        for every, theirs in zip(self.kept, state["kept"], strict=True):
            every.extend(theirs)
        for name, score in self.scores.items():
            score.merge(state["scores"][name])
        for name in self.sums:
            self.sums[name] += state["sums"][name]
        self.quantities.merge(state["quantities"])
        self.correct += state["correct"]
        self.aligned += state["aligned"]
        self.passes += state["passes"]
        self.seconds = max(self.seconds, state["seconds"])
        self.judge_seconds = max(self.judge_seconds, state["judge_seconds"])

    def _measurement(self) -> Measurement:
        judges, num_samples = self._judges, self._num_samples
        return Measurement(
            frechet_distances={
                judged.judge.name: frechet_distance(accumulator.statistics(), judged.statistics)
                for judged, accumulator in zip(judges, self.features, strict=True)
            },
            metrics={
                judged.judge.name: sample_metrics(judged.embeddings, np.concatenate(every))
                for judged, every in zip(judges, self.kept, strict=True)
                if judged.embeddings is not None
            },
            scores={name: accumulator.score() for name, accumulator in self.scores.items()},
            agreements={name: total / num_samples for name, total in self.sums.items()},
            class_accuracy=None if self._judge is None else self.correct / num_samples,
            alignment=None if self._aligner is None else self.aligned / num_samples,
            passes=self.passes / num_samples,
            num_samples=num_samples,
            seconds=self.seconds,
            judge_seconds=self.judge_seconds,
            quantities=self.quantities.result(),
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


def _warm_up(bundle: Bundle, conditions: Tensor, batch_size: int) -> None:
    """Load the tokenizer and fill the cache of first passes, outside of what is timed."""
    for part in conditions[: FIRST_PASSES_KEPT - 1].split(batch_size):
        bundle.nat.first_passes(part)
    ids = torch.zeros(1, bundle.num_tokens, dtype=torch.int64, device=bundle.device)
    bundle.tokenizer.decode(ids)


def _now(bundle: Bundle) -> float:
    if bundle.device.type == "cuda":  # kernels run on after their call has returned
        torch.cuda.synchronize(bundle.device)
    return time.perf_counter()
