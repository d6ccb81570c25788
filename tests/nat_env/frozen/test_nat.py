"""What a frozen transformer gives is checked once, and a forked process computes alone."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.frozen.nat import FrozenNAT
from nat_env.frozen.protocol import NATOutput
from nat_env.generation import generate
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule
from nat_env.vector_env import NATDecodeVectorEnv

SCHEDULE = heuristic_schedule(2)


class Spoiled(nn.Module):
    """The digits' transformer with one number replaced, once something is revealed."""

    def __init__(self, inner: nn.Module, part: str, value: float, row: str) -> None:
        super().__init__()
        self.inner, self.part, self.value, self.row = inner, part, value, row
        for name in ("num_tokens", "codebook_size", "mask_id", "feature_grid", "feature_size"):
            setattr(self, name, getattr(inner, name))

    def forward(self, ids, condition):
        output = self.inner(ids, condition)
        begun = (ids != self.mask_id).any(dim=1) & ((condition == 10) == (self.row == "null"))
        spoiled = getattr(output, self.part).clone()
        places = slice(None) if self.value == -math.inf else 3
        spoiled[begun, 5, places] = self.value
        return NATOutput(**output._asdict() | {self.part: spoiled})


def spoiled_bundle(*how, dtype=torch.float32) -> Bundle:
    bundle = load_bundle("digits", dtype="float32")
    return replace(bundle, nat=FrozenNAT(Spoiled(bundle.nat.transformer, *how), 10, dtype=dtype))


@pytest.mark.parametrize("row", ["conditional", "null"])
@pytest.mark.parametrize(
    ("part", "value"),
    [("logits", math.nan), ("logits", math.inf), ("logits", -math.inf), ("features", math.nan),
     ("features", -math.inf)],
)  # fmt: skip
def test_what_is_not_finite_is_refused_by_name_everywhere(part, value, row):
    bundle = spoiled_bundle(part, value, row)
    message = f"^{part}: the transformer gave"
    with pytest.raises(ValueError, match=message):
        generate(bundle, ScheduledPolicy(SCHEDULE), [1, 2], 2, seed=0)
    env = NATDecodeVectorEnv(2, bundle, num_steps=2)
    env.reset(seed=0)
    before = env.state_dict()
    with pytest.raises(ValueError, match=message):
        env.step(np.zeros((2, 4), np.float32))
    assert torch.equal(env.state_dict()["ids"], before["ids"])
    assert env.state_dict()["timesteps"].tolist() == [0, 0]


def test_an_overflow_of_float16_is_refused_with_a_remedy():
    class Large(Spoiled):
        def forward(self, ids, condition):
            output = self.inner(ids, condition)
            return NATOutput(output.logits * 1e5, output.features)

    inner = load_bundle("digits", dtype="float32").nat.transformer
    ids, conditions = torch.full((1, 16), inner.mask_id), torch.tensor([1])
    assert FrozenNAT(Large(inner, "", 0, ""), 10).passes(ids, conditions).logits.isfinite().all()
    half = FrozenNAT(Large(load_bundle("digits", dtype="float16").nat.transformer, "", 0, ""), 10,
                     dtype=torch.float16)  # fmt: skip
    with pytest.raises(ValueError, match=r"^logits: .* in float16, .* may fit bfloat16"):
        half.first_passes(conditions)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [(torch.tensor([11]), "int64 in 11 .. 11"), (torch.tensor([-1]), "in -1"),
     (torch.tensor([1.0]), "float32 in"), (torch.tensor([True]), "bool in")],
)  # fmt: skip
def test_conditions_of_a_first_pass_are_checked(conditions, message):
    nat = load_bundle("digits", dtype="float32").nat
    with pytest.raises(ValueError, match=f"condition: got .*{message}"):
        nat.first_passes(conditions)


FORKED = {
    "gymnasium": """
import gymnasium as gym, numpy as np, nat_env
env = gym.make_vec("NATDecode-v0", num_envs=2, bundle="digits", vectorization_mode="async")
for _ in range(2):
    env.reset(seed=0)
    for _ in range(3):
        observation, *_ = env.step(np.zeros((2, 4), np.float32))
env.close()
print(observation["features"].shape)
""",
    "multiprocessing": """
import multiprocessing, torch, nat_env
torch.set_num_threads(2)
bundle = nat_env.load_bundle("digits", dtype="float32")
policy = nat_env.ScheduledPolicy(nat_env.heuristic_schedule(2))
total = lambda seed: nat_env.generate(bundle, policy, [1] * 8, 2, seed).sum().item()
here = total(0)
def work(seed, queue): queue.put(total(seed))
queue = (context := multiprocessing.get_context("fork")).Queue()
child = context.Process(target=work, args=(0, queue))
child.start()
print(abs(queue.get() - here) < 1e-2)
child.join()
""",
}


@pytest.mark.parametrize("by", FORKED)
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not(by):
    """With two threads, torch's pool is started before the fork."""
    run = subprocess.run(
        [sys.executable, "-c", FORKED[by]],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[0] in ("(2, 1024)", "True")
