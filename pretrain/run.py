"""Command nat-pretrain: a bundle from a data set."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from nat_env.bundle import balanced_conditions
from nat_env.bundle_writer import save_bundle
from nat_env.files import require_writable_folder, write_json
from nat_env.models.classifier import ClassifierConfig, features_of
from nat_env.models.tokenizer import TokenizerConfig
from nat_env.models.uvit import UViTConfig
from nat_env.statistics import GaussianStatistics, frechet_distance
from pretrain.classifier import accuracy, train_classifier
from pretrain.config import PRESETS, PretrainConfig
from pretrain.data import LabelledImages, digits, fashion_mnist
from pretrain.tokenizer import encode_all, train_tokenizer
from pretrain.transformer import train_transformer


@dataclass(frozen=True)
class Arguments:
    """Make a bundle: tokenizer, transformer, judge and reference statistics from a data set.

    Every part resumes from `work` where it stopped, when called again with the same configuration.
    """

    dataset: Annotated[Literal["fashion", "digits"], tyro.conf.Positional]
    """Data set and preset."""
    out: Path
    """Folder of the new bundle."""
    data: Path | None = None
    """Folder with Fashion-MNIST's four IDX files, if not where Debian puts them."""
    work: Path = Path("runs/pretrain")
    """Folder for checkpoints and TensorBoard events; one sub-folder per data set."""
    threads: int = 2
    """Torch threads."""


def load_data(name: str, folder: Path | None) -> LabelledImages:
    """The data set of a preset."""
    return digits() if name == "digits" else fashion_mnist(folder)


def make_bundle(data: LabelledImages, config: PretrainConfig, work: Path, out: Path) -> None:
    """Train all parts on `data`, measure them, and write the bundle to `out`.

    Raises:
        ValueError: a folder that cannot be written, or `work` holds another configuration's parts.
    """
    require_writable_folder(out)
    require_writable_folder(work)
    _claim(work, config)
    _, channels, height, width = data.train_images.shape
    tokenizer = train_tokenizer(
        data.train_images,
        TokenizerConfig(
            (height, width),
            channels,
            config.codebook_size,
            config.patch_size,
            config.tokenizer_widths,
            latent_channels=config.latent_channels,
        ),
        config.tokenizer,
        work,
        config.seed,
    )
    ids = encode_all(tokenizer, data.train_images)
    judge = train_classifier(
        data.train_images,
        data.train_labels,
        ClassifierConfig(channels, len(data.class_names), config.judge_widths),
        config.judge,
        work,
        config.seed,
        "judge",
    )
    features = train_classifier(
        data.train_images,
        data.train_labels,
        ClassifierConfig(channels, len(data.class_names), config.features_widths),
        config.features,
        work,
        config.seed + 1,
        "features",
    )
    transformer = train_transformer(
        ids,
        data.train_labels,
        UViTConfig(
            config.codebook_size,
            ids.shape[1],
            len(data.class_names),
            config.hidden_size,
            config.depth,
            config.num_heads,
            config.dropout,
        ),
        config.transformer,
        work,
        config.seed,
    )

    train_features = features_of(judge, data.train_images).numpy()
    statistics = GaussianStatistics.from_features(train_features)
    test_features = features_of(judge, data.test_images).numpy()
    reconstructed = torch.cat([tokenizer.decode(b) for b in ids.split(256)])
    quality = {
        "judge_test_accuracy": accuracy(judge, data.test_images, data.test_labels),
        "real_floor": frechet_distance(GaussianStatistics.from_features(test_features), statistics),
        "reconstruction_floor": frechet_distance(
            GaussianStatistics.from_features(features_of(judge, reconstructed).numpy()), statistics
        ),
        "reconstruction_mse": float(
            (reconstructed - data.train_images.float() / 255).square().mean()
        ),
        "codes_in_use": int(ids.unique().numel()),
        "floors_measured_on": f"{len(test_features)} test images and {len(ids)} reconstructed "
        f"training images against {len(train_features)} training images, {data.name} judge",
    }
    chosen = _balanced_subset(data.train_labels, config.num_real, config.seed)
    save_bundle(
        out,
        name=data.name,
        class_names=data.class_names,
        tokenizer=tokenizer,
        transformer=transformer,
        judge=judge,
        features=features,
        statistics=statistics,
        real_images=data.train_images[chosen],
        real_labels=data.train_labels[chosen],
        real_ids=ids[chosen],
        training=asdict(config),
        quality=quality,
    )
    print(json.dumps(quality, indent=2))
    print(f"bundle written to {out}")


def _claim(work: Path, config: PretrainConfig) -> None:
    """Write the configuration beside the checkpoints; refuse those of another one."""
    text = json.dumps(asdict(config), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = work / "config.json"
    if path.is_file() and json.loads(path.read_text())["digest"] != digest:
        raise ValueError(
            f"work: {str(work)!r} holds parts of another configuration; choose another folder "
            "or delete it"
        )
    write_json(path, {"digest": digest, "config": asdict(config)})


def _balanced_subset(labels: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Indices of at most `count` images at random, classes as even as can be."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    num_classes = int(labels.max()) + 1
    wanted = torch.bincount(balanced_conditions(count, num_classes), minlength=num_classes)
    parts = [shuffled[labels[shuffled] == c][: int(wanted[c])] for c in range(num_classes)]
    return torch.cat(parts).sort().values


def main() -> None:
    """Entry point."""
    arguments = tyro.cli(Arguments)
    torch.set_num_threads(arguments.threads)
    try:
        data = load_data(arguments.dataset, arguments.data)
        config = PRESETS[arguments.dataset]
        make_bundle(data, config, arguments.work / arguments.dataset, arguments.out)
    except ValueError as error:
        raise SystemExit(f"nat-pretrain: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("nat-pretrain: interrupted; the same command goes on") from None


if __name__ == "__main__":
    main()
