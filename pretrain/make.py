"""Making a bundle: all parts trained on a data set, measured, and written."""

import hashlib
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.format import PARTS
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.statistics import balanced_statistics, frechet_distance
from nat_env.bundles.writer import check_replaceable, save_bundle
from nat_env.bundles.yardstick import Yardstick
from nat_env.frozen.conditions import Conditions, balanced_conditions
from nat_env.frozen.nat import FrozenNAT
from nat_env.frozen.weights import round_to_half
from nat_env.models.classifier import embeddings_of
from nat_env.models.pixels import to_float
from nat_env.storage.claims import claimed
from nat_env.storage.files import check_writable_folder
from pretrain.classifier import train_classifier
from pretrain.config import PretrainConfig, Sizes
from pretrain.data.labelled import LabelledImages
from pretrain.parallel.execution import Execution
from pretrain.tokenizer import encode_all, train_tokenizer, without_unused_codes
from pretrain.transformer import train_transformer
from pretrain.verdict import measured, save_picture, verdict


def make_bundle(
    data: LabelledImages,
    config: PretrainConfig,
    work: Path,
    out: Path,
    execution: Execution | None = None,
) -> None:
    """Train all parts on `data`, measure them, and write the bundle to `out`.

    Args:
        data: images and labels.
        config: sizes and trainings of the parts.
        work: folder of the checkpoints, from which every part resumes.
        out: folder of the bundle.
        execution: of the trainings; a batch of images at a time is brought to its device. Several
            processes train together, and the main one measures and writes.

    Raises:
        ValueError: a folder that cannot be written, sizes that do not go
            together, fewer images than a judge needs, batches that have no equal portions, or
            `work` is in use or holds the parts of another configuration or data set.
    """
    execution = execution or Execution()
    count, channels, height, width = data.train_images.shape
    sizes = config.sizes(channels, (height, width), len(data.class_names))
    judge_features = sizes[2].widths[-1]
    with ExitStack() as held:
        with execution.processes.main_first():
            if count <= judge_features:
                raise ValueError(
                    f"train_images: got {count}, allowed are more than the judge's "
                    f"{judge_features} features, whose covariance they have to give"
                )
            for part in (config.tokenizer, config.transformer):
                execution.check_batch_size(part.loop.batch_size)
            for part in (config.judge, config.trunk):
                replace(execution, passes=1).check_batch_size(part.loop.batch_size)
            if execution.processes.is_main:
                check_folders(work, out)
                identity = _identity(config, data, execution)
                held.enter_context(claimed(work, "config.json", identity, "work"))
        _make(data, config, sizes, work, out, execution)


def check_folders(work: Path, out: Path) -> None:
    """Check that a bundle can be written to `out`, and its parts to `work`.

    Raises:
        ValueError: one is in the other, or `out` cannot be written, or holds something else.
    """
    taken = [out.resolve(), *((out / part).resolve() for part in PARTS)]
    if work.resolve() == taken[0] or any(work.resolve().is_relative_to(path) for path in taken[1:]):
        raise ValueError(f"out: got {str(out)!r}, allowed is another folder than that of the parts")
    check_replaceable(out)
    check_writable_folder(out)


def _make(
    data: LabelledImages,
    config: PretrainConfig,
    sizes: Sizes,
    work: Path,
    out: Path,
    execution: Execution,
) -> None:
    tokenizer_size, transformer_size, judge_size, trunk_size = sizes
    images, labels, device = data.train_images, data.train_labels, execution.device
    print(
        "training tokenizer, judge, trunk and transformer, one after the other; checkpoints and "
        f"TensorBoard events are in {work}",
        flush=True,
    )
    tokenizer = train_tokenizer(
        images, tokenizer_size, config.tokenizer, work, config.seed, execution
    )
    round_to_half(tokenizer.vq)
    own = images[execution.processes.slice_of(len(images))]
    parts = execution.processes.gathered(encode_all(tokenizer, own, device))
    ids = torch.cat(execution.processes.from_main(parts))
    if tokenizer_size.priced:
        tokenizer, ids = without_unused_codes(tokenizer, ids)
        transformer_size = replace(transformer_size, codebook_size=tokenizer.codebook_size)
    judge = train_classifier(
        images, labels, judge_size, config.judge, work, config.seed, "judge", execution
    )
    trunk = train_classifier(
        images, labels, trunk_size, config.trunk, work, config.seed + 1, "trunk", execution
    )
    transformer = train_transformer(
        ids, labels, transformer_size, config.transformer, work, config.seed, execution
    )
    for network in (judge, trunk, transformer):
        round_to_half(network)
    if not execution.processes.is_main:
        return

    statistics = balanced_statistics(embeddings_of(judge, data.train_images), data.train_labels)
    held_out = balanced_statistics(embeddings_of(judge, data.test_images), data.test_labels)
    described, error = [], 0.0
    for batch, originals in zip(ids.split(256), data.train_images.split(256), strict=True):
        images = tokenizer.decode(batch.to(device)).cpu()
        described.append(embeddings_of(judge, images))
        error += float((images - to_float(originals)).double().square().sum())
    decoded = balanced_statistics(torch.cat(described), data.train_labels)
    conditions = Conditions(data.class_names)
    yardstick = Yardstick(f"{data.name}-judge", judge, statistics)
    nat = FrozenNAT(transformer, conditions.null, device)
    bundle = Bundle(data.name, conditions, nat, tokenizer, yardstick)
    overview = measured(bundle, data, config.seed)
    quality = {
        **overview.quality,
        "real_floor": frechet_distance(held_out, statistics),
        "reconstruction_floor": frechet_distance(decoded, statistics),
        "reconstruction_mse": error / data.train_images.numel(),
        "codes_in_use": int(ids.unique().numel()),
        "floors_measured_on": f"{held_out.count} test images and {len(ids)} reconstructed "
        f"training images against {statistics.count} training images, {data.name} judge",
    }
    chosen = _balanced_subset(data.train_labels, config.num_real, config.seed)
    save_bundle(
        out,
        name=data.name,
        conditions=conditions,
        transformer=transformer.cpu(),
        tokenizer=tokenizer.to("cpu"),
        yardstick=Yardstick(yardstick.name, judge.cpu(), statistics),
        trunk=trunk.cpu(),
        reals=TensorReals(data.train_images[chosen], data.train_labels[chosen], ids[chosen]),
        training=asdict(config),
        quality=quality,
        weights="float16",
    )
    picture = save_picture(overview.picture, out)
    print(verdict(quality, len(ids), len(data.class_names), f"{data.name} judge"))
    print(
        f"{quality['codes_in_use']} of {config.codebook_size} codes in use\n"
        f"bundle written to {out}; look at {picture}"
    )


def _identity(config: PretrainConfig, data: LabelledImages, execution: Execution) -> dict[str, Any]:
    """What the parts are of."""
    images = hashlib.sha256()
    for part in (data.train_images, data.train_labels):
        images.update(str(tuple(part.shape)).encode() + part.numpy().tobytes())
    precision = execution.mixed_precision
    return {"images": images.hexdigest(), "config": asdict(config), "mixed_precision": precision}


def _balanced_subset(labels: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Indices of at most `count` images at random, classes as even as can be."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    num_classes = int(labels.max()) + 1
    wanted = torch.bincount(balanced_conditions(count, num_classes), minlength=num_classes)
    parts = [shuffled[labels[shuffled] == c][: int(wanted[c])] for c in range(num_classes)]
    return torch.cat(parts).sort().values
