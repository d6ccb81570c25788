"""Fashion-MNIST: IDX files, a folder of them, and a download."""

import gzip
import hashlib
import struct
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch

import pretrain.data.fashion
from pretrain.data.fashion import FASHION_CLASSES, fashion_mnist, read_idx


def idx(array):
    """An IDX file of unsigned bytes, by its specification."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("shape", [(5,), (3, 4, 6), (2, 1, 3, 2)])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read(tmp_path, shape, zipped):
    array = np.random.default_rng(0).integers(0, 256, shape)
    data = idx(array)
    (tmp_path / "file").write_bytes(gzip.compress(data) if zipped else data)
    read = read_idx(tmp_path / "file")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


def test_every_truncation_of_an_idx_file_is_refused(tmp_path):
    array = np.arange(24).reshape(2, 3, 4)
    data = idx(array)
    for whole in (data, gzip.compress(data)):
        for length in range(len(whole)):
            (tmp_path / "file").write_bytes(whole[:length])
            with pytest.raises(ValueError, match=r"^path: .*file.*IDX"):
                read_idx(tmp_path / "file")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data + b"\0",
        lambda data: b"\0\0\x0d" + data[3:],  # floats
        lambda data: b"\x01" + data[1:],
        lambda data: data[:4] + b"\0\0\0\x03" + data[8:],  # another length than announced
        lambda data: b"<html>not found</html>",
        lambda data: gzip.compress(data)[:10] + b"\xff" + gzip.compress(data)[11:],
        lambda data: gzip.compress(data)[:-8] + bytes(8),  # wrong checksum
        lambda data: gzip.compress(b"not IDX"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, damage):
    (tmp_path / "file").write_bytes(damage(idx(np.arange(24).reshape(2, 3, 4))))
    with pytest.raises(ValueError, match=r"^path: .*file.*IDX"):
        read_idx(tmp_path / "file")


def write_fashion(folder, zipped=False, train=12, test=5):
    rng = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", train), ("t10k", test)):
        arrays[f"{name}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28))
        arrays[f"{name}-labels-idx1-ubyte"] = rng.integers(0, 10, count)
    for name, array in arrays.items():
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    return list(arrays.values())


@pytest.mark.parametrize("zipped", [False, True])
def test_fashion_mnist_from_a_folder(tmp_path, zipped):
    train_images, train_labels, test_images, test_labels = write_fashion(tmp_path, zipped)
    data = fashion_mnist(tmp_path)
    assert data.name == "fashion"
    assert data.class_names == FASHION_CLASSES
    assert len(set(FASHION_CLASSES)) == 10
    np.testing.assert_array_equal(data.train_images, train_images[:, None])
    np.testing.assert_array_equal(data.train_labels, train_labels)
    np.testing.assert_array_equal(data.test_images, test_images[:, None])
    np.testing.assert_array_equal(data.test_labels, test_labels)
    assert data.train_images.dtype == torch.uint8
    assert data.train_labels.dtype == torch.int64


def test_fashion_mnist_names_what_is_missing_or_damaged(tmp_path):
    write_fashion(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").rename(tmp_path / "aside")
    with pytest.raises(ValueError, match=r"^folder: .*t10k-images-idx3-ubyte"):
        fashion_mnist(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes((tmp_path / "aside").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"^path: .*t10k-images-idx3-ubyte"):
        fashion_mnist(tmp_path)
    (tmp_path / "aside").replace(tmp_path / "t10k-images-idx3-ubyte")
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(11)))
    with pytest.raises(ValueError, match=r"^train_labels: got .*11.*allowed is int64 .12."):
        fashion_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.full(12, 10)))
    with pytest.raises(ValueError, match=r"^train_labels: got 10 .. 10"):
        fashion_mnist(tmp_path)


def test_a_download_that_fails_or_is_no_data_set_is_refused_and_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(pretrain.data.fashion, "FASHION_FOLDER", tmp_path / "absent")

    def no_connection(address, path):
        raise URLError("no route")

    monkeypatch.setattr(urllib.request, "urlretrieve", no_connection)
    with pytest.raises(ValueError, match=r"^data: cannot get .* the folder of the four files"):
        fashion_mnist()
    monkeypatch.setattr(
        urllib.request, "urlretrieve", lambda address, path: Path(path).write_text("<html>")
    )
    with pytest.raises(
        ValueError, match=r"^data: https://.*\.gz is not the file .*SHA-256 differs"
    ):
        fashion_mnist()
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_download_is_kept_where_it_is_what_the_authors_gave(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(pretrain.data.fashion, "FASHION_FOLDER", tmp_path / "absent")
    (tmp_path / "theirs").mkdir()
    write_fashion(tmp_path / "theirs", zipped=True)
    theirs = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    names = pretrain.data.fashion._IDX_FILES
    hashes = {name: hashlib.sha256(theirs[f"{name}.gz"]).hexdigest() for name in names}
    monkeypatch.setattr(pretrain.data.fashion, "_IDX_FILES", hashes)
    asked = []

    def retrieved(address, path):
        asked.append(address)
        Path(path).write_bytes(theirs[address.rpartition("/")[2]])

    monkeypatch.setattr(urllib.request, "urlretrieve", retrieved)
    for _ in range(2):
        assert len(fashion_mnist().train_images) == 12
    assert len(asked) == 4 and all(address.startswith("https://") for address in asked)
