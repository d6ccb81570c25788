"""A schedule or a learned policy inside diffusers' `AmusedPipeline`."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_amused import AmusedSchedulerOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from agents.pipelines.randomness import generators_of, seed_of
from nat_env.decoding.transition import GUIDANCE_SCALE, check_quantities, decode_step
from nat_env.frozen.nat import Passes
from nat_env.generation import draw_uniforms
from nat_env.models.amused import feature_norm
from nat_env.policies import DecodingPolicy, ScheduledPolicy, observed
from nat_env.schedules import Schedule


class NATScheduler(SchedulerMixin, ConfigMixin):
    """Takes the place of `AmusedScheduler`: `pipe.scheduler = NATScheduler.of_schedule(...)`.

    The pipeline guides by one constant before it asks its scheduler. So there are two ways:

    - A schedule of one w needs no more than that the pipeline is called with
      `guidance_scale=scheduler.guidance_scale`.
    - With `watch(pipe.transformer)` the scheduler sees both passes and the features of each step,
      and guides by itself: any schedule, and any learned policy. Call the pipeline with any
      `guidance_scale` above 1, so that it makes both passes; its value has no effect.

    Then the tokens are those of `nat_env.generate` with the generator's seed, see
    `agents.pipelines.randomness.seed_of`. The pipeline's `temperature` has no effect.
    """

    order = 1

    @register_to_config
    def __init__(self, mask_token_id: int, table: Sequence[Sequence[float]] | None = None) -> None:
        """Replay a table; see `of_schedule` and `of_policy`.

        Args:
            mask_token_id: the id of a masked token.
            table: rows of m, tau_1, tau_2, w for each step, which diffusers writes with the
                configuration.
        """
        self.policy: DecodingPolicy | None = None
        if table is not None:
            self.policy = ScheduledPolicy(Schedule(torch.tensor(table, dtype=torch.float32)))
        self.timesteps = torch.arange(0)
        self._generators: list[np.random.Generator] = []
        self._hooks: list[Any] = []
        self._seen: dict[str, Tensor] = {}

    @classmethod
    def of_schedule(cls, schedule: Schedule, mask_token_id: int) -> Self:
        """Replay a schedule; `save_pretrained` writes it.

        Raises:
            ValueError: it has a sampler, see `of_policy`.
        """
        _check_plain("schedule", schedule.sampler)
        return cls(mask_token_id, schedule.table.tolist())

    @classmethod
    def of_policy(cls, policy: DecodingPolicy, mask_token_id: int) -> Self:
        """Ask a policy at each step, which takes `watch`.

        A learned policy is written by `NATPipeline.save_pretrained`, not with this configuration.

        Raises:
            ValueError: the policy has a sampler, which remembers a batch of `nat_env.generate`.
        """
        _check_plain("policy", getattr(policy, "sampler", None))
        scheduler = cls(mask_token_id)
        scheduler.policy = policy
        return scheduler

    @property
    def guidance_scale(self) -> float:
        """What to call the pipeline with, 1 + w, where w is the same at all steps.

        Raises:
            ValueError: it is not.
        """
        if isinstance(self.policy, ScheduledPolicy):
            scales = self.policy.schedule.table[:, GUIDANCE_SCALE]
            if bool((scales == scales[0]).all()):
                return 1 + float(scales[0])
        raise ValueError(
            "guidance_scale: got a w that differs from step to step, or a learned one, which the "
            "pipeline cannot apply; scheduler.watch(pipe.transformer) lets the scheduler do it"
        )

    def watch(self, transformer: Any) -> Self:
        """Guide by itself, from both passes of the pipeline's `UVit2DModel`.

        Holds until `unwatch`; the model itself is not changed.
        """
        self.unwatch()

        def keep(name: str) -> Any:
            def hook(module: Any, inputs: Any, output: Tensor) -> None:
                self._seen[name] = output

            return hook

        self._hooks = [
            transformer.register_forward_hook(keep("logits")),
            feature_norm(transformer).register_forward_hook(keep("features")),
        ]
        return self

    def unwatch(self) -> None:
        """End what `watch` began."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._seen = [], {}

    def set_timesteps(
        self, num_inference_steps: int, temperature: Any = None, device: Any = None
    ) -> None:
        """Begin T steps; `AmusedPipeline` calls it.

        Raises:
            ValueError: T is not the policy's, there is no policy, or one that takes `watch`.
        """
        if self.policy is None:
            raise ValueError("policy: got none, allowed is one by of_schedule or of_policy")
        own = getattr(self.policy, "num_steps", None)
        if own not in (None, num_inference_steps):
            raise ValueError(
                f"num_inference_steps: got {num_inference_steps}, allowed with this policy is its "
                f"own T = {own}"
            )
        if not self._hooks:
            _ = self.guidance_scale
        self.timesteps = torch.arange(num_inference_steps, device=device).flip(0)

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> AmusedSchedulerOutput | tuple[Tensor]:
        """One step of decoding; `AmusedPipeline` calls it.

        Args:
            model_output: guided logits [B, K, h, w].
            timestep: T - 1 at the first step, 0 at the last.
            sample: ids [B, h, w].
            generator: stands for the seed of all T steps, see `seed_of`.
            return_dict: False: a tuple.

        Raises:
            ValueError: the transformer that is watched was not asked, or made no null pass that a
                w above 0 needs; or see `decode_step`.
        """
        batch, step = len(sample), len(self.timesteps) - 1 - int(timestep)
        ids = sample.flatten(1)  # [B, N]
        if step == 0:
            self._generators = generators_of(seed_of(generator), batch)
        at = torch.full((batch,), step, device=ids.device)
        logits, null_logits, features = self._passes(model_output, batch)
        assert self.policy is not None
        if not self._hooks and getattr(self.policy, "observation", "") == "confidences":
            raise ValueError(
                "policy: got one that sees confidences, of which guided logits say nothing; "
                "scheduler.watch(pipe.transformer) shows it what it learned on"
            )
        passes = Passes(logits, logits if null_logits is None else null_logits, features)
        masked = ids == self.config.mask_token_id  # type: ignore[attr-defined]
        actions = self.policy(observed(self.policy, passes, masked), at).clone()
        check_quantities(actions, batch)
        if not self._hooks:
            actions[:, GUIDANCE_SCALE] = 0.0  # the pipeline has guided already
        elif null_logits is None and bool((actions[:, GUIDANCE_SCALE] > 0).any()):
            raise ValueError(
                "guidance_scale: the pipeline made no pass without the prompt; call it with a "
                "guidance_scale above 1, whichever: the scheduler guides by itself"
            )
        uniforms = draw_uniforms(self._generators, ids.shape[1]).to(ids.device)
        tokens, _ = decode_step(
            ids,
            logits,
            logits if null_logits is None else null_logits,
            actions,
            uniforms,
            at == len(self.timesteps) - 1,
            self.config.mask_token_id,  # type: ignore[attr-defined]
        )
        following = tokens.view_as(sample)
        return AmusedSchedulerOutput(following) if return_dict else (following,)

    def _passes(self, model_output: Tensor, batch: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Logits [B, N, K], those without the prompt, if any, and features [B, M, D]."""
        if not self._hooks:
            return _rows(model_output), None, torch.empty(batch, 0, 0, device=model_output.device)
        if not self._seen:
            raise ValueError("model_output: not of the transformer that is watched")
        logits, features = self._seen["logits"], self._seen["features"]
        self._seen = {}  # not kept for longer than it is needed
        features = features.view(len(logits), -1, features.shape[-1]).float()
        if len(logits) == batch:
            return _rows(logits), None, features
        null_logits, own_logits = _rows(logits).chunk(2)  # the pipeline's null rows come first
        return own_logits, null_logits, features[batch:]


def _check_plain(argument: str, sampler: object) -> None:
    if sampler is not None:
        raise ValueError(
            f"{argument}: got one with the sampler {sampler!r}, allowed is one without; "
            "NATPipeline takes it"
        )


def _rows(logits: Tensor) -> Tensor:
    """[B, K, h, w] -> [B, N, K]."""
    return logits.flatten(2).transpose(1, 2)
