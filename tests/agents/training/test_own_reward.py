"""A training whose reward is a function of one's own, by name, and which is never evaluated."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agents.learners.config import PRESETS
from agents.runs.checkpoint import load_about, load_policy, load_run_config
from agents.sharing.hub import push_policy
from agents.training.train import Training
from eval.evaluation.fingerprint import policy_fingerprint
from nat_env.bundles.loading import load_bundle
from nat_env.commands import entry
from nat_env.storage.state import load_state

MODULE = """
import torch

def brightness(images, conditions):
    return images.mean(dim=(1, 2, 3))

class Dark:
    def __init__(self, factor=1.0):
        self.factor = factor
    def __call__(self, images, conditions):
        return -self.factor * images.mean(dim=(1, 2, 3))

class Novelty:
    '''Rewards what is unlike the mean of all images before.'''
    def __init__(self):
        self.mean, self.count = torch.zeros(()), 0
    def __call__(self, images, conditions):
        light = images.mean(dim=(1, 2, 3))
        found = (light - self.mean).abs()
        self.count += len(images)
        self.mean = self.mean + (light - self.mean).sum() / self.count
        return found
    def state_dict(self):
        return {"mean": self.mean, "count": self.count}
    def load_state_dict(self, state):
        self.mean, self.count = state["mean"], int(state["count"])

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """In the working directory, as a user of a command has it."""
    (tmp_path / "planted_reward.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    yield "planted_reward"
    sys.modules.pop("planted_reward", None)


def config(out, reward):
    return replace(
        PRESETS["digits"][1],
        out=out,
        num_steps=2,
        budget=3 * 64,
        trajectories_per_round=64,
        hidden_size=16,
        batch_size=64,
        reward=reward,
        eval_every=0,
        threads=1,
    )


@pytest.mark.parametrize(
    ("reward", "sign"),
    [
        ("planted_reward:brightness", 1),
        ("planted_reward:Dark", -1),
        ('{"name": "planted_reward:Dark", "factor": 2}', -2),
    ],
)
def test_the_reward_is_that_of_the_module(module, tmp_path, reward, sign):
    training = Training(config(tmp_path / "run", reward), progress=False)
    images = training.decoder.bundle.reals.images[:4].float() / 255
    expected = sign * images.mean(dim=(1, 2, 3))
    assert training.decoder.reward_fn(images, None) == pytest.approx(expected)


def test_without_evaluations_the_last_policy_is_the_run_s(module, tmp_path):
    run = tmp_path / "run"
    results = Training(config(run, "planted_reward:brightness"), progress=False).run()
    assert results == json.loads((run / "results.json").read_text())
    assert results["history"] == [] and results["best_frechet_distance"] is None
    assert not (run / "best.safetensors").exists() and not (run / "samples").exists()
    assert load_about(run) == {"round": 3, "trajectories": 192}
    digits = load_bundle("digits", "float32")
    best, last = (policy_fingerprint(load_policy(run, digits, w)) for w in ("best", "last"))
    assert best == last
    report = (run / "report.md").read_text()
    assert "It was not evaluated." in report and "192 of 192 trajectories" in report
    with pytest.raises(ValueError, match=r"^run: .* without the evaluations"):
        push_policy(run, str(tmp_path / "shared"))


@pytest.mark.parametrize(
    "reward",
    ["planted_reward:Novelty", '{"name": "normalized", "reward": "planted_reward:Novelty"}'],
)
def test_a_run_goes_on_as_if_never_stopped_and_decodes_without_its_reward(
    module, tmp_path, monkeypatch, assert_same, reward
):
    whole = config(tmp_path / "whole", reward)
    Training(whole, progress=False).run()
    broken = replace(whole, out=tmp_path / "broken")
    training = Training(broken, progress=False)
    save = training.callback._save

    def stop_after_the_second(now):
        save(now)
        if training.callback.rounds == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.callback, "_save", stop_after_the_second)
    with pytest.raises(KeyboardInterrupt):
        training.run()
    sys.modules.pop("planted_reward")  # as in another process
    Training(replace(broken, resume=True), progress=False).run()
    states = [load_state(tmp_path / name / "state.safetensors") for name in ("whole", "broken")]
    for part in ("learner", "reward", "environment", "random"):
        assert_same(states[0][part], states[1][part])
    assert "192" in str(states[0]["reward"])  # images that it remembers

    sys.modules.pop("planted_reward")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr("sys.path", [p for p in sys.path if p != str(tmp_path)])
    digits = load_bundle("digits", "float32")
    one, two = (load_policy(tmp_path / name, digits) for name in ("whole", "broken"))
    assert policy_fingerprint(one) == policy_fingerprint(two)
    words = ["--policies", "../whole", "--num-samples", "100", "--out", "eval", "--threads", "1"]
    entry.evaluate([*words, "--no-pictures", "--judges"])
    assert "learned" in (tmp_path / "elsewhere" / "eval" / "results.json").read_text()
    with pytest.raises(ValueError, match=r"^reward name: got .*no module 'planted_reward', nei"):
        Training(replace(whole, resume=True), progress=False)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("planted_nowhere:brightness", "reward name: got .*no module 'planted_nowhere'"),
        ("planted_reward:darkness", "reward name: got .*has no 'darkness'"),
        ("planted_reward:number", "reward name: got .*allowed are functions of images"),
        (
            '{"name": "planted_reward:Dark", "size": 2}',
            "reward options: got .*unexpected keyword argument 'size'",
        ),
    ],
)
def test_what_is_no_reward_is_named(module, tmp_path, monkeypatch, reward, message):
    words = ["digits", "--reward", reward, "--out", str(tmp_path / "run"), "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["nat-train", *words])
    with pytest.raises(SystemExit, match=f"^nat-train: {message}"):
        entry.train()
    assert not (tmp_path / "run").exists()


def test_the_names_of_options_in_older_runs_are_understood(tmp_path):
    run = Path(tmp_path / "run")
    given = config(run, "judge")
    Training(given, progress=False)
    path = run / "config.json"
    stored = json.loads(path.read_text())
    stored["config"]["trajectories"] = stored["config"].pop("budget")
    stored["config"]["eval_samples"] = stored["config"].pop("num_samples")
    path.write_text(json.dumps(stored))
    loaded = load_run_config(run)
    assert (loaded.budget, loaded.num_samples) == (192, given.num_samples)
    Training(replace(given, resume=True), progress=False)
