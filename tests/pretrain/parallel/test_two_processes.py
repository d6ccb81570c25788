"""Two processes that accelerate launches: what one process gives, whatever ends them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nat_env import load_bundle
from nat_env.parallel.processes import Processes
from nat_env.storage.state import load_state
from pretrain.arguments import Tokens
from pretrain.parallel.execution import Execution
from pretrain.tokens.fill import fill

SCRIPT = Path(__file__).with_name("small_trainings.py")


def small_trainings():
    spec = importlib.util.spec_from_file_location("small_trainings", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory, launch):
    """What two processes wrote, of which one was killed at the end."""
    folder = tmp_path_factory.mktemp("two")
    reals = load_bundle("digits", "float32").reals
    for label in range(10):
        (folder / "images" / str(label)).mkdir(parents=True)
        for index in range(2 - (label == 3)):
            pixels = reals.images[2 * label + index, 0].numpy()
            Image.fromarray(pixels).save(folder / "images" / str(label) / f"{index}.png")
    ended = launch(SCRIPT, folder, "whole")
    assert ended.returncode != 0 and "Signal 9 (SIGKILL)" in ended.stderr, ended.stderr
    assert "rank      : 1" in ended.stderr
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """By process, what it trained."""
    return [load_state(folder / f"whole{index}") for index in range(2)]


def close(left, right, tolerance=2e-6):
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert value.shape == right[key].shape
        np.testing.assert_allclose(value, right[key], atol=tolerance, rtol=0, err_msg=key)


@pytest.mark.parametrize("name", ["transformer", "judge", "tokenizer"])
def test_two_processes_equal_one(whole, tmp_path, name):
    one = small_trainings().TRAININGS[name](tmp_path, Execution()).state_dict()
    close(whole[0][name], one)
    for key, value in whole[0][name].items():
        assert torch.equal(value, whole[1][name][key]), key


def test_passes_of_two_processes_equal_one_batch(whole):
    close(whole[0]["twice"], whole[0]["transformer"])


@pytest.mark.parametrize("name", ["transformer", "tokenizer"])
def test_passes_of_one_process_equal_one_batch(tmp_path, name):
    train = small_trainings().TRAININGS[name]
    once = train(tmp_path / "once", Execution()).state_dict()
    # Of rounding a patch may take another code, by which Adam's steps go a little elsewhere.
    tolerance = 5e-3 if name == "tokenizer" else 2e-6
    close(train(tmp_path / "passes", Execution(passes=4)).state_dict(), once, tolerance)


@pytest.fixture(scope="module")
def resumed(folder, launch):
    """The step that the killed training had come to, what one process made of it, and what two."""
    path = folder / "killed" / "transformer.safetensors"
    saved, step = path.read_bytes(), load_state(path)["step"]
    alone = small_trainings().transformer(folder / "killed", Execution()).state_dict()
    path.write_bytes(saved)
    ended = launch(SCRIPT, folder, "resume")
    assert ended.returncode == 0, ended.stderr
    return step, alone, [load_state(folder / f"resumed{index}") for index in range(2)]


def test_after_a_kill_any_number_of_processes_goes_on(whole, resumed):
    step, alone, both = resumed
    assert 3 <= step <= 4  # it was killed in the fifth update
    close(alone, whole[0]["transformer"])
    for one in both:  # as many as before: to the bit
        for key, value in whole[0]["transformer"].items():
            assert torch.equal(one["killed"][key], value), key


def test_what_all_processes_refuse_is_told_once(resumed):
    said = [one["said"] for one in resumed[2]]
    assert said[0].startswith("nat-pretrain: ") and "nowhere" in said[0]
    assert said[1] == "1"


def test_the_tokens_are_the_files_of_one_process(folder, resumed, tmp_path):
    arguments = Tokens(
        data=folder / "images", bundle="digits", out=tmp_path, shard_images=4, threads=1
    )
    fill(arguments)
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 8  # five shards, labels, tokens.json, complete.json
    assert {path.name for path in (folder / "tokens").iterdir()} == names
    for name in names:
        assert (folder / "tokens" / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_bfloat16_trains_nearly_the_same(tmp_path):
    """Weights stay in float32; of the loss at the last step 2 % may differ."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    losses = []
    for precision in ("no", "bf16"):
        trained = small_trainings().transformer(
            tmp_path / precision, Execution(mixed_precision=precision)
        )
        assert {value.dtype for value in trained.state_dict().values()} == {torch.float32}
        events = EventAccumulator(str(tmp_path / precision / "tensorboard" / "transformer"))
        losses.append(events.Reload().Scalars("transformer/loss")[-1].value)
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_batches_without_equal_portions_are_refused():
    Execution(Processes(0, 3), passes=2).check_batch_size(12)
    with pytest.raises(ValueError, match=r"^batch_size: got 8, allowed are multiples of 6 \(3 pro"):
        Execution(Processes(0, 3), passes=2).check_batch_size(8)


def test_float16_is_refused_on_a_cpu(tmp_path):
    with pytest.raises(
        ValueError, match=r"^mixed_precision: got fp16 on a CPU, allowed are no and"
    ):
        small_trainings().judge(tmp_path / "x", Execution(mixed_precision="fp16"))
    assert not (tmp_path / "x").exists()
