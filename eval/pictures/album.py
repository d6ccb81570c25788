"""The pictures of an evaluation: which are drawn, and what their files are called."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from agents.reports.quantities import save_quantities
from agents.sharing.names import run_of
from eval.evaluation.policies import for_seed
from eval.evaluation.rows import Row
from eval.pictures import curves, samples
from nat_env.bundles.bundle import Bundle
from nat_env.policies import DecodingPolicy, ScheduledPolicy
from nat_env.storage.files import read_json


@dataclass(frozen=True)
class Album:
    """Where pictures go, and what they are of."""

    folder: Path
    bundle: Bundle
    num_steps: int
    """T."""
    seed: int
    """Of the samples that are shown."""
    policies: Sequence[str]
    """Names of those that have pictures."""

    def path(self, what: str, name: str = "") -> Path:
        """Of the picture of a policy, or of all."""
        slug = self._slugs()[name] if name else ""
        return self.folder / ("_".join(filter(None, [what, f"T{self.num_steps}", slug])) + ".png")

    def _slugs(self) -> dict[str, str]:
        """What files call the policies: letters, digits and _, and a number where two are alike."""
        slugs: dict[str, str] = {}
        for name in self.policies:
            plain = re.sub(r"[^\w.]+", "-", name).strip("-.")
            numbered = (f"{plain}-{number}".lstrip("-") for number in count(2))
            taken = {slug.casefold() for slug in slugs.values()}  # A.png may be a.png
            slugs[name] = next(s for s in chain([plain], numbered) if s.casefold() not in taken)
        return slugs


def draw_policies(
    album: Album, policies: Mapping[str, DecodingPolicy], rows: Sequence[Row]
) -> list[Path]:
    """The first policy beside each other one, the quantities of all, and the learned in steps.

    Args:
        album: where, and of what.
        policies: by name, those of the album's seed.
        rows: of these policies, and of others that are to be among the quantities.

    Returns:
        The pictures' paths.
    """
    own = album.bundle.judge_name  # None without a judge: no captions
    captions = {
        row["policy"]: f"FD {row['frechet_distance']:.2f} ({own}, N = {row['num_samples']})"
        for row in rows
        if row["judge"] == own and row["seed"] == album.seed
    }
    (first, *others) = policies
    pictures = []
    for other in others or [first]:
        pair = {name: policies[name] for name in dict.fromkeys([first, other])}
        pictures.append(album.path("samples", other))
        samples.save_sample_grids(
            pictures[-1], album.bundle, pair, album.num_steps, album.seed, captions
        )
    # The quantities of a policy's first row: they hardly differ between seeds.
    actions: dict[str, Any] = {}
    for row in rows:
        if not row["features_shuffled"]:
            actions.setdefault(row["policy"], row["actions"])
    pictures.append(album.path("quantities"))
    save_quantities(pictures[-1], actions, album.bundle.name)
    for name, policy in policies.items():
        if not isinstance(policy, ScheduledPolicy) or policy.sampler is not None:
            pictures.append(album.path("steps", name))
            samples.save_steps(
                pictures[-1], album.bundle, name, policy, album.num_steps, album.seed
            )
    return pictures


def draw_trainings(album: Album, specs: Mapping[str, str]) -> list[Path]:
    """The trainings behind those policies that are of a run.

    Args:
        album: where, and of which seed.
        specs: what names the policies, by the names to print.

    Returns:
        The pictures' paths.
    """
    pictures = []
    for name, spec in specs.items():
        run = run_of(for_seed(spec, album.seed))
        if run and (run[0] / "results.json").is_file():  # the training has ended
            training = read_json(run[0] / "results.json", "policies")
            if not training["history"]:  # it was never evaluated
                continue
            about = (
                f"{name}, seed {album.seed} ({training['judge']}, N = {training['num_samples']})"
            )
            pictures.append(album.path("training", name))
            curves.save_training(pictures[-1], training["history"], run[0] / "samples", about)
    return pictures


def draw_precision_recall(album: Album, rows: Sequence[Row]) -> list[Path]:
    """Precision against recall of all rows; gives the picture's path."""
    path = album.path("precision_recall")
    curves.save_precision_recall(path, rows, album.bundle.name)
    return [path]
