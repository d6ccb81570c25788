"""A folder of tokens: of every image, and of its mirror image, as a tokenizer gives them.

tokens.json        what they are of: tokenizer, files, crop, classes
labels.npy         class of each image [n] int32
tokens_00000.npy   [images of a shard, 1 or 2, N] int16, or int32 where codes are more; -1 where the
                   image cannot be read
complete.json      SHA-256 of these, written last
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nat_env.storage.claims import check_same
from nat_env.storage.files import read_json, sha256

ABOUT, COMPLETE, LABELS = "tokens.json", "complete.json", "labels.npy"


def shard_file(number: int) -> str:
    """Name of a shard's file."""
    return f"tokens_{number:05}.npy"


class TokenRows:
    """Tokens on the disk, a row for each image that could be read and each of its mirrorings.

    Indexed like a tensor [rows, N] by numbers of rows: only these are read.
    """

    def __init__(self, shards: list[NDArray[Any]], images: NDArray[np.int64]) -> None:
        """Rows of some images.

        Args:
            shards: [images of a shard, V, N], all of one size but the last.
            images: numbers of those that could be read [n].
        """
        self._shards, self._images = shards, images
        self._size, self.versions, self.num_tokens = shards[0].shape

    def __len__(self) -> int:
        """How many rows: V for each image."""
        return len(self._images) * self.versions

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Tokens [b, N] int64 of rows [b]; row r is of image r // V."""
        found = np.empty((len(rows), self.num_tokens), dtype=np.int64)
        for place, row in enumerate(rows.tolist()):
            image, version = divmod(row, self.versions)
            shard, within = divmod(int(self._images[image]), self._size)
            found[place] = self._shards[shard][within, version]
        return torch.from_numpy(found)


@dataclass(frozen=True, eq=False)
class TokenCache:
    """Tokens and classes to train a transformer on."""

    ids: TokenRows
    """[rows, N]."""
    labels: Tensor
    """[rows] int64."""
    unreadable: tuple[str, ...]
    """Files that there are no tokens of."""

    @classmethod
    def load(cls, folder: Path, **expected: Any) -> "TokenCache":
        """What `nat-pretrain tokens` wrote; the tokens stay on the disk.

        Args:
            folder: of the cache.
            expected: values of tokens.json that have to be so, such as `tokenizer`, see
                `pretrain.tokens.fill.tokenizer_fingerprint`.

        Raises:
            ValueError: it is not complete, damaged, or of another tokenizer.
        """
        about = read_json(folder / ABOUT, "tokens", dict)
        check_same({key: about.get(key) for key in expected}, expected, f"tokens: {str(folder)!r}")
        if not (folder / COMPLETE).is_file():
            raise ValueError(
                f"tokens: {str(folder)!r} is not complete; the same nat-pretrain tokens goes on"
            )
        complete = read_json(folder / COMPLETE, "tokens", dict)
        for name, digest in complete["files"].items():
            if not (folder / name).is_file() or sha256(folder / name) != digest:
                raise ValueError(
                    f"tokens: {folder / name} is missing or damaged; remove it and {COMPLETE}, and "
                    "the same nat-pretrain tokens makes it again"
                )
        names = [name for name in complete["files"] if name != LABELS]
        shards = [np.load(folder / name, mmap_mode="r") for name in names]
        labels = np.load(folder / LABELS)
        readable = np.concatenate([shard[:, 0, 0] >= 0 for shard in shards])
        images = np.flatnonzero(readable)
        ids = TokenRows(shards, images)
        rows = np.repeat(labels[images].astype(np.int64), ids.versions)
        return cls(ids, torch.from_numpy(rows), tuple(complete["unreadable"]))
