"""A bundle: a folder with everything frozen that decoding, judging and rewards need."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from nat_env.bundles.format import DESCRIPTION, check_parts, checked_description, fingerprint
from nat_env.bundles.statistics import GaussianStatistics
from nat_env.models.classifier import Classifier, ClassifierConfig
from nat_env.models.frozen import FrozenNAT
from nat_env.models.uvit import UViT, UViTConfig
from nat_env.models.vq import TokenizerConfig, VQTokenizer


@dataclass(frozen=True, eq=False)
class Bundle:
    """Tokenizer, transformer, judge, reference statistics and real images of one data set."""

    name: str
    class_names: tuple[str, ...]
    nat: FrozenNAT
    judge: Classifier
    features: Classifier
    """Another classifier, for a discriminator to stand on: never the judge's network."""
    statistics: GaussianStatistics
    """Of the judge's features on the training images."""
    real_images: Tensor
    """[n, C, H, W] uint8, training images for a discriminator."""
    real_labels: Tensor
    """[n] int64."""
    real_ids: Tensor
    """[n, N] int64, their tokens."""
    tokenizer_folder: Path
    fingerprint: str
    """Hash of all files: two bundles with the same one hold the same models."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """The configuration that made it."""
    quality: Mapping[str, Any] = field(default_factory=dict)
    """Measured floors and accuracies, with what measured them."""

    @cached_property
    def tokenizer(self) -> VQTokenizer:
        """Loaded when an image is first decoded: diffusers is slow to import."""
        tokenizer = VQTokenizer.load(self.tokenizer_folder)
        return tokenizer.eval().requires_grad_(False).to(self.nat.device)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Tokens along height and width."""
        return TokenizerConfig.load(self.tokenizer_folder).grid

    @property
    def judge_name(self) -> str:
        """What stands beside every distance that the judge measured."""
        return f"{self.name}-judge"

    @property
    def num_classes(self) -> int:
        """Labels are 0 .. num_classes - 1."""
        return len(self.class_names)

    @property
    def labels_by_name(self) -> dict[str, int]:
        """Labels by class name and by number, in lower case; where names are numbers, names win."""
        numbers = {str(label): label for label in range(self.num_classes)}
        return numbers | {name.casefold(): i for i, name in enumerate(self.class_names)}

    @property
    def num_tokens(self) -> int:
        """N."""
        return self.nat.num_tokens

    @property
    def feature_size(self) -> int:
        """D, the width of the NAT's features."""
        return self.nat.transformer.norm.normalized_shape[0]  # type: ignore[union-attr, index]

    @property
    def dtype(self) -> str:
        """Of the transformer: `float32` or `bfloat16`."""
        return str(next(self.nat.transformer.parameters()).dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.nat.device

    def check_conditions(self, conditions: Tensor) -> None:
        """Check labels [B].

        Raises:
            ValueError: wrong rank or dtype, none at all, or a label out of range.
        """
        if conditions.ndim != 1 or conditions.dtype != torch.int64 or not len(conditions):
            raise ValueError(
                f"conditions: got {conditions.dtype} {tuple(conditions.shape)}, "
                "allowed is int64 [B >= 1]"
            )
        if conditions.min() < 0 or conditions.max() >= self.num_classes:
            raise ValueError(
                f"conditions: got {int(conditions.min())} .. {int(conditions.max())}, "
                f"allowed are 0 .. {self.num_classes - 1}"
            )


def balanced_conditions(count: int, num_classes: int) -> Tensor:
    """Labels 0, 1, .., num_classes - 1, 0, ..: [count] int64, as even as can be.

    Example:
        >>> balanced_conditions(5, 3).tolist()
        [0, 1, 2, 0, 1]
    """
    return torch.arange(count) % num_classes


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles in `nat_env/assets`."""
    assets = Path(str(files("nat_env"))) / "assets"
    return tuple(sorted(p.parent.name for p in assets.glob(f"*/{DESCRIPTION}")))


def bundle_folder(name_or_path: str | Path) -> Path:
    """The folder of a shipped bundle or of one's own.

    Raises:
        ValueError: neither a shipped name nor a folder with a `bundle.json`.
    """
    shipped = Path(str(files("nat_env"))) / "assets" / str(name_or_path)
    for folder in (shipped, Path(name_or_path)):
        if (folder / DESCRIPTION).is_file():
            return folder.resolve()
    raise ValueError(
        f"bundle: got {str(name_or_path)!r}, allowed are {', '.join(shipped_bundles())} "
        f"or a folder with a {DESCRIPTION}"
    )


def bundle_spec(name_or_path: str | Path) -> str:
    """What names a bundle in any working directory: a shipped bundle's name, or the whole path.

    Raises:
        ValueError: neither a shipped name nor a folder with a `bundle.json`.

    Example:
        >>> bundle_spec("digits")
        'digits'
    """
    folder = bundle_folder(name_or_path)
    return str(name_or_path if str(name_or_path) in shipped_bundles() else folder)


def load_bundle(name_or_path: str | Path, dtype: str = "auto", device: str = "cpu") -> Bundle:
    """Load a bundle, once per folder, dtype and device: later calls share the models.

    Args:
        name_or_path: a shipped bundle's name or a folder.
        dtype: of the transformer: `float32`, `bfloat16`, or `auto` (bfloat16 where the hardware
            multiplies it fast, else float32).
        device: a torch device.

    Raises:
        ValueError: an unknown bundle, dtype or device, or a file that is missing or damaged.
    """
    check_device(device)
    folder = bundle_folder(name_or_path)
    written = (folder / DESCRIPTION).read_bytes()  # a bundle written anew is another one
    return _load(folder, written, resolve_dtype(dtype, device), str(device))


def check_device(device: str) -> None:
    """Check a torch device's name, and that it is there.

    Raises:
        ValueError: torch cannot use it.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: got {device!r}, which torch cannot use ({error})") from error


def resolve_dtype(dtype: str, device: str = "cpu") -> torch.dtype:
    """`float32`, `bfloat16` or `auto` as a torch dtype.

    Raises:
        ValueError: another name.
    """
    if dtype == "auto":
        if torch.device(device).type == "cpu":
            able = getattr(torch.cpu, "get_capabilities", dict)()
            fast = able.get("avx512_bf16", False) or able.get("amx_bf16", False)
        else:
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype: got {dtype!r}, allowed are 'auto', 'float32', 'bfloat16'")
    return getattr(torch, dtype)


@lru_cache(maxsize=8)
def _load(folder: Path, written: bytes, dtype: torch.dtype, device: str) -> Bundle:
    description = checked_description(folder)
    try:
        uvit = UViT(UViTConfig(**description["transformer"]))
        uvit.load_state_dict(_weights(folder / "transformer.safetensors"))
        judge = _classifier(folder, description, "judge")
        features = _classifier(folder, description, "features")
        reference = load_file(folder / "statistics.safetensors")
        real = load_file(folder / "real.safetensors")
        class_names = tuple(description["class_names"])
        statistics = GaussianStatistics(
            mean=reference["mean"].numpy(),
            covariance=reference["covariance"].numpy(),
            count=int(reference["count"]),
        )
        check_parts(
            uvit.config,
            judge.config,
            features.config,
            statistics,
            len(class_names),
            (real["images"], real["labels"], real["ids"]),
        )
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"bundle: {str(folder)!r} does not fit together ({error})") from error
    nat = FrozenNAT(
        uvit.to(device=device, dtype=dtype),
        num_tokens=uvit.config.num_tokens,
        mask_id=uvit.mask_id,
        null_condition=uvit.config.num_classes,
    )
    return Bundle(
        name=description["name"],
        class_names=class_names,
        nat=nat,
        judge=judge.to(device),
        features=features.to(device),
        statistics=statistics,
        real_images=real["images"],
        real_labels=real["labels"],
        real_ids=real["ids"].long(),
        tokenizer_folder=folder / "tokenizer",
        fingerprint=fingerprint(description),
        training=description["training"],
        quality=description["quality"],
    )


def _classifier(folder: Path, description: dict[str, Any], part: str) -> Classifier:
    values = description[part] | {"widths": tuple(description[part]["widths"])}
    network = Classifier(ClassifierConfig(**values))
    network.load_state_dict(_weights(folder / f"{part}.safetensors"))
    return network.eval().requires_grad_(False)


def _weights(path: Path) -> dict[str, Tensor]:
    """Of a network.

    Raises:
        ValueError: some are not finite: nothing that is decoded or judged by them would be.
    """
    weights = load_file(path)
    for name, values in weights.items():
        if not values.isfinite().all():
            raise ValueError(f"bundle: {name} in {path} is not finite; make the bundle anew")
    return weights
