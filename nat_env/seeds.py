"""Which random numbers are whose: seeds of the generators that images are drawn with.

Image i of a call with seed s draws from the generator with seed s + i. Whatever chooses (training,
search, grid) and whatever judges takes its seeds from a range of its own, so that nothing is judged
by the samples it was chosen on.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SeedRange:
    """Generator seeds first .. last, `stride` of them for each of `limit` run seeds."""

    first: int
    stride: int
    limit: int

    @property
    def last(self) -> int:
        """The highest generator seed."""
        return self.first + self.stride * self.limit - 1

    def seed_of(self, run_seed: int, index: int = 0) -> int:
        """The generator seed of a run's image: no two runs share one.

        Args:
            run_seed: what a user calls the seed, 0 .. limit - 1.
            index: of the image among those of the run, 0 .. stride - 1.

        Raises:
            ValueError: one of them is out of its range.

        Example:
            >>> SeedRange(first=1000, stride=100, limit=2).seed_of(1, index=5)
            1105
        """
        if not 0 <= run_seed < self.limit:
            raise ValueError(f"seed: got {run_seed}, allowed are 0 .. {self.limit - 1}")
        if not 0 <= index < self.stride:
            raise ValueError(f"index: got {index}, allowed are 0 .. {self.stride - 1}")
        return self.first + run_seed * self.stride + index


NAT_EVAL = SeedRange(0, stride=10**6, limit=2**40 // 10**6)
"""What policies are judged by."""

TRAINING_EVALUATION = SeedRange(2**40, stride=2**25, limit=3 * 2**13)
"""What trainings choose their best policy by: the same samples at each evaluation of one, others in
a training of another seed, so that a mean over seeds is one over samples, too."""

TRAINING = SeedRange(2**41, stride=2**28, limit=3 * 2**13)
"""Sub-environments of trainings: each of them goes on from its seed."""

PROXIES = SeedRange(2**43, stride=3 * 2**43, limit=1)
"""What AutoNAT's proxies are compared by: seed s of N images takes those from s N on."""

SEARCH = SeedRange(2**45, stride=2**32, limit=31 * 2**13)
"""Scores of searches for a schedule."""

FRESH_SAMPLES = SeedRange(2**50, stride=2**28, limit=TRAINING.limit)
"""What discriminators are trained on."""

GRID = SeedRange(2**51, stride=10**6, limit=2**20)
"""Trials of hand-tuning grids."""
