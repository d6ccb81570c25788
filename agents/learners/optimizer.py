"""Adam whose steps take the gradients of several minibatches: large batches in little memory."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class AccumulatingAdam(torch.optim.Adam):
    """Adam that steps at each `every`-th call of `step`, on the mean of the gradients since.

    For a training loop that calls `zero_grad`, `backward` and `step` for every minibatch, as
    stable-baselines3's do: with minibatches alike in size it is the step of one batch of them all.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = AccumulatingAdam([weight], lr=0.1, every=2)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     weight.sum().backward()
        ...     optimizer.step()
        ...     print(round(weight.item(), 4))
        0.0
        -0.1
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        every: int = 1,
        max_grad_norm: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up as torch's Adam, fused and with its eps of 1e-8.

        Args:
            params: to optimise.
            lr: learning rate.
            every: calls of `step` for one step.
            max_grad_norm: the mean gradient is shortened to this length; None: left as it is.
            kwargs: of torch's Adam.

        Raises:
            ValueError: `every` below 1.
        """
        if every < 1:
            raise ValueError(f"every: got {every}, allowed is >= 1")
        options: dict[str, Any] = {"fused": True} | kwargs
        super().__init__(params, lr=lr, **options)
        self.every = every
        self.max_grad_norm = max_grad_norm
        self._calls = 0

    def start(self) -> None:
        """Drop what was gathered for a step that did not come."""
        self._calls = 0

    @property
    def steps_next(self) -> bool:
        """Whether the next call of `step` takes one."""
        return (self._calls + 1) % self.every == 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, unless they are still being gathered."""
        if self._calls % self.every == 0:
            super().zero_grad(set_to_none)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take the step, if it is time for one."""
        self._calls += 1
        if self._calls % self.every:
            return None
        parameters = [p for group in self.param_groups for p in group["params"]]
        if self.every > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad /= self.every
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        return super().step(closure)
