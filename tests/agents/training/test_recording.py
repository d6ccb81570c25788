"""What TensorBoard is told of a rollout."""

import numpy as np
import pytest

from agents.training.recording import quantity_scalars
from nat_env.actions import ActionMap


def test_quantities_are_those_of_rows_that_are_decoded():
    """Two rounds of three steps; of four rows one is complete at first, then two, then all."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.5, 0.5, (6, 4, 4)).astype(np.float32)
    for step, complete in enumerate([0, 1, 4, 0, 2, 4]):
        actions[step, :complete] = np.nan
    found = quantity_scalars([(step, np.zeros(4)) for step in actions], 3, ActionMap())
    guidance = np.log1p(np.exp(5 * actions[..., 3].astype(np.float64)))  # softplus of raw = 5 a
    for step in (0, 1):
        given = np.concatenate([guidance[step], guidance[step + 3]])
        given = given[~np.isnan(given)]
        assert len(given) == (8, 5)[step]
        assert found[f"guidance_scale/step{step + 1}_mean"] == pytest.approx(given.mean(), rel=1e-5)
        assert found[f"guidance_scale/step{step + 1}_std"] == pytest.approx(given.std(), rel=1e-4)
    assert {"remask_ratio/step1_mean", "sampling_temperature/step2_std"} <= found.keys()
    assert not any("step3" in tag for tag in found)
