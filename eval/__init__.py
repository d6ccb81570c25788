"""Evaluation: judges, tables, pictures, and the commands that print and draw them.

`evaluate` is imported when it is first asked for, and torch with it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.comparison import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from eval import comparison

    return getattr(comparison, name)
