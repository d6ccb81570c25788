"""Where the tokens lie."""

import math

from nat_env.frozen.nat import FrozenNAT


def token_grid(nat: FrozenNAT) -> tuple[int, int]:
    """Rows and columns of the N tokens: as many as of the features, or of their square patches.

    Raises:
        ValueError: N is of neither.
    """
    rows, columns = nat.feature_grid
    side = math.isqrt(nat.num_tokens // (rows * columns))
    if rows * columns * side**2 != nat.num_tokens:
        raise ValueError(
            f"nat: got a transformer of {nat.num_tokens} tokens with features on {rows} x "
            f"{columns}, allowed here is one of as many tokens or of square patches"
        )
    return rows * side, columns * side
