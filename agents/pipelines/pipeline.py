"""A bundle with its policy as a pipeline of diffusers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from PIL import Image
from torch import Tensor

from agents.pipelines.randomness import seed_of
from agents.pipelines.saved import read_pipeline, write_pipeline
from agents.sharing.names import named_policy, own_num_steps
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import bundle_folder, load_bundle
from nat_env.generation import generate
from nat_env.models.pixels import to_uint8
from nat_env.policies import DecodingPolicy, ScheduledPolicy
from nat_env.schedules import Schedule

DEFAULT_NUM_STEPS = 12
"""Of a policy for any T, as in diffusers' `AmusedPipeline`."""

_OUTPUT_TYPES = ("pil", "np", "pt")


class NATPipeline(DiffusionPipeline):
    """Draws images with a frozen masked transformer, and a schedule or a learned policy.

    The policy decides the guidance, as it does the other three quantities, so there is no
    `guidance_scale`.

    Example:
        >>> pipe = NATPipeline.from_pretrained("digits", torch_dtype="float32")
        >>> pipe.set_progress_bar_config(disable=True)
        >>> generator = torch.Generator().manual_seed(0)
        >>> output = pipe(class_labels=[3, 7], num_inference_steps=4, generator=generator)
        >>> [image.size for image in output.images]
        [(8, 8), (8, 8)]
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        policy: str | Path | Schedule | DecodingPolicy | None = None,
        torch_dtype: str | torch.dtype = "auto",
        device: str | torch.device = "cpu",
    ) -> None:
        """Join a bundle and a policy.

        Args:
            bundle: a shipped bundle's name, a folder, or a loaded one.
            policy: what `nat-sample --policy` takes: a named schedule, a schedule's file, a run
                folder, a shared policy; or a `Schedule` or policy itself. By default `amused` for
                aMUSEd, `heuristic` for other models.
            torch_dtype: of the transformer, see `load_bundle`; of a loaded bundle it stays.
            device: likewise.

        Raises:
            ValueError: an unknown bundle, or a policy of another one.
        """
        super().__init__()
        folder = None if isinstance(bundle, Bundle) else bundle_folder(bundle)
        if not isinstance(bundle, Bundle):
            bundle = load_bundle(bundle, str(torch_dtype).removeprefix("torch."), str(device))
        self.folder = folder
        self.bundle = bundle
        if policy is None:
            kind = getattr(bundle.nat.transformer, "kind", None)
            policy = "amused" if kind == "amused" else "heuristic"
        self.policy = str(policy) if isinstance(policy, str | Path) else policy
        self._ready: dict[tuple[str, int], DecodingPolicy] = {}
        self._policy_of(self.num_steps or DEFAULT_NUM_STEPS)  # what does not fit is refused here
        self.register_to_config(bundle_name=bundle.name, policy_name=str(policy))

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        source: str | Path,
        policy: str | Path | Schedule | DecodingPolicy | None = None,
        torch_dtype: str | torch.dtype = "auto",
        device: str | torch.device = "cpu",
    ) -> Self:
        """A pipeline that `save_pretrained` wrote, or one of any bundle.

        Args:
            source: the pipeline's folder; or a bundle's, or the name of a shipped one.
            policy: see `NATPipeline`; by default the saved one, if it is a saved pipeline.
            torch_dtype: see `NATPipeline`.
            device: likewise.

        Raises:
            ValueError: neither a pipeline nor a bundle, a damaged one, or see `NATPipeline`.
        """
        if saved := read_pipeline(Path(source)):
            source, kept = saved
            policy = kept if policy is None else policy
        return cls(source, policy, torch_dtype, device)

    def save_pretrained(self, save_directory: str | Path) -> None:  # type: ignore[override]
        """Write bundle and policy into one folder, which needs nothing of this machine.

        Args:
            save_directory: a new or empty folder.

        Raises:
            ValueError: a bundle or policy that was given as an object, of which there is no file
                (a `Schedule` is written), or see `write_pipeline`.
        """
        if self.folder is None:
            raise ValueError(
                "bundle: got a loaded one, allowed is one by its folder or name; "
                "nat_env.bundles.writer.save_bundle writes a folder"
            )
        if not isinstance(self.policy, str | Schedule):
            raise ValueError(
                f"policy: got a {type(self.policy).__name__}, allowed is one by its run folder, or "
                "a schedule"
            )
        write_pipeline(Path(save_directory), self.folder, self.policy)

    @property
    def num_steps(self) -> int | None:
        """T of the policy; None if it is for any."""
        if isinstance(self.policy, str):
            return own_num_steps(self.policy)
        return getattr(self.policy, "num_steps", None)

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.bundle.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the transformer."""
        return self.bundle.nat.dtype

    def to(self, device: str | torch.device | None = None, dtype: Any = None) -> Self:  # type: ignore[override]
        """The same pipeline on another device or in another precision; this one stays.

        Raises:
            ValueError: of a bundle or policy that was given as an object, or see `load_bundle`.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if self.folder is None or not isinstance(self.policy, str | Schedule):
            raise ValueError(
                "device: of a loaded bundle or policy it stays, allowed is a pipeline of names; "
                "load them where they are to be"
            )
        return type(self)(self.folder, self.policy, dtype or self.dtype, device or self.device)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        class_labels: int | Sequence[int] | None = None,
        num_inference_steps: int | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        batch_size: int = 32,
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw images.

        They are those of `nat_env.generate` with the generator's seed, see `seed_of`.

        Args:
            prompt: one or more texts, or names of classes. Texts that the bundle's table does not
                have need its text encoder.
            class_labels: conditions by number, in place of a prompt.
            num_inference_steps: T; by default the policy's own, or 12.
            num_images_per_prompt: of each, one after the other.
            generator: by default torch's own draws the seed.
            output_type: `pil`, `np` [B, H, W, C] or `pt` [B, C, H, W], both in [0, 1].
            batch_size: images decoded at once.
            return_dict: False: a tuple.

        Raises:
            ValueError: none or both of prompt and labels, unknown names, a prompt that is too long
                or without a text encoder, another T than the policy's, or an output that there is
                not; before anything is drawn.
        """
        if output_type not in _OUTPUT_TYPES:
            raise ValueError(f"output_type: got {output_type!r}, allowed are {_OUTPUT_TYPES}")
        for name, number in (
            ("num_images_per_prompt", num_images_per_prompt),
            ("batch_size", batch_size),
        ):
            if number < 1:
                raise ValueError(f"{name}: got {number}, allowed is >= 1")
        own = self.num_steps or DEFAULT_NUM_STEPS
        num_steps = own if num_inference_steps is None else num_inference_steps
        policy = self._policy_of(num_steps)
        bundle, asked = self._asked(prompt, class_labels)
        conditions = asked.repeat_interleave(num_images_per_prompt)
        batches = math.ceil(len(conditions) / batch_size)
        progress_bar: Any = self.progress_bar
        with progress_bar(total=num_steps * batches) as bar:
            images = generate(
                bundle, policy, conditions, num_steps, seed_of(generator), batch_size,
                on_step=lambda _: bar.update(),
            )  # fmt: skip
        found: Any = _as_type(images, output_type)
        return ImagePipelineOutput(images=found) if return_dict else (found,)

    def _asked(
        self, prompt: str | Sequence[str] | None, class_labels: int | Sequence[int] | None
    ) -> tuple[Bundle, Tensor]:
        """The bundle with whatever prompts are new to it, and the conditions [P]."""
        bundle = self.bundle
        if prompt is not None and class_labels is None:
            prompts = [prompt] if isinstance(prompt, str) else list(prompt)
            if bundle.conditions.are_prompts:
                bundle = bundle.with_prompts(prompts)
            return bundle, bundle.conditions.checked(bundle.conditions.numbers(prompts, "prompt"))
        if prompt is None and class_labels is not None:
            labels = [class_labels] if isinstance(class_labels, int) else list(class_labels)
            return bundle, bundle.conditions.checked(labels)
        given = "both" if prompt is not None else "neither"
        raise ValueError(f"prompt: got {given} prompt and class_labels, allowed is one of them")

    def _policy_of(self, num_steps: int) -> DecodingPolicy:
        """The policy in T steps."""
        if isinstance(self.policy, Schedule):
            return ScheduledPolicy(self.policy)
        if not isinstance(self.policy, str):
            return self.policy
        asked = (self.policy, num_steps)
        if asked not in self._ready:
            _, self._ready[asked] = named_policy(self.policy, self.bundle, num_steps)
        return self._ready[asked]


def _as_type(images: Tensor, output_type: str) -> Tensor | np.ndarray | list[Image.Image]:
    """Images [B, C, H, W] in [0, 1] as diffusers gives them; grey ones as pictures of one band."""
    if output_type == "pt":
        return images
    rows = images.permute(0, 2, 3, 1).cpu()  # [B, H, W, C]
    if output_type == "np":
        return rows.numpy()
    pixels = to_uint8(rows).numpy()
    return [Image.fromarray(row[:, :, 0] if row.shape[2] == 1 else row) for row in pixels]
