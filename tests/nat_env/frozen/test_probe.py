"""Rows that fit, by what a make-believe accelerator says of its memory."""

import pytest
import torch

from nat_env.frozen.probe import rows_that_fit

CUDA = torch.device("cuda")


@pytest.fixture
def card(monkeypatch):
    """A function that puts a card there: a pass takes `fixed` bytes, and `each` for each row."""

    def put(free, fixed, each, kept_by_torch=0):
        taken, passes = [100], []

        def run(rows):
            passes.append(rows)
            taken.append(100 + fixed + each * rows)

        answers = {
            "memory_allocated": lambda _: 100,
            "memory_reserved": lambda _: 100 + kept_by_torch,
            "reset_peak_memory_stats": lambda _: taken.append(0),
            "max_memory_allocated": lambda _: taken[-1],
            "mem_get_info": lambda _: (free, 10 * free),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        return run, passes

    return put


@pytest.mark.parametrize(
    ("free", "fixed", "each", "kept_by_torch", "rows"),
    [
        (40_000, 0, 10, 0, 512),  # 10,000 / 10 = 1000
        (40_000, 8_000, 10, 0, 128),  # what a pass takes at any size is no row's: 2,000 / 10
        (40_000, 0, 10, 160_000, 4096),  # what torch keeps for itself is free: 50,000 / 10
        (400_000_000, 0, 10, 0, 4096),  # no more than at most
        (40_000, 0, 50_000, 0, 1),  # one row at least
        (40_000, 100, 0, 0, 4096),  # rows that cost nothing
    ],
)
def test_a_quarter_of_what_is_free(card, free, fixed, each, kept_by_torch, rows):
    run, passes = card(free, fixed, each, kept_by_torch)
    assert rows_that_fit(run, CUDA, at_most=4096) == rows
    assert max(passes) <= 16


def test_a_device_that_does_not_tell_takes_the_most():
    assert rows_that_fit(pytest.fail, torch.device("cpu"), at_most=77) == 77
