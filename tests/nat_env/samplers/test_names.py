"""Samplers by name: in a policy's text and a schedule's file, and where none can be followed."""

import json

import pytest
import torch

from agents.pipelines.scheduler import NATScheduler
from agents.search.finite_differences import initial_schedule
from agents.sharing.names import is_of_any_t, named_policy, own_num_steps
from eval.evaluation.fingerprint import policy_fingerprint
from nat_env import ScheduledPolicy, heuristic_schedule, load_bundle
from nat_env.samplers.entropy_bound import EntropyBound
from nat_env.samplers.halton import Halton
from nat_env.samplers.klass import Klass
from nat_env.samplers.names import SAMPLERS, called_sampler, sampler_label
from nat_env.samplers.remdm import ReMDM
from nat_env.samplers.scored import Scored
from nat_env.schedules import Schedule


@pytest.mark.parametrize(
    ("text", "sampler"),
    [
        ("halton", Halton()),
        (" entropy-bound ", EntropyBound()),
        ("entropy-bound(0.25)", EntropyBound(0.25)),
        ("klass(0.8, 0.1)", Klass(0.8, 0.1)),
        ("klass(0.8, 0.1, 3)", Klass(0.8, 0.1, 3)),
        ("remdm()", ReMDM()),
    ],
)
def test_a_policy_is_called_by_a_samplers_name(text, sampler):
    bundle = load_bundle("digits", dtype="float32")
    name, policy = named_policy(text, bundle, num_steps=4)
    assert isinstance(policy, ScheduledPolicy)
    assert name == text.strip() and policy.sampler == sampler
    assert torch.equal(policy.schedule.table, heuristic_schedule(4).table)
    assert is_of_any_t(text) and own_num_steps(text) is None
    assert called_sampler(sampler_label(sampler)) == sampler


@pytest.mark.parametrize(
    "text", ["klass(1, 2, 3, 4)", "halton(3)", "remdm(2)", "entropy-bound(much)", "klass(0.5,,1)"]
)
def test_numbers_that_a_sampler_does_not_take_are_refused(text):
    bundle = load_bundle("digits", dtype="float32")
    with pytest.raises(ValueError, match=r"^sampler: got .*, allowed is "):
        named_policy(text, bundle, num_steps=4)


@pytest.mark.parametrize("sampler", [None, Halton(), EntropyBound(0.3), Klass(0.7, 0.2, 2)])
def test_a_schedules_file_keeps_its_sampler(sampler, tmp_path):
    path = tmp_path / "schedule.json"
    heuristic_schedule(4).by(sampler).save(path)
    assert Schedule.load(path).sampler == sampler
    assert Schedule.load(path).resampled(6).sampler == sampler
    assert ("sampler" in json.loads(path.read_text())) == (sampler is not None)


@pytest.mark.parametrize(
    "described", [{"name": "best"}, {"name": "halton", "gamma": 1}, {"gamma": 1}, "halton", None]
)
def test_a_file_of_an_unknown_sampler_is_refused(described, tmp_path):
    path = tmp_path / "schedule.json"
    heuristic_schedule(2).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sampler": described}))
    with pytest.raises(ValueError, match="is not a schedule"):
        Schedule.load(path)


def test_a_sampler_without_a_name_is_not_written(tmp_path):
    schedule = heuristic_schedule(2).by(Scored(lambda tokens, conditions: tokens))
    with pytest.raises(ValueError, match=f"allowed are {', '.join(SAMPLERS)}"):
        schedule.save(tmp_path / "schedule.json")
    assert not list(tmp_path.iterdir())


def test_where_no_sampler_can_be_followed_it_is_refused(tmp_path):
    path = tmp_path / "schedule.json"
    schedule = heuristic_schedule(4).by(EntropyBound(0.3))
    schedule.save(path)
    for argument, call in {
        "initialisation": lambda: initial_schedule(str(path), 4),
        "schedule": lambda: NATScheduler.of_schedule(schedule, 10),
        "policy": lambda: NATScheduler.of_policy(ScheduledPolicy(schedule), 10),
    }.items():
        with pytest.raises(ValueError, match=rf"(?i)^{argument}.*entropy.?bound.*allowed is"):
            call()


def test_policies_of_other_samplers_are_other_policies():
    samplers = [None, Halton(), EntropyBound(0.3), EntropyBound(0.4), ReMDM()]
    policies = [ScheduledPolicy(heuristic_schedule(4).by(sampler)) for sampler in samplers]
    assert len({policy_fingerprint(policy) for policy in policies}) == len(samplers)
    scored = ScheduledPolicy(heuristic_schedule(4).by(Scored(lambda tokens, conditions: tokens)))
    assert policy_fingerprint(scored) != policy_fingerprint(scored)  # what it calls may change


@pytest.mark.parametrize("wrong", ["halton", Halton, 3])
def test_what_is_no_sampler_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^sampler: got .*, allowed is an object of a class"):
        heuristic_schedule(4).by(wrong)
