"""Images read ahead by other processes: the same ones, in order, and few at a time."""

import pytest
import torch
from PIL import Image

import nat_env.images.streaming
from nat_env.images.streaming import streamed

SHAPE = (3, 4, 4)


@pytest.fixture
def paths(tmp_path):
    """Of six images; that of number i is i everywhere. The last is damaged."""
    for i in range(6):
        Image.new("RGB", (5, 4), (i, i, i)).save(tmp_path / f"{i}.png")
    (tmp_path / "5.png").write_bytes(b"no image")
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_images_come_in_the_order_asked_for_whoever_reads_them(paths, monkeypatch, workers):
    monkeypatch.setattr(nat_env.images.streaming, "_AT_ONCE", 2)
    monkeypatch.setattr(nat_env.images.streaming, "_WORKERS", workers)
    numbers = [4, 0, 0, 3, 2, 1, 5]
    before = torch.get_rng_state()
    pieces = list(streamed(paths, numbers, SHAPE))
    assert torch.equal(torch.get_rng_state(), before)
    assert [piece.numbers for piece in pieces] == [[4, 0], [0, 3], [2, 1], [5]]
    images = torch.cat([piece.images for piece in pieces])
    assert images.dtype == torch.uint8
    assert images.shape == (7, *SHAPE)
    shown = [4, 0, 0, 3, 2, 1, 0]  # black for what cannot be read
    for image, grey in zip(images, shown, strict=True):
        assert image.unique().tolist() == [grey]
    assert [list(piece.errors) for piece in pieces] == [[], [], [], [5]]
    assert str(paths[5]) in pieces[3].errors[5]


def test_nothing_is_read_that_is_not_asked_for_soon(paths, monkeypatch):
    """In this process: only what is taken."""
    monkeypatch.setattr(nat_env.images.streaming, "_WORKERS", 0)
    monkeypatch.setattr(nat_env.images.streaming, "_AT_ONCE", 1)
    read: list[str] = []
    picture = nat_env.images.streaming.read_picture
    monkeypatch.setattr(
        nat_env.images.streaming, "read_picture", lambda p: read.append(p.name) or picture(p)
    )
    pieces = streamed(paths, [1, 2, 3], SHAPE)
    next(pieces)
    assert read == ["1.png"]
