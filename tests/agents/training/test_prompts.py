"""Trainings whose conditions are captions of a file."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from agents.learners.config import TrainConfig
from agents.runs.checkpoint import load_policy, load_run_config
from agents.training.train import Training
from nat_env.bundles.loading import load_bundle
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.storage.state import load_state

CAPTIONS = ["a bb", "ccc d", "aa", "b bb bbb", "aaa a"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nat-env" / "prompts"


@pytest.fixture
def config(text_folder, tmp_path, cache):
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS))
    return TrainConfig(
        tmp_path / "run",
        bundle=str(text_folder),
        prompts=str(tmp_path / "captions.txt"),
        num_steps=2,
        budget=32,
        trajectories_per_round=16,
        reward='{"name": "prompt", "score": "toy_text:darkness"}',
        hidden_size=8,
        batch_size=32,
        eval_every=0,
        save_every_seconds=0.0,
        dtype="float32",
        threads=1,
    )


def test_episodes_are_of_the_captions(toy_text, config, cache):
    training = Training(config, progress=False)
    bundle = training.decoder.bundle
    assert bundle.conditions.names == tuple(CAPTIONS)
    training.run()
    assert set(training.decoder.conditions.tolist()) <= set(range(5))
    assert json.loads((config.out / "prompts.json").read_text()) == CAPTIONS
    assert len(list(cache.iterdir())) == 1


def test_a_run_goes_on_without_the_file_as_if_never_stopped(
    toy_text, config, tmp_path, monkeypatch, assert_same
):
    config = replace(config, final_learning_rate=config.learning_rate)  # whatever the budget
    config = replace(config, final_action_std=config.action_std)
    whole = replace(config, out=tmp_path / "whole", budget=48)
    Training(whole, progress=False).run()
    Training(config, progress=False).run()
    (tmp_path / "captions.txt").write_text("others\n")
    monkeypatch.setattr(toy_text.ToyTextEncoder, "encode", lambda *given: 1 / 0)  # cached
    longer = replace(load_run_config(config.out), resume=True, budget=48)
    Training(longer, progress=False).run()
    one, other = (load_state(out / "state.safetensors") for out in (config.out, whole.out))
    assert_same(one["learner"], other["learner"])
    assert_same(one["environment"], other["environment"])


def test_its_policy_is_one_for_any_prompts(toy_text, config, text_folder):
    Training(config, progress=False).run()
    bundle = load_bundle(text_folder).with_prompts(["never seen"])
    policy = load_policy(config.out, bundle)
    actions = policy(torch.zeros(2, 4, 2), torch.tensor([0, 1]))
    assert actions.shape == (2, 4)


def test_the_discriminator_learns_from_images_with_these_captions(toy_text, config, tmp_path):
    lines = []
    for number in range(20):
        file = io.BytesIO()
        Image.fromarray(np.full((4, 4), 12 * number, np.uint8)).save(file, format="PNG")
        lines.append(f"{CAPTIONS[number % 4]}\t{base64.b64encode(file.getvalue()).decode()}\n")
    (tmp_path / "cc3m.tsv").write_text("".join(lines))
    adversarial = replace(
        config,
        prompts=str(tmp_path / "captions.txt"),
        reward="adversarial",
        real_folder=str(tmp_path / "cc3m.tsv"),
        reals="raw",
        warmup_rounds=0,
        discriminator_updates=2,
        discriminator=DiscriminatorConfig(trunk="scratch", widths=(8,), batch_size=16),
    )
    training = Training(adversarial, progress=False)
    weight = training.env.model.discriminator.head.class_embedding.weight
    assert weight.shape == (8, 2)  # of pooled embeddings; one caption has no image
    before = weight.detach().clone()
    training.run()
    assert (weight != before).any()


def test_the_bundles_own_images_stay_where_their_captions_do(toy_text, config, matched_folder):
    """Half of its 64: one of its two prompts is among the captions, in another place."""
    path = config.out.parent / "some.txt"
    path.write_text("aa\naaa a\nccc d\n")
    adversarial = replace(
        config,
        bundle=str(matched_folder),
        prompts=str(path),
        reward="adversarial",
        reals="raw",
        warmup_rounds=0,
        discriminator=DiscriminatorConfig(trunk="bundle", batch_size=16),
    )
    training = Training(adversarial, progress=False)
    reals = load_bundle(matched_folder).require("reals")
    kept = training.env.model.reals
    assert kept.conditions.tolist() == [2] * 32
    assert torch.equal(kept.images, reals.images[reals.conditions == 1])
    training.run()


def test_captions_that_are_too_long_are_left_out(toy_text, config, tmp_path):
    (tmp_path / "captions.txt").write_text("a bb\na b c d e\n\naa\n")
    with (
        pytest.warns(UserWarning, match=r"^prompts: 1 empty captions"),
        pytest.warns(UserWarning, match=r"^prompts: 1 of 3 take more than the 4 tokens"),
    ):
        training = Training(config, progress=False)
    training.close()
    assert training.decoder.bundle.conditions.names == ("a bb", "aa")


def test_a_judge_that_takes_other_prompts_evaluates_a_training(
    toy_text, config, matched_folder, monkeypatch
):
    asked = replace(
        config, bundle=str(matched_folder), reward="judge", eval_every=1, num_samples=40
    )
    training = Training(asked, progress=False)
    training.run()
    assert len(training.decoder.bundle.conditions) == 5
    found = json.loads((config.out / "results.json").read_text())
    assert found["judge"] == "matched-judge" and len(found["history"]) >= 2
    assert load_policy(config.out, training.decoder.bundle, "best") is not None
    # One that takes no others is missed before anything is written.
    monkeypatch.setattr("nat_env.bundles.yardstick.Yardstick.with_conditions", lambda *_: None)
    other = replace(asked, out=config.out.with_name("other"), reward=config.reward)
    with pytest.raises(ValueError, match=r"^eval_every: got 1, allowed with these prompts is 0"):
        Training(other, progress=False)
    assert not other.out.exists()


def test_bad_prompts_are_refused_and_leave_nothing(toy_text, config, tmp_path):
    with pytest.raises(ValueError, match=r"^bundle: 'toy' has no yardstick: .*eval_every = 0"):
        Training(replace(config, eval_every=20), progress=False)
    with pytest.raises(ValueError, match=r"^prompts: .* of bundle 'digits' are classes"):
        Training(replace(config, bundle="digits"), progress=False)
    with pytest.raises(ValueError, match=r"^prompts: '.*nowhere.txt' is no file"):
        Training(replace(config, prompts=str(tmp_path / "nowhere.txt")), progress=False)
    (tmp_path / "captions.txt").write_bytes(b"a bb\ncaf\xe9\n")
    with pytest.raises(ValueError, match=r"^prompts: line 2 of .* is not UTF-8"):
        Training(config, progress=False)
    assert not config.out.exists()
