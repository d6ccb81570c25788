"""A training by a learner of one's own, by name: from its first round to its shared policy."""

import dataclasses
import json
import sys
from typing import Any

import numpy as np
import pytest
import torch

from agents.learners.algorithms import ALGORITHMS, algorithm_of
from agents.learners.config import PRESETS, TrainConfig
from agents.learners.factory import live_policy
from agents.learners.ppo import PPO
from agents.learners.warmup import WaitsForReward
from agents.runs.checkpoint import load_policy, load_run_config
from agents.runs.repeat import training_command
from agents.sharing.hub import load_shared_policy, push_policy
from agents.training.callbacks import RoundCallback
from agents.training.train import Training
from eval.evaluation.fingerprint import policy_fingerprint
from nat_env.bundles.loading import load_bundle
from nat_env.commands import entry
from nat_env.storage.state import load_state

MODULE = """
import stable_baselines3
import torch
from dataclasses import replace
from stable_baselines3.common.base_class import BaseAlgorithm
from agents.learners.algorithms import ALGORITHMS
from agents.learners.policy import AdaNATPolicy
from agents.learners.ppo import PPO

def bright(images, conditions):
    return images.mean(dim=(1, 2, 3))

class Slowed(stable_baselines3.PPO):
    '''Halves its learning rate at each update: `rate` has to be resumed.'''
    def __init__(self, *args, share=0.5, **kwargs):
        super().__init__(*args, **kwargs)
        self.share, self.rate = share, torch.ones(())
    def train(self):
        self.lr_schedule = lambda _: 3e-3 * float(self.rate)
        super().train()
        self.rate = self.rate * self.share
    def _get_torch_save_params(self):
        states, variables = super()._get_torch_save_params()
        return states, [*variables, "rate"]

class Actor(stable_baselines3.A2C):
    pass

class Twin(stable_baselines3.DDPG):
    pass

class Soft(stable_baselines3.SAC):
    pass

class Ours(PPO):
    def train(self):
        super().train()
        self.logger.record("train/mine", 1.0)

class Negated(AdaNATPolicy):
    def _build(self, lr_schedule):
        super()._build(lr_schedule)
        self.actor.head = torch.nn.Sequential(self.actor.head, torch.nn.Tanh())

entry = replace(ALGORITHMS["stock-ppo"], about="an entry", learner=Slowed)
plain = replace(ALGORITHMS["stock-ppo"], learner=stable_baselines3.PPO)
other_policy = replace(ALGORITHMS["ppo"], policy=Negated)
wrong = replace(ALGORITHMS["stock-ppo"], observation="features")

class Discrete(stable_baselines3.DQN):
    pass

class Broken(stable_baselines3.A2C):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        {}["absent"]

class NoPolicy(stable_baselines3.A2C):
    policy_aliases = {"OtherPolicy": None}

class Other(BaseAlgorithm):
    pass
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """In the working directory, as a user of a command has it."""
    (tmp_path / "planted_learner.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    yield
    sys.modules.pop("planted_learner", None)


def config(name, out, **changes) -> TrainConfig:
    options = {
        "out": out,
        "algo": f"planted_learner:{name}",
        "reward": "planted_learner:bright",
        "num_steps": 2,
        "budget": 3 * 32,
        "trajectories_per_round": 32,
        "num_envs": 16,
        "eval_every": 0,
        "num_samples": 40,
        "threads": 1,
    }
    return dataclasses.replace(PRESETS["digits"][1], **(options | changes))


SMALL = {"batch_size": 32, "hidden_size": 16}
WIDE = {"budget": 128, "trajectories_per_round": 128}
"""As large as the usual minibatch."""


def stopped_in_round_two(config, monkeypatch):
    ends = []
    original = RoundCallback._on_rollout_end

    def stop(self):
        ends.append(1)
        if len(ends) == 2:
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(RoundCallback, "_on_rollout_end", stop)
        with pytest.raises(KeyboardInterrupt):
            Training(config, progress=False).run()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Slowed", SMALL),
        ("Actor", {"hidden_size": 16, "batch_size": 256}),
        ("Twin", SMALL),
        ("Ours", SMALL),
        ("other_policy", SMALL),
    ],
)
def test_it_learns_stops_goes_on_and_decodes(tmp_path, monkeypatch, name, changes, assert_same):
    whole = Training(config(name, tmp_path / "whole", **changes), progress=False)
    before = [p.clone() for p in whole.model.policy.parameters()]
    whole.run()
    after = whole.model.policy.parameters()
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    broken = config(name, tmp_path / "broken", **changes)
    stopped_in_round_two(broken, monkeypatch)
    torch.manual_seed(99)  # what another process would have
    np.random.seed(99)
    resumed = Training(dataclasses.replace(broken, resume=True), progress=False)
    resumed.run()
    states = [load_state(tmp_path / run / "state.safetensors") for run in ("whole", "broken")]
    assert states[0]["callback"]["rounds"] == 3
    for part in ("learner", "environment", "random"):
        assert_same(states[0][part], states[1][part])
    if name == "Slowed":
        learner: Any = resumed.model
        assert float(learner.rate) == 0.5**3

    sys.modules.pop("planted_learner")  # as in another process
    digits = load_bundle("digits")
    loaded = load_policy(tmp_path / "broken", digits, "last")
    features = torch.randn(5, digits.num_tokens, digits.nat.feature_size)
    timestep = torch.tensor([0, 1, 0, 1, 0])
    live = live_policy(whole.config, whole.model, loaded.action_map)
    torch.testing.assert_close(loaded(features, timestep), live(features, timestep))


def test_it_is_set_up_as_what_it_is_like(tmp_path):
    found = {
        name: algorithm_of(config(name, tmp_path, budget=1024, trajectories_per_round=256))
        for name in ("Slowed", "Actor", "Twin", "Soft", "Ours", "plain")
    }
    alike = {"Slowed": "stock-ppo", "Actor": "a2c", "Twin": "td3", "Soft": "sac", "Ours": "ppo"}
    for name, kind in alike.items():
        for field in ("options", "refuses", "observation", "policy"):
            assert getattr(found[name], field) == getattr(ALGORITHMS[kind], field), name
        assert found[name].about == f"{name}, code of one's own"
    assert issubclass(found["Ours"].learner, PPO)
    assert issubclass(found["plain"].learner, WaitsForReward)


def test_the_command_trains_it_and_what_it_learned_is_evaluated_and_shared(
    tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    given = config("Slowed", run, **SMALL, algo_options={"share": 0.25}, eval_every=3)
    monkeypatch.setattr("sys.argv", [*training_command(given)])
    entry.train()
    assert load_run_config(run).algo == "planted_learner:Slowed"
    state = load_state(run / "state.safetensors")["learner"]
    assert float(state["variables"]["rate"]) == 0.25**3
    assert "`planted_learner:Slowed` (Slowed, code of one's own)" in (run / "report.md").read_text()
    entry.sample(["--policy", "run", "--out", "grid.png", "--num-samples", "10", "--threads", "1"])
    assert (tmp_path / "grid.png").is_file()
    digits = load_bundle("digits")
    push_policy(run, "shared")
    assert (
        "code of the author's own, `planted_learner:Slowed`"
        in (tmp_path / "shared" / "README.md").read_text()
    )
    prints = [policy_fingerprint(load_policy(run, digits))]
    prints.append(policy_fingerprint(load_shared_policy("shared", digits)))
    assert prints[0] == prints[1]
    assert json.loads((run / "results.json").read_text())["history"][-1]["round"] == 3

    sys.modules.pop("planted_learner")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr("sys.path", [p for p in sys.path if p != str(tmp_path)])
    with pytest.raises(ValueError, match=r"^algo: got .*no module 'planted_learner', neither .*e$"):
        load_policy(run, digits)


@pytest.mark.parametrize(
    ("algo", "message"),
    [
        ("planted_learner:Absent", "^algo: got .*planted_learner.py has no 'Absent', allowed are"),
        ("planted_nowhere:Learner", "^algo: got .*there is no module 'planted_nowhere'"),
        ("a/b.py:Learner", "^algo: got .*allowed is module:name"),
        ("planted_learner:bright", "^algo: got .*which is <function bright.*allowed are an Algor"),
        ("planted_learner:Other", "^algo: got .*which is <class .*Other.*allowed are an Algorithm"),
        ("planted_learner:NoPolicy", r"^algo: got .*no 'MlpPolicy' but \['OtherPolicy'\]"),
        ("planted_learner:wrong", "^algo: got .*observation='features'"),
        ("planted_learner:Broken", "^algo: got .*fails in .*planted_learner.py, line .*KeyError"),
        ("planted_learner:Discrete", "^algo: got .*fails in .*AssertionError: .*Discrete"),
        ("dqn", "^algo: got 'dqn', allowed are .* and module:name"),
    ],
)
def test_what_is_no_learner_is_told_before_anything_is_written(tmp_path, algo, message):
    options = dataclasses.asdict(config("Actor", tmp_path / "run", **WIDE)) | {"algo": algo}
    options["discriminator"] = PRESETS["digits"][1].discriminator
    with pytest.raises(ValueError, match=message):
        Training(TrainConfig(**options), progress=False)
    assert not (tmp_path / "run" / "config.json").exists()


def test_its_idle_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^batch_size: got 64, allowed with planted_learner:Act"):
        algorithm_of(config("Actor", tmp_path, batch_size=64))
    with pytest.raises(ValueError, match=r"^adaptive: got False, allowed with planted_learner:Sl"):
        algorithm_of(config("Slowed", tmp_path, batch_size=32, adaptive=False))
    given = {"fresh_samples": True, "reward": "adversarial", "warmup_rounds": 1}
    with pytest.raises(ValueError, match=r"^fresh_samples: got True, allowed with planted_learner"):
        algorithm_of(config("Slowed", tmp_path, batch_size=32, **given))
    algorithm_of(config("Ours", tmp_path, batch_size=32, **given))


@pytest.mark.parametrize(
    "words", [["tune", "digits", "--algo"], ["study", "learners", "--algos"]], ids=["tune", "study"]
)
def test_comparisons_take_the_librarys_learners_alone(tmp_path, words, capsys):
    command, *rest = words
    with pytest.raises(SystemExit):
        getattr(entry, command)([*rest, "planted_learner:Slowed", "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert "planted_learner:Slowed" in told and "stock-ppo" in told
    assert not (tmp_path / "out").exists()
