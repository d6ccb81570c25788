"""Files of weights by others: read without running anything, refused with file and remedy."""

import argparse
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nat_env.convert.checkpoint_file import read_checkpoint, read_state_dict

TENSORS = {"a.weight": torch.arange(200.0).view(2, 100), "a.bias": torch.ones(3)}


class Program:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_what_torch_and_safetensors_write_is_read(tmp_path):
    torch.save(TENSORS, tmp_path / "new.pth")
    torch.save(TENSORS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": TENSORS, "epoch": 3}, tmp_path / "nested.ckpt")
    save_file(TENSORS, tmp_path / "one.safetensors")
    save_file(TENSORS, tmp_path / "renamed.pth")
    for path in tmp_path.iterdir():
        found = read_state_dict(path, "file")
        assert found.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert torch.equal(found[name], tensor)


def test_a_training_programs_options_are_taken(tmp_path):
    args = argparse.Namespace(lr=1e-5, names=["a"], none=None)
    torch.save({"model": TENSORS, "args": args, "global_step": 7}, tmp_path / "policy.pth")
    found = read_checkpoint(tmp_path / "policy.pth", "file")
    assert (found["args"], found["global_step"]) == (args, 7)
    assert torch.equal(found["model"]["a.bias"], TENSORS["a.bias"])
    with pytest.raises(ValueError, match=r"^file: .*policy.pth' holds model, args, global_step be"):
        read_state_dict(tmp_path / "policy.pth", "file")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_no_program_is_run(tmp_path):
    torch.save({"a": Program(tmp_path / "ran")}, tmp_path / "file.pth")
    with pytest.raises(
        ValueError, match=r"^weights: .*file.pth' holds objects of \S*mkdir, .*save"
    ):
        read_checkpoint(tmp_path / "file.pth", "weights")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_half_a_download_is_told(tmp_path, new, share):
    path = tmp_path / "file.pth"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=new)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"^file: .*file.pth' is .*(half a download|download it)"):
        read_checkpoint(path, "file")


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_half_a_safetensors_file_is_told(tmp_path, share):
    path = tmp_path / "file.safetensors"
    save_file(TENSORS, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"^file: .*half a download.*download it again"):
        read_checkpoint(path, "file")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n <!DOCTYPE html><html>Too large to scan</html>", "is a web page; download the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS"),
        (b"", "is empty; download"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is no file of weights"),
        (pickle.dumps({"a": 1}), "is no file of weights"),
        (b"some words and others", "no file of weights"),
        (np.zeros(300).tobytes(), "no file of weights"),
    ],
)
def test_what_is_no_weights_is_told(tmp_path, data, message):
    (tmp_path / "file.pth").write_bytes(data)
    with pytest.raises(ValueError, match=rf"^file: .*file.pth' .*{message}"):
        read_checkpoint(tmp_path / "file.pth", "file")


def test_what_is_not_there_or_no_dict_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"^file: .*absent' cannot be read \(No such file"):
        read_checkpoint(tmp_path / "absent", "file")
    with pytest.raises(ValueError, match=r"^file: .* cannot be read \(Is a directory"):
        read_checkpoint(tmp_path, "file")
    for number, value in enumerate(([1, 2], torch.zeros(2), {0: torch.zeros(1)})):
        path = tmp_path / f"{number}.pth"
        torch.save(value, path)
        with pytest.raises(ValueError, match=r"^file: .* holds a \w+, allowed is a dict by name"):
            read_checkpoint(path, "file")
    torch.save({}, tmp_path / "nothing.pth")
    with pytest.raises(ValueError, match=r"^file: .* holds no tensors"):
        read_state_dict(tmp_path / "nothing.pth", "file")
