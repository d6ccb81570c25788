"""Batches of rows through a function, and images as bytes and as numbers."""

import numpy as np
import pytest
import torch

from nat_env.frozen.batches import in_batches
from nat_env.models.pixels import to_float, to_uint8


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_all_rows_in_order_in_batches_that_are_no_larger(batch_size):
    seen = []

    def product(a, b):
        seen.append(len(a))
        return a * b[:, None]

    a, b = torch.randn(7, 2), torch.arange(7)
    assert torch.equal(in_batches(product, a, b, batch_size=batch_size), a * b[:, None])
    assert sum(seen) == 7 and max(seen) == min(batch_size, 7)


def test_batches_are_computed_elsewhere_and_come_back():
    devices = []

    def shape_only(batch):
        devices.append(batch.device.type)
        return torch.zeros(len(batch), 2)  # data of a meta tensor cannot come back

    assert in_batches(shape_only, torch.zeros(5, 3), batch_size=2, device="meta").shape == (5, 2)
    assert devices == ["meta"] * 3


def test_no_gradients_are_recorded():
    weight = torch.ones(3, requires_grad=True)
    assert not in_batches(lambda batch: batch * weight, torch.ones(4, 3)).requires_grad


def test_bad_batches_are_refused_before_anything_is_computed():
    for arguments, size, message in (
        ((torch.zeros(2), torch.zeros(3)), 8, r"^rows: got \[2, 3\]"),
        ((torch.zeros(2),), 0, "^batch_size: got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            in_batches(pytest.fail, *arguments, batch_size=size)


def test_every_byte_comes_back_and_what_is_in_range_stays():
    every = torch.arange(256, dtype=torch.uint8)
    expected = np.arange(256, dtype=np.float32) / 255
    assert np.array_equal(to_float(every).numpy(), expected)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert torch.equal(to_float(torch.from_numpy(expected)), torch.from_numpy(expected))
