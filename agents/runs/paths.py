"""The paths in a training's configuration, which are of use on one machine only."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agents.learners.config import TrainConfig


def with_paths(config: TrainConfig, change: Callable[[str], str]) -> TrainConfig:
    """`config` with each path or hub id in it changed, but for the bundle's and the residual's.

    Args:
        config: of a training.
        change: from a path or id to what stands in its place.
    """

    def changed(path: str | None) -> str | None:
        return path and change(path)

    discriminator = config.discriminator
    return replace(
        config,
        prompts=changed(config.prompts),
        real_folder=changed(config.real_folder),
        reward=_reward_with_paths(config.reward, change),
        reward_path=changed(config.reward_path),
        discriminator=replace(discriminator, trunk_path=changed(discriminator.trunk_path)),
    )


def _reward_with_paths(reward: str, change: Callable[[str], str]) -> str:
    """With each `path_or_id` of a JSON object, at any depth, changed.

    Example:
        >>> _reward_with_paths('{"terms": [[1, {"path_or_id": "a"}]]}', str.upper)
        '{"terms": [[1, {"path_or_id": "A"}]]}'
        >>> _reward_with_paths("judge", str.upper)
        'judge'
    """
    if not reward.startswith("{"):
        return reward

    def changed(found: dict[str, Any]) -> dict[str, Any]:
        path = found.get("path_or_id")
        return found if path is None else found | {"path_or_id": change(path)}

    return json.dumps(json.loads(reward, object_hook=changed))
