"""The lines of a table of policies: what each is called, and whether a judge trained it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agents.learners.trained import TrainedPolicy
from agents.runs.checkpoint import load_run_config, run_fingerprint
from agents.sharing.names import is_gone, is_of_any_t, named_policy, run_of
from nat_env.bundles.bundle import Bundle
from nat_env.policies import DecodingPolicy, columns_of
from nat_env.samplers.protocol import Sampler
from nat_env.schedules import SCHEDULE_SUFFIXES


def is_trained_by(spec: str, judge: str, bundle: Bundle) -> bool:
    """Whether a judge's network, or one of its kin, gave the reward of the run that a policy is of.

    Networks of one family, trained on one data set, see much the same: such a judge is no
    independent one. A schedule counts as of no run.

    Args:
        spec: of the policy.
        judge: its name.
        bundle: that images are of, which need not be the run's.
    """
    run = run_of(spec)
    if run is None:
        return False
    config = load_run_config(run[0])
    if config.reward == "adversarial" and not config.bypass_discriminator:
        trunk = config.discriminator.trunk
        return trunk == "efficientnet" and judge.startswith("efficientnet-lite")
    own = judge == bundle.judge_name and run_fingerprint(run[0]) == bundle.fingerprint
    names = {"judge"} if config.bypass_discriminator else config.reward_names
    return own and not names.isdisjoint(("judge", "frechet"))


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
        if name or is_of_any_t(spec):
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
        self.sampler: Sampler | None = getattr(policy, "sampler", None)
        self.observation: str = getattr(policy, "observation", "features")
        self.columns = columns_of(policy)
        self.generator = np.random.Generator(np.random.PCG64([seed, 1]))

    def __call__(self, features: Tensor, timestep: Tensor) -> Tensor:
        """Features [B, N, D] and timesteps [B] -> m, tau_1, tau_2, w [B, 4]."""
        order = torch.from_numpy(self.generator.permutation(len(features)))
        return self.policy(features[order.to(features.device)], timestep)

    def skip(self, batches: int, batch_size: int, num_steps: int) -> None:
        """Draw what whole batches are shuffled by that another process decodes before this one."""
        for _ in range(batches * num_steps):
            self.generator.permutation(batch_size)
