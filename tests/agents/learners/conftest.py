"""A training of seconds, for what its options do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.learners.config import TrainConfig


@pytest.fixture
def small_training() -> Callable[..., TrainConfig]:
    """Of two steps and one round, by the judge's reward, in a folder and with other options."""

    def make(out: Path, **changes: Any) -> TrainConfig:
        small = TrainConfig(
            out,
            bundle="digits",
            num_steps=2,
            budget=16,
            trajectories_per_round=16,
            num_envs=8,
            reward="judge",
            hidden_size=8,
            batch_size=16,
            eval_every=0,
            threads=1,
        )
        return replace(small, **changes)

    return make
