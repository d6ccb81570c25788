"""A bundle: everything frozen that decoding, judging and rewards need."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, overload
from uuid import uuid4

import torch

from nat_env.bundles.reals import TensorReals
from nat_env.bundles.yardstick import Yardstick
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.nat import FrozenNAT
from nat_env.frozen.protocol import Tokenizer
from nat_env.models.classifier import Tower
from nat_env.text.encoder import TextEncoder
from nat_env.text.matcher import Matcher
from nat_env.text.table import missing_prompts, prompted_table

_UNSTORED = "unstored-"

_REMEDIES = {
    "yardstick": "a judge and its statistics of real images: distances and the rewards `judge` and "
    "`frechet` need them. Give the environment a reward_fn of your own, train with eval_every = 0, "
    "search with an objective of your own, evaluate with InceptionV3 and published statistics "
    "(nat-eval --inception, --inception-statistics) or a CLIP model (--clip), "
    "or make a bundle with save_bundle(..., yardstick=Yardstick(name, judge, statistics))",
    "trunk": "a classifier for a discriminator to stand on. Take the trunk `scratch`, "
    "`efficientnet` or `transformer`, or make a bundle with save_bundle(..., trunk=classifier)",
    "aligner": "a model of images and texts that no reward asks, for the alignment score. Ask a "
    "CLIP model (nat-eval --clip), or make a bundle with save_bundle(..., aligner=Matcher(...))",
    "reals": "real images. Name a folder of them (real_folder), or make a bundle with "
    "save_bundle(..., reals=TensorReals(images, conditions))",
    "text_encoder": "what turns a prompt that is not in its table of conditions into an embedding. "
    "Ask for the prompts that it has (bundle.conditions.names), or make a bundle with "
    "save_bundle(..., text_encoder=CLIPTextEncoder.from_folder(FOLDER))",
}


@dataclass(frozen=True, eq=False)
class Bundle:
    """A frozen model with what belongs to it: conditions, transformer and tokenizer always.

    Yardstick, trunk, reals and text encoder may be missing: `require` them.

    Example:
        >>> from nat_env.bundles.loading import load_bundle
        >>> bundle = load_bundle("digits")
        >>> len(bundle.conditions), bundle.nat.feature_grid, bundle.require("yardstick").name
        (10, (4, 4), 'digits-judge')
    """

    name: str
    conditions: Conditions
    nat: FrozenNAT
    tokenizer: Tokenizer
    yardstick: Yardstick | None = None
    trunk: Tower | None = None
    """Another such network, for a discriminator to stand on: never the judge's network."""
    aligner: Matcher | None = None
    """A third one, for how well images fit their prompts: no reward is computed from it."""
    reals: TensorReals | None = None
    """Training images for a discriminator."""
    text_encoder: TextEncoder | None = None
    """For prompts that the table of conditions does not have."""
    fingerprint: str = field(default_factory=lambda: f"{_UNSTORED}{uuid4().hex}")
    """Two bundles with the same one hold the same models. That of a stored one is of its files; one
    that was put together by hand has its own."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """The configuration that made it."""
    quality: Mapping[str, Any] = field(default_factory=dict)
    """Measured floors and accuracies, with what measured them."""

    @property
    def is_stored(self) -> bool:
        """Whether the fingerprint is of files, and so the same in another process."""
        return not self.fingerprint.startswith(_UNSTORED)

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            ValueError: naming the part that does not.
        """
        check_parts(
            self.conditions,
            self.nat,
            self.tokenizer,
            self.yardstick,
            self.trunk,
            self.aligner,
            self.reals,
        )

    @overload
    def require(self, part: Literal["yardstick"]) -> Yardstick: ...
    @overload
    def require(self, part: Literal["trunk"]) -> Tower: ...
    @overload
    def require(self, part: Literal["aligner"]) -> Matcher: ...
    @overload
    def require(self, part: Literal["reals"]) -> TensorReals: ...
    @overload
    def require(self, part: Literal["text_encoder"]) -> TextEncoder: ...
    def require(self, part: str) -> Any:
        """An optional part.

        Raises:
            ValueError: the bundle has none; the message says what to provide, and how.
        """
        found = getattr(self, part)
        if found is None:
            raise ValueError(f"bundle: {self.name!r} has no {part}: {_REMEDIES[part]}")
        return found

    def with_prompts(
        self, prompts: Sequence[str], replace: bool = False, cache: Path | None = None
    ) -> Self:
        """A bundle whose table of conditions has these prompts, too; the models are the same.

        Rows that there were keep their numbers. The fingerprint, which is of the models, stays: a
        policy may be asked for prompts that its training did not have. Of judge, trunk and aligner
        those stay that take another table, as a `Matcher` does: a classifier knows as many classes
        as there were conditions. Real images stay where their prompts do.

        Args:
            prompts: those that the table has already are not added again.
            replace: the new table has these prompts alone, in their order.
            cache: a folder for the embeddings of many prompts, which are then computed once and
                never all in memory, see `embedded_on_disk`; allowed with `replace`.

        Raises:
            ValueError: an empty prompt or one that is too long, one that is not in the table where
                there is no text encoder, a table of classes, or a transformer that takes no other
                table.
        """
        missing = missing_prompts(self.conditions, prompts)
        if not missing and not replace:
            return self
        of_texts = self.conditions.are_prompts
        encoder = self.require("text_encoder") if missing and of_texts else None
        transformer: Any = self.nat.transformer
        if of_texts and not hasattr(transformer, "with_conditions"):
            raise ValueError(
                f"transformer: {type(transformer).__name__} takes no other table, allowed is one "
                "with a method with_conditions(conditions)"
            )
        conditions = prompted_table(self.conditions, prompts, encoder, replace, cache)
        nat = dataclasses.replace(
            self.nat,
            transformer=transformer.with_conditions(conditions),
            null_condition=conditions.null,
        )
        reals = self.reals
        if replace and reals is not None:
            reals = reals.of_names(self.conditions.names, conditions.by_name)
        return dataclasses.replace(
            self,
            conditions=conditions,
            nat=nat,
            yardstick=self.yardstick and self.yardstick.with_conditions(conditions),
            trunk=self.trunk and self.trunk.with_conditions(conditions),
            aligner=self.aligner and self.aligner.with_conditions(conditions),
            reals=reals,
        )

    @property
    def judge_name(self) -> str | None:
        """What stands beside every distance of its own; None without a yardstick."""
        return self.yardstick.name if self.yardstick else None

    @property
    def num_tokens(self) -> int:
        """N."""
        return self.nat.num_tokens

    @property
    def dtype(self) -> str:
        """Of the transformer: `float32`, `bfloat16` or `float16`."""
        return str(self.nat.dtype).removeprefix("torch.")

    @property
    def decoder_dtype(self) -> str:
        """In which the tokenizer decodes: `float32`, or what `load_bundle` was asked for."""
        found = getattr(self.tokenizer, "decoder_dtype", torch.float32)
        return str(found).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.nat.device


def check_parts(
    conditions: Conditions,
    transformer: Any,
    tokenizer: Tokenizer,
    yardstick: Yardstick | None,
    trunk: Tower | None,
    aligner: Matcher | None,
    reals: TensorReals | None,
) -> None:
    """Check that the parts of a bundle fit together.

    Args:
        conditions: the table.
        transformer: a `MaskedTransformer`, or the `FrozenNAT` of one.
        tokenizer: images to ids and back.
        yardstick: if there is one.
        trunk: if there is one.
        aligner: if there is one.
        reals: if there are any.

    Raises:
        ValueError: naming the part that does not.
    """
    grid, codebook_size = tuple(tokenizer.grid), tokenizer.codebook_size
    expected = (grid[0] * grid[1], codebook_size)
    if (transformer.num_tokens, transformer.codebook_size) != expected:
        raise ValueError(
            f"transformer: has (num_tokens, codebook_size) = "
            f"{(transformer.num_tokens, transformer.codebook_size)}, the tokenizer asks for "
            f"{expected}"
        )
    image_size, channels = tuple(tokenizer.image_size), tokenizer.channels
    if any(side % cells for side, cells in zip(image_size, grid, strict=True)):
        raise ValueError(
            f"tokenizer: has images of {image_size} pixels, allowed are multiples of its grid "
            f"{grid}"
        )
    towers = {"judge": yardstick and yardstick.judge, "trunk": trunk, "aligner": aligner}
    for part, network in towers.items():
        found = network and (network.channels, network.num_conditions)
        if found and found != (channels, len(conditions)):
            raise ValueError(
                f"{part}: knows (channels, conditions) = {found}, the bundle asks for "
                f"{(channels, len(conditions))}"
            )
    if reals is None:
        return
    shape = (channels, *image_size)
    if reals.image_shape != shape or reals.images.dtype != torch.uint8:
        raise ValueError(
            f"reals: got images {reals.images.dtype} {reals.image_shape}, allowed are uint8 of the "
            f"tokenizer's shape {shape}"
        )
    if int(reals.conditions.max()) >= len(conditions):
        raise ValueError(
            f"reals: got conditions up to {int(reals.conditions.max())}, allowed are "
            f"0 .. {len(conditions) - 1}"
        )
    if reals.ids is not None and (
        reals.ids.shape[1] != expected[0] or int(reals.ids.max()) >= codebook_size
    ):
        raise ValueError(f"reals: their ids do not fit the tokenizer's {expected}")
