"""Bounds of a dataclass's fields, declared in their types and checked in one place.

A field says what it allows by the marks of `annotated_types`:

    num_steps: Annotated[int, Ge(1)] = 4
    seeds: tuple[Annotated[int, Ge(0)], ...] = (0,)
    clip_norm: Annotated[float, Gt(0)] | None = None
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Len, Lt, MultipleOf

_HOLDS: dict[type, tuple[str, Callable[[Any, Any], bool]]] = {
    Ge: (">= {}", lambda value, mark: value >= mark.ge),
    Gt: ("> {}", lambda value, mark: value > mark.gt),
    Le: ("<= {}", lambda value, mark: value <= mark.le),
    Lt: ("< {}", lambda value, mark: value < mark.lt),
    MultipleOf: ("a multiple of {}", lambda value, mark: value % mark.multiple_of == 0),
}
_LIMIT = {Ge: "ge", Gt: "gt", Le: "le", Lt: "lt", MultipleOf: "multiple_of"}


def check_bounds(options: Any) -> None:
    """Check every field of a dataclass against its type: choices, bounds, finite numbers.

    Numbers have to be finite, also within tuples and mappings. None passes where the type has it.

    Args:
        options: an instance of a dataclass, whose fields' types are Literals, numbers with marks
            of `annotated_types` (`Ge`, `Gt`, `Le`, `Lt`, `MultipleOf`), tuples of these (with
            `Len` for how many), or any of them or None. Other types are not looked at.

    Raises:
        ValueError: a value that its field does not allow.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Options:
        ...     seeds: tuple[Annotated[int, Ge(0), Lt(9)], ...] = (0,)
        >>> check_bounds(Options((3, 9)))
        Traceback (most recent call last):
        ValueError: seeds: got 9, allowed is >= 0 and < 9
    """
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):
        _check(field.name, getattr(options, field.name), hints[field.name], ())
        _check_finite(field.name, getattr(options, field.name))


def _check(name: str, value: Any, hint: Any, marks: tuple[Any, ...]) -> None:
    if get_origin(hint) is Annotated:
        _check(name, value, hint.__origin__, marks + hint.__metadata__)
    elif get_origin(hint) in (Union, UnionType):
        inner = [part for part in get_args(hint) if part is not NoneType]
        if value is not None and len(inner) == 1:
            _check(name, value, inner[0], marks)
    elif get_origin(hint) is tuple:
        _check_length(name, value, marks)
        parts = get_args(hint)
        each = parts[:1] * len(value) if parts[-1] is ... else parts
        for element, part in zip(value, each, strict=False):
            _check(name, element, part, ())
    elif get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{name}: got {value!r}, allowed are {list(get_args(hint))}")
    elif numbers := [mark for mark in marks if type(mark) in _HOLDS]:
        _check_number(name, value, numbers)


def _check_finite(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_finite(f"{name}.{key}", part)
    elif isinstance(value, tuple | list):
        for part in value:
            _check_finite(name, part)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: got {value!r}, allowed is a finite number")


def _check_length(name: str, value: tuple[Any, ...], marks: tuple[Any, ...]) -> None:
    for mark in marks:
        if isinstance(mark, Len) and len(value) < mark.min_length:
            least = "one" if mark.min_length == 1 else str(mark.min_length)
            raise ValueError(f"{name}: got {len(value) or 'none'}, allowed is at least {least}")


def _check_number(name: str, value: Any, marks: list[Any]) -> None:
    finite = isinstance(value, int | float) and math.isfinite(value)
    if not finite or not all(_HOLDS[type(mark)][1](value, mark) for mark in marks):
        words = [_HOLDS[type(mark)][0].format(getattr(mark, _LIMIT[type(mark)])) for mark in marks]
        kind = "" if finite else "a finite number, "
        raise ValueError(f"{name}: got {value!r}, allowed is {kind}{' and '.join(words)}")
