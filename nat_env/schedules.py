"""Schedules: the four quantities as a table over the steps, shared by all samples."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nat_env.decoding.quantities import COLUMNS
from nat_env.samplers.names import (
    SAMPLERS,
    called_sampler,
    calls_sampler,
    described_sampler,
    sampler_of,
)
from nat_env.samplers.protocol import Sampler
from nat_env.storage.files import write_json

_AUTONAT_SUFFIXES = (".yaml", ".yml")
SCHEDULE_SUFFIXES = (".json", *_AUTONAT_SUFFIXES)
_AUTONAT_KEYS = ("manual_ratios", "manual_samp_temp", "manual_temp", "manual_cfg")


@dataclass(frozen=True, eq=False)
class Schedule:
    """A [T, 4] float32 table with the columns `COLUMNS`."""

    table: Tensor
    name: str = "schedule"
    sampler: Sampler | None = None
    """A rule for what stays masked, with which m and tau_2 may have no effect; None: the papers'.
    """

    def __post_init__(self) -> None:
        """Check table and sampler.

        Raises:
            ValueError: wrong shape, a value that is not finite, a ratio outside [0, 1] or another
                quantity below 0; or what is no sampler.
        """
        table = self.table
        if table.ndim != 2 or table.shape[1] != 4 or not len(table):
            raise ValueError(f"table: got shape {tuple(table.shape)}, allowed is [T >= 1, 4]")
        if not bool(table.isfinite().all()) or bool((table < 0).any()):
            raise ValueError("table: every value must be finite and >= 0")
        if bool((table[:, 0] > 1).any()):
            raise ValueError("table: remask_ratio must be <= 1")
        sampler: Any = self.sampler
        if sampler is not None and (isinstance(sampler, type) or not hasattr(sampler, "begin")):
            raise ValueError(
                f"sampler: got {sampler!r}, allowed is an object of a class of nat_env.samplers, "
                "or another that has `begin`"
            )

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.table)

    def by(self, sampler: Sampler | None) -> "Schedule":
        """The same table under another rule for what stays masked."""
        return replace(self, sampler=sampler)

    def save(self, path: Path) -> None:
        """Write as json: a name, one list per column, and the sampler if there is one.

        Raises:
            ValueError: the sampler has no name.
        """
        columns = {c: self.table[:, i].tolist() for i, c in enumerate(COLUMNS)}
        rule = {"sampler": described_sampler(self.sampler)} if self.sampler else {}
        write_json(path, {"name": self.name} | columns | rule)

    def resampled(self, num_steps: int) -> "Schedule":
        """The same course over another number of steps, linear between its values.

        A step's values stand at its end, (t + 1) / T; at the start everything is masked.

        Args:
            num_steps: T >= 1.

        Raises:
            ValueError: T < 1.

        Example:
            >>> heuristic_schedule(2).resampled(4).table[:, 0]
            tensor([0.8536, 0.7071, 0.3536, 0.0000])
        """
        if num_steps < 1:
            raise ValueError(f"num_steps: got {num_steps}, allowed is T >= 1")
        ends = np.arange(1, self.num_steps + 1) / self.num_steps
        new_ends = np.arange(1, num_steps + 1) / num_steps
        columns = self.table.double().numpy().T  # [4, T]
        masked = np.interp(new_ends, [0.0, *ends], [1.0, *columns[0, :-1], 0.0])
        others = [np.interp(new_ends, ends, column) for column in columns[1:]]
        table = torch.from_numpy(np.stack([masked, *others], axis=1)).float()
        return Schedule(table, f"{self.name}, {num_steps} steps", self.sampler)

    @classmethod
    def load(cls, path: Path) -> "Schedule":
        """Read what `save` wrote, or a strategy file (yaml) of AutoNAT's authors.

        Raises:
            ValueError: the file is missing, neither json nor yaml, or lacks a column.
        """
        if path.suffix in _AUTONAT_SUFFIXES:
            return cls(_autonat_table(path), path.stem)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            columns = [torch.tensor(values[c], dtype=torch.float32) for c in COLUMNS]
            table, name = torch.stack(columns, dim=1), values["name"]
            sampler = sampler_of(values["sampler"]) if "sampler" in values else None
        except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
            raise ValueError(f"path: {str(path)!r} is not a schedule ({error!r})") from error
        return cls(table, name, sampler)


def _autonat_table(path: Path) -> Tensor:
    """The [T, 4] table of a strategy file: lists of T numbers, m and tau_2 of T - 1.

    The authors' sampler clamps the number of masked tokens to [1, masked before - 1] and tau_1 to
    1e-4 and more; `decode_step` masks min(masked before, floor(N m)), and takes 0.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        lists = [torch.tensor(values[key], dtype=torch.float32) for key in _AUTONAT_KEYS]
        ratio, sampling, remask, guidance = lists
        lengths, steps = [column.numel() for column in lists], sampling.numel()
        if lengths != [steps - 1, steps, steps - 1, steps]:
            raise ValueError(f"lists of {lengths} numbers, allowed are T - 1, T, T - 1, T")
        ended = torch.nn.functional.pad  # the last step reveals all
        columns = [ended(ratio, (0, 1)), sampling, ended(remask, (0, 1)), guidance]
        return torch.stack(columns, dim=1)
    except (OSError, ValueError, LookupError, RuntimeError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"path: {str(path)!r} is no strategy of AutoNAT ({error!r})") from error


def heuristic_schedule(
    num_steps: int,
    remask_slope: float = 1.0,
    guidance_slope: float = 1.0,
    sampling_temperature: float = 1.0,
) -> Schedule:
    """The scheduling functions of existing works (AdaNAT, appendix F).

    m = cos(pi (t + 1) / 2T), tau_1 = 1, tau_2 = lambda (T - t) / T, w = k (t + 1) / T.

    Args:
        num_steps: T >= 1.
        remask_slope: lambda.
        guidance_slope: k.
        sampling_temperature: tau_1 at every step.

    Example:
        >>> heuristic_schedule(4).table
        tensor([[0.9239, 1.0000, 1.0000, 0.2500],
                [0.7071, 1.0000, 0.7500, 0.5000],
                [0.3827, 1.0000, 0.5000, 0.7500],
                [0.0000, 1.0000, 0.2500, 1.0000]])
    """
    if num_steps < 1:
        raise ValueError(f"num_steps: got {num_steps}, allowed is T >= 1")
    rows = [
        (
            math.cos(math.pi * (t + 1) / (2 * num_steps)) if t < num_steps - 1 else 0.0,
            sampling_temperature,
            remask_slope * (num_steps - t) / num_steps,
            guidance_slope * (t + 1) / num_steps,
        )
        for t in range(num_steps)
    ]
    name = (
        f"heuristic(lambda={remask_slope:g}, k={guidance_slope:g}, tau1={sampling_temperature:g})"
    )
    return Schedule(torch.tensor(rows, dtype=torch.float32), name)


def authors_schedule(num_steps: int) -> Schedule:
    """The table that AdaNAT's released code adds its actions to for CC3M (`--heu 1`).

    With rho = (t + 1 - 0.001) / T: m = cos(pi rho / 2), tau_1 = 1, tau_2 = 1 - rho, w = (t + 0.001)
    / T. tau_2 and w are those of `heuristic_schedule` one step later and earlier.

    Args:
        num_steps: T >= 1.

    Example:
        >>> authors_schedule(4).table
        tensor([[9.2403e-01, 1.0000e+00, 7.5025e-01, 2.5000e-04],
                [7.0738e-01, 1.0000e+00, 5.0025e-01, 2.5025e-01],
                [3.8305e-01, 1.0000e+00, 2.5025e-01, 5.0025e-01],
                [3.9270e-04, 1.0000e+00, 2.5000e-04, 7.5025e-01]])
    """
    if num_steps < 1:
        raise ValueError(f"num_steps: got {num_steps}, allowed is T >= 1")
    rows = []
    for t in range(num_steps):
        rho = (t + 1 - 0.001) / num_steps
        rows.append((math.cos(math.pi / 2 * rho), 1.0, 1 - rho, (t + 0.001) / num_steps))
    return Schedule(torch.tensor(rows, dtype=torch.float32), "authors")


def amused_schedule(num_steps: int, num_tokens: int) -> Schedule:
    """What diffusers' `AmusedPipeline` and its `AmusedScheduler` do by default.

    m = cos(pi (t + 1) / 2T), tau_1 = 1, tau_2 from 2 linearly to 0, and a `guidance_scale` of 10,
    which is w = 9. The scheduler reveals a token at least in every step, and before the last one
    keeps one masked: where floor(N m) would do otherwise, as with many steps on few tokens, m
    stands for the number that it takes.

    Args:
        num_steps: T >= 1; the pipeline's default is 12.
        num_tokens: N; of images partly known those that are drawn, N_0: the limits are theirs.

    Example:
        >>> amused_schedule(4, 256).table
        tensor([[0.9239, 1.0000, 2.0000, 9.0000],
                [0.7071, 1.0000, 1.3333, 9.0000],
                [0.3827, 1.0000, 0.6667, 9.0000],
                [0.0000, 1.0000, 0.0000, 9.0000]])
    """
    if num_steps < 1:
        raise ValueError(f"num_steps: got {num_steps}, allowed is T >= 1")
    # In float32 and this order, as there: on the last bit of N m one token may hang.
    share = torch.arange(1, num_steps + 1) / num_steps
    ratios = torch.cos(share * math.pi / 2)
    ratios[-1] = 0.0
    masked = num_tokens
    for step, wanted in enumerate((num_tokens * ratios[:-1]).floor().long().tolist()):
        masked = max(1, min(masked - 1, wanted))
        if masked != wanted:
            ratios[step] = (masked + 0.5) / num_tokens
    ones = torch.ones(num_steps)
    columns = [ratios, ones, torch.linspace(2, 0, num_steps), 9 * ones]
    return Schedule(torch.stack(columns, dim=1), "amused")


NAMED_SCHEDULES: dict[str, Callable[[int, int], Schedule]] = {
    "heuristic": lambda num_steps, num_tokens: heuristic_schedule(num_steps),
    "authors": lambda num_steps, num_tokens: authors_schedule(num_steps),
    "amused": amused_schedule,
}
"""Schedules of any T by name, functions of T and N."""


def is_named(residual: str | None) -> bool:
    """Whether it is none, or means the same everywhere: it is no file."""
    return residual is None or residual in NAMED_SCHEDULES or calls_sampler(residual)


def residual_schedule(residual: str | None, num_steps: int, num_tokens: int) -> Schedule | None:
    """The schedule that `residual` names: None, one of `NAMED_SCHEDULES`, a sampler, or a file.

    A sampler's name, with its numbers in brackets or without, stands for the heuristic by it.

    Raises:
        ValueError: another name, or a schedule of another length.
    """
    if residual is None:
        return None
    if residual in NAMED_SCHEDULES:
        return NAMED_SCHEDULES[residual](num_steps, num_tokens)
    if is_named(residual):
        try:
            return heuristic_schedule(num_steps).by(called_sampler(residual))
        except ValueError as error:
            raise ValueError(f"residual: got {residual!r} ({error})") from None
    path = Path(residual)
    if not path.is_file():
        names = ", ".join(map(repr, (*NAMED_SCHEDULES, *SAMPLERS)))
        raise ValueError(
            f"residual: got {residual!r}, allowed are None, {names} or a schedule file"
        )
    schedule = Schedule.load(path)
    check_length("residual", residual, schedule.num_steps, num_steps)
    return schedule


def check_length(argument: str, name: str, length: int, num_steps: int) -> None:
    """Refuse what is for another number of steps.

    Args:
        argument: what `name` was given as.
        name: of a schedule or policy.
        length: T that it is for.
        num_steps: T that was asked for.

    Raises:
        ValueError: they differ.
    """
    if length != num_steps:
        raise ValueError(
            f"{argument}: {name!r} is for num_steps = {length}, got {num_steps}; take {length} "
            "steps, or another file: Schedule.load(path).resampled(num_steps).save(other) makes "
            "one of a schedule's"
        )
