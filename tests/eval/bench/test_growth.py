import functools
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer

import eval.bench.growth
import eval.bench.memory
from agents.learners.buffers import EpisodeRolloutBuffer
from agents.learners.factory import make_learner
from eval.bench.growth import (
    ScaleOptions,
    exponents,
    prepared,
    prepared_with_default_buffer,
    rollout_config,
    run,
)
from eval.bench.memory import Memory, held_memory
from eval.bench.timing import Spread
from nat_env import vector_env
from nat_env.models.uvit import UViTConfig

TINY = UViTConfig(codebook_size=6, num_tokens=4, num_classes=3, hidden_size=8, depth=3, num_heads=2)
SMALL = ScaleOptions(
    bundle="digits",
    num_envs=(2, 4),
    num_tokens=(4, 9),
    num_steps=(2, 3),
    trajectories=(4, 8),
    rollout_num_envs=2,
    batch_size=2,
    uvit=TINY,
)
MEGABYTES = 64
ON_LINUX = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells it")


def growth_rows(seconds, memory):
    return [
        {"axis": "tokens", "size": n, "seconds": Spread.of([s, s, 99.0]), "memory_mb": m}
        for n, s, m in zip((16, 1, 4), seconds, memory, strict=True)
    ]


def test_exponents_are_of_all_sizes_and_of_the_two_largest():
    (found,) = exponents(growth_rows(seconds=(16.0, 1.0, 4.0), memory=(160.0, 10.0, 10.0)))
    assert found["sizes"] == "1, 4, 16"
    assert found["time_exponent"] == pytest.approx(1.0)
    assert found["last_time_exponent"] == pytest.approx(1.0)
    # Flat, then times 16 where the size is times 4: half of that for the line through all three.
    assert found["memory_exponent"] == pytest.approx(1.0)
    assert found["last_memory_exponent"] == pytest.approx(2.0)


def test_memory_that_is_not_known_has_no_exponent():
    (found,) = exponents(growth_rows(seconds=(64.0, 1.0, 4.0), memory=(None, None, None)))
    assert set(found) == {"axis", "sizes", "time_exponent", "last_time_exponent"}
    assert found["time_exponent"] == pytest.approx(1.5)
    assert found["last_time_exponent"] == pytest.approx(2.0)


def test_every_size_of_every_axis_is_the_work_that_it_says(monkeypatch):
    rows, measured = {"vector_env": [], "generation": []}, []  # of each decoding step
    decode_step = vector_env.decode_step
    for module, steps in rows.items():

        def counted(ids, *rest, steps=steps, **named):
            steps.append(len(ids))
            return decode_step(ids, *rest, **named)

        module = importlib.import_module(f"nat_env.{module}")
        monkeypatch.setattr(module, "decode_step", counted)
    for name, rise in (("peak_memory", 2.0), ("held_memory", 3.0)):

        def given(prepare, options, rise=rise):
            measured.append(prepare)
            return Memory(1.0, 1.0 + rise)

        monkeypatch.setattr(eval.bench.growth, name, given)
    growth, slopes = run(SMALL, repeats=1)
    twice = 2  # a warm-up and one repeat
    environments = [2] * 4 + [4] * 4
    rollouts = [2] * 4 * 2 + [2] * 4 * 4
    assert rows["vector_env"] == environments * twice + rollouts * twice * 3
    assert rows["generation"] == [2] * (4 + 4) * twice + [2] * (2 + 3) * twice
    assert [(row["axis"], row["size"], row["memory_mb"]) for row in growth.rows] == [
        ("environments", 2, 2.0),
        ("environments", 4, 2.0),
        ("tokens N", 4, 2.0),
        ("tokens N", 9, 2.0),
        ("steps T", 2, 2.0),
        ("steps T", 3, 2.0),
        ("trajectories", 4, 3.0),
        ("trajectories", 8, 3.0),
        ("trajectories, kept in a file", 4, 3.0),
        ("trajectories, kept in a file", 8, 3.0),
        ("trajectories, default buffer", 4, 3.0),
        ("trajectories, default buffer", 8, 3.0),
    ]
    assert measured[-6:] == [prepared] * 4 + [prepared_with_default_buffer] * 2
    assert all(row["seconds"].median > 0 for row in growth.rows)
    assert len(slopes.rows) == 6
    for row in slopes.rows:
        assert row["last_time_exponent"] == pytest.approx(row["time_exponent"])  # of two sizes
        assert row["memory_exponent"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("prepare", "in_a_file", "kind"),
    [
        (prepared, False, EpisodeRolloutBuffer),
        (prepared, True, EpisodeRolloutBuffer),
        (prepared_with_default_buffer, False, DictRolloutBuffer),
    ],
)
def test_a_rollout_is_collected_and_held_and_nothing_is_learned(
    prepare, in_a_file, kind, tmp_path, monkeypatch
):
    made = []

    def kept(*given):
        made.append(make_learner(*given))
        return made[-1]

    monkeypatch.setattr(eval.bench.growth, "make_learner", kept)
    rollout = prepare(rollout_config(SMALL, 8, tmp_path if in_a_file else None))
    (model,) = made
    before = {k: v.clone() for k, v in model.policy.state_dict().items()}
    for _ in range(2):
        rollout()
    buffer = model.rollout_buffer
    assert type(buffer) is kind
    features = buffer.observations["features"]
    assert isinstance(features, np.memmap) == in_a_file
    assert features.shape[:2] == (4 * 8 // 2, 2)
    assert buffer.full and (np.abs(features).sum(axis=-1) > 0).all()
    assert model.num_timesteps == 2 * 8 * 4
    assert model._n_updates == 0
    assert all(torch.equal(v, before[k]) for k, v in model.policy.state_dict().items())


def in_a_file(folder):
    pages = np.memmap(folder / "pages", np.uint8, "w+", shape=MEGABYTES * 2**20)
    pages[:] = 1
    return pages


@ON_LINUX
@pytest.mark.parametrize(
    ("work", "held"),
    [
        (lambda folder: np.ones(MEGABYTES * 2**20, np.uint8), MEGABYTES),
        (lambda folder: np.ones(MEGABYTES * 2**20, np.uint8).sum(), 0),
        (in_a_file, 0),
    ],
    ids=["kept", "freed", "in a file"],
)
def test_held_memory_is_what_is_kept_and_in_no_file(work, held, tmp_path):
    found = eval.bench.memory._held(torch.get_num_threads(), lambda f: lambda: work(f), (tmp_path,))
    assert found.rise == pytest.approx(max(held, 1.0), abs=8)


@ON_LINUX
def test_held_memory_is_measured_in_a_process_of_its_own():
    found = held_memory(functools.partial, torch.ones, MEGABYTES * 2**18)
    assert found.rise == pytest.approx(MEGABYTES, abs=16)


def test_memory_that_the_system_does_not_tell_is_left_out_or_refused(monkeypatch):
    monkeypatch.setattr(eval.bench.memory, "_status", lambda field: None)
    assert held_memory(functools.partial, torch.ones, 1) is None
    with monkeypatch.context() as windows:
        windows.setitem(sys.modules, "resource", None)
        with pytest.raises(ValueError, match="memory"):
            eval.bench.memory._resident("VmHWM")
    if sys.platform != "win32":
        assert eval.bench.memory._resident("VmHWM") > 10


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"trajectories": (4,)}, "trajectories"),
        ({"trajectories": (4, 7)}, "trajectories"),
        ({"rollout_num_envs": 0}, "rollout_num_envs"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changed, name):
    with pytest.raises(ValueError, match=name):
        replace(SMALL, **changed)
