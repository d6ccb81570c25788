import pytest
import torch
from gymnasium import spaces

from agents.learners.config import PRESETS
from agents.learners.policy import AdaNATPolicy
from eval.bench.contestants import UVITS, random_nat
from eval.bench.measuring.timing import multiply_adds
from eval.bench.planning.sizes import (
    Frozen,
    memory_of,
    multiply_adds_of_a_row,
    multiply_adds_of_an_image,
    parameters_of,
    policy_of,
)
from nat_env.episodes.observations import ObservationForm
from nat_env.frozen.conditions import Conditions
from nat_env.models.maskgit_vqgan import MaskGITVQGANConfig
from nat_env.models.uvit import UVIT_SIZES, UViT, UViTConfig

PROMPTED = UViTConfig(6, (2, 2), 0, 8, 3, 2, context_length=5, context_size=7)


def counted(transformer, rows):
    ids = torch.zeros(rows, transformer.num_tokens, dtype=torch.int64)
    labels = torch.zeros(rows, dtype=torch.int64)
    return multiply_adds(lambda phases: phases.of("pass", transformer)(ids, labels))["pass"]


def test_a_row_has_the_multiply_adds_that_torch_counts():
    for config in (UVITS["tiny"], UVITS["small"]):
        transformer = random_nat(config, "float32").transformer
        assert counted(transformer, 3) == 3 * multiply_adds_of_a_row(config)
    names = ("a prompt", "another one")
    context, pooled = torch.randn(3, 5, 7), torch.randn(3, 4)
    prompted = UViT(PROMPTED).eval().with_conditions(Conditions(names, context, pooled))
    with torch.no_grad():
        assert counted(prompted, 2) == 2 * multiply_adds_of_a_row(PROMPTED)


def test_published_sizes_have_the_published_numbers():
    # From the authors' code: 12.4 and 52.0 billion multiply-adds a pass; 45.6, 194 million numbers.
    assert multiply_adds_of_a_row(UVIT_SIZES["S"]) == pytest.approx(12.4e9, rel=0.01)
    assert multiply_adds_of_a_row(UVIT_SIZES["L"]) == pytest.approx(52.0e9, rel=0.01)
    assert parameters_of(UVIT_SIZES["S"]) == pytest.approx(45.6e6, rel=0.01)
    assert parameters_of(UVIT_SIZES["L"]) == pytest.approx(194e6, rel=0.01)
    assert Frozen(UVIT_SIZES["S"]).image == pytest.approx(93.3e9, rel=0.01)
    assert Frozen(UVIT_SIZES["S"]).features == 256 * 512
    assert Frozen(UVIT_SIZES["S"]).pixels == 256**2


def test_four_times_the_pixels_are_four_times_the_multiply_adds_of_an_image():
    small, large = (
        MaskGITVQGANConfig((side, side), width=32, multipliers=(1, 1)) for side in (16, 32)
    )
    assert multiply_adds_of_an_image(large) == 4 * multiply_adds_of_an_image(small)


def test_the_policy_is_what_is_trained(digits):
    space = ObservationForm.named("features", digits, 4).space
    box = spaces.Box(-1, 1, (4,))
    policy = AdaNATPolicy(space, box, lambda _: 0.0, grid=digits.nat.feature_grid, hidden_size=16)
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    assert policy_of(digits.nat.transformer.config, 16) == trained


def test_memory_by_hand():
    config = PRESETS["paper"][1]  # 4096 trajectories in 1024 environments, T = 8
    found = memory_of(UVIT_SIZES["S"], config)
    assert found["features of a rollout"] == 2 * 4096 * 8 * 256 * 512
    assert found["first passes"] == 1000 * (2 * 256 * 1024 + 4 * 256 * 512)
    assert found["passes of a step"] == 1024 * (2 * 2 * 256 * 1024 + 4 * 256 * 512)
    assert found["learned"] == 5 * 4 * policy_of(UVIT_SIZES["S"], 512)
    of_eight = memory_of(UVIT_SIZES["S"], config, 8)
    assert of_eight["features of a rollout"] == found["features of a rollout"] / 8
    assert of_eight["passes of a step"] == found["passes of a step"] / 2  # 512 at once
    assert of_eight["models"] == found["models"]
