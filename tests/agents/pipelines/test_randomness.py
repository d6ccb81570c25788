"""Which seed a generator of torch stands for."""

import numpy as np
import torch

from agents.pipelines.randomness import generators_of, seed_of
from nat_env.generation import draw_uniforms


def test_a_new_generator_stands_for_its_seed_and_a_used_one_for_another_each_time():
    first = torch.Generator().manual_seed(2**40)
    seeds = [seed_of(first) for _ in range(4)]
    assert seeds[0] == 2**40 and len(set(seeds)) == 4
    again = torch.Generator().manual_seed(2**40)
    assert [seed_of(again) for _ in range(4)] == seeds
    used = torch.Generator().manual_seed(5)
    torch.rand(1, generator=used)
    assert seed_of(used) != 5


def test_without_one_torchs_own_decides():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        seeds = [seed_of(None), seed_of(None)]
        torch.manual_seed(3)
        assert seeds == [seed_of(None), seed_of(None)] and seeds[0] != seeds[1]


def test_image_i_draws_from_the_seed_plus_i():
    found = draw_uniforms(generators_of(7, 3), 4)
    for i in range(3):
        expected = np.random.default_rng(7 + i).random((4, 2), dtype=np.float32)
        np.testing.assert_array_equal(found[i], expected)
