"""What follows from a training's options."""

import json
from pathlib import Path

import pytest

from agents.learners.config import TrainConfig


@pytest.mark.parametrize(
    ("reward", "names"),
    [
        ("adversarial", {"adversarial"}),
        ("frechet", {"frechet"}),
        ("frechet_like:Reward", {"frechet_like:Reward"}),
        ({"name": "frechet", "capacity": 64}, {"frechet"}),
        ({"name": "clip", "path_or_id": "frechet"}, {"clip"}),
        ({"name": "clip", "path_or_id": "a", "prompt": '"frechet" {}'}, {"clip"}),
        ({"name": "mine:Own", "frechet": "frechet"}, {"mine:Own"}),
        (
            {"name": "sum", "terms": [[1, "judge"], [1, {"name": "clipped", "reward": "frechet"}]]},
            {"sum", "judge", "clipped", "frechet"},
        ),
        (
            {"name": "normalized", "reward": {"name": "sum", "terms": [[2, {"name": "frechet"}]]}},
            {"normalized", "sum", "frechet"},
        ),
    ],
)
def test_a_reward_is_one_of_batches_by_its_names_not_by_other_texts(reward, names):
    text = reward if isinstance(reward, str) else json.dumps(reward)
    config = TrainConfig(Path(), reward=text)
    assert config.reward_names == names
    assert config.rewards_batches == ("frechet" in names)
    assert config.environments == (32 if "frechet" in names else 256)


@pytest.mark.parametrize("terms", [3, [3], [[]], ["frechet"]])
def test_terms_that_are_none_have_no_names(terms):
    reward = json.dumps({"name": "sum", "terms": terms})
    assert TrainConfig(Path(), reward=reward).reward_names == {"sum"}
