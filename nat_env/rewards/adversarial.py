"""The adversarial reward: a discriminator trained beside the policy (AdaNAT 4.3, Eq. 13, 14)."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nat_env.bundles.reals import Reals
from nat_env.frozen.precision import float32_default, without_autocast
from nat_env.frozen.transfers import sent
from nat_env.frozen.weights import seeded_weights
from nat_env.parallel.processes import ALONE, Processes
from nat_env.rewards.augment import augment
from nat_env.rewards.discriminator import ScratchDiscriminator, TrunkDiscriminator
from nat_env.rewards.discriminator_config import GROUPS, DiscriminatorConfig
from nat_env.rewards.protocol import checked_scores
from nat_env.rewards.trunks import Trunk

EMBEDDINGS_LIMIT = 2**29
"""Bytes that what a frozen trunk says of all real images, or of all generated, may take; above, it
is asked each time."""

EMBEDDED_AT_ONCE = 256
"""Images that a frozen trunk is asked about at a time."""

TOLD = ("loss", "accuracy_real", "accuracy_fake")
"""Of each gradient step."""


class AdversarialRewardModel:
    """A `Reward` that learns: real images against those it is shown."""

    def __init__(
        self,
        reals: Reals,
        num_conditions: int,
        config: DiscriminatorConfig = DiscriminatorConfig(),
        seed: int = 0,
        trunk: Trunk | None = None,
        device: str | torch.device = "cpu",
        pooled: Tensor | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """Start with an untrained discriminator.

        Args:
            reals: real images with their conditions.
            num_conditions: conditions are 0 .. num_conditions - 1.
            config: architecture and training.
            seed: of weights and of the order of real images.
            trunk: the frozen network that `config` names, see `load_trunk`.
            device: of the discriminator and of the images that it is given.
            pooled: of conditions that are prompts, [num_conditions + 1, P], see `ProjectionHead`.
            processes: that train it together, each on as many images of its own, with averaged
                gradients: they draw alike for all, and take their parts.

        Raises:
            ValueError: fewer real images than one batch holds, widths that halve them to nothing,
                or no frozen network for a trunk that is one, or one for a trunk that is none.
        """
        if (config.trunk == "scratch") != (trunk is None):
            given = "no frozen network" if trunk is None else "a frozen network"
            raise ValueError(f"trunk: got {given} for the trunk {config.trunk!r}")
        count = len(reals.conditions)
        if count < config.batch_size:
            raise ValueError(
                f"reals: got {count} images, allowed is at least the discriminator's batch_size = "
                f"{config.batch_size}"
            )
        channels, *image_size = reals.image_shape
        height, width = (side >> len(config.widths) for side in image_size)
        if trunk is None and config.widths[-1] // GROUPS * height * width < 2:
            raise ValueError(
                f"widths: got {config.widths}, allowed are fewer for images of "
                f"{tuple(image_size)} pixels, which each of them halves: a group of "
                "channels would be left with one number, which its norm makes 0"
            )
        self.config = config
        self.processes = processes
        self.reals = reals
        self.device = torch.device(device)
        self.knows_prompts = pooled is not None
        """Whether a condition is told by its pooled embedding: one without real images is, too."""
        # Conditions alike, as generated images have them: else it learned how frequent they are.
        self._real_weights = 1 / reals.conditions.bincount().float()[reals.conditions]
        self.generator = torch.Generator().manual_seed(seed)
        if pooled is not None and pooled.nbytes <= EMBEDDINGS_LIMIT:
            pooled = pooled.to(device)  # each of a larger table is fetched when it is asked for
        with seeded_weights(seed), float32_default():
            self.discriminator = (
                ScratchDiscriminator(channels, num_conditions, config.widths, pooled)
                if trunk is None
                else TrunkDiscriminator(trunk, num_conditions, config.widths[-1], pooled)
            )
        self.discriminator.to(device, torch.float32)
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=config.learning_rate,
            betas=(0.5, 0.999),
            fused=True,
        )

    @torch.no_grad()
    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Rewards [B]: the chosen form of the mean logit, higher for more real; on the host.

        Raises:
            ValueError: one that is not finite: the images are not, or a network is damaged.
        """
        batches = zip(
            images.split(EMBEDDED_AT_ONCE), conditions.split(EMBEDDED_AT_ONCE), strict=True
        )
        with without_autocast(images.device):
            logits = torch.cat([self.discriminator(i, c).mean(dim=1) for i, c in batches])
        forms = {"sigmoid": torch.sigmoid, "softplus": F.softplus, "logit": lambda same: same}
        scores = forms[self.config.reward_form](logits)
        return checked_scores(scores, len(images), "discriminator")

    @torch.enable_grad()  # whatever its caller does
    def update(self, images: Tensor, conditions: Tensor, num_updates: int = 1) -> dict[str, float]:
        """Gradient steps, each with a batch of generated images and as many real ones.

        The losses are those of the authors' code, not Eq. 14 as it is printed.

        What the frozen part of the discriminator sees is computed once for each image, unless
        images are augmented or `EMBEDDINGS_LIMIT` is passed.

        Args:
            images: generated [n, C, H, W] in [0, 1]; a step draws `batch_size` of them, or takes
                all if they are fewer.
            conditions: their labels [n].
            num_updates: gradient steps.

        Returns:
            Means over the steps of `loss`, `accuracy_real`, `accuracy_fake`.

        Raises:
            ValueError: losses, weights or the optimizer's moments are not finite; everything is
                then as it was before.
        """
        if num_updates < 1 or not len(images):
            raise ValueError(
                f"num_updates, images: got {num_updates} and {len(images)}, allowed are >= 1"
            )
        before = copy.deepcopy(self.state_dict())
        with without_autocast(images.device):
            numbers = self._steps(images, conditions, num_updates)  # [num_updates, 3]
            everything = torch.cat([numbers.T.flatten(), self._is_finite().float()[None]])
        # Read once, at the end: an accelerator computes ahead of what is read.
        *read, finite = everything.tolist()
        found = {key: read[i * num_updates :][:num_updates] for i, key in enumerate(TOLD)}
        if not np.isfinite(found["loss"]).all() or not finite:
            self.load_state_dict(before)
            wrong = int((~images.isfinite()).flatten(1).any(dim=1).sum())
            raise ValueError(
                f"discriminator: its update gave a loss of {found['loss'][-1]} or weights that are "
                f"not finite, and was undone; mend the images ({wrong} of {len(images)} are "
                f"not finite), or lower learning_rate = "
                f"{self.config.learning_rate} or r1 = {self.config.r1}"
            )
        return {key: float(np.mean(values)) for key, values in found.items()}

    def _steps(self, images: Tensor, conditions: Tensor, count: int) -> Tensor:
        """What `update` does, and what `_step` gives of each step: [count, 3], on the device."""
        conditions = sent(conditions, images.device)
        embedded = None
        if not self.config.augment and self.config.trunk != "scratch":
            batches = images.split(EMBEDDED_AT_ONCE)
            embedded = self._embedded(len(images), batches, images[:1])
        size = min(self.config.batch_size // self.processes.count, len(images))
        drawn = self._drawn(len(images), size, count)  # [count, 2, size]
        fakes, reals = sent(drawn, images.device).unbind(dim=1)
        results = []
        for chosen, real_batch in zip(fakes, self._real_batches(drawn[:, 1], reals), strict=True):
            if embedded is not None:
                fake = [part[chosen] for part in embedded]
            else:
                fake = self.discriminator.embed(self._augmented(images[chosen]))
            results.append(self._step(*real_batch, fake, conditions[chosen]))
        return torch.stack(results)

    def _step(
        self,
        real: Tensor | None,
        real_embedding: Sequence[Tensor],
        labels: Tensor,
        fake_embedding: Sequence[Tensor],
        conditions: Tensor,
    ) -> Tensor:
        """One gradient step; gives `TOLD` of it, still on the device."""
        both = [torch.cat(parts) for parts in zip(real_embedding, fake_embedding, strict=True)]
        on_real, on_fake = self.discriminator.logits(both, torch.cat([labels, conditions])).chunk(2)
        if self.config.loss == "bce":
            loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        else:
            loss = F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
        if real is not None:
            (slope,) = torch.autograd.grad(on_real.mean(dim=1).sum(), real, create_graph=True)
            loss = loss + self.config.r1 / 2 * slope.square().sum(dim=(1, 2, 3)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        accuracy_real = (on_real.mean(dim=1) > 0).float().mean()
        accuracy_fake = (on_fake.mean(dim=1) < 0).float().mean()
        return torch.stack([loss.detach(), accuracy_real, accuracy_fake])

    def _is_finite(self) -> Tensor:
        """Whether all that a step changes is: weights, and the optimizer's moments."""
        moments = [part for state in self.optimizer.state.values() for part in state.values()]
        changed = [*self.discriminator.parameters(), *moments]
        return torch.stack([part.isfinite().all() for part in changed]).all()

    def _drawn(self, count: int, size: int, steps: int) -> Tensor:
        """For each step numbers of generated images, of `count`, and of real: [steps, 2, size]."""
        drawn, processes = [], self.processes
        for _ in range(steps):
            order = torch.randperm(count * processes.count, generator=self.generator)
            fake = order[order // count == processes.index][:size] - processes.index * count
            weights, whole = self._real_weights, size * processes.count
            real = torch.multinomial(weights, whole, True, generator=self.generator)
            drawn.append(torch.stack([fake, self._own(real)]))
        return torch.stack(drawn)

    def _own(self, drawn: Tensor) -> Tensor:  # of what was drawn for all
        return drawn[self.processes.slice_of(len(drawn))]

    def _real_batches(
        self, drawn: Tensor, on_device: Tensor
    ) -> Iterator[tuple[Tensor | None, Sequence[Tensor], Tensor]]:
        """Of numbers [steps, B], on the host and on the device, what `_step` takes of real images.

        The images [B, C, H, W] are given only if R1 asks for their gradient.
        """
        if self._embedded_reals is not None:
            embeddings, conditions = self._embedded_reals
            for numbers in on_device:
                yield None, [part[numbers] for part in embeddings], conditions[numbers]
            return
        for numbers, images in zip(drawn, self.reals.batches(drawn), strict=True):
            real = self._augmented(self._flipped(sent(images, on_device.device)))
            if self.config.r1:
                real = real.detach().requires_grad_()
            # Looked up after the images were read: what stands in for one brings its own.
            conditions = sent(self.reals.conditions[numbers], on_device.device)
            yield real if self.config.r1 else None, self.discriminator.embed(real), conditions

    @cached_property
    def _embedded_reals(self) -> tuple[list[Tensor], Tensor] | None:
        """Of all real images what the trunk says, and conditions; see `update` for when none."""
        config = self.config
        if config.augment or config.flip or config.r1 or config.trunk == "scratch":
            return None
        count = len(self.reals.conditions)
        numbers = torch.arange(count).split(EMBEDDED_AT_ONCE)
        (first,) = self.reals.batches([torch.tensor([0])])
        embeddings = self._embedded(count, self.reals.batches(numbers), first)
        return None if embeddings is None else (embeddings, self.reals.conditions.to(self.device))

    def _embedded(
        self, count: int, batches: Iterable[Tensor], first: Tensor
    ) -> list[Tensor] | None:
        """Of `count` images in batches, of which `first` is the first; None if too large."""
        one = self.discriminator.embed(sent(first, self.device))
        if sum(part.numel() * part.element_size() for part in one) * count > EMBEDDINGS_LIMIT:
            return None
        pieces = [self.discriminator.embed(sent(batch, self.device)) for batch in batches]
        return [torch.cat(parts) for parts in zip(*pieces, strict=True)]

    def _flipped(self, real: Tensor) -> Tensor:
        """Half of the real images, drawn at random, mirrored left to right."""
        if not self.config.flip:
            return real
        count = len(real) * self.processes.count
        whole = torch.rand(count, generator=self.generator, dtype=torch.float32)
        chosen = sent(self._own(whole) < 0.5, real.device)
        return torch.where(chosen.view(-1, 1, 1, 1), real.flip(-1), real)

    def _augmented(self, images: Tensor) -> Tensor:
        """The images as updates see them, by the own part of what is drawn for all processes."""
        if not self.config.augment:
            return images
        count = len(images) * self.processes.count
        return augment(images, self.generator, self.processes.slice_of(count), count)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later `load_state_dict` needs to go on as if never stopped."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`.

        Raises:
            ValueError: it is of another discriminator.
        """
        try:
            self.discriminator.load_state_dict(state["discriminator"])
        except RuntimeError as error:
            raise ValueError(
                f"state: got that of another discriminator, or of an earlier version's ({error}), "
                f"allowed is one of {type(self.discriminator).__name__}"
            ) from None
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
