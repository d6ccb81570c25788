"""Declared bounds: what is refused, and in which words."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le, Len, Lt, MultipleOf

from nat_env.commands.bounds import check_bounds


@dataclass(frozen=True)
class Options:
    steps: Annotated[int, Ge(1)] = 1
    rate: Annotated[float, Gt(0)] = 1.0
    maximum: Annotated[float, Gt(0)] | None = None
    width: Annotated[int, Gt(0), MultipleOf(4)] = 4
    seeds: Annotated[tuple[Annotated[int, Ge(0), Lt(10)], ...], Len(1)] = (0,)
    scales: tuple[Annotated[float, Gt(0)], Annotated[float, Le(1)]] = (2.0, 1.0)
    name: Literal["a", "b"] = "a"
    free: float = 0.0
    more: dict[str, float | str] | None = None

    def __post_init__(self) -> None:
        check_bounds(self)


def test_what_is_allowed_passes():
    Options(7, 0.1, 2.0, 8, (9, 0), (5.0, -5.0), "b")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 0}, "steps: got 0, allowed is >= 1"),
        ({"steps": "3"}, "steps: got '3', allowed is a finite number, >= 1"),
        ({"rate": 0.0}, "rate: got 0.0, allowed is > 0"),
        ({"rate": math.nan}, "rate: got nan, allowed is a finite number, > 0"),
        ({"rate": math.inf}, "rate: got inf, allowed is a finite number, > 0"),
        ({"maximum": -1.0}, "maximum: got -1.0, allowed is > 0"),
        ({"width": 6}, "width: got 6, allowed is > 0 and a multiple of 4"),
        ({"seeds": ()}, "seeds: got none, allowed is at least one"),
        ({"seeds": (3, 10)}, "seeds: got 10, allowed is >= 0 and < 10"),
        ({"scales": (0.0, 1.0)}, "scales: got 0.0, allowed is > 0"),
        ({"scales": (1.0, 1.5)}, "scales: got 1.5, allowed is <= 1"),
        ({"scales": (math.inf, 1.0)}, "scales: got inf, allowed is a finite number, > 0"),
        ({"free": math.nan}, "free: got nan, allowed is a finite number"),
        ({"free": -math.inf}, "free: got -inf, allowed is a finite number"),
        ({"more": {"a": "b", "c": math.nan}}, "more.c: got nan, allowed is a finite number"),
        ({"name": "c"}, "name: got 'c', allowed are ['a', 'b']"),
    ],
)
def test_what_is_not_is_named(values, sentence):
    with pytest.raises(ValueError) as caught:
        Options(**values)
    assert str(caught.value) == sentence
