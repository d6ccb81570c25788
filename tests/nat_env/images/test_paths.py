"""Paths of many files: the same as a list of them, in little memory."""

import pickle
import tracemalloc
from pathlib import Path

import pytest

from nat_env.images.paths import Paths

NAMES = ["a/0.png", "a/Ünï.png", "b/k\udce4tzchen.jpg", "c/3.png", "c/4.png"]


@pytest.fixture
def paths():
    return Paths.of(Path("/data"), NAMES)


def test_they_are_a_sequence_of_paths(paths):
    expected = [Path("/data") / name for name in NAMES]
    assert list(paths) == expected
    assert len(paths) == 5
    assert paths[-1] == expected[-1]
    for part in (slice(1, 4), slice(None, None, 2), slice(None, None, -1), slice(4, 1)):
        assert list(paths[part]) == expected[part]
    assert list(paths[1:][::2]) == expected[1:][::2]
    assert expected[2] in paths
    with pytest.raises(IndexError):
        _ = paths[5]
    assert len(Paths.of(Path("/data"), [])) == 0


def test_a_part_shares_the_names_and_a_process_gets_them(paths):
    assert paths[1:3]._names is paths._names
    assert list(pickle.loads(pickle.dumps(paths))) == list(paths)


def test_many_take_little_more_than_their_names():
    """ImageNet's: 31 bytes of a name, 16 of where it is."""
    tracemalloc.start()
    paths = Paths.of(
        Path("/data"), (f"n{i // 50:08}/n{i // 50:08}_{i:06}.JPEG" for i in range(20_000))
    )
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert paths.nbytes == 20_000 * (31 + 16)
    assert taken < 1.2 * paths.nbytes
