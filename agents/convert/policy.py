"""Policies of AdaNAT's and AdaGen's authors as run folders, command nat-convert policy.

Both are the paper's actor for 16 x 16 places, under the same names: in AdaNAT's checkpoint below
`policy_old.actor.`, in AdaGen's file without anything before them.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.convert.arguments import ConvertPolicy
from agents.learners.config import PRESETS, TrainConfig
from agents.learners.network import AdaNATNetwork
from agents.learners.trained import LearnedPolicy
from agents.runs.checkpoint import CONFIG, load_policy, save_policy, write_config
from nat_env.actions import ActionMap
from nat_env.bundles.loading import bundle_spec, load_bundle
from nat_env.convert.checkpoint_file import read_checkpoint
from nat_env.convert.tensor_names import check_tensors
from nat_env.schedules import residual_schedule
from nat_env.storage.folders import check_new, written_folder

GRID, HIDDEN_SIZE = (16, 16), 512
"""Of the authors' policies, whatever the transformer."""

UNBOUNDED = 2.0**20
"""Raw scale of a policy whose raw numbers have no bound: far beyond any, and a power of two, by
which float32 divides without rounding."""

_ACTOR = "policy_old.actor."

_MODULES = {
    "x_embedder": "embedding",
    "t_embedder.mlp.0": "time_mlp.0",
    "t_embedder.mlp.2": "time_mlp.2",
    "adaLN1.adaLN_modulation.1": "norm1.modulation",
    "dw_conv": "depthwise",
    "pw_conv": "pointwise",
    "linear1": "linear1",
    "adaLN2.adaLN_modulation.1": "norm2.modulation",
    "linear2": "linear2",
    "adaLN3.adaLN_modulation.1": "norm3.modulation",
    "linear3": "head",
}
"""Theirs -> ours."""

_NAMES = {f"{a}.{p}": f"{b}.{p}" for a, b in _MODULES.items() for p in ("weight", "bias")}
_EMBEDDER = ("x_embedder.weight", "x_embedder.bias")
_ROWS = [0, 2, 1, 3]
"""Of their last layer, m, tau_2, tau_1, w, in our order: m, tau_1, tau_2, w."""


def convert_policy(
    file: Path,
    bundle: str,
    num_steps: int,
    out: Path,
    residual: str | None = None,
    action_smoothing: float = 0.0,
) -> LearnedPolicy:
    """Write an authors' policy as a run folder.

    It is used as theirs is: activations of the mean, and no bound on what is before them. Features
    are rounded to half precision first, as all policies' are here.

    Args:
        file: see `ConvertPolicy`, as all arguments.
        bundle: a shipped bundle's name or a folder.
        num_steps: T.
        out: a new or empty folder.
        residual: None or `authors`.
        action_smoothing: alpha, in [0, 1).

    Returns:
        The policy, as it is read from there.

    Raises:
        ValueError: no such file, one of another network or with more in it than tensors and
            options, a bundle of other features, options that contradict the file, or a folder that
            is not empty. Nothing has been written then.
    """
    check_new(out, "out")
    content = read_checkpoint(file, "file")
    weights = authors_actor(content, file)
    _check_residual(content, residual)
    frozen = load_bundle(bundle)
    nat, feature_size = frozen.nat, _feature_size(weights)
    if (nat.feature_size, nat.feature_grid) != (feature_size, GRID):
        raise ValueError(
            f"bundle: {frozen.name!r} has features of {nat.feature_size} numbers on a grid of "
            f"{nat.feature_grid}, the policy in {file} is for {feature_size} on {GRID}"
        )
    config = replace(
        PRESETS["paper"][1],
        out=out,
        bundle=bundle_spec(bundle),
        dtype=frozen.dtype,
        num_steps=num_steps,
        residual=residual,
        action_smoothing=action_smoothing,
        hidden_size=HIDDEN_SIZE,
        raw_scale=UNBOUNDED,
        test_action="mean",
        eval_every=0,
    )
    policy = _policy(weights, config, frozen.num_tokens)
    with written_folder(out, CONFIG, argument="out") as aside:
        write_config(aside, config, frozen.fingerprint)
        save_policy(aside, "last", policy, {"converted_from": file.name})
        written = load_policy(aside, frozen)
    assert isinstance(written, LearnedPolicy)
    return written


def authors_actor(content: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """The actor's tensors by the authors' names.

    Args:
        content: of a checkpoint of AdaNAT, or of AdaGen's file.
        file: that it was read from, for the message.

    Raises:
        ValueError: tensors are missing, unknown or of another shape; it names them.
    """
    content = content.get("model", content)
    content = content if isinstance(content, Mapping) else {}
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    below = {n.removeprefix(_ACTOR): v for n, v in tensors.items() if n.startswith(_ACTOR)}
    found = below or tensors
    check_tensors(found, _shapes(found), file, "file", "AdaNAT's or AdaGen's policy")
    return found


def _shapes(found: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """What the published network's tensors are, by name; it has an embedder if the file has."""
    embedder = any(name in found for name in _EMBEDDER)
    given = _shape(found.get(_EMBEDDER[0]))
    feature_size = given[1] if embedder and len(given) == 2 else HIDDEN_SIZE
    with torch.device("meta"):
        network = AdaNATNetwork(feature_size, GRID, 4, HIDDEN_SIZE)
        ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    ours = {
        "embedding.weight": (HIDDEN_SIZE, feature_size),
        "embedding.bias": (HIDDEN_SIZE,),
    } | ours
    return {a: ours[b] for a, b in _NAMES.items() if embedder or a not in _EMBEDDER}


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _feature_size(weights: Mapping[str, Tensor]) -> int:
    return weights[_EMBEDDER[0]].shape[1] if _EMBEDDER[0] in weights else HIDDEN_SIZE


def _check_residual(content: Any, residual: str | None) -> None:
    """AdaNAT's checkpoints tell their options: `heu` is whether there was a residual."""
    heu = getattr(content.get("args"), "heu", None) if isinstance(content, Mapping) else None
    if heu is not None and bool(heu) != (residual is not None):
        allowed = "authors" if heu else None
        raise ValueError(
            f"residual: got {residual!r}, allowed is {allowed!r}: the file was trained with "
            f"--heu {heu}"
        )


def _policy(weights: Mapping[str, Tensor], config: TrainConfig, num_tokens: int) -> LearnedPolicy:
    state = {_NAMES[name]: value.float() for name, value in weights.items()}
    for part in ("weight", "bias"):
        state[f"head.{part}"] = state[f"head.{part}"][_ROWS]
    actor = AdaNATNetwork(_feature_size(weights), GRID, 4, HIDDEN_SIZE)
    actor.load_state_dict(state)
    schedule = residual_schedule(config.residual, config.num_steps, num_tokens)
    action_map = ActionMap(schedule, config.raw_scale, config.action_smoothing)
    return LearnedPolicy(actor, action_map, 0.0, config.num_steps, config.test_action)


def command(arguments: ConvertPolicy) -> None:
    """Convert, and say how to use it."""
    policy = convert_policy(
        arguments.file,
        arguments.bundle,
        arguments.num_steps,
        arguments.out,
        arguments.residual,
        arguments.action_smoothing,
    )
    count = sum(p.numel() for p in policy.actor.parameters())
    print(
        f"{arguments.out}: a policy of {count:,} numbers for T = {policy.num_steps}\n"
        f"nat-sample --policy {arguments.out} --out grid.png shows what it draws"
    )
