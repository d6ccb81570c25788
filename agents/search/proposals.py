"""What all searches for a schedule have in common: they propose tables and are told the scores."""

from collections.abc import Generator
from typing import NamedTuple

from torch import Tensor


class Proposal(NamedTuple):
    """A table to be scored."""

    table: Tensor
    """[T, 4] float32, as `Schedule` allows it."""
    candidate: bool
    """Whether it may become the best; otherwise it is a probe."""


Proposals = Generator[Proposal, float, None]
"""Yields proposals and is sent the score of each. It draws on nothing but its arguments and the
scores, so that a search resumes by sending the recorded ones again."""
