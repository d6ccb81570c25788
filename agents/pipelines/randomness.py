"""torch's generators, as diffusers takes them, and the seeds that decoding takes."""

import numpy as np
import torch


def seed_of(generator: torch.Generator | None) -> int:
    """The seed that a generator stands for, which is drawn from once.

    A generator that nothing was drawn from yet stands for the seed that it was given, so that
    `torch.Generator().manual_seed(7)` gives the images of `nat_env.generate(..., seed=7)`; any
    other for the next number drawn from it, so that who calls twice gets other images.

    Args:
        generator: None for torch's own.

    Example:
        >>> generator = torch.Generator().manual_seed(7)
        >>> seed_of(generator), seed_of(generator) == 7
        (7, False)
    """
    if generator is None:
        return int(torch.randint(2**31, (1,)))
    given = generator.initial_seed()
    unused = torch.Generator(generator.device).manual_seed(given).get_state()
    is_unused = torch.equal(generator.get_state(), unused)
    drawn = torch.randint(2**31, (1,), generator=generator, device=generator.device)
    return given if is_unused else int(drawn)


def generators_of(seed: int, count: int) -> list[np.random.Generator]:
    """One for each of `count` images: image i draws from `seed` + i, as in `nat_env.generate`."""
    return [np.random.Generator(np.random.PCG64(seed + i)) for i in range(count)]
