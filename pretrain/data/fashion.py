"""Fashion-MNIST from its IDX files."""

import gzip
import struct
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import torch

from nat_env.storage.files import sha256, written_aside
from pretrain.data.labelled import LabelledImages

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts the four files."""
FASHION_ADDRESS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
)
"""The authors' own repository."""
_IDX_FILES = {
    "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
"""Names, and SHA-256 of the gzipped files as their authors give them."""


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Raises:
        ValueError: not such a file, or truncated.
    """
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        if data[:3] != b"\x00\x00\x08":
            raise ValueError("its first bytes are not those of unsigned bytes in IDX form")
        shape = struct.unpack_from(f">{data[3]}I", data, 4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    except (ValueError, IndexError, EOFError, OSError, struct.error, zlib.error) as error:
        raise ValueError(f"path: {str(path)!r} is not a whole IDX file ({error})") from error


def fashion_mnist(folder: Path | None = None) -> LabelledImages:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 and 10,000 grey images of 28 x 28, 10 classes.

    Args:
        folder: holds the four IDX files, gzipped or not. By default Debian's folder where it is,
            else the user's cache, downloaded once from the authors' repository.

    Raises:
        ValueError: a file is missing or damaged.
    """
    if folder is None:
        folder = FASHION_FOLDER if FASHION_FOLDER.is_dir() else _download_fashion_mnist()
    arrays = []
    for name in _IDX_FILES:
        found = [p for p in (folder / name, folder / f"{name}.gz") if p.is_file()]
        if not found:
            raise ValueError(f"folder: {str(folder)!r} has neither {name} nor {name}.gz")
        arrays.append(torch.from_numpy(read_idx(found[0]).copy()))
    train_images, train_labels, test_images, test_labels = arrays
    return LabelledImages(
        name="fashion",
        class_names=FASHION_CLASSES,
        train_images=train_images[:, None],
        train_labels=train_labels.long(),
        test_images=test_images[:, None],
        test_labels=test_labels.long(),
    )


def _download_fashion_mnist() -> Path:
    folder = Path.home() / ".cache" / "nat_env" / "fashion-mnist"
    for name, expected in _IDX_FILES.items():
        target = folder / f"{name}.gz"
        if target.is_file():
            continue
        with written_aside(target) as aside:
            try:
                urllib.request.urlretrieve(f"{FASHION_ADDRESS}/{name}.gz", aside)
            except OSError as error:
                raise ValueError(
                    f"data: cannot get {name}.gz from {FASHION_ADDRESS} ({error}); allowed is the "
                    "folder of the four files, where there is no connection"
                ) from error
            if sha256(aside) != expected:  # somebody's log-in page, or other data
                raise ValueError(
                    f"data: {FASHION_ADDRESS}/{name}.gz is not the file that its authors gave "
                    "(SHA-256 differs); allowed is the folder of the four files"
                )
    return folder
