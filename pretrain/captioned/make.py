"""Making a bundle of prompts: all parts trained on images with captions, measured, and written."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.statistics import GaussianStatistics
from nat_env.bundles.writer import save_bundle
from nat_env.bundles.yardstick import Yardstick
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.nat import FrozenNAT
from nat_env.frozen.weights import round_to_half
from nat_env.models.classifier import embeddings_of
from nat_env.models.uvit import UViT
from nat_env.storage.claims import claimed
from nat_env.storage.files import write_text, written_aside
from nat_env.text.encoder import TextEncoder
from pretrain.captioned.config import CaptionedConfig
from pretrain.captioned.matcher import bring_to_unit_variance, train_matcher
from pretrain.captioned.verdict import measured, verdict
from pretrain.captioned.versions import Versions, distinct, table_of, versions_of
from pretrain.data.captioned import TRAINING, UNSEEN_CONCEPT, UNSEEN_STYLE, CaptionedImages
from pretrain.make import check_folders
from pretrain.parallel.execution import Execution
from pretrain.tokenizer import encode_all, train_tokenizer, without_unused_codes
from pretrain.transformer import train_transformer
from pretrain.verdict import save_picture

SENTENCES = "sentences.safetensors"
"""In the folder of the parts: what the text encoder says of each description."""
NOTICE = "NOTICE.txt"
"""In the bundle's folder: whose images it was made of."""
CAPTIONS = {
    TRAINING: "captions_training.txt",
    UNSEEN_STYLE: "captions_unseen_style.txt",
    UNSEEN_CONCEPT: "captions_unseen_concept.txt",
}
"""In the bundle's folder: which captions were trained on and which were not, one a line."""
_AT_ONCE = 64


def make_captioned_bundle(
    data: CaptionedImages,
    encoder: TextEncoder,
    notice: str,
    config: CaptionedConfig,
    work: Path,
    out: Path,
    execution: Execution | None = None,
) -> None:
    """Train all parts on `data`, measure them, and write the bundle to `out`.

    Images that are held out are seen by none of the models; their captions are in the table of
    conditions, as all others.

    Args:
        data: images of a multiple of the bundle's size, to which they are reduced after they were
            moved.
        encoder: of descriptions and styles; asked once, for what `work` has not.
        notice: what the images' licences ask to be told.
        config: sizes and trainings of the parts.
        work: folder of the checkpoints, from which every part resumes.
        out: folder of the bundle.
        execution: of the trainings, in one process.

    Raises:
        ValueError: several processes, a folder that cannot be written, sizes that do not go
            together, or `work` is in use or holds the parts of another configuration or data set.
    """
    execution = execution or Execution()
    check_execution(config, execution)
    config.transformer_size(1)  # sizes that do not go together are told before any work
    check_folders(work, out)
    with claimed(work, "config.json", _identity(config, data, encoder, execution), "work"):
        texts = distinct(data.descriptions)
        sentences = _sentences(encoder, texts, len(data.styles), work / SENTENCES)
        _make(data, sentences, encoder, notice, config, work, out, execution)


def check_execution(config: CaptionedConfig, execution: Execution) -> None:
    """Check that a bundle can be made so.

    Raises:
        ValueError: several processes, or batches that have no equal portions.
    """
    if execution.processes.count > 1:
        raise ValueError(
            f"processes: got {execution.processes.count}, allowed is 1: images are told apart "
            "within a whole batch"
        )
    for part in (config.tokenizer, config.transformer):
        execution.check_batch_size(part.loop.batch_size)


def _make(
    data: CaptionedImages,
    sentences: Mapping[str, Tensor],
    encoder: TextEncoder,
    notice: str,
    config: CaptionedConfig,
    work: Path,
    out: Path,
    execution: Execution,
) -> None:
    device, seed = execution.device, config.seed
    print(f"training all parts; checkpoints and TensorBoard events are in {work}", flush=True)
    numbers = (data.split == TRAINING).nonzero()[:, 0]
    versions = versions_of(
        data, sentences, numbers, config.image_size, config.versions, seed, device
    )
    tokenizer = train_tokenizer(
        versions.images, config.tokenizer_size(), config.tokenizer, work, seed, execution
    )
    round_to_half(tokenizer.vq)
    tokenizer, ids = without_unused_codes(tokenizer, encode_all(tokenizer, versions.images, device))
    concepts = data.concept[versions.of]
    rows = torch.arange(len(concepts))
    text_size = versions.pooled.shape[1]
    matchers = {
        name: train_matcher(
            versions, chosen, config.matcher_size(widths, text_size), training, work,
            seed + offset, name, execution,
        )
        for offset, (name, chosen, widths, training) in enumerate(
            [
                ("judge", rows[concepts % 2 == 0], config.judge_widths, config.judge),
                ("trunk", rows[concepts % 2 == 1], config.trunk_widths, config.trunk),
                ("aligner", rows, config.aligner_widths, config.aligner),
            ]
        )
    }  # fmt: skip
    sized = replace(config, codebook_size=tokenizer.codebook_size)
    transformer = trained_transformer(versions, ids, sized, work, execution)
    firsts = torch.arange(len(numbers)) * config.versions.count  # the images themselves
    images = versions.images[firsts]
    bring_to_unit_variance(matchers["judge"], embeddings_of(matchers["judge"], images))
    for network in (transformer, *matchers.values()):
        round_to_half(network)
    conditions = Conditions(data.captions, pooled=table_of(data, sentences))
    transformer = transformer.with_conditions(conditions)
    judge, trunk, aligner = (m.with_conditions(conditions) for m in matchers.values())
    statistics = GaussianStatistics.from_embeddings(embeddings_of(judge, images).numpy())
    yardstick = Yardstick(f"{data.name}-judge", judge, statistics)
    bundle = Bundle(
        data.name,
        conditions,
        FrozenNAT(transformer, conditions.null, device),
        tokenizer,
        yardstick,
        trunk,
        aligner,
    )
    overview = measured(bundle, data, seed)
    quality = {**overview.quality, "codes_in_use": tokenizer.codebook_size}
    save_bundle(
        out,
        name=data.name,
        conditions=conditions,
        transformer=transformer.cpu(),
        tokenizer=tokenizer.to("cpu"),
        yardstick=Yardstick(yardstick.name, judge.cpu(), yardstick.statistics),
        trunk=trunk.cpu(),
        aligner=aligner.cpu(),
        reals=TensorReals(
            images[: config.num_real], numbers[: config.num_real], ids[firsts][: config.num_real]
        ),
        text_encoder=encoder,
        training=asdict(config),
        quality=quality,
        weights="float16",
    )
    write_text(out / NOTICE, notice)
    for split, file in CAPTIONS.items():
        lines = [c for c, s in zip(data.captions, data.split.tolist(), strict=True) if s == split]
        write_text(out / file, "\n".join(lines) + "\n")
    picture = save_picture(overview.picture, out)
    print(verdict(quality))
    print(f"bundle written to {out}; look at {picture}")


def trained_transformer(
    versions: Versions, ids: Tensor, config: CaptionedConfig, work: Path, execution: Execution
) -> UViT:
    """The NAT, of the tokens [V, N] of `versions`.

    In training it is told by one more number whether an image was moved, as Karras et al. 2022
    (EDM) tell their denoiser: so it learns of all versions, and draws images as they were not
    moved. That number is then always 0, and its weights are left out.
    """
    told = torch.cat([versions.pooled, versions.moved[:, None].half()], dim=1)  # [V, E + 1]
    pooled = torch.cat([told, torch.zeros(1, told.shape[1]).half()])  # the last: no prompt
    size = config.transformer_size(pooled.shape[1])
    labels = torch.arange(len(ids))
    trained = train_transformer(
        ids, labels, size, config.transformer, work, config.seed, execution, pooled
    )
    text_size = versions.pooled.shape[1]
    state = trained.state_dict()
    state["context_embed.weight"] = state["context_embed.weight"][:, :text_size]  # [D, E]
    transformer = UViT(replace(size, context_size=text_size)).to(execution.device)
    transformer.load_state_dict(state)
    return transformer.eval().requires_grad_(False)


def _sentences(
    encoder: TextEncoder, texts: list[str], styles: int, path: Path
) -> dict[str, Tensor]:
    """What the encoder says of each text, without the numbers of styles; kept in a file."""
    if path.is_file():
        found = load_file(path)["sentences"]
    else:
        parts = [encoder.encode(texts[i : i + _AT_ONCE])[1] for i in range(0, len(texts), _AT_ONCE)]
        found = torch.cat(parts)[:, :-styles].cpu().contiguous()
        with written_aside(path) as aside:
            save_file({"sentences": found}, aside)
    return dict(zip(texts, found, strict=True))


def _identity(
    config: CaptionedConfig, data: CaptionedImages, encoder: TextEncoder, execution: Execution
) -> dict[str, Any]:
    """What the parts are of."""
    told = hashlib.sha256(repr((data.captions, data.descriptions)).encode())
    for part in (data.images, data.split, data.concept, data.flips):
        told.update(part.numpy().tobytes())
    precision = execution.mixed_precision
    return {
        "data": told.hexdigest(),
        "text_encoder": encoder.fingerprint,
        "config": asdict(config),
        "mixed_precision": precision,
    }
