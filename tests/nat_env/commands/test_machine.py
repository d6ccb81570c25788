"""What a row says of the machine that computed it."""

import pytest
import torch

from nat_env.commands.machine import machine


@pytest.mark.parametrize(
    ("cuda", "mps", "name"),
    [
        (True, False, "Some GPU"),
        (False, True, "mps"),
        (False, False, None),
        (True, True, "Some GPU"),
    ],
)
def test_the_accelerator_is_named(monkeypatch, cuda, mps, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    found = machine()
    assert found["accelerator"] == name
    assert found["torch_threads"] == torch.get_num_threads() and found["processor"]
