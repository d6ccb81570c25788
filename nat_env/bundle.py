"""A bundle: a folder with everything frozen that decoding, judging and rewards need."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nat_env.files import require_writable_folder, sha256, write_json, written_aside
from nat_env.frozen import FrozenNAT
from nat_env.models.judge import JudgeConfig, JudgeNetwork
from nat_env.models.tokenizer import VQTokenizer
from nat_env.models.uvit import UViT, UViTConfig
from nat_env.statistics import GaussianStatistics

FORMAT = 1
_DESCRIPTION = "bundle.json"
_PARTS = {
    "transformer.safetensors",
    "judge.safetensors",
    "features.safetensors",
    "statistics.safetensors",
    "real.safetensors",
    "tokenizer/tokenizer.json",
}


@dataclass(frozen=True, eq=False)
class Bundle:
    """Tokenizer, transformer, judge, reference statistics and real images of one data set."""

    name: str
    class_names: tuple[str, ...]
    nat: FrozenNAT
    judge: JudgeNetwork
    features: JudgeNetwork
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
        values = json.loads((self.tokenizer_folder / "tokenizer.json").read_text())
        factor = values["patch_size"] * 2 ** (len(values["block_out_channels"]) - 1)
        return values["image_size"][0] // factor, values["image_size"][1] // factor

    @property
    def num_classes(self) -> int:
        """Labels are 0 .. num_classes - 1."""
        return len(self.class_names)

    @property
    def num_tokens(self) -> int:
        """N."""
        return self.nat.num_tokens

    @property
    def feature_size(self) -> int:
        """D, the width of the NAT's features."""
        return self.nat.transformer.norm.normalized_shape[0]  # type: ignore[union-attr, index]

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
    return tuple(sorted(p.parent.name for p in assets.glob(f"*/{_DESCRIPTION}")))


def bundle_folder(name_or_path: str | Path) -> Path:
    """The folder of a shipped bundle or of one's own.

    Raises:
        ValueError: neither a shipped name nor a folder with a `bundle.json`.
    """
    shipped = Path(str(files("nat_env"))) / "assets" / str(name_or_path)
    for folder in (shipped, Path(name_or_path)):
        if (folder / _DESCRIPTION).is_file():
            return folder.resolve()
    raise ValueError(
        f"bundle: got {str(name_or_path)!r}, allowed are {', '.join(shipped_bundles())} "
        f"or a folder with a {_DESCRIPTION}"
    )


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
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: got {device!r}, which torch cannot use ({error})") from error
    return _load(bundle_folder(name_or_path), resolve_dtype(dtype, device), str(device))


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
def _load(folder: Path, dtype: torch.dtype, device: str) -> Bundle:
    description = _checked_description(folder)
    try:
        uvit = UViT(UViTConfig(**description["transformer"]))
        uvit.load_state_dict(load_file(folder / "transformer.safetensors"))
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
        _check_parts(
            uvit.config,
            judge.config,
            statistics,
            len(class_names),
            (real["images"], real["labels"], real["ids"]),
        )
        _check_features(features.config, judge.config)
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
        fingerprint=_fingerprint(description),
        training=description["training"],
        quality=description["quality"],
    )


def _check_parts(
    transformer: UViTConfig,
    judge: JudgeConfig,
    statistics: GaussianStatistics,
    num_classes: int,
    real: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Check that the parts of a bundle fit together.

    Raises:
        ValueError: naming the part that does not.
    """
    images, labels, ids = real
    fits = {
        "transformer": transformer.num_classes == num_classes,
        "judge": judge.num_classes == num_classes and judge.channels == images.shape[1],
        "statistics": statistics.mean.shape == (judge.widths[-1],),
        "real_images": images.ndim == 4 and images.dtype == torch.uint8 and len(images) > 0,
        "real_labels": labels.shape == images.shape[:1] and _within(labels, num_classes),
        "real_ids": ids.shape == (len(images), transformer.num_tokens)
        and _within(ids, transformer.codebook_size),
    }
    for part, good in fits.items():
        if not good:
            raise ValueError(f"{part}: does not fit the bundle's other parts")


def _check_features(features: JudgeConfig, judge: JudgeConfig) -> None:
    if (features.channels, features.num_classes) != (judge.channels, judge.num_classes):
        raise ValueError("features: does not fit the bundle's other parts")


def _classifier(folder: Path, description: dict[str, Any], part: str) -> JudgeNetwork:
    values = description[part] | {"widths": tuple(description[part]["widths"])}
    network = JudgeNetwork(JudgeConfig(**values))
    network.load_state_dict(load_file(folder / f"{part}.safetensors"))
    return network.eval().requires_grad_(False)


def _within(values: Tensor, limit: int) -> bool:
    return bool(((values >= 0) & (values < limit)).all())


def _checked_description(folder: Path) -> dict[str, Any]:
    try:
        description = json.loads((folder / _DESCRIPTION).read_text())
        hashes, version = dict(description["files"]), description["format"]
        _ = [description[key] for key in ("name", "class_names", "training", "quality")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"bundle: {folder / _DESCRIPTION} is damaged ({error!r})") from error
    if version != FORMAT:
        raise ValueError(f"bundle: format {version} in {str(folder)!r}, allowed is {FORMAT}")
    unlisted = _PARTS - hashes.keys()
    if unlisted:
        raise ValueError(f"bundle: {folder / _DESCRIPTION} lacks {', '.join(sorted(unlisted))}")
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"bundle: {path} is missing")
        if sha256(path) != expected:
            raise ValueError(f"bundle: {path} is truncated or not this bundle's (hash differs)")
    return description


def _fingerprint(description: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description["files"], sort_keys=True).encode()).hexdigest()


def save_bundle(
    folder: Path,
    *,
    name: str,
    class_names: tuple[str, ...],
    tokenizer: VQTokenizer,
    transformer: UViT,
    judge: JudgeNetwork,
    features: JudgeNetwork,
    statistics: GaussianStatistics,
    real_images: Tensor,
    real_labels: Tensor,
    real_ids: Tensor,
    training: Mapping[str, Any],
    quality: Mapping[str, Any],
) -> None:
    """Write a bundle; `bundle.json` comes last, so that a broken-off write is no bundle.

    Raises:
        ValueError: `folder` cannot be written, or the parts do not fit together.
    """
    grid = tokenizer.config.grid
    expected = (grid[0] * grid[1], tokenizer.config.codebook_size, len(class_names))
    config = transformer.config
    if (config.num_tokens, config.codebook_size, config.num_classes) != expected:
        raise ValueError(
            f"transformer: has {config}, the tokenizer and class names ask for "
            f"(num_tokens, codebook_size, num_classes) = {expected}"
        )
    _check_parts(
        config, judge.config, statistics, len(class_names), (real_images, real_labels, real_ids)
    )
    _check_features(features.config, judge.config)
    if real_images.shape[2:] != tokenizer.config.image_size:
        raise ValueError(
            f"real_images: got {tuple(real_images.shape)}, the tokenizer's are "
            f"{tokenizer.config.image_size}"
        )
    require_writable_folder(folder)
    (folder / _DESCRIPTION).unlink(missing_ok=True)
    tokenizer.save(folder / "tokenizer")
    tensors: dict[str, dict[str, Tensor]] = {
        "transformer": _state(transformer),
        "judge": _state(judge),
        "features": _state(features),
        "statistics": {
            "mean": torch.from_numpy(statistics.mean),
            "covariance": torch.from_numpy(statistics.covariance),
            "count": torch.tensor(statistics.count),
        },
        "real": {
            "images": real_images.contiguous(),
            "labels": real_labels.contiguous(),
            "ids": real_ids.to(torch.int32).contiguous(),
        },
    }
    for part, values in tensors.items():
        with written_aside(folder / f"{part}.safetensors") as aside:
            save_file(values, aside)
    names = [f"{part}.safetensors" for part in tensors]
    names += [f"tokenizer/{p.name}" for p in sorted((folder / "tokenizer").iterdir())]
    write_json(
        folder / _DESCRIPTION,
        {
            "format": FORMAT,
            "name": name,
            "class_names": list(class_names),
            "transformer": asdict(transformer.config),
            "judge": asdict(judge.config),
            "features": asdict(features.config),
            "training": training,
            "quality": quality,
            "files": {n: sha256(folder / n) for n in names},
        },
    )


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone().contiguous() for k, v in module.state_dict().items()}
