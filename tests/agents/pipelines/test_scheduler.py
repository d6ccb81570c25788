"""Our schedules and policies inside diffusers' `AmusedPipeline`: the tokens of our own loop."""

import pytest
import torch
from diffusers import AmusedPipeline

from agents.pipelines.randomness import generators_of
from agents.pipelines.scheduler import NATScheduler
from nat_env import ScheduledPolicy, load_bundle
from nat_env.generation import generate_tokens
from nat_env.schedules import Schedule, amused_schedule, heuristic_schedule

MASK, T = 19, 5


class FromFeatures:
    """A policy whose numbers differ from sample to sample and step to step."""

    def __call__(self, features, timestep):
        seen = features.mean(dim=(1, 2)).sigmoid() + 0.1 * features[:, 0, 0].sin()  # [B]
        ratio = (1 - (timestep + 1) / T) * (0.8 + 0.2 * seen.sigmoid())
        return torch.stack([ratio, 0.5 + seen, 1 + seen, timestep + 2 * seen], dim=1)


@pytest.fixture(scope="module")
def bundle(amused_bundle_folder):
    return load_bundle(amused_bundle_folder, "float32")


@pytest.fixture
def pipe(amused_folder):
    pipe = AmusedPipeline.from_pretrained(amused_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tokens(pipe, seed, **options):
    """Of `a cat` and `a zebra`, [2, N]."""
    options = {"num_inference_steps": T, "output_type": "latent"} | options
    generator = torch.Generator().manual_seed(seed)
    return pipe(["a cat", "a zebra"], generator=generator, **options).images.flatten(1)


def ours(bundle, policy, seed, num_steps=T):
    conditions = torch.tensor([0, 1])
    return generate_tokens(bundle.nat, policy, conditions, num_steps, generators_of(seed, 2))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("w", [9.0, 0.5])
def test_a_schedule_of_one_w_with_the_pipelines_guidance(pipe, bundle, seed, w):
    table = amused_schedule(T, 16).table.clone()
    table[:, 3] = w
    schedule = Schedule(table)
    pipe.scheduler = NATScheduler.of_schedule(schedule, MASK)
    assert pipe.scheduler.guidance_scale == 1 + w
    found = tokens(pipe, seed, guidance_scale=pipe.scheduler.guidance_scale)
    assert torch.equal(found, ours(bundle, ScheduledPolicy(schedule), seed))
    other = tokens(pipe, seed, guidance_scale=4.0)
    assert not torch.equal(found, other)  # whoever calls it otherwise gets what was asked for


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("guidance_scale", [10.0, 1.5])
def test_any_schedule_and_policy_where_it_watches(pipe, bundle, seed, guidance_scale):
    for policy in (ScheduledPolicy(heuristic_schedule(T, 2.0, 3.0)), FromFeatures()):
        expected = ours(bundle, policy, seed)
        pipe.scheduler = NATScheduler.of_policy(policy, MASK).watch(pipe.transformer)
        assert torch.equal(tokens(pipe, seed, guidance_scale=guidance_scale), expected)
        pipe.scheduler.unwatch()
    modules = pipe.transformer.modules()
    assert not any(module._forward_hooks for module in modules)


def test_a_policy_without_guidance_needs_no_null_pass(pipe, bundle):
    table = heuristic_schedule(T, guidance_slope=0.0).table
    policy = ScheduledPolicy(Schedule(table))
    pipe.scheduler = NATScheduler.of_schedule(policy.schedule, MASK).watch(pipe.transformer)
    assert torch.equal(tokens(pipe, 3, guidance_scale=1.0), ours(bundle, policy, 3))
    pipe.scheduler.unwatch()
    pipe.scheduler = NATScheduler.of_policy(FromFeatures(), MASK).watch(pipe.transformer)
    with pytest.raises(ValueError, match=r"^guidance_scale: the pipeline made no pass"):
        tokens(pipe, 3, guidance_scale=1.0)


def test_one_that_is_saved_with_the_pipeline_comes_back(pipe, tmp_path):
    schedule = amused_schedule(T, 16)
    pipe.scheduler = NATScheduler.of_schedule(schedule, MASK)
    expected = tokens(pipe, 4)
    pipe.scheduler.save_pretrained(tmp_path / "scheduler")
    loaded = NATScheduler.from_pretrained(tmp_path / "scheduler")
    assert torch.equal(loaded.policy.schedule.table, schedule.table)
    pipe.scheduler = loaded
    assert torch.equal(tokens(pipe, 4), expected)


def test_what_it_cannot_replay_is_refused_before_the_first_pass(pipe):
    pipe.transformer.register_forward_pre_hook(lambda *_: pytest.fail("a pass was made"))
    changing = heuristic_schedule(T)
    for scheduler, steps, message in (
        (NATScheduler.of_schedule(changing, MASK), T, r"^guidance_scale: .*scheduler\.watch"),
        (NATScheduler.of_policy(FromFeatures(), MASK), T, r"^guidance_scale: .*scheduler\.watch"),
        (NATScheduler.of_schedule(amused_schedule(4, 16), MASK), T, r"its own T = 4"),
        (NATScheduler(MASK), T, r"^policy: got none"),
    ):
        pipe.scheduler = scheduler
        with pytest.raises(ValueError, match=message):
            tokens(pipe, 0, num_inference_steps=steps)


def test_a_transformer_that_is_not_the_one_watched_is_noticed(pipe, amused_folder):
    other = AmusedPipeline.from_pretrained(amused_folder)
    pipe.scheduler = NATScheduler.of_policy(FromFeatures(), MASK).watch(other.transformer)
    with pytest.raises(ValueError, match=r"^model_output: not of the transformer that is watched"):
        tokens(pipe, 0)
