"""A shared policy is taken wherever a run is, and its card is true."""

import dataclasses
import errno
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub.errors import HTTPError

from agents.learners.config import PRESETS
from agents.learners.network import AdaNATNetwork
from agents.learners.trained import LearnedPolicy
from agents.reports.quantities import schedule_actions
from agents.runs.checkpoint import (
    check_same_run,
    load_about,
    load_policy,
    load_run_config,
    save_policy,
    save_run_config,
)
from agents.sharing.hub import load_shared_policy, push_policy
from agents.sharing.names import chosen_bundle, named_policy, own_num_steps
from eval.commands import nat_sample
from eval.commands.arguments import Sample
from eval.evaluation.fingerprint import policy_fingerprint
from nat_env.actions import ActionMap
from nat_env.bundles.loading import bundle_folder, load_bundle
from nat_env.commands import entry
from nat_env.decoding.quantities import COLUMNS
from nat_env.schedules import heuristic_schedule

FILES = {"README.md", "best.safetensors", "config.json", "residual.json", "quantities.png"}


@pytest.fixture
def run(tmp_path):
    """A run of T = 2 around a schedule of the user's own, as nat-train leaves it."""
    bundle = load_bundle("digits")
    folder = tmp_path / "run"
    folder.mkdir()
    schedule = heuristic_schedule(2, remask_slope=0.5)
    schedule.save(tmp_path / "mine.json")
    config = dataclasses.replace(
        PRESETS["digits"][1], out=folder, num_steps=2, residual=str(tmp_path / "mine.json")
    )
    save_run_config(folder, config, bundle)
    (tmp_path / "mine.json").unlink()
    actor = AdaNATNetwork(bundle.nat.feature_size, bundle.nat.feature_grid, 4, config.hidden_size)
    torch.nn.init.normal_(actor.head.weight, std=0.5)
    about = {"round": 20, "trajectories": 5120, "frechet_distance": 1.25}
    about |= {"judge": "digits-judge", "num_samples": 1000}
    about["actions"] = {key: {"mean": [0.5, 0.25], "std": [0.0, 0.125]} for key in COLUMNS}
    save_policy(folder, "best", LearnedPolicy(actor, ActionMap(schedule), 0.3, 2), about)
    (folder / "state.safetensors").write_bytes(b"of the training, not to be shared")
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stub of huggingface_hub whose repositories are folders."""
    repositories = tmp_path / "repositories"
    asked = []

    def create_repo(repo_id, private, exist_ok):
        assert exist_ok
        asked.append(("create", repo_id, private))

    def upload_folder(repo_id, folder_path):
        shutil.copytree(folder_path, repositories / repo_id)
        return f"https://example.org/{repo_id}"

    def snapshot_download(repo_id, revision, allow_patterns):
        asked.append(("download", repo_id, revision))
        assert set(allow_patterns) == FILES
        if repo_id == "me/unreachable":
            raise HTTPError("no connection")
        if not (repositories / repo_id).is_dir():
            raise OSError("404")
        return str(repositories / repo_id)

    stub = SimpleNamespace(
        create_repo=create_repo,
        upload_folder=upload_folder,
        snapshot_download=snapshot_download,
        errors=SimpleNamespace(HTTPError=HTTPError),
    )
    _ = load_bundle("digits").tokenizer  # diffusers takes much more of it than the stub has
    monkeypatch.setitem(sys.modules, "huggingface_hub", stub)
    return SimpleNamespace(folder=repositories, asked=asked)


def test_a_shared_folder_is_the_policy_and_nothing_else_of_the_run(run, tmp_path):
    bundle = load_bundle("digits")
    shared = tmp_path / "shared"
    assert push_policy(run, str(shared)) == str(shared)
    assert {p.name for p in shared.iterdir()} == FILES
    original = policy_fingerprint(load_policy(run, bundle))
    shutil.rmtree(run)
    assert policy_fingerprint(load_shared_policy(str(shared), bundle)) == original
    _, named = named_policy(str(shared), bundle, 2)
    assert policy_fingerprint(named) == original
    assert own_num_steps(str(shared)) == 2 and chosen_bundle([str(shared)], None) == "digits"
    again = tmp_path / "again"  # what was shared with you can be shared on
    push_policy(shared, str(again))
    assert policy_fingerprint(load_shared_policy(str(again), bundle)) == original


def test_the_card_is_true_and_its_example_runs(run, tmp_path):
    shared = tmp_path / "shared"
    push_policy(run, str(shared), license="cc0-1.0")
    _, header, text = (shared / "README.md").read_text().split("---\n", 2)
    values = yaml.safe_load(header)
    assert (values["library_name"], values["license"]) == ("nat-env", "cc0-1.0")
    assert "adanat" in values["tags"]
    assert load_bundle("digits").fingerprint in text
    decided = "remask ratio, sampling temperature, remask temperature, guidance scale"
    assert f"decoding step {decided} of a frozen" in text
    assert "| 20 | 5120 | 1.25 |" in text and "FD (digits-judge, N = 1000)" in text
    assert "| 1 | 0.50 ± 0.00 | 0.50 ± 0.00 | 0.50 ± 0.00 | 0.50 ± 0.00 |" in text
    (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict = {}
    exec(example, names)
    assert names["images"].shape == (8, 1, 8, 8)
    (configuration,) = re.findall(r"```json\n(.*?)```", text, re.S)
    stored = json.loads((shared / "config.json").read_text())
    assert json.loads(configuration) == stored["config"]


def test_a_policy_of_ones_own_reward_is_shared_without_it(run, tmp_path):
    reward = '{"name": "sum", "terms": [[1, "judge"], [2, "my_module:Novelty"]]}'
    path = run / "config.json"
    stored = json.loads(path.read_text())
    stored["config"] |= {"reward": reward}
    stored["call"] |= {"wandb": "my-project", "threads": 1}
    path.write_text(json.dumps(stored))
    shared = tmp_path / "shared"
    push_policy(run, str(shared))
    bundle = load_bundle("digits")
    original = policy_fingerprint(load_policy(run, bundle))
    assert policy_fingerprint(load_shared_policy(str(shared), bundle)) == original
    text = (shared / "README.md").read_text()
    assert "`my_module:Novelty`, which only this command needs" in text
    assert "my-project" not in text and "my-project" not in (shared / "config.json").read_text()


def test_a_share_that_fails_leaves_nothing(run, tmp_path, monkeypatch):
    def fails(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("agents.sharing.hub.save_policy_card", fails)
        with pytest.raises(OSError, match="No space left"):
            push_policy(run, str(tmp_path / "shared"))
    assert not (tmp_path / "shared").exists()
    push_policy(run, str(tmp_path / "shared"))
    assert {p.name for p in (tmp_path / "shared").iterdir()} == FILES


def nested_reward(path):
    terms = [[1.0, "judge"], [0.5, {"name": "clip", "path_or_id": path}]]
    return json.dumps({"name": "sum", "terms": terms})


def test_a_bundle_of_ones_own_is_found_from_elsewhere_and_shared_by_name(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    shutil.copytree(bundle_folder("digits"), tmp_path / "here" / "mine")
    monkeypatch.chdir(tmp_path / "here")
    bundle = load_bundle("mine")
    Path("clip").mkdir()
    named = dataclasses.replace(PRESETS["digits"][1], out=Path("run"), bundle="mine")
    config = dataclasses.replace(named, reward=nested_reward("clip"))
    save_run_config(Path("run"), config, bundle)
    actor = AdaNATNetwork(bundle.nat.feature_size, bundle.nat.feature_grid, 4, config.hidden_size)
    about = {"round": 1, "trajectories": 256, "frechet_distance": 1.0, "judge": "mine-judge"}
    about |= {"num_samples": 1000, "actions": schedule_actions(heuristic_schedule(4))}
    save_policy(Path("run"), "best", LearnedPolicy(actor, ActionMap(), 0.3, 4), about)

    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    folder = tmp_path / "here" / "run"
    assert load_run_config(folder).reward == nested_reward(str(tmp_path / "here" / "clip"))
    moved = dataclasses.replace(config, bundle="../here/mine", reward=nested_reward("../here/clip"))
    check_same_run(folder, moved, bundle)
    assert chosen_bundle([str(folder)], None) == str(tmp_path / "here" / "mine")
    push_policy(folder, "shared")
    shared = load_run_config(Path("shared"))
    assert shared.bundle == "mine"  # nothing of this machine's folders
    assert shared.reward == nested_reward("clip")
    text = Path("shared/README.md").read_text()
    assert "working directory, as `mine`" in text and str(tmp_path) not in text
    (tmp_path / "there" / "mine").symlink_to(tmp_path / "here" / "mine")
    original = policy_fingerprint(load_policy(folder, bundle))
    again = load_shared_policy("shared", load_bundle(shared.bundle))
    assert policy_fingerprint(again) == original


def test_the_hub_by_its_prefix(run, hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nat-share", str(run), "hub:me/digits-T2", "--private"])
    entry.share()
    assert hub.asked == [("create", "me/digits-T2", True)]
    assert "https://example.org/me/digits-T2" in capsys.readouterr().out
    assert {p.name for p in (hub.folder / "me/digits-T2").iterdir()} == FILES
    assert "'hub:me/digits-T2'" in (hub.folder / "me/digits-T2" / "README.md").read_text()
    spec = "hub:me/digits-T2@v1"
    name, policy = named_policy(spec, load_bundle("digits"), 2)
    assert name == spec and set(hub.asked[1:]) == {("download", "me/digits-T2", "v1")}
    original = load_policy(run, load_bundle("digits"))
    assert policy_fingerprint(policy) == policy_fingerprint(original)
    out = tmp_path / "grid.png"
    assert nat_sample.run(Sample(out, spec, num_samples=10, threads=1)) == [out]
    for name in ("hub:me/other", "hub:me/unreachable"):
        with pytest.raises(ValueError, match=rf"^policy: cannot get '{name}' from the hub"):
            named_policy(name, load_bundle("digits"), 2)


def test_what_cannot_be_shared_is_refused(run, hub, tmp_path):
    with pytest.raises(ValueError, match=r"^target: .*new or empty"):
        push_policy(run, str(run))
    with pytest.raises(ValueError, match=r"^run: .*holds no run"):
        push_policy(tmp_path / "none", str(tmp_path / "a"))
    about = load_about(run)
    policy = load_policy(run, load_bundle("digits"))
    save_policy(run, "best", policy, {key: about[key] for key in about if key != "actions"})
    with pytest.raises(ValueError, match=r"^run: .*older version, without \['actions'\]"):
        push_policy(run, "hub:me/it")
    (run / "best.safetensors").unlink()
    with pytest.raises(ValueError, match=r"best\.safetensors"):
        push_policy(run, str(tmp_path / "a"))
    assert hub.asked == [] and not Path(tmp_path / "a").exists()
