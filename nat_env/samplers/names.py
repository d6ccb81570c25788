"""Samplers by name, as policies and files of schedules have them."""

import dataclasses
import json
import re
from itertools import chain
from typing import Any

from nat_env.decoding.quantities import QUANTITIES
from nat_env.samplers.confidence_map import ConfidenceMap
from nat_env.samplers.entropy_bound import EntropyBound
from nat_env.samplers.halton import Halton
from nat_env.samplers.klass import Klass
from nat_env.samplers.protocol import Sampler, own_quantities
from nat_env.samplers.remdm import ReMDM

SAMPLERS: dict[str, type[Any]] = {
    "halton": Halton,
    "entropy-bound": EntropyBound,
    "klass": Klass,
    "remdm": ReMDM,
    "confidence-map": ConfidenceMap,
}
"""Classes of `Sampler`, dataclasses of numbers."""

KNOWN = {q.name: q for q in chain(QUANTITIES, *map(own_quantities, SAMPLERS.values()))}
"""Quantities by name, the four and samplers' own."""


def calls_sampler(text: str) -> bool:
    """Whether a text is a sampler's name, with something in brackets or without.

    Example:
        >>> calls_sampler("klass(0.8, 0.1)"), calls_sampler("heuristic")
        (True, False)
    """
    return _call(text) is not None


def _call(text: str) -> re.Match[str] | None:
    return re.fullmatch(rf"({'|'.join(SAMPLERS)})(?:\((.*)\))?", text.strip())


def called_sampler(text: str) -> Sampler | None:
    """The sampler that a text calls, with some of its numbers in their order; None of another text.

    Raises:
        ValueError: numbers that it does not take.

    Example:
        >>> called_sampler("klass(0.8, 0.1)")
        Klass(confidence=0.8, divergence=0.1, history=1)
        >>> called_sampler("heuristic")
    """
    match = _call(text)
    if match is None:
        return None
    kind = SAMPLERS[match[1]]
    try:
        return kind(*json.loads(f"[{match[2] or ''}]"))
    except (ValueError, TypeError) as error:
        names = ", ".join(field.name for field in dataclasses.fields(kind))
        allowed = f"{match[1]}, and in brackets {names}" if names else match[1]
        raise ValueError(f"sampler: got {text!r}, allowed is {allowed} ({error})") from None


def named_sampler(text: str) -> Sampler:
    """The sampler that a text calls.

    Raises:
        ValueError: it calls none.
    """
    found = called_sampler(text)
    if found is None:
        raise ValueError(
            f"samplers: got {text!r}, allowed are {', '.join(SAMPLERS)}, with numbers in brackets "
            "or without"
        )
    return found


def described_sampler(sampler: Sampler) -> dict[str, Any]:
    """Its name and numbers, as JSON has them.

    Raises:
        ValueError: it has no name, as one that calls a function.

    Example:
        >>> described_sampler(EntropyBound(0.3))
        {'name': 'entropy-bound', 'gamma': 0.3}
    """
    for name, kind in SAMPLERS.items():
        if type(sampler) is kind:
            return {"name": name} | dataclasses.asdict(sampler)  # type: ignore[call-overload]
    raise ValueError(
        f"sampler: got {type(sampler).__name__}, which no file can name; allowed are "
        f"{', '.join(SAMPLERS)}"
    )


def sampler_of(description: Any) -> Sampler:
    """What `described_sampler` describes.

    Raises:
        ValueError: it describes none.
    """
    try:
        numbers = dict(description)
        return SAMPLERS[numbers.pop("name")](**numbers)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"sampler: got {description!r}, allowed is a name ({error})") from None


def sampler_label(sampler: Sampler) -> str:
    """As `called_sampler` takes it.

    Example:
        >>> sampler_label(Klass(0.9, 0.01)), sampler_label(Halton())
        ('klass(0.9, 0.01, 1)', 'halton')
    """
    name, *numbers = described_sampler(sampler).values()
    return f"{name}({', '.join(map(json.dumps, numbers))})" if numbers else name
