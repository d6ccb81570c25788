"""The schedule of aMUSEd beside diffusers' own scheduler: the same logits and noise, the same
tokens."""

import pytest
import torch
from diffusers import AmusedScheduler
from diffusers.schedulers import scheduling_amused

from nat_env.decoding.transition import decode_step
from nat_env.schedules import amused_schedule

MASK, CODES = 12, 9


@pytest.fixture
def noise(monkeypatch):
    """Makes diffusers draw tokens and Gumbel noise from the uniforms [N, 2] that are set in it."""
    given = {}

    def drawn(probabilities, count, generator=None):
        cdf = probabilities.double().cumsum(dim=1)
        return (cdf < given["uniforms"][:, :1].double() * cdf[:, -1:]).sum(dim=1, keepdim=True)

    def gumbel(like, generator=None):
        return -(-given["uniforms"][:, 1].view_as(like).log()).log()

    monkeypatch.setattr(torch, "multinomial", drawn)
    monkeypatch.setattr(scheduling_amused, "gumbel_noise", gumbel)
    return given


@pytest.mark.parametrize(
    ("num_steps", "side"), [(1, 4), (2, 4), (3, 4), (8, 4), (12, 4), (20, 4), (12, 8), (5, 3)]
)
def test_the_same_tokens_as_amused_scheduler(noise, num_steps, side):
    """Also where its limits matter: 12 and 20 steps are many for 16 tokens."""
    generator = torch.Generator().manual_seed(num_steps)
    scheduler = AmusedScheduler(mask_token_id=MASK)
    scheduler.set_timesteps(num_steps)
    table = amused_schedule(num_steps, side * side).table
    theirs = torch.full((1, side, side), MASK)
    for step, timestep in enumerate(scheduler.timesteps):
        null, logits = torch.randn(2, 1, side * side, CODES, generator=generator)
        uniforms = noise["uniforms"] = torch.rand(side * side, 2, generator=generator)
        before = theirs.flatten(1)
        guided = null + 10.0 * (logits - null)  # the pipeline's guidance_scale
        images = guided.transpose(1, 2).reshape(1, CODES, side, side)
        theirs = scheduler.step(images, timestep, theirs).prev_sample
        last = torch.tensor([step == num_steps - 1])
        ours, _ = decode_step(before, logits, null, table[step][None], uniforms[None], last, MASK)
        assert torch.equal(ours, theirs.flatten(1)), step
    assert not bool((theirs == MASK).any())


@pytest.mark.parametrize("side", [4, 16, 32])
def test_as_many_masked_tokens_for_any_number_of_steps(side):
    """What is left of the scheduler's step if every token has another confidence."""
    tokens = side * side
    for num_steps in (*range(1, 41), 63, 64, 100):
        scheduler = AmusedScheduler(mask_token_id=MASK)
        scheduler.set_timesteps(num_steps)
        ratios = amused_schedule(num_steps, tokens).table[:, 0]
        ids, logits = torch.full((1, tokens), MASK), torch.rand(1, tokens, 2)
        for timestep, ratio in zip(scheduler.timesteps[:-1], ratios, strict=False):
            before = int((ids == MASK).sum())
            ids = scheduler.step(logits, timestep, ids).prev_sample
            assert min(before, int((ratio * tokens).floor())) == int((ids == MASK).sum())


def test_temperatures_and_guidance_are_the_pipelines_defaults():
    table = amused_schedule(12, 256).table
    scheduler = AmusedScheduler(mask_token_id=MASK)
    scheduler.set_timesteps(12, (2, 0))
    assert torch.equal(table[:, 2], scheduler.temperatures)
    assert (table[:, 1] == 1).all() and (table[:, 3] == 10 - 1).all()
    with pytest.raises(ValueError, match="num_steps: got 0"):
        amused_schedule(0, 256)
