"""What tells one policy's rows from another's: hashes of what it does, and of the prompts."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from agents.learners.trained import TrainedPolicy
from eval.judges.judge import Judge
from nat_env.actions import RAW_SCALE
from nat_env.frozen.conditions import Conditions
from nat_env.policies import DecodingPolicy, ScheduledPolicy
from nat_env.samplers.names import SAMPLERS, sampler_label
from nat_env.samplers.protocol import Sampler, default_quantities
from nat_env.text.encoder import prompts_fingerprint


def version_of(judge: Judge) -> dict[str, str]:
    """What tells a judge that is not fixed from another one of its name; nothing of a fixed one."""
    return {} if judge.is_fixed else {"judge_version": judge.version}


def prompts_of(conditions: Conditions) -> dict[str, str]:
    """What rows say of the prompts that they are of; of classes nothing.

    Example:
        >>> prompts_of(Conditions(("cat", "dog")))
        {}
    """
    return {"prompts": prompts_fingerprint(conditions.names)} if conditions.are_prompts else {}


def policy_fingerprint(policy: DecodingPolicy) -> str:
    """Hash of what the policy does: a run that was trained on has another one.

    Of a policy that is neither a schedule nor a learned one, or whose sampler calls a function,
    another text each time.
    """
    name = type(policy).__name__
    sampler: Sampler | None = getattr(policy, "sampler", None)
    if sampler is not None:
        if type(sampler) not in SAMPLERS.values():  # it calls a function, which may be any
            return f"{name} {uuid4().hex}"
        name += f" by {sampler_label(sampler)}"
    if isinstance(policy, ScheduledPolicy):
        tensors = [policy.schedule.table]
    elif isinstance(policy, TrainedPolicy):
        name += "" if policy.test_action == "expectation" else f" {policy.test_action}"
        residual, raw_scale = policy.action_map.residual, policy.action_map.raw_scale
        smoothing = policy.action_map.smoothing
        name += f" smoothed by {smoothing}" if smoothing else ""
        name += "" if policy.observation == "features" else f" seeing {policy.observation}"
        names, usual = policy.action_map.decided, default_quantities(policy.sampler)
        name += "" if names == usual else f" of {', '.join(names)}"
        tensors = [*_tensors(policy.state_dict())]
        tensors += [] if raw_scale == RAW_SCALE else [torch.tensor(raw_scale)]
        tensors += [] if residual is None else [residual.table]
    else:  # what it does cannot be told: nothing kept is ever its
        return f"{type(policy).__name__} {uuid4().hex}"
    digest = hashlib.sha256(name.encode())
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _tensors(state: Mapping[str, Any]) -> Iterator[Tensor]:
    for value in state.values():
        if isinstance(value, Mapping):
            yield from _tensors(value)
        else:
            yield torch.as_tensor(value)
