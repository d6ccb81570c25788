from collections import Counter
from dataclasses import replace

import pytest
import torch

import eval.bench.training
from eval.bench.measuring.memory import Memory
from eval.bench.measuring.phases import Phases
from eval.bench.options import TrainOptions
from eval.bench.training import LEARNERS, PHASES, ROLLOUT, Rounds, configuration, of_learner, run
from nat_env import canvases

DIGITS = TrainOptions("digits", trajectories_per_round=8)
T, ENVS = 4, 8
SECONDS = {
    "transformer": 1,
    "tokenizer": 10,
    "decode_step": 100,
    "draw_uniforms": 1_000,
    "forward": 10_000,
    "predict_values": 100_000,
    "discriminator": 1_000_000,
    "reward_fn": 10_000_000,
    "rollout": 100_000_000,
    "train": 1_000_000_000,
    "update": 10_000_000_000,
}
"""What each is made to take: a decimal place each, so that a sum says what is in it."""

ROUND = {
    "nat": 3,  # passes: that on the all-masked canvas is kept
    "tokenizer": 10,
    "transition": 4 * 100 + 4 * 1_000,
    "policy": 4 * 10_000 + 100_000,
    "reward": 1_000_000 + 10_000_000,
    "rest": 100_000_000,
    "update": 1_000_000_000 + 1 + 10 + 10_000 + 1_000_000,
    "discriminator": 10_000_000_000 + 1 + 100 + 100_000 + 10_000_000,
}
"""A round's phases; update and discriminator are made to use the rollout's functions, too."""


def rounds_of(learner):
    config = replace(configuration(DIGITS), dtype="float32", discriminator_updates=2)
    assert (config.num_steps, config.environments) == (T, ENVS)
    return Rounds(of_learner(config, learner))


class Clock:
    """A time that passes only in the functions that are made to take it."""

    def __init__(self, monkeypatch):
        self.now, self.monkeypatch, self.calls = 0, monkeypatch, Counter()

    def let(self, owner, name, takes, then=lambda: None):
        function = getattr(owner, name)

        def taking(*args, **kwargs):
            self.now += SECONDS[takes]
            self.calls[takes] += 1
            result = function(*args, **kwargs)
            then()
            return result

        self.monkeypatch.setattr(owner, name, taking)

    def of(self, rounds):
        """Let the functions of `rounds` take their `SECONDS`."""
        decoder, policy = rounds.env.decoder, rounds.model.policy
        nat, reward = decoder.bundle.nat, rounds.env.model
        nat.first_passes(torch.arange(10))
        self.let(canvases, "decode_step", "decode_step")
        self.let(canvases, "draw_uniforms", "draw_uniforms")
        self.let(nat.transformer, "forward", "transformer")
        self.let(decoder.bundle.tokenizer, "decode", "tokenizer")
        self.let(type(reward), "__call__", "discriminator")
        self.let(policy, "forward", "forward")
        self.let(policy, "predict_values", "predict_values")
        self.let(decoder, "reward_fn", "reward_fn")
        observation = policy.obs_to_tensor(rounds.model._last_obs)[0]
        ids, labels = torch.zeros(1, 16, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
        images = decoder.bundle.tokenizer.decode(ids)

        @torch.no_grad()
        def as_in_an_update():
            nat.transformer(ids, labels)
            decoder.bundle.tokenizer.decode(ids)
            policy(observation)
            reward(images, labels)

        @torch.no_grad()
        def as_in_a_discriminator():
            nat.transformer(ids, labels)
            passes = nat.first_passes(labels)
            uniforms, actions = torch.zeros(1, 16, 2), torch.ones(1, 4)
            step = (ids, passes.logits, passes.null_logits, actions, uniforms, labels > 0, 64)
            canvases.decode_step(*step)
            policy.predict_values(observation)
            decoder.reward_fn(images, labels)

        self.let(rounds.model, "collect_rollouts", "rollout")
        self.let(rounds.model, "train", "train", as_in_an_update)
        self.let(rounds.env, "update", "update", as_in_a_discriminator)


@pytest.mark.parametrize("learner", LEARNERS)
def test_what_happens_in_a_rollout_is_told_apart_and_nothing_else_is_in_it(learner, monkeypatch):
    rounds = rounds_of(learner)
    rounds.run(Phases())  # makes what is made once
    clock = Clock(monkeypatch)
    clock.of(rounds)
    started, phases = clock.now, Phases(lambda: clock.now)
    clock.calls.clear()
    rounds.run(phases)
    assert phases.totals == ROUND
    assert clock.now - started == sum(ROUND.values())
    assert clock.calls["decode_step"] == T + 1  # T of the rollout, one of the discriminator
    rounds.run(Phases())
    assert phases.totals == ROUND  # nothing is watched any more


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_round_is_one_of_learning_and_the_same_work_for_every_learner(learner):
    rounds = rounds_of(learner)
    before = {k: v.clone() for k, v in rounds.model.policy.state_dict().items()}
    heads = {k: v.clone() for k, v in rounds.env.model.discriminator.state_dict().items()}
    rounds.run(Phases())
    assert rounds.model.num_timesteps == ENVS * T
    assert rounds.model._n_updates == rounds.model.n_epochs == rounds.config.epochs
    assert rounds.model.batch_size == rounds.config.batch_size
    after = rounds.model.policy.state_dict()
    assert any(not torch.equal(v, after[k]) for k, v in before.items())
    judged = rounds.env.model.discriminator.state_dict()
    assert any(not torch.equal(v, judged[k]) for k, v in heads.items())


def test_rows_are_shares_of_a_round_held_against_the_rollout(monkeypatch):
    monkeypatch.setattr(eval.bench.training, "peak_memory", lambda *given: Memory(100.0, 130.0))
    (section,) = run(DIGITS, repeats=1)
    assert [row["learner"] for row in section.rows] == list(LEARNERS)
    for row in section.rows:
        assert row["images_per_second"] == pytest.approx(ENVS / row["seconds"].median)
        assert (row["peak_mb"], row["above_start_mb"]) == (130.0, 30.0)
        assert sum(row[f"{name}_share"] for name in PHASES) == pytest.approx(1)
    shares = dict.fromkeys([f"{name}_share" for name in ROLLOUT], 0.05)
    row = {"learner": "ppo", "update_share": 0.1} | shares | {"nat_share": 0.25}
    # A rollout of 0.5, of which 0.3 are in NAT and tokenizer.
    outside, update = eval.bench.training.targets([row])
    assert (outside["measured"], update["measured"]) == (pytest.approx(0.4), pytest.approx(0.2))
    assert {outside["goal"], update["goal"]} == {"<= 0.15"}


def test_the_papers_preset_is_refused():
    with pytest.raises(ValueError, match=r"preset: got 'paper', allowed are"):
        configuration(TrainOptions("paper"))
