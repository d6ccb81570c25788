"""Which names a data set, or a class of it, may have."""

import unicodedata
from pathlib import Path

_NOT_DRAWN = ("Cc", "Cs", "Zl", "Zp")
"""Categories of Unicode: control characters, halves of pairs (how Python reads bytes that are no
UTF-8), line and paragraph separators."""


def check_name(argument: str, name: str) -> None:
    """Check that a data set or class of that name can be a file, printed and drawn.

    Raises:
        ValueError: a path, or a name with control characters or bytes that are no UTF-8.
    """
    if name in ("", "..") or Path(name).name != name:
        raise ValueError(f"{argument}: got {name!r}, allowed is a file's name")
    if any(unicodedata.category(letter) in _NOT_DRAWN for letter in name):
        raise ValueError(
            f"{argument}: got {name!r}, allowed are names in UTF-8 without control characters; "
            "rename it"
        )
