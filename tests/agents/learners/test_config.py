"""What follows from a training's options."""

import json
import re
from pathlib import Path

import pytest

from agents.learners.config import TrainConfig
from nat_env.rewards.discriminator_config import DiscriminatorConfig


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": "frechet", "group_size": 8}, "group_size: got 8, allowed with reward = 'frec"),
        ({"shared_noise": True, "group_size": 8}, "group_size: got 8, allowed with shared_noise ="),
        (
            {"reward": "judge", "pass_discount": 0.9},
            "pass_discount: got 0.9, allowed with the rewa",
        ),
        ({"bypass_discriminator": True, "pass_discount": 0.9}, "pass_discount: got 0.9, allowed w"),
        (
            {"discriminator": DiscriminatorConfig(reward_form="logit"), "pass_discount": 0.9},
            "pass_discount: got 0.9, allowed with the discriminator's reward_form 'logit' is 1",
        ),
    ],
)
def test_what_would_learn_nothing_or_the_opposite_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        TrainConfig(Path(), **changes)
