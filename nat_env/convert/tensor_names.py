"""Whether a file's tensors are those of a network: every name and shape, before any is used."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nat_env.convert.checkpoint_file import listed


def check_tensors(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    path: Path,
    argument: str,
    network: str,
) -> None:
    """Check that a file has a network's tensors, all of them and no others.

    Args:
        tensors: of the file.
        expected: shapes by name.
        path: of the file.
        argument: what the user calls it, for the message.
        network: what it should hold, likewise.

    Raises:
        ValueError: tensors are missing, unknown, of another shape, or not finite: the first of them
            by name.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = {
        "lacks": [name for name in expected if name not in shapes],
        "has beside them": [name for name in shapes if name not in expected],
        "has in another shape": [
            f"{name} {shapes[name]} instead of {expected[name]}"
            for name in expected
            if name in shapes and shapes[name] != expected[name]
        ],
    }
    found = "; ".join(f"{what} {len(n)}: {listed(n)}" for what, n in wrong.items() if n)
    if found:
        raise ValueError(
            f"{argument}: {str(path)!r} does not hold the {len(expected)} tensors of {network}: it "
            f"{found}"
        )
    broken = [name for name in expected if not bool(tensors[name].isfinite().all())]
    if broken:
        raise ValueError(
            f"{argument}: {str(path)!r} has numbers that are not finite in {listed(broken)}; take "
            "another checkpoint of the training"
        )
