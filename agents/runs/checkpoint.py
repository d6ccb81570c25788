"""The run folder: what a training writes, and how it is read again."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from agents.learners.config import TrainConfig
from agents.learners.factory import untrained_policy
from agents.learners.trained import TrainedPolicy
from agents.runs.paths import with_paths
from agents.runs.prompts import save_run_prompts
from nat_env.actions import ActionMap
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import bundle_spec
from nat_env.frozen.grid import token_grid
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.samplers.protocol import default_quantities
from nat_env.schedules import is_named, residual_schedule
from nat_env.storage.claims import check_same
from nat_env.storage.files import read_json, write_json
from nat_env.storage.state import load_state, save_state

CONFIG = "config.json"
STATE = "state.safetensors"
RESIDUAL = "residual.json"

_RENAMED = {"trajectories": "budget", "eval_samples": "num_samples"}
"""Options of older runs by what they are called now."""

_ADDED = {
    "accumulate": 1,
    "action_smoothing": 0.0,
    "decoder_dtype": "float32",
    "group_size": 1,
    "observation": "features",
    "pass_discount": 1.0,
    "quantities": None,
    "raw_scale": 5.0,
    "step_cost": 0.0,
    "test_action": "expectation",
}
"""Options that older runs do not have, by what they did."""


def save_run_config(folder: Path, config: TrainConfig, bundle: Bundle) -> None:
    """Write the configuration, the bundle's fingerprint, and copies of files that it names.

    These are the residual schedule's and the prompts'.
    """
    schedule = residual_schedule(config.residual, config.num_steps, bundle.num_tokens)
    if schedule is not None and not is_named(config.residual):
        schedule.save(folder / RESIDUAL)
    if config.prompts is not None:
        save_run_prompts(folder, bundle)
    _write(folder, _settled(config, bundle), bundle)


def update_run_config(folder: Path, config: TrainConfig, bundle: Bundle) -> None:
    """Write what a resumed run changes; `check_same_run` comes before.

    The bundle's name stays: it may have been called by another path to the same models.
    """
    settled = replace(_settled(config, bundle), bundle=load_run_config(folder).bundle)
    if settled != replace(load_run_config(folder), resume=settled.resume):
        _write(folder, settled, bundle)


def _write(folder: Path, settled: TrainConfig, bundle: Bundle) -> None:
    grid = list(token_grid(bundle.nat)) if settled.observation == "confidences" else None
    write_config(folder, settled, bundle.fingerprint, grid, {"call": settled.of_the_call()})


def _settled(config: TrainConfig, bundle: Bundle) -> TrainConfig:
    """What is understood in another working directory and on another machine, too."""
    return replace(
        with_paths(config, _absolute), bundle=bundle_spec(config.bundle), dtype=bundle.dtype
    )


def _absolute(path: str) -> str:
    """A path that is there as an absolute one; anything else may be a hub id."""
    return str(Path(path).resolve()) if Path(path).exists() else path


def write_config(
    folder: Path,
    config: TrainConfig,
    fingerprint: str,
    token_grid: list[int] | None = None,
    more: Mapping[str, Any] = {},
) -> None:
    """Write what `load_run_config`, `run_fingerprint` and `run_token_grid` read."""
    known = {"fingerprint": fingerprint, "config": config.as_json()}
    known |= {} if token_grid is None else {"token_grid": token_grid}
    write_json(folder / CONFIG, known | dict(more))


def run_residual(folder: Path, config: TrainConfig) -> str | None:
    """The run's residual schedule as an environment takes it: its own copy where it was a file.

    A run then neither needs the user's file again nor follows what is written to it later.
    """
    return config.residual if is_named(config.residual) else str(folder / RESIDUAL)


def decided_quantities(folder: Path) -> tuple[str, ...]:
    """Names of what the policy of a run decides."""
    config = load_run_config(folder)
    residual = residual_schedule(run_residual(folder, config), config.num_steps, num_tokens=1)
    return config.quantities or default_quantities(residual and residual.sampler)


def load_run_config(folder: Path) -> TrainConfig:
    """The configuration of the run in `folder`.

    Raises:
        ValueError: there is no run, or its configuration is damaged.
    """
    stored = _read_config(folder)
    try:
        values = dict(stored["config"])
        discriminator = dict(values.pop("discriminator"))
        discriminator["widths"] = tuple(discriminator["widths"])
        if discriminator["trunk"] == "features":  # what runs before format 2 of bundles call it
            discriminator["trunk"] = "bundle"
        unknown = _unknown(values, TrainConfig) + _unknown(discriminator, DiscriminatorConfig)
        if unknown:
            raise ValueError(f"it has options of another version: {', '.join(unknown)}")
        call = {name: value for name, value in stored["call"].items() if value is not None}
        if "rollout_folder" in call:
            call["rollout_folder"] = Path(call["rollout_folder"])
        kind = DiscriminatorConfig(**discriminator)
        if values["quantities"] is not None:
            values["quantities"] = tuple(values["quantities"])
        return TrainConfig(out=folder, discriminator=kind, **(values | call))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"run: {folder / CONFIG} does not fit this version ({error})") from error


def _unknown(values: Mapping[str, Any], kind: type) -> list[str]:
    return sorted(values.keys() - {field.name for field in fields(kind)})


def run_fingerprint(folder: Path) -> str:
    """Of the bundle of the run in `folder`.

    Raises:
        ValueError: there is no run.
    """
    return _read_config(folder)["fingerprint"]


def run_token_grid(folder: Path) -> list[int] | None:
    """Rows and columns of the tokens, of a run whose policy goes with other bundles."""
    return _read_config(folder)["token_grid"]


def check_same_run(folder: Path, config: TrainConfig, bundle: Bundle) -> TrainConfig:
    """Check that the run in `folder` can go on with this configuration and bundle.

    The budget and the rounds between evaluations may be others, but evaluations where there were
    none: the best policy would not be one of the whole training.

    Returns:
        The configuration of the run so far.

    Raises:
        ValueError: no run there, another bundle's, or a configuration that differs.
    """
    if run_fingerprint(folder) != bundle.fingerprint:
        raise ValueError(f"resume: {str(folder)!r} is a run of another bundle than {bundle.name!r}")
    before = load_run_config(folder)
    now = _settled(config, bundle).as_json()
    del now["bundle"], now["budget"]  # the first is what the fingerprint tells
    if config.eval_every and before.eval_every:
        del now["eval_every"]
    if _same_residual(folder, config, bundle):
        del now["residual"]
    check_same(json.loads(json.dumps(before.as_json())), now, f"resume: {str(folder)!r}")
    return before


def _same_residual(folder: Path, config: TrainConfig, bundle: Bundle) -> bool:
    """Whether a file says what the run's own copy says, wherever it is now."""
    path, kept = Path(config.residual or ""), folder / RESIDUAL
    if is_named(config.residual) or not (path.is_file() and kept.is_file()):
        return False
    size = config.num_steps, bundle.num_tokens
    given, own = (residual_schedule(str(one), *size) for one in (path, kept))
    assert given is not None and own is not None
    return torch.equal(given.table, own.table) and given.sampler == own.sampler


def load_policy(folder: Path, bundle: Bundle, which: str = "best") -> TrainedPolicy:
    """The policy of a run.

    Args:
        folder: the run.
        bundle: the one it was trained on; where the policy sees confidences, any of as many tokens
            on the same grid.
        which: `best` (lowest FD in training's evaluations; of a run without any its last) or
            `last`.

    Raises:
        ValueError: no run there, one of another bundle, or not trained far enough to have it.
    """
    if which not in ("best", "last"):
        raise ValueError(f"which: got {which!r}, allowed are 'best', 'last'")
    config = load_run_config(folder)
    if config.observation == "confidences":
        _check_grid(folder, bundle)
    elif run_fingerprint(folder) != bundle.fingerprint:
        raise ValueError(f"run: {str(folder)!r} is a run of another bundle than {bundle.name!r}")
    num_tokens = bundle.num_tokens
    residual = residual_schedule(run_residual(folder, config), config.num_steps, num_tokens)
    scale, smoothing = config.raw_scale, config.action_smoothing
    action_map = ActionMap(residual, scale, smoothing, config.quantities, num_tokens)
    policy = untrained_policy(config, bundle, action_map)
    path = policy_file(folder, which)
    try:
        policy.load_state_dict(load_state(path)["policy"])
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"run: {path} does not fit the run's configuration ({error})") from error
    return policy


def _check_grid(folder: Path, bundle: Bundle) -> None:
    own, there = run_token_grid(folder), list(token_grid(bundle.nat))
    if own != there:
        raise ValueError(
            f"run: {str(folder)!r} is for tokens on {own}, the bundle {bundle.name!r} has {there}"
        )


def save_policy(folder: Path, which: str, policy: TrainedPolicy, about: dict[str, Any]) -> None:
    """Write a policy as the run's `best` or `last`, with what is known about it."""
    state = {"policy": policy.state_dict(), "about": about}
    save_state(folder / f"{which}.safetensors", state)


def load_about(folder: Path, which: str = "best") -> dict[str, Any]:
    """What is known about a run's policy: its round, FD under which judge, actions at each step.

    Raises:
        ValueError: the run has no such policy yet.
    """
    return load_state(policy_file(folder, which))["about"]


def policy_file(folder: Path, which: str) -> Path:
    """Of a run's `best` or `last` policy; without evaluations the last is the best.

    Raises:
        ValueError: there is no run.
    """
    if which == "best" and not load_run_config(folder).eval_every:
        which = "last"
    return folder / f"{which}.safetensors"


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file():
        raise ValueError(f"run: {str(folder)!r} holds no run; nat-train starts one")

    def form(values: Any) -> dict[str, Any]:
        config = {_RENAMED.get(name, name): value for name, value in values["config"].items()}
        call = dict(values.get("call", {}))  # runs of before do not tell it
        return {
            "fingerprint": values["fingerprint"],
            "token_grid": values.get("token_grid"),
            "config": _ADDED | config,
            "call": call,
        }

    return read_json(folder / CONFIG, "run", form)
