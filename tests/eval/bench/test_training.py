from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer

import eval.bench.timing
import eval.bench.training
from agents.learners.buffers import EpisodeRolloutBuffer
from agents.learners.policy import AdaNATPolicy
from eval.bench.memory import Memory
from eval.bench.timing import Phases, Spread
from eval.bench.training import (
    DEFAULT_BUFFER,
    LEARNERS,
    ROLLOUT,
    Rounds,
    TrainOptions,
    configuration,
    run,
)
from nat_env import vector_env

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


def digits_config(out):
    config = replace(configuration(DIGITS), out=out, dtype="float32", discriminator_updates=2)
    assert (config.num_steps, config.environments) == (T, ENVS)
    return config


class Clock:
    """A time that passes only in the functions that are made to take it."""

    def __init__(self, monkeypatch):
        self.now, self.monkeypatch, self.calls = 0, monkeypatch, Counter()
        clock = SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr(eval.bench.timing, "time", clock)

    def let(self, owner, name, takes, then=lambda: None):
        function = getattr(owner, name)
        if getattr(function, "__name__", None) == "taking":  # learners share a bundle
            return

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
        self.let(vector_env, "decode_step", "decode_step")
        self.let(vector_env, "draw_uniforms", "draw_uniforms")
        self.let(nat.transformer, "forward", "transformer")
        self.let(decoder.bundle.tokenizer, "decode", "tokenizer")
        self.let(type(reward), "__call__", "discriminator")
        self.let(policy, "forward", "forward")
        self.let(policy, "predict_values", "predict_values")
        self.let(decoder, "reward_fn", "reward_fn")
        observation = policy.obs_to_tensor(rounds.model.get_env().reset())[0]
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
            vector_env.decode_step(*step)
            policy.predict_values(observation)
            decoder.reward_fn(images, labels)

        self.let(rounds.model, "collect_rollouts", "rollout")
        self.let(rounds.model, "train", "train", as_in_an_update)
        self.let(rounds.env, "update", "update", as_in_a_discriminator)


@pytest.mark.parametrize("learner", LEARNERS)
def test_what_happens_in_a_rollout_is_told_apart_and_nothing_else_is_in_it(
    learner, tmp_path, monkeypatch
):
    rounds = Rounds(learner, digits_config(tmp_path / "run"))
    rounds.run(Phases())  # makes what is made once
    clock = Clock(monkeypatch)
    clock.of(rounds)
    started, phases = clock.now, Phases()
    clock.calls.clear()
    rounds.run(phases)
    assert phases.seconds == ROUND
    assert clock.now - started == sum(ROUND.values())
    assert clock.calls["decode_step"] == T + 1  # T of the rollout, one of the discriminator
    rounds.run(Phases())
    assert phases.seconds == ROUND  # nothing is watched any more


def test_rows_are_of_these_phases_and_of_the_repeats_alone(monkeypatch):
    clock, made = Clock(monkeypatch), []

    class Slow(Rounds):
        def __init__(self, learner, config):
            super().__init__(learner, config)
            made.append(self)

        def run(self, phases):
            if self.model.num_timesteps == 0:  # the warm-up
                super().run(phases)
                clock.of(self)
                clock.now += 10**15
            else:
                super().run(phases)
                clock.now += 7

    monkeypatch.setattr(eval.bench.training, "Rounds", Slow)
    monkeypatch.setattr(eval.bench.training, "peak_memory", lambda *given: Memory(100.0, 130.0))
    monkeypatch.setattr(eval.bench.training, "operation_shares", lambda work: {"x_share": 1.0})
    training, update, rollout = run(DIGITS, repeats=1)
    assert [rounds.model.num_timesteps for rounds in made] == [2 * ENVS * T] * 4
    in_a_rollout = sum(ROUND[part] for part in ROLLOUT)
    for row, learner in zip(training.rows, LEARNERS, strict=True):
        a_round = sum(ROUND.values()) + 7
        assert row == {
            "learner": learner,
            "images_per_second": Spread.of([ENVS / a_round]),
            "rollout_seconds": Spread.of([in_a_rollout]),
            "policy_seconds": Spread.of([ROUND["update"]]),
            "discriminator_seconds": Spread.of([ROUND["discriminator"]]),
            "rest_seconds": Spread.of([7]),
            "rollout_outside_share": pytest.approx(1 - (3 + 10) / in_a_rollout, rel=1e-9),
            "update_to_rollout_share": pytest.approx(ROUND["update"] / in_a_rollout),
            "peak_mb": 130.0,
            "above_start_mb": 30.0,
        }
    assert [row["x_share"] for row in update.rows] == [1.0] * 4
    assert rollout.title == "Where the rollout's time goes"
    for row, learner in zip(rollout.rows, LEARNERS, strict=True):
        shares = {f"{part}_share": pytest.approx(ROUND[part] / in_a_rollout) for part in ROLLOUT}
        assert row == {"learner": learner} | shares


def test_the_default_buffer_is_all_that_tells_it_from_nat_trains(tmp_path):
    ours, theirs = (Rounds(learner, digits_config(tmp_path / learner)) for learner in LEARNERS[:2])
    assert LEARNERS[1] == DEFAULT_BUFFER
    assert type(ours.model.rollout_buffer) is EpisodeRolloutBuffer
    assert type(theirs.model.rollout_buffer) is DictRolloutBuffer
    for rounds in (ours, theirs):
        assert type(rounds.model.policy) is AdaNATPolicy
        rounds.run(Phases())
    buffers = ours.model.rollout_buffer, theirs.model.rollout_buffer
    half, full = (buffer.observations["features"] for buffer in buffers)
    assert (half.nbytes * 2, half.size) == (full.nbytes, full.size)
    assert full.any()
    for name in ("n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "max_grad_norm"):
        assert getattr(ours.model, name) == getattr(theirs.model, name)
    assert theirs.model.gamma == theirs.model.gae_lambda == theirs.model.rollout_buffer.gamma == 1


def test_the_papers_fresh_samples_are_refused():
    with pytest.raises(ValueError, match=r"preset: got 'paper'.*fresh_samples"):
        configuration(TrainOptions("paper"))
