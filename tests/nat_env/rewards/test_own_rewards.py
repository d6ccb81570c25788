"""Rewards of one's own by `module:name`, out of the working directory."""

import sys

import pytest
import torch

from nat_env import NATDecodeVectorEnv, load_bundle, named_reward
from nat_env.rewards.protocol import restore_state, state_of

BUNDLE = load_bundle("digits", "float32")
OWN = """
import torch

def light(images, conditions):
    return images.mean(dim=(1, 2, 3))

def scaled(scale):
    return lambda images, conditions: scale * light(images, conditions)

class Novelty:
    def __init__(self, weight: float = 1.0):
        self.weight, self.calls = weight, 0

    def __call__(self, images, conditions):
        self.calls += 1
        return self.weight * self.calls * light(images, conditions)

class Remembering(Novelty):
    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]

class Needy:
    def __init__(self, path):
        self.path = path

class Leaving:
    def __init__(self):
        raise SystemExit(3)

class Silent:
    pass

class Failing:
    def __init__(self):
        self.value = {}["absent"]

made = Novelty(3.0)
number = 3

def lone(images):
    return light(images, None)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_reward.py").write_text(OWN)
    (tmp_path / "broken_reward.py").write_text("import math\n\nvalue = math.nonesuch\n")
    (tmp_path / "no_python.py").write_text("value =\n")
    (tmp_path / "needs_more.py").write_text("import a_module_that_nobody_has\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)\n")
    yield tmp_path
    for name in ("own_reward", "broken_reward", "no_python", "needs_more", "leaves"):
        sys.modules.pop(name, None)


def scores(reward):
    return reward(torch.full((2, 1, 8, 8), 0.5), torch.zeros(2).long()).tolist()


def test_functions_classes_and_objects_are_found_in_the_working_directory():
    assert scores(named_reward("own_reward:light", BUNDLE)) == [0.5, 0.5]
    assert scores(named_reward("own_reward:scaled", BUNDLE, scale=4)) == [2, 2]
    assert scores(named_reward("own_reward:Novelty", BUNDLE)) == [0.5, 0.5]
    assert scores(named_reward("own_reward:Novelty", BUNDLE, weight=2)) == [1, 1]
    assert scores(named_reward("own_reward:made", BUNDLE)) == [1.5, 1.5]
    env = NATDecodeVectorEnv(2, BUNDLE, reward_fn={"name": "own_reward:Novelty", "weight": 5})
    assert env.reward_fn.weight == 5


def test_each_use_of_a_class_has_an_object_of_its_own_and_a_state_if_it_has_one():
    one, two = (named_reward("own_reward:Remembering", BUNDLE) for _ in range(2))
    scores(one), scores(one)
    assert state_of(one) == {"calls": 2} and two.calls == 0
    restore_state(two, state_of(one))
    assert scores(two) == scores(one) == [1.5, 1.5]
    stateless = named_reward("own_reward:Novelty", BUNDLE)
    assert state_of(stateless) == {}
    restore_state(stateless, {})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("absent_module:Novelty", {}, r"there is no module 'absent_module', neither installed nor"),
        ("own_reward.py:Novelty", {}, r"there is no module 'own_reward.py'"),
        ("here/own_reward:Novelty", {}, r"allowed is module:name, no path"),
        (":Novelty", {}, r"allowed is module:name"),
        ("own_reward:", {}, r"has no '', allowed are light, scaled, Novelty"),
        ("own_reward:Novel", {}, r"own_reward.py has no 'Novel', allowed are light, scaled, Nov"),
        ("broken_reward:light", {}, r"fails in .*broken_reward.py, line 3 with AttributeError: "),
        ("no_python:light", {}, r"fails in .*no_python.py, line 1 with SyntaxError: "),
        ("needs_more:light", {}, r"fails in .*needs_more.py, line 1 with ModuleNotFoundError"),
        ("leaves:light", {}, r"fails in .*leaves.py, line 1 with SystemExit: 0"),
        ("own_reward:Failing", {}, r"fails in .*own_reward.py, line \d+ with KeyError: 'absent'"),
        ("own_reward:Leaving", {}, r"fails in .*own_reward.py, line \d+ with SystemExit: 3"),
        ("own_reward:Needy", {}, r"for 'own_reward:Needy' \(.*'path'.*\); allowed are: path$"),
        ("own_reward:Novelty", {"size": 3}, r"'size'.*allowed are: weight$"),
        ("own_reward:made", {"weight": 3}, r"allowed are none: it is no class"),
        ("own_reward:Silent", {}, r"gives <.*Silent.*> \(.*not a callable.*functions of images"),
        ("own_reward:number", {}, r"gives 3 \(.*allowed are functions of images"),
        ("own_reward:lone", {}, r"gives <function lone.*too many positional arguments"),
        ("own_reward:scaled", {}, r"gives <function scaled.*too many positional arguments"),
    ],
)
def test_what_is_no_reward_is_told_before_any_work(name, options, message):
    with pytest.raises(ValueError, match=r"^reward (name|options): got .*" + message):
        named_reward(name, BUNDLE, **options)


def test_a_class_in_place_of_its_object_is_refused():
    novelty = type(named_reward("own_reward:Novelty", BUNDLE))
    with pytest.raises(ValueError, match=r"^reward_fn: got <class .*Novelty.*\(a class\)"):
        NATDecodeVectorEnv(2, BUNDLE, reward_fn=novelty)


@pytest.mark.parametrize("methods", [("state_dict",), ("load_state_dict",), ()])
def test_a_state_that_could_not_be_restored_is_refused(methods):
    """At the first checkpoint, which comes before the first round."""
    novelty = type(named_reward("own_reward:Novelty", BUNDLE))
    kind = type("Halved", (novelty,), {name: lambda self: {"calls": 1} for name in methods})
    if methods == ("state_dict",):
        with pytest.raises(ValueError, match=r"^reward: Halved has a state_dict and no load_state"):
            state_of(kind())
    else:
        assert state_of(kind()) == {}


def test_a_state_that_is_no_dict_is_refused():
    remembering = type(named_reward("own_reward:Remembering", BUNDLE))
    kind = type("Listed", (remembering,), {"state_dict": lambda self: [1]})
    with pytest.raises(ValueError, match=r"^reward: state_dict of Listed gave list, allowed is a"):
        state_of(kind())
