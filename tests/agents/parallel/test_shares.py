"""What several processes cannot do together, and each one's part of what is drawn for all."""

from dataclasses import replace

import pytest
import torch

from agents.learners.algorithms import ALGORITHMS, algorithm_of
from agents.learners.config import PRESETS
from agents.learners.ppo import PPO
from agents.parallel.shares import (
    check_shared_reward,
    own_environment,
    own_share,
    whole_environment,
)
from agents.training.train import Training
from nat_env.bundles.discriminator_reals import discriminator_reals
from nat_env.bundles.loading import load_bundle
from nat_env.parallel.processes import ALONE, Processes
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.composition import Clipped, WeightedSum
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.vector_env import NATDecodeVectorEnv

DIGITS = PRESETS["digits"][1]
EACH = (ALONE, Processes(0, 2), Processes(1, 2))


class OwnLearner(PPO):
    """Somebody's."""


class OwnSharedLearner(PPO):
    """Somebody's, who has thought of several processes."""

    alone = ""


def light(images, conditions):
    return images.mean(dim=(1, 2, 3))


def refused(out, world=2, **changes):
    with pytest.raises(ValueError) as caught:
        Training(replace(DIGITS, out=out, **changes), progress=False, processes=Processes(0, world))
    assert not out.exists()
    return str(caught.value)


@pytest.mark.parametrize("algo", ["trpo", "sac", "td3", "tqc", "crossq", "ars"])
def test_learners_that_belong_to_one_process_say_why(tmp_path, algo):
    told = refused(tmp_path / "run", algo=algo)
    assert told == f"algo: got {algo!r} in 2 processes, allowed is one: {ALGORITHMS[algo].alone}"


def test_ones_own_learner_says_that_it_can(tmp_path, monkeypatch):
    monkeypatch.setattr("agents.learners.ppo.OwnLearner", OwnLearner, raising=False)
    monkeypatch.setattr("agents.learners.ppo.OwnSharedLearner", OwnSharedLearner, raising=False)
    told = refused(tmp_path / "run", algo="agents.learners.ppo:OwnLearner")
    assert told.endswith("it does not say, by alone = '', that several can train it together")
    own = replace(DIGITS, out=tmp_path, algo="agents.learners.ppo:OwnSharedLearner")
    assert algorithm_of(own).alone == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_envs": 128}, "num_envs: got 128, allowed in 3 processes are its multiples"),
        ({"num_envs": 96, "trajectories_per_round": 96}, "batch_size: got 256, allowed in 3"),
        (
            {"num_envs": 96, "trajectories_per_round": 96, "batch_size": 96},
            "discriminator.batch_size: got 128, allowed in 3",
        ),
    ],
)
def test_numbers_of_all_divide_by_the_processes(tmp_path, changes, told):
    assert refused(tmp_path / "run", world=3, **changes).startswith(told)


def test_what_would_let_them_part_is_refused(tmp_path):
    told = refused(tmp_path / "a", algo_options={"target_kl": 0.1})
    assert told.startswith("algo_options: got target_kl in 2 processes, allowed is so in one alone")
    told = refused(tmp_path / "b", reward="frechet", num_envs=32)
    assert told.startswith("reward: got 'frechet' in 2 processes, allowed is one that remembers")
    running = '{"name": "normalized", "reward": "judge"}'
    assert "would have seen other images on each" in refused(tmp_path / "c", reward=running)
    in_sum = '{"name": "sum", "terms": [[1, "judge"], [1, ' + running + "]]}"
    assert "WeightedSum would have seen" in refused(tmp_path / "c", reward=in_sum)
    for alone in (WeightedSum([(1, light), (2, Clipped(light, low=0.0))]), Clipped(light, high=1)):
        check_shared_reward(alone, "of each image alone", Processes(0, 2))
    with pytest.raises(ValueError, match=r"^num_samples: got 2, allowed is one for each of 4"):
        Training(replace(DIGITS, out=tmp_path / "d", num_samples=2), processes=Processes(0, 4))


def test_a_share_has_a_part_of_every_number(tmp_path):
    config = replace(DIGITS, out=tmp_path, num_envs=64, budget=300 * 10)
    own = own_share(config, algorithm_of(config), Processes(1, 2, torch.device("cuda:1")))
    assert (own.environments, own.trajectories_per_round, own.batch_size) == (32, 128, 128)
    assert (own.rounds, own.device) == (config.rounds, "cuda:1")
    assert own.discriminator == config.discriminator


def test_rows_are_those_of_one_environment_wherever_they_are():
    """And so after any number of processes has saved them."""
    bundle = load_bundle("digits", "float32")
    actions = torch.linspace(-1, 1, 6 * 4).view(6, 4).numpy()
    whole = NATDecodeVectorEnv(6, bundle, 2)
    whole.reset(seed=10)
    whole.step(actions)
    parts = [NATDecodeVectorEnv(3, bundle, 2) for _ in range(2)]
    for rank, part in enumerate(parts):
        part.load_state_dict(own_environment(whole.state_dict(), Processes(rank, 2)))
        part.step(actions[Processes(rank, 2).slice_of(6)])
    whole.step(actions)

    class OfBoth(Processes):
        def gathered(self, value):
            return [part.state_dict() for part in parts]

    joined, expected = whole_environment(parts[0].state_dict(), OfBoth()), whole.state_dict()
    assert joined.keys() == expected.keys()
    for name in ("ids", "conditions", "timesteps"):
        assert torch.equal(joined[name], expected[name])
    assert joined["generators"] == expected["generators"]


def test_discriminators_of_several_processes_draw_parts_of_one_batch():
    bundle = load_bundle("digits", "float32")
    reals = discriminator_reals(bundle, "raw")
    options = DiscriminatorConfig(trunk="scratch", widths=(8,), batch_size=8)
    one, *two = (
        AdversarialRewardModel(reals, 10, options, processes=processes) for processes in EACH
    )
    fakes, numbers = one._drawn(20, 8, 1)[0]
    drawn = [model._drawn(10, 4, 1)[0] for model in two]
    assert torch.equal(torch.cat([part for _, part in drawn]), numbers)
    for chosen, _ in drawn:  # of its own ten
        assert len(chosen.unique()) == 4 and chosen.min() >= 0 and chosen.max() < 10
    theirs = torch.cat([drawn[0][0], drawn[1][0] + 10])
    assert set(fakes.tolist()) & set(theirs.tolist())  # by one order of all twenty
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 1, 2) + torch.tensor([0, 0.5])
    models = [
        AdversarialRewardModel(reals, 10, replace(options, flip=True), processes=processes)
        for processes in EACH
    ]
    flipped = [
        model._flipped(part) for model, part in zip(models[1:], images.chunk(2), strict=True)
    ]
    assert torch.equal(torch.cat(flipped), models[0]._flipped(images))
