"""One torch thread: two of them beside another busy process wait for each other."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def images_alive(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[int]]:
    """Of a bundle: the list of how many images are in memory whenever a batch is decoded.

    Counted are all float tensors of the images' shape, views by what they keep in memory.
    """

    def watch(bundle: Any) -> list[int]:
        counts: list[int] = []
        shape, decode = bundle.real_images.shape[1:], bundle.tokenizer.decode

        def spy(ids: torch.Tensor) -> torch.Tensor:
            storages = (
                part.untyped_storage()
                for part in gc.get_objects()
                if type(part) is torch.Tensor
                and part.shape[1:] == shape
                and part.dtype == torch.float32
            )
            sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
            counts.append(sum(sizes.values()) // (4 * shape.numel()))
            return decode(ids)

        monkeypatch.setattr(bundle.tokenizer, "decode", spy)
        return counts

    return watch
