"""Policies by name: what the commands take for a policy, and what bundle and T it is for."""

import re
from collections.abc import Sequence
from pathlib import Path

from agents.runs.checkpoint import load_policy, load_run_config
from agents.sharing.hub import HUB, shared_folder
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import bundle_folder
from nat_env.policies import DecodingPolicy, ScheduledPolicy
from nat_env.samplers.names import SAMPLERS, called_sampler, calls_sampler
from nat_env.schedules import NAMED_SCHEDULES, Schedule, check_length, heuristic_schedule

ALLOWED = (
    "heuristic, heuristic(lambda, k, tau1) with three numbers, authors, amused, a sampler's name "
    f"({', '.join(SAMPLERS)}), with its numbers in brackets or without, a schedule's file (json, "
    "or AutoNAT's yaml), a run folder, or its best.safetensors or last.safetensors, or what "
    "nat-share wrote: a folder or hub:user/name"
)

_OF_ANY_T = re.compile(rf"(?:heuristic\((.*)\)|{'|'.join(NAMED_SCHEDULES)})")


def named_policy(
    spec: str, bundle: Bundle, num_steps: int, num_tokens: int | None = None
) -> tuple[str, DecodingPolicy]:
    """A policy from the text that names it on a command line.

    Args:
        spec: a name in `NAMED_SCHEDULES`, `heuristic(lambda, k, tau1)`, a name in `SAMPLERS`, with
            or without numbers in brackets, which goes by the heuristic, a file that `Schedule.load`
            takes, the folder of a run, whose best policy is taken, or `best.safetensors` or
            `last.safetensors` in it, or a shared policy: its folder or `hub:user/name`.
        bundle: what the policy is for.
        num_steps: T >= 1.
        num_tokens: N_0 that are drawn of images partly known, on which a named schedule's limits
            may depend; by default all N.

    Returns:
        The name to print, and the policy.

    Raises:
        ValueError: none of these, a number that is not allowed, a schedule or run of another T, or
            a run of another bundle.

    Example:
        >>> import torch
        >>> from nat_env import load_bundle
        >>> bundle = load_bundle("digits", dtype="float32")
        >>> name, policy = named_policy("heuristic(2, 0.5, 0.8)", bundle, num_steps=4)
        >>> name
        'heuristic(lambda=2, k=0.5, tau1=0.8)'
        >>> policy(torch.zeros(1, 16, 64), torch.tensor([0]))
        tensor([[0.9239, 0.8000, 2.0000, 0.1250]])
    """
    if is_of_any_t(spec):
        match = _OF_ANY_T.fullmatch(spec.strip())
        numbers = None if match is None else match[1]
        schedule = _of_any_t(spec, numbers, num_steps, num_tokens or bundle.num_tokens)
        return schedule.name if numbers else spec.strip(), ScheduledPolicy(schedule)
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
    if is_of_any_t(spec):
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
    if is_of_any_t(spec):  # whatever folder has that name
        return None
    path = Path(spec)
    if path.name in ("best.safetensors", "last.safetensors"):
        return path.parent, path.stem
    return (path, "best") if path.is_dir() else None


def is_of_any_t(spec: str) -> bool:
    """Whether `spec` names a schedule that there is for any number of steps.

    Example:
        >>> is_of_any_t("heuristic(2, 0.5, 0.8)"), is_of_any_t("schedule.json")
        (True, False)
    """
    return calls_sampler(spec) or _OF_ANY_T.fullmatch(spec.strip()) is not None


def is_gone(spec: str) -> bool:
    """Whether `spec` names a file or folder that is not there.

    Example:
        >>> is_gone("heuristic"), is_gone("runs/of/yesterday")
        (False, True)
    """
    return not (is_of_any_t(spec) or spec.startswith(HUB) or Path(spec).exists())


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


def _of_any_t(spec: str, arguments: str | None, num_steps: int, num_tokens: int) -> Schedule:
    if sampler := called_sampler(spec):
        return heuristic_schedule(num_steps).by(sampler)
    if arguments is None:
        return NAMED_SCHEDULES[spec.strip()](num_steps, num_tokens)
    try:
        slope, guidance, temperature = (float(text) for text in arguments.split(","))
    except ValueError:
        raise ValueError(f"policy: got {spec!r}, allowed are {ALLOWED}") from None
    try:
        return heuristic_schedule(num_steps, slope, guidance, temperature)
    except ValueError as error:
        raise ValueError(f"policy: {spec!r}: {error}") from None
