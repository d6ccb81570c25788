import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agents.learners.config import PRESETS, TrainConfig
from agents.runs.checkpoint import load_policy, load_run_config
from agents.runs.validation import at_most, validate
from agents.training.callbacks import RoundCallback
from agents.training.train import Training
from nat_env.bundles.loading import bundle_folder, load_bundle
from nat_env.commands import entry
from nat_env.policies import ScheduledPolicy
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.schedules import Schedule, heuristic_schedule
from nat_env.storage.state import load_state

SMALL = TrainConfig(
    Path(),
    bundle="digits",
    num_steps=2,
    budget=32 * 6,
    trajectories_per_round=32,
    num_envs=16,
    hidden_size=16,
    batch_size=32,
    epochs=2,
    discriminator=DiscriminatorConfig(widths=(8, 16), batch_size=16),
    discriminator_updates=2,
    warmup_rounds=2,
    eval_every=3,
    num_samples=100,
    threads=1,
)


STATS = ("mean", "std")
HALF_THE_JUDGE = {"name": "sum", "terms": [[0.5, "judge"]]}


def run(out, **changes):
    training = Training(dataclasses.replace(SMALL, out=Path(out), **changes), progress=False)
    return training, training.run()


def state_of(folder):
    state = load_state(folder / "state.safetensors")
    return {k: state[k] for k in ("learner", "reward", "environment", "random")}


class Stop(KeyboardInterrupt):
    pass


@pytest.mark.parametrize(
    "changes",
    [
        {"fresh_samples": False},
        {"fresh_samples": True},
        {"reward": "judge", "accumulate": 2},
        {"reward": "frechet"},
    ],
)
def test_an_interrupted_run_resumes_as_if_never_stopped(
    tmp_path, monkeypatch, changes, assert_same
):
    _, whole = run(tmp_path / "whole", **changes)

    steps = []
    on_step = RoundCallback._on_step

    def stop_in_round_four(self):
        steps.append(1)
        if len(steps) == 15:  # 4 steps a round: in the middle of the fourth rollout
            raise Stop
        return on_step(self)

    monkeypatch.setattr(RoundCallback, "_on_step", stop_in_round_four)
    with pytest.raises(Stop):
        run(tmp_path / "broken", **changes)
    monkeypatch.undo()
    assert load_state(tmp_path / "broken" / "state.safetensors")["callback"]["rounds"] == 3
    torch.manual_seed(99)  # what another process would have
    np.random.seed(99)
    _, resumed = run(tmp_path / "broken", resume=True, **changes)
    assert resumed == whole
    assert_same(state_of(tmp_path / "broken"), state_of(tmp_path / "whole"))


def test_each_update_has_fresh_images_of_its_own_and_no_others_wait(tmp_path, monkeypatch):
    seen = []
    update = AdversarialRewardModel.update

    def watched(self, images, conditions, num_updates=1):
        seen.append((images, conditions, num_updates))
        return update(self, images, conditions, num_updates)

    monkeypatch.setattr(AdversarialRewardModel, "update", watched)
    training, _ = run(tmp_path, fresh_samples=True, discriminator_updates=3, budget=32 * 3)
    assert [(len(images), number) for images, _, number in seen] == [(16, 1)] * 9
    assert len(torch.cat([images for images, _, _ in seen]).unique(dim=0)) > 9 * 12
    conditions = torch.cat([labels for _, labels, _ in seen])  # 144 in turn, in the seed's order
    order = conditions[:10]
    assert sorted(order.tolist()) == list(range(10)) != order.tolist()
    assert torch.equal(conditions, order.repeat(15)[:144])
    assert training.env._images == []


def test_what_is_said_to_complete_images_is_not_recorded(tmp_path):
    table = heuristic_schedule(3).table.clone()
    table[0, 0] = 0.0  # complete at once
    Schedule(table).save(tmp_path / "at_once.json")
    options = {"residual": str(tmp_path / "at_once.json"), "quantities": ("guidance_scale",)}
    training, _ = run(tmp_path / "run", num_steps=3, reward="judge", **options)
    training.callback._record_rollout()
    recorded = training.callback.logger.name_to_value
    assert recorded["passes/mean"] == 1
    assert "guidance_scale/step1_mean" in recorded
    assert not {"guidance_scale/step2_mean", "guidance_scale/step3_mean"} & recorded.keys()


def test_large_images_are_shown_small():
    images = torch.rand(2, 3, 512, 256)
    shown = at_most(images, 128)
    torch.testing.assert_close(
        shown, images.unflatten(2, (128, 4)).unflatten(4, (64, 4)).mean((3, 5))
    )
    assert at_most(images[..., :128, :128], 128).shape == (2, 3, 128, 128)


def test_an_interrupted_picture_is_not_there_by_half(tmp_path, monkeypatch):
    save = Image.Image.save

    def stopped(image, path, *rest, **options):
        save(image, path, *rest, **options)
        if isinstance(path, Path):
            path.write_bytes(path.read_bytes()[:100])
            raise Stop

    monkeypatch.setattr(Image.Image, "save", stopped)
    with pytest.raises(Stop):
        run(tmp_path / "run")
    assert list((tmp_path / "run" / "samples").iterdir()) == []


def test_run_folder_holds_what_it_says(tmp_path):
    training, results = run(tmp_path)
    assert [h["round"] for h in results["history"]] == [0, 3, 6]
    stored = dataclasses.replace(SMALL, out=tmp_path, dtype=load_bundle("digits").dtype)
    assert load_run_config(tmp_path) == stored
    bundle = load_bundle("digits")
    features = torch.randn(5, bundle.num_tokens, bundle.nat.feature_size)
    timestep = torch.tensor([0, 1, 0, 1, 0])
    last = load_policy(tmp_path, bundle, "last")
    expected = training.model.policy.actor(features, timestep)
    torch.testing.assert_close(last.actor(features, timestep), expected)
    assert last.action_std == pytest.approx(SMALL.final_action_std) != SMALL.action_std
    best = min(results["history"], key=lambda h: h["frechet_distance"])
    about = load_state(tmp_path / "best.safetensors")["about"]
    assert best.items() <= about.items()
    assert (about["judge"], about["num_samples"]) == ("digits-judge", SMALL.num_samples)
    assert not list(tmp_path.rglob("*.zip")) + list(tmp_path.rglob("*.pkl"))


def test_fixed_rewards_are_those_of_their_names_and_nothing_is_warmed_up(tmp_path):
    def final_rewards(training):  # of the last round: a row for each batch of num_envs images
        return training.model.rollout_buffer.rewards[SMALL.num_steps - 1 :: SMALL.num_steps]

    training, _ = run(tmp_path / "judge", reward="judge", budget=32)
    rewards = final_rewards(training)
    assert (rewards < 0).all() and len(np.unique(rewards)) > 16  # log-likelihoods
    assert training.model.policy.actor.head.weight.any()
    # The first 1024 images fill the buffer, and are worth nothing.
    training, _ = run(tmp_path / "frechet", reward="frechet", budget=1056, eval_every=33)
    first, second = final_rewards(training)
    assert len(np.unique(first)) == len(np.unique(second)) == 1
    assert first[0] != second[0]
    training, _ = run(tmp_path / "sum", reward=json.dumps(HALF_THE_JUDGE), budget=32)
    np.testing.assert_allclose(final_rewards(training), rewards / 2, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^reward: got '{judge', allowed is a name or a JSON"):
        run(tmp_path / "a", reward="{judge")
    with pytest.raises(ValueError, match="num_envs: got 32"):
        run(tmp_path / "a", reward='{"name": "frechet", "capacity": 64}', num_envs=32)
    with pytest.raises(ValueError, match="num_envs: got 32 = trajectories_per_round"):
        run(tmp_path / "a", reward="frechet", num_envs=32)
    with pytest.raises(ValueError, match="reward name: got 'nonesuch'"):
        run(tmp_path / "b", reward="nonesuch")
    assert not (tmp_path / "b" / "config.json").exists()


def test_a_run_that_does_not_adapt_is_loaded_as_such(tmp_path):
    training, _ = run(tmp_path, adaptive=False)
    bundle = load_bundle("digits")
    policy = load_policy(tmp_path, bundle, "last")
    features = torch.randn(4, bundle.num_tokens, bundle.nat.feature_size)
    actions = policy(features, torch.tensor([0, 1, 0, 1]))
    assert torch.equal(actions[:2], actions[2:]) and not torch.equal(actions[0], actions[1])
    assert any(weight.any() for weight in training.model.policy.actor.head.parameters())


def test_a_run_keeps_its_own_copy_of_a_residual_file(tmp_path):
    given = tmp_path / "given.json"
    schedule = heuristic_schedule(2, remask_slope=0.5, guidance_slope=2.0)
    schedule.save(given)
    shorter = {"budget": 32 * 3, "residual": str(given)}
    run(tmp_path / "whole", **shorter)
    given.unlink()
    bundle = load_bundle("digits")
    policy = load_policy(tmp_path / "whole", bundle)
    policy.actor.head.weight.data.zero_()
    policy.actor.head.bias.data.zero_()
    policy.action_std = 0.0
    zero = policy(torch.zeros(2, bundle.num_tokens, bundle.nat.feature_size), torch.tensor([0, 1]))
    torch.testing.assert_close(zero, schedule.table, atol=1e-3, rtol=1e-3)
    _, resumed = run(tmp_path / "whole", resume=True, **shorter)  # nothing is left to do
    assert resumed["history"][-1]["round"] == 3


@pytest.mark.parametrize("key", ["discriminator", "hidden_size"])
def test_a_damaged_run_is_named(tmp_path, key):
    run(tmp_path, budget=32 * 3)
    stored = json.loads((tmp_path / "config.json").read_text())
    if key == "discriminator":
        del stored["config"][key]
    else:
        stored["config"][key] *= 2
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"^run: .* does not fit"):
        load_policy(tmp_path, load_bundle("digits"))


def test_logged_quantities_are_those_of_the_rollout(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training, _ = run(tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"scalars": 0}).Reload()
    tags = set(events.Tags()["scalars"])
    expected = {
        "reward/mean",
        "reward/original_mean",
        "discriminator/loss",
        "discriminator/accuracy_real",
        "discriminator/accuracy_fake",
        "guidance_scale/step2_mean",
        "remask_ratio/step1_std",
        "eval/frechet_distance",
        "eval/class_accuracy",
        "eval/precision",
        "eval/recall",
        "time/rollout",
        "time/discriminator",
        "time/policy",
    }
    assert expected <= tags
    idle = {f"{name}/step2_{of}" for name in ("remask_ratio", "remask_temperature") for of in STATS}
    assert not tags & (idle | {f"guidance_scale/step0_{of}" for of in STATS})
    assert [event.step for event in events.Scalars("reward/mean")] == [32 * r for r in range(1, 7)]
    buffer = training.model.rollout_buffer  # of the last round; flattened by env, then step
    actions = torch.from_numpy(buffer.actions).clamp(-1, 1)
    steps = torch.from_numpy(buffer.observations["timestep"])[:, 0]
    physical = training.decoder.action_map.physical(actions, steps)
    mean = physical[steps == 1, 3].mean().item()
    assert events.Scalars("guidance_scale/step2_mean")[-1].value == pytest.approx(mean, rel=1e-4)
    rewards = buffer.rewards.sum() / SMALL.trajectories_per_round
    assert events.Scalars("reward/mean")[-1].value == pytest.approx(rewards, rel=1e-4)


def test_passes_cost_what_is_asked_for(tmp_path):
    """In the first round, of the same policy and random numbers; its images are wide apart."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said = {}
    choices = {"free": {}, "cost": {"step_cost": 0.5}, "factor": {"pass_discount": 0.5}}
    for name, options in choices.items():
        wide = {"warmup_rounds": 0, "action_std": 5.0, "num_steps": 3}
        run(tmp_path / name, budget=32, **wide, **options)
        events = EventAccumulator(str(tmp_path / name / "tensorboard")).Reload()
        said[name] = {t: events.Scalars(t)[0].value for t in ("reward/mean", "passes/mean")}
    passes = {of["passes/mean"] for of in said.values()}
    assert len(passes) == 1 and 1 < max(passes) < 3
    cost = said["free"]["reward/mean"] - said["cost"]["reward/mean"]
    assert cost == pytest.approx(0.5 * max(passes), rel=1e-4)
    most, least = (said["free"]["reward/mean"] * 0.5**passes for passes in (0, 2))
    assert least < said["factor"]["reward/mean"] < most
    with pytest.raises(ValueError, match=r"^pass_discount: got 0\.5, allowed with .*'judge' is 1"):
        run(tmp_path / "refused", reward="judge", pass_discount=0.5)


def test_bad_runs_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="bundle"):
        run(tmp_path / "a", bundle="nonesuch")
    assert not (tmp_path / "a").exists()
    run(tmp_path / "run", budget=32 * 3)
    with pytest.raises(ValueError, match="holds a run"):
        run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"learning_rate = 0\.\d+, now 1\.0 is asked for"):
        run(tmp_path / "run", budget=32 * 3, learning_rate=1.0, resume=True)
    with pytest.raises(ValueError, match="holds no run; nat-train starts one"):
        run(tmp_path / "empty", resume=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    shutil.copytree(tmp_path / "run", tmp_path / "foreign")
    (tmp_path / "foreign" / "config.json").write_text(
        json.dumps(config | {"fingerprint": "of another bundle"})
    )
    with pytest.raises(ValueError, match="another bundle"):
        run(tmp_path / "foreign", budget=32 * 3, resume=True)
    with pytest.raises(ValueError, match="another bundle"):
        load_policy(tmp_path / "foreign", load_bundle("digits"))
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        run(file / "inside")
    monkeypatch.setattr("sys.argv", ["nat-train", "digits", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit, match="--resume goes on"):
        entry.train()


RESUME = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from agents.runs.checkpoint import load_run_config
from agents.training.train import Training

def wait(about):
    if about["round"] == 3:
        print("training", flush=True)
        sys.stdin.readline()

torch.set_num_threads(1)
config = replace(load_run_config(Path(sys.argv[1])), resume=True)
Training(config, progress=False, on_evaluation=wait).run()
"""


def test_a_second_training_in_a_folder_is_refused_and_the_first_ends_unharmed(tmp_path):
    folder = tmp_path / "shared"
    config = dataclasses.replace(SMALL, out=folder)
    Training(config, progress=False).close()  # from here on the folder is free
    first = subprocess.Popen(
        [sys.executable, "-c", RESUME, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None and first.stdout.readline() == "training\n"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=rf"^out: .* is in use by process {first.pid} on "):
        run(folder, resume=True)
    with pytest.raises(ValueError, match="holds a run"):
        run(folder)
    assert {path: path.read_bytes() for path in before} == before
    assert {path for path in folder.rglob("*") if path.is_file()} == before.keys()
    first.communicate("go on\n")
    assert first.returncode == 0
    _, alone = run(tmp_path / "alone")
    history = json.loads((folder / "results.json").read_text())["history"]
    for found, expected in zip(history, alone["history"], strict=True):
        assert found == pytest.approx(expected, rel=1e-3)
    run(folder, resume=True)  # it is free again


def test_a_rollout_in_a_file_trains_the_same_policy(tmp_path, assert_same):
    run(tmp_path / "a")
    run(tmp_path / "b", rollout_folder=tmp_path / "rollouts")
    assert_same(state_of(tmp_path / "a"), state_of(tmp_path / "b"))


def test_a_refused_option_leaves_no_run_behind(tmp_path):
    for change in ({"reals": "x"}, {"residual": "nonesuch"}, {"real_folder": "nonesuch"}):
        with pytest.raises(ValueError, match=next(iter(change)).removeprefix("real_")):
            run(tmp_path, **change)
        assert not (tmp_path / "config.json").exists()
    run(tmp_path, budget=32 * 3)


def test_a_run_is_not_written_among_the_real_images(tmp_path):
    with pytest.raises(ValueError, match=r"^out: got .* apart from real_folder"):
        run(tmp_path / "images" / "run", real_folder=str(tmp_path / "images"))
    assert not list(tmp_path.iterdir())


def test_an_evaluation_has_more_samples_than_the_judge_features(tmp_path):
    message = r"got 32, allowed is > 32, the numbers in an embedding by the judge digits-judge"
    with pytest.raises(ValueError, match=f"^num_samples: {message}"):
        run(tmp_path / "run", num_samples=32)
    assert not (tmp_path / "run").exists()
    policy = ScheduledPolicy(heuristic_schedule(2))
    with pytest.raises(ValueError, match=f"^num_samples: {message}"):
        validate(load_bundle("digits"), policy, 2, 32)
    validate(load_bundle("digits"), policy, 2, 33)


def test_trainings_share_no_random_numbers_with_each_other_or_with_evaluations(tmp_path):
    draws = []
    for seed in (0, 1):
        out = tmp_path / str(seed)
        training = Training(dataclasses.replace(SMALL, out=out, seed=seed), progress=False)
        training.model.env.reset()
        draws.append({g.bit_generator.state["state"]["inc"] for g in training.decoder.generators})
    evaluation = {np.random.PCG64(i).state["state"]["inc"] for i in range(2000)}
    assert len(draws[0]) == len(draws[1]) == SMALL.environments
    assert not draws[0] & draws[1]
    assert not (draws[0] | draws[1]) & evaluation


@pytest.mark.parametrize(
    "change",
    [
        {"num_steps": 0},
        {"num_envs": 0},
        {"num_envs": 3},
        {"budget": 32},
        {"num_samples": 1},
        {"hidden_size": 6},
        {"warmup_rounds": -1},
        {"action_std": float("nan")},
        {"clip_range": -0.2},
        {"max_grad_norm": 0.0},
        {"final_learning_rate": -1.0},
        {"value_coefficient": float("inf")},
        {"fresh_samples": True, "reward": "judge"},
        {"reward_path": "somewhere"},
    ],
)
def test_numbers_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(SMALL, **change)


def test_a_run_is_understood_in_another_folder_and_on_another_machine(tmp_path, monkeypatch):
    shutil.copytree(bundle_folder("digits"), tmp_path / "here" / "mine")
    images = tmp_path / "here" / "reals"
    for name in "0123456789":
        (images / name).mkdir(parents=True)
        for index in range(2):
            Image.new("L", (8, 8), 20 * index).save(images / name / f"{index}.png")
    monkeypatch.chdir(tmp_path / "here")
    run("run", bundle="mine", real_folder="reals", dtype="auto")
    stored = load_run_config(Path("run"))
    assert (stored.real_folder, stored.dtype) == (str(images), load_bundle("digits").dtype)
    monkeypatch.chdir(tmp_path)
    moved = {"bundle": "here/mine", "real_folder": "here/reals", "resume": True}
    run("here/run", dtype=stored.dtype, **moved)
    (other,) = {"float32", "bfloat16"} - {stored.dtype}
    with pytest.raises(ValueError, match=f"dtype = '{stored.dtype}', now '{other}' is asked for"):
        run("here/run", dtype=other, **moved)


def test_the_papers_preset():
    paper = PRESETS["paper"][1]
    assert (paper.rounds, paper.trajectories_per_round, paper.epochs) == (1000, 4096, 5)
    assert (paper.action_std, paper.final_action_std) == (0.6, 0.3)
    assert (paper.learning_rate, paper.discriminator.learning_rate) == (1e-5, 1e-4)
    assert (paper.clip_range, paper.value_coefficient, paper.hidden_size) == (0.2, 0.5, 512)
    assert paper.batch_size * paper.accumulate == 4096 * paper.num_steps  # one step an epoch
    assert paper.test_action == "mean"
