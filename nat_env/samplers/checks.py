"""Numbers that samplers take."""

import math


def check_number(name: str, given: float, most: float = math.inf) -> None:
    """Refuse what is no finite number in [0, `most`].

    Raises:
        ValueError: it is not.

    Example:
        >>> check_number("eta", 1.5, 1)
        Traceback (most recent call last):
        ValueError: eta: got 1.5, allowed is a number in [0, 1]
    """
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not is_number or not (0 <= given <= most and given < math.inf):
        allowed = f"in [0, {most:g}]" if most < math.inf else ">= 0"
        raise ValueError(f"{name}: got {given!r}, allowed is a number {allowed}")
