"""Policies by name: what the commands take for a policy, and what they tell it apart by."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agents.learners.trained import TrainedPolicy
from agents.runs.checkpoint import load_policy, load_run_config
from agents.sharing.hub import HUB, shared_folder
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import bundle_folder
from nat_env.policies import DecodingPolicy, ScheduledPolicy
from nat_env.schedules import (
    NAMED_SCHEDULES,
    SCHEDULE_SUFFIXES,
    Schedule,
    check_length,
    heuristic_schedule,
)

ALLOWED = (
    "heuristic, heuristic(lambda, k, tau1) with three numbers, authors, a schedule's file (json, "
    "or AutoNAT's yaml), a run folder, or its best.safetensors or last.safetensors, or what "
    "nat-share wrote: a folder or hub:user/name"
)

_OF_ANY_T = re.compile(r"(?:heuristic\((.*)\)|" + "|".join(NAMED_SCHEDULES) + ")")


def named_policy(spec: str, bundle: Bundle, num_steps: int) -> tuple[str, DecodingPolicy]:
    """A policy from the text that names it on a command line.

    Args:
        spec: a name in `NAMED_SCHEDULES`, `heuristic(lambda, k, tau1)`, a file that `Schedule.load`
            takes, the folder of a run, whose best policy is taken, or `best.safetensors` or
            `last.safetensors` in it, or a shared policy: its folder or `hub:user/name`.
        bundle: what the policy is for.
        num_steps: T >= 1.

    Returns:
        The name to print, and the policy.

    Raises:
        ValueError: none of these, a number that is not allowed, a schedule or run of another T, or
            a run of another bundle.

    Example:
        >>> from nat_env import load_bundle
        >>> bundle = load_bundle("digits", dtype="float32")
        >>> name, policy = named_policy("heuristic(2, 0.5, 0.8)", bundle, num_steps=4)
        >>> name
        'heuristic(lambda=2, k=0.5, tau1=0.8)'
        >>> policy(torch.zeros(1, 16, 64), torch.tensor([0]))
        tensor([[0.9239, 0.8000, 2.0000, 0.1250]])
    """
    match = _OF_ANY_T.fullmatch(spec.strip())
    if match:
        schedule = _heuristic(spec, match[1], num_steps)
        return spec.strip() if match[1] is None else schedule.name, ScheduledPolicy(schedule)
    path = Path(spec)
    if (own := own_num_steps(spec)) is not None:
        check_length("policy", spec, own, num_steps)
    if run := run_of(spec):
        return str(path), load_policy(run[0], bundle, run[1])
    return str(path), ScheduledPolicy(Schedule.load(path))


def own_num_steps(spec: str) -> int | None:
    """T of a schedule's file or of a run; None for a named schedule, which is for any T.

    Raises:
        ValueError: no policy is named so.
    """
    if _OF_ANY_T.fullmatch(spec.strip()):
        return None
    if run := run_of(spec):
        return load_run_config(run[0]).num_steps
    path = Path(spec)
    if path.is_file():
        return Schedule.load(path).num_steps
    raise ValueError(f"policy: got {spec!r}, allowed are {ALLOWED}")


def run_of(spec: str) -> tuple[Path, str] | None:
    """The folder of the run that a policy is of, and which of its policies; None if of none.

    Example:
        >>> run_of("runs/a/last.safetensors")
        (PosixPath('runs/a'), 'last')
    """
    if spec.startswith(HUB):
        return shared_folder(spec), "best"
    path = Path(spec)
    if path.name in ("best.safetensors", "last.safetensors"):
        return path.parent, path.stem
    return (path, "best") if path.is_dir() else None


def is_trained_by(spec: str, judge: str, own: bool) -> bool:
    """Whether a judge's network gave the reward of the run that a policy is of.

    Such a judge is no independent one. A schedule counts as of no run.

    Args:
        spec: of the policy.
        judge: its name.
        own: whether it is the bundle's.
    """
    run = run_of(spec)
    if run is None:
        return False
    config = load_run_config(run[0])
    if config.reward == "adversarial":
        trunk = config.discriminator.trunk
        return trunk == "efficientnet" and judge.startswith("efficientnet-lite0")
    return own and not config.reward_names.isdisjoint(("judge", "frechet"))


def is_gone(spec: str) -> bool:
    """Whether `spec` names a file or folder that is not there.

    Example:
        >>> is_gone("heuristic"), is_gone("runs/of/yesterday")
        (False, True)
    """
    return not (_OF_ANY_T.fullmatch(spec.strip()) or spec.startswith(HUB) or Path(spec).exists())


def for_seed(spec: str, seed: int) -> str:
    """The policy that `spec` names for a seed.

    Example:
        >>> for_seed("runs/a{seed}", 2)
        'runs/a2'
    """
    return spec.replace("{seed}", str(seed))


def split_name(spec: str) -> tuple[str | None, str]:
    """The name that is given to a policy, if one is, and the policy.

    Example:
        >>> split_name("adaptive=runs/a{seed}"), split_name("heuristic")
        (('adaptive', 'runs/a{seed}'), (None, 'heuristic'))
    """
    name, given, policy = spec.partition("=")
    return (name, policy) if given and name and "/" not in name else (None, spec)


def chosen_bundle(specs: Sequence[str], given: str | None, default: str = "fashion") -> str:
    """The bundle that policies are evaluated on: the one given, or else that of the runs.

    Whether a run belongs to a given bundle is checked when its policy is loaded.

    Raises:
        ValueError: none given, and the runs are of different bundles.
    """
    if given is not None:
        return given
    runs = [run[0] for spec in specs if (run := run_of(spec))]
    names = [load_run_config(path).bundle for path in runs]
    if len({bundle_folder(name) for name in names}) > 1:
        of_which = ", ".join(f"{run} of {name!r}" for run, name in zip(runs, names, strict=True))
        raise ValueError(f"policies: allowed are runs of one bundle, got {of_which}")
    return names[0] if names else default


def chosen_num_steps(specs: Sequence[str], given: int | None, default: int = 4) -> int:
    """T that policies decode in: the one given, or else that of the runs and schedules.

    Whether a policy is of a given T is checked when it is loaded.

    Raises:
        ValueError: none given, and the policies are of different T.

    Example:
        >>> chosen_num_steps(["heuristic"], given=None), chosen_num_steps(["heuristic"], given=8)
        (4, 8)
    """
    if given is not None:
        return given
    own = {spec: found for spec in specs if (found := own_num_steps(spec)) is not None}
    if len(set(own.values())) > 1:
        of_which = ", ".join(f"{spec} of T = {found}" for spec, found in own.items())
        raise ValueError(f"num_steps: allowed are policies of one T, got {of_which}")
    return next(iter(own.values()), default)


@dataclass(frozen=True)
class Contestant:
    """A line of the table."""

    name: str
    """To print."""
    spec: str | None
    """What names the policy on the command line; None for one that was given itself."""
    by_seed: Mapping[int, DecodingPolicy | None]
    """None where its file is gone, and its rows are kept."""
    shuffled: bool = False
    """Evaluated with the features shuffled among samples."""

    @property
    def is_learned(self) -> bool:
        """Whether it sees the samples; one that is gone, by its file's name."""
        return any(
            Path(self.spec or "").suffix not in SCHEDULE_SUFFIXES
            if policy is None
            else isinstance(policy, TrainedPolicy)
            for policy in self.by_seed.values()
        )


def named_contestants(
    specs: Sequence[str], seeds: Sequence[int], bundle: Bundle, num_steps: int, kept: bool = False
) -> list[Contestant]:
    """The lines of a table from what names them on a command line.

    Args:
        specs: see `named_policy`, with `{seed}` for the seed, and `name=` in front if wanted.
        seeds: at least one.
        bundle: what the policies are for.
        num_steps: T.
        kept: allow files that are gone.

    Raises:
        ValueError: see `named_policy`, or two of one name.
    """
    contestants: dict[str, Contestant] = {}
    labels = _labels(list(dict.fromkeys(specs)))
    for given in dict.fromkeys(specs):
        _, spec = split_name(given)
        printed, by_seed = str(Path(spec)), dict[int, DecodingPolicy | None]()
        for seed in seeds:
            if kept and is_gone(for_seed(spec, seed)):
                by_seed[seed] = None
            else:
                printed, by_seed[seed] = named_policy(for_seed(spec, seed), bundle, num_steps)
        name = labels[given] or printed
        if name in contestants:
            raise ValueError(f"policies: two are named {name!r}, allowed are different names")
        contestants[name] = Contestant(name, spec, by_seed)
    return list(contestants.values())


def _labels(specs: Sequence[str]) -> dict[str, str | None]:
    """What each is called in tables and pictures; None for what `named_policy` calls it.

    A single run without a name is "learned", schedules' files go by their names without folders;
    paths where these are not enough to tell them apart.
    """
    short: dict[str, str | None] = {}
    for given in specs:
        name, spec = split_name(given)
        if name or _OF_ANY_T.fullmatch(spec.strip()):
            short[given] = name
        else:
            file = Path(spec)
            short[given] = file.stem if file.suffix in SCHEDULE_SUFFIXES else "learned"
    taken = Counter(short.values())
    for given in specs:
        name, spec = split_name(given)
        if name is None and short[given] and taken[short[given]] > 1:
            short[given] = spec
    return short


class ShuffledPolicy:
    """A policy that sees the features of other samples of its batch: what adapting is worth.

    The distribution of its actions at a step stays about what it was, only their relation to the
    samples is lost. A policy that does not adapt is not changed by it.
    """

    def __init__(self, policy: DecodingPolicy, seed: int) -> None:
        """Shuffle what `policy` sees, by a generator of its own."""
        self.policy = policy
        self.num_steps: int | None = getattr(policy, "num_steps", None)
        self.generator = np.random.Generator(np.random.PCG64([seed, 1]))

    def __call__(self, features: Tensor, timestep: Tensor) -> Tensor:
        """Features [B, N, D] and timesteps [B] -> m, tau_1, tau_2, w [B, 4]."""
        order = torch.from_numpy(self.generator.permutation(len(features)))
        return self.policy(features[order.to(features.device)], timestep)


def _heuristic(spec: str, arguments: str | None, num_steps: int) -> Schedule:
    if arguments is None:
        return NAMED_SCHEDULES[spec.strip()](num_steps)
    try:
        slope, guidance, temperature = (float(text) for text in arguments.split(","))
    except ValueError:
        raise ValueError(f"policy: got {spec!r}, allowed are {ALLOWED}") from None
    try:
        return heuristic_schedule(num_steps, slope, guidance, temperature)
    except ValueError as error:
        raise ValueError(f"policy: {spec!r}: {error}") from None
