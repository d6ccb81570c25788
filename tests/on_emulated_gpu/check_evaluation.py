"""Evaluation, search and pre-training: the same numbers as on the CPU."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

import eval.judges.references
import nat_env.models.uvit_block
import pretrain.verdict
from agents.search.arguments import Arguments
from agents.search.search import search
from eval.commands.arguments import Eval
from eval.commands.nat_eval import run
from eval.judges.judge import Judge, bundle_judge
from nat_env.bundles.loading import load_bundle
from nat_env.models.classifier import embeddings_of
from nat_env.parallel.processes import Processes
from pretrain.config import PRESETS
from pretrain.data.digits import digits as digits_data
from pretrain.make import make_bundle
from pretrain.parallel.execution import Execution

OF_THE_MACHINE = ("seconds", "date", "device", "machine", "command", "images_per_second")


def told(part):
    """What of a stored result does not depend on when and where it was computed."""
    if isinstance(part, dict):
        return {k: told(v) for k, v in part.items() if not any(n in k for n in OF_THE_MACHINE)}
    return [told(element) for element in part] if isinstance(part, list) else part


@pytest.fixture
def other_judge(monkeypatch):
    """A judge of its own: the device that it is asked for is that of the bundle."""

    def made(name, resolution, device):
        weights = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).to(device)
        return Judge("random", lambda images: images.flatten(1) @ weights.T, is_fixed=True)

    monkeypatch.setattr(eval.judges.references, "independent_judge", made)


def test_an_evaluation_has_the_numbers_of_the_cpu(tmp_path, monkeypatch, make_run, other_judge):
    run_folder = make_run()

    def evaluated(device):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"{device} cache"))
        out = tmp_path / device
        run(
            Eval(
                policies=("heuristic", str(run_folder)),
                out=out,
                num_steps=2,
                num_samples=40,
                seeds=(0,),
                batch_size=25,
                device=device,
                dtype="float32",
                metrics=True,
                shuffle_features=True,
                judge_images=100,
                pictures=device == "emulated",
                threads=1,
                progress=False,
            )
        )
        return json.loads((out / "results.json").read_text("utf-8"))

    found = evaluated("emulated")
    assert len(found["rows"]) >= 4 and {row["judge"] for row in found["rows"]} >= {"random"}
    assert told(found) == told(evaluated("cpu"))


def test_embeddings_of_a_judge_wait_once_for_each_batch(recorded):
    bundle = load_bundle("digits", "float32", "emulated")
    images = torch.rand(10, 1, 8, 8).to("emulated")
    with recorded() as events:
        embeddings_of(bundle.require("yardstick").judge, images, batch_size=5)
    assert not events.syncs(), str(events)
    with recorded() as events:
        bundle_judge(bundle).embeddings(images)
    assert events.syncs().total() == 1, str(events)  # whether the images are in [0, 1]


@pytest.mark.parametrize(("method", "budget"), [("autonat", 3 * 40), ("cma", 5 * 40)])
def test_a_search_finds_what_it_finds_on_the_cpu(tmp_path, method, budget):
    def found(device):
        out = tmp_path / device
        search(
            Arguments(
                method, out, "digits", num_steps=2, num_samples=40, budget=budget, device=device,
                dtype="float32", threads=1,
            )
        )  # fmt: skip
        lines = (out / "trials.jsonl").read_text("utf-8").splitlines()
        schedule = json.loads((out / "schedule.json").read_text("utf-8"))
        return told([json.loads(line) for line in lines]), told(schedule)

    assert found("emulated") == found("cpu")


def test_a_bundle_is_made_as_on_the_cpu(tmp_path, monkeypatch):
    # Where gradients are asked for, the CPU attends by another formula: here by the device's, too.
    fused = SimpleNamespace(cat=torch.cat, is_grad_enabled=lambda: False)
    monkeypatch.setattr(nat_env.models.uvit_block, "torch", fused)
    monkeypatch.setattr(pretrain.verdict, "NUM_SAMPLES", 40)
    monkeypatch.setattr(pretrain.verdict, "NUM_STEPS", 2)
    data, config = digits_data(), PRESETS["digits"]
    chosen = torch.arange(200)
    data = dataclasses.replace(
        data, train_images=data.train_images[chosen], train_labels=data.train_labels[chosen]
    )

    def short(training):
        return dataclasses.replace(training, loop=dataclasses.replace(training.loop, epochs=0.5))

    parts = {n: short(getattr(config, n)) for n in ("tokenizer", "transformer", "judge", "trunk")}
    config = dataclasses.replace(config, **parts)

    def made(device):
        out = tmp_path / device
        execution = Execution(Processes(device=torch.device(device)))
        make_bundle(data, config, tmp_path / f"{device} work", out, execution)
        return load_bundle(out, "float32"), json.loads((out / "bundle.json").read_text("utf-8"))

    (there, about), (here, expected) = made("emulated"), made("cpu")
    assert told(about) == told(expected)
    assert there.fingerprint == here.fingerprint
