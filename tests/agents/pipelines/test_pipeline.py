"""Bundles as a pipeline of diffusers: the images of `generate`, saved and loaded."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AmusedPipeline
from diffusers.schedulers import scheduling_amused

from agents.learners.config import TrainConfig
from agents.pipelines.pipeline import NATPipeline
from agents.pipelines.randomness import generators_of
from agents.runs.checkpoint import load_policy
from agents.training.train import Training
from nat_env import ScheduledPolicy, generate, heuristic_schedule, load_bundle
from nat_env.bundles.loading import bundle_folder
from nat_env.generation import draw_uniforms
from nat_env.schedules import Schedule, amused_schedule


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    return quiet(NATPipeline.from_pretrained("digits", torch_dtype="float32"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short training on `digits`."""
    config = TrainConfig(
        tmp_path_factory.mktemp("runs") / "a", bundle="digits", num_steps=2, budget=32,
        trajectories_per_round=16, reward="judge", hidden_size=8, batch_size=32, eval_every=0,
        dtype="float32", threads=1,
    )  # fmt: skip
    Training(config, progress=False).run()
    return config.out


@pytest.fixture(scope="module")
def amused(amused_bundle_folder):
    return quiet(NATPipeline.from_pretrained(amused_bundle_folder, torch_dtype=torch.float32))


def test_classes_by_number_and_by_name_give_the_images_of_generate(digits):
    bundle, policy = load_bundle("digits", "float32"), ScheduledPolicy(heuristic_schedule(4))
    expected = generate(bundle, policy, [3, 3, 7, 7], 4, seed=5)
    names = [bundle.conditions.names[label] for label in (3, 7)]
    for asked in ({"class_labels": [3, 7]}, {"prompt": names}):
        images = digits(
            **asked, num_inference_steps=4, num_images_per_prompt=2, generator=seeded(5),
            output_type="pt", batch_size=3,
        ).images  # fmt: skip
        torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)  # three at once
    pixels = digits(class_labels=[3, 7], num_inference_steps=4, num_images_per_prompt=2,
                    generator=seeded(5), output_type="np").images  # fmt: skip
    np.testing.assert_array_equal(pixels, expected.permute(0, 2, 3, 1))
    (drawn,) = digits(class_labels=3, num_inference_steps=4, generator=seeded(5), return_dict=False)
    levels = np.asarray(drawn[0].convert("L"))
    np.testing.assert_allclose(levels, expected[0, 0] * 255, atol=0.51)


def test_the_bar_counts_every_step_of_every_batch(digits, monkeypatch):
    counts = []

    class Bar:
        def __init__(self, total):
            counts.append(total)

        def update(self):
            counts.append(1)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(NATPipeline, "progress_bar", lambda self, total: Bar(total))
    digits(class_labels=[1, 2, 3], num_inference_steps=2, batch_size=2)
    assert counts == [4, 1, 1, 1, 1]


def test_prompts_in_the_table_and_new_ones(amused):
    bundle = amused.bundle.with_prompts(["a dog"])
    assert len(amused.bundle.conditions) == 2  # the pipeline's own table stays
    policy = ScheduledPolicy(amused_schedule(3, 16))
    expected = generate(bundle, policy, [2, 0], 3, seed=1)
    found = amused(["a dog", "a cat"], num_inference_steps=3, generator=seeded(1), output_type="pt")
    assert torch.equal(found.images, expected)
    assert expected.shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"^prompts: got 'a a a.* of 13 tokens, allowed are up to"):
        amused("a " * 11)


@pytest.mark.parametrize("num_steps", [1, 4, 12])
def test_of_amused_the_images_are_those_of_diffusers_pipeline(
    amused, amused_folder, monkeypatch, num_steps
):
    """Its own scheduler and all: it is handed the uniforms that ours draws."""
    prompts = ["a zebra", "a cat"]
    generators, uniforms = generators_of(9, 2), []

    def drawn(probabilities, count, generator=None):
        uniforms.append(draw_uniforms(generators, 16))
        threshold = uniforms[-1][..., 0].reshape(-1, 1).double()
        cdf = probabilities.double().cumsum(dim=1)
        return (cdf < threshold * cdf[:, -1:]).sum(dim=1, keepdim=True)

    monkeypatch.setattr(torch, "multinomial", drawn)
    monkeypatch.setattr(
        scheduling_amused, "gumbel_noise", lambda *_, **__: -(-uniforms[-1][..., 1].log()).log()
    )
    theirs = quiet(AmusedPipeline.from_pretrained(amused_folder))(
        prompts, num_inference_steps=num_steps, output_type="np"
    ).images
    ours = amused(
        prompts, num_inference_steps=num_steps, generator=seeded(9), output_type="np"
    ).images
    assert len(uniforms) == num_steps
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(ours[0] - ours[1]).max() > 0.01


def test_twelve_steps_and_amuseds_schedule_are_what_is_not_asked_for(amused):
    found = amused("a cat", generator=seeded(2), output_type="pt").images
    policy = ScheduledPolicy(amused_schedule(12, 16))
    assert torch.equal(found, generate(amused.bundle, policy, [0], 12, seed=2))


def test_a_learned_policy_is_saved_and_loaded_with_its_bundle(run, tmp_path):
    bundle = load_bundle("digits", "float32")
    expected = generate(bundle, load_policy(run, bundle), [1, 8], 2, seed=3)
    assert not torch.equal(
        expected, generate(bundle, ScheduledPolicy(heuristic_schedule(2)), [1, 8], 2, seed=3)
    )
    pipe = NATPipeline("digits", run, "float32")
    pipe.save_pretrained(tmp_path / "saved")
    shutil.move(tmp_path / "saved", tmp_path / "moved")  # it needs nothing outside
    loaded = quiet(NATPipeline.from_pretrained(tmp_path / "moved", torch_dtype="float32"))
    for one in (quiet(pipe), loaded):
        assert one.num_steps == 2
        images = one(class_labels=[1, 8], generator=seeded(3), output_type="pt").images
        assert torch.equal(images, expected)
    with pytest.raises(ValueError, match=r"^policy: .* is for num_steps = 2, got 4"):
        loaded(class_labels=1, num_inference_steps=4)
    kept = (tmp_path / "moved" / "policy" / "config.json").read_text("utf-8")
    assert str(tmp_path) not in kept and str(run.parent) not in kept
    other = NATPipeline.from_pretrained(tmp_path / "moved", policy="heuristic")
    assert other.num_steps is None


def test_schedules_are_saved_too(tmp_path):
    table = torch.rand(3, 4, generator=seeded(0))
    Schedule(table, "mine").save(tmp_path / "mine.json")
    for number, policy in enumerate((Schedule(table, "mine"), tmp_path / "mine.json")):
        NATPipeline("digits", policy).save_pretrained(tmp_path / str(number))
        loaded = NATPipeline.from_pretrained(tmp_path / str(number))
        rows = loaded._policy_of(3)(torch.zeros(3, 1, 1), torch.arange(3))
        assert torch.equal(rows, table)
    NATPipeline("digits", "heuristic(2, 0.5, 0.8)").save_pretrained(tmp_path / "named")
    loaded = NATPipeline.from_pretrained(tmp_path / "named")
    rows = loaded._policy_of(4)(torch.zeros(4, 1, 1), torch.arange(4))
    assert torch.equal(rows, heuristic_schedule(4, 2, 0.5, 0.8).table)


def test_another_precision_is_another_pipeline(digits):
    half = digits.to(torch.bfloat16)
    assert (half.dtype, digits.dtype) == (torch.bfloat16, torch.float32)
    assert digits.device == half.device == torch.device("cpu")
    live = NATPipeline(load_bundle("digits", "float32"))
    with pytest.raises(ValueError, match=r"^device: of a loaded bundle"):
        live.to("cpu")


def test_what_does_not_fit_is_refused_before_anything_is_drawn(digits, run, tmp_path, monkeypatch):
    monkeypatch.setattr("agents.pipelines.pipeline.generate", None)  # drawing would fail otherwise
    for asked, message in (
        ({}, r"^prompt: got neither"),
        ({"prompt": "a", "class_labels": 1}, r"^prompt: got both"),
        ({"prompt": "ten"}, r"^prompt: got 'ten', allowed are 0"),
        ({"class_labels": [10]}, r"^conditions: got 10 .. 10, allowed are 0 .. 9"),
        ({"class_labels": 1, "output_type": "jpeg"}, r"^output_type: got 'jpeg'"),
        ({"class_labels": 1, "num_images_per_prompt": 0}, r"^num_images_per_prompt: got 0"),
        ({"class_labels": 1, "num_inference_steps": 0}, r"^num_steps: got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            digits(**asked)
    with pytest.raises(ValueError, match=r"run of another bundle than 'fashion'"):
        NATPipeline("fashion", run)
    with pytest.raises(ValueError, match=r"^bundle: got 'nothing'"):
        NATPipeline.from_pretrained("nothing")
    with pytest.raises(ValueError, match=r"^policy: got 'nothing'"):
        NATPipeline.from_pretrained("digits", policy="nothing")


def test_what_cannot_be_saved_or_read_is_refused(amused_folder, run, tmp_path):
    bundle = load_bundle("digits", "float32")
    with pytest.raises(ValueError, match=r"^bundle: got a loaded one.*save_bundle"):
        NATPipeline(bundle).save_pretrained(tmp_path / "a")
    with pytest.raises(
        ValueError, match=r"^policy: got a LearnedPolicy, allowed is one by its run"
    ):
        NATPipeline("digits", load_policy(run, bundle)).save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    with pytest.raises(ValueError, match=r"^folder: got .*full', .* new or empty folder"):
        NATPipeline("digits").save_pretrained(tmp_path / "full")
    with pytest.raises(ValueError, match=r"is of AmusedPipeline, .*nat-convert amused"):
        NATPipeline.from_pretrained(amused_folder)
    NATPipeline("digits").save_pretrained(tmp_path / "whole")
    index = tmp_path / "whole" / "model_index.json"
    assert json.loads(index.read_text())["policy"] == "heuristic"
    index.write_text("{")
    with pytest.raises(ValueError, match=r"^pipeline: .*model_index.json is damaged"):
        NATPipeline.from_pretrained(tmp_path / "whole")


def test_a_broken_off_save_leaves_nothing(run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agents.pipelines.saved.copy_policy", full)
    with pytest.raises(OSError, match=r"make room on its disk"):
        NATPipeline(bundle_folder("digits"), run).save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    monkeypatch.undo()
    NATPipeline(bundle_folder("digits"), run).save_pretrained(tmp_path / "saved")
