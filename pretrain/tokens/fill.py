"""Command nat-pretrain tokens: every image of a folder through a bundle's tokenizer, once."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.discriminator_reals import folder_conditions
from nat_env.bundles.format import read_description
from nat_env.bundles.loading import bundle_folder, check_device, load_bundle
from nat_env.bundles.reals import check_every_condition
from nat_env.images.image_file import check_crop
from nat_env.images.image_folder import ImageFolder, find_images
from nat_env.images.streaming import streamed
from nat_env.models.pixels import to_float
from nat_env.storage.claims import claimed
from nat_env.storage.files import check_apart, sha256, write_json, written_aside
from pretrain.arguments import Tokens
from pretrain.tokens.cache import ABOUT, COMPLETE, LABELS, TokenCache, shard_file

_MOST_UNREADABLE = 0.01
"""Share of a shard's images, and ten of them at least, beyond which it is no accident."""


def tokenizer_fingerprint(bundle: str | Path) -> str:
    """What tells a bundle's tokenizer from others: a hash of its files and its configuration.

    Two bundles with the same tokenizer have the same one, whatever else they hold.

    Raises:
        ValueError: no bundle.
    """
    description = read_description(bundle_folder(bundle))
    files = {k: v for k, v in description["files"].items() if k.startswith("tokenizer/")}
    return _digest([description["tokenizer"], files])


def fill(arguments: Tokens) -> TokenCache:
    """Compute the shards that are missing, and give the whole.

    Raises:
        ValueError: a folder that does not fit the bundle, one of another cache, or so many images
            that cannot be read that something else is wrong.
    """
    device = check_device(arguments.device)
    check_apart(out=arguments.out, data=arguments.data)
    bundle = load_bundle(arguments.bundle, "float32", device)
    check_crop(arguments.crop, bundle.tokenizer.image_size)
    found = find_images(arguments.data)
    labels = folder_conditions(found, bundle)
    check_every_condition(labels, bundle.conditions.names, f"data: {str(arguments.data)!r}")
    print(found)
    about = {
        "tokenizer": tokenizer_fingerprint(arguments.bundle),
        "grid": list(bundle.tokenizer.grid),
        "codebook_size": bundle.tokenizer.codebook_size,
        "num_conditions": len(bundle.conditions),
        "images": len(found.paths),
        "files": _digest([found.paths.name(index) for index in range(len(found.paths))]),
        "crop": arguments.crop,
        "flips": arguments.flips,
        "shard_images": arguments.shard_images,
    }
    with claimed(arguments.out, ABOUT, about, foreign=(LABELS, shard_file(0))):
        _fill(arguments, bundle, found, labels.numpy().astype(np.int32))
    return TokenCache.load(arguments.out, tokenizer=about["tokenizer"])


def _fill(arguments: Tokens, bundle: Bundle, found: ImageFolder, labels: NDArray[np.int32]) -> None:
    out, size, total = arguments.out, arguments.shard_images, len(found.paths)
    if (out / COMPLETE).is_file():
        return
    _save(out / LABELS, labels)
    names = [LABELS]
    with tqdm(total=total, desc="tokens", unit="image", mininterval=2, disable=None) as bar:
        for number, first in enumerate(range(0, total, size)):
            names.append(shard_file(number))
            numbers = range(first, min(first + size, total))
            if not (out / names[-1]).is_file():  # one that is there is whole
                shard = _shard(bundle, found, numbers, arguments, bar)
                _save(out / names[-1], shard)
            else:
                bar.update(len(numbers))
    unreadable = [
        str(found.paths[first + int(place)])
        for first, name in zip(range(0, total, size), names[1:], strict=True)
        for place in np.flatnonzero(np.load(out / name, mmap_mode="r")[:, 0, 0] < 0)
    ]
    files = {name: sha256(out / name) for name in names}
    write_json(out / COMPLETE, {"files": files, "unreadable": unreadable})


def _shard(
    bundle: Bundle, found: ImageFolder, numbers: range, arguments: Tokens, bar: tqdm
) -> NDArray[Any]:
    """Tokens of some images [n, V, N]."""
    tokenizer = bundle.tokenizer
    shape = (tokenizer.channels, *tokenizer.image_size)
    versions = 2 if arguments.flips else 1
    dtype = np.int16 if tokenizer.codebook_size <= np.iinfo(np.int16).max else np.int32
    shard = np.full((len(numbers), versions, bundle.num_tokens), -1, dtype)
    errors: dict[int, str] = {}
    for piece in streamed(found.paths, numbers, shape, arguments.crop):
        errors |= piece.errors
        if len(errors) > max(10, _MOST_UNREADABLE * len(numbers)):
            raise ValueError(
                f"data: {len(errors)} images up to number {piece.numbers[-1]} cannot be read, the "
                f"last of them {list(errors.values())[-1]}; repair them, and the same command goes "
                "on"
            )
        images = to_float(piece.images.to(bundle.device))
        with torch.no_grad():
            both = torch.cat([images, images.flip(-1)]) if arguments.flips else images
            ids = tokenizer.encode(both).cpu().numpy().reshape(versions, len(images), -1)
        for place, number in enumerate(piece.numbers):
            if number not in piece.errors:
                shard[number - numbers[0]] = ids[:, place]
        bar.update(len(images))
    return shard


def _save(path: Path, array: NDArray[Any]) -> None:
    with written_aside(path) as aside, aside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def command(arguments: Tokens) -> None:
    """Fill the cache, and say what it holds."""
    cache = fill(arguments)
    print(f"{len(cache.ids)} rows of {cache.ids.num_tokens} tokens in {arguments.out}")
    if cache.unreadable:
        shown = ", ".join(cache.unreadable[:5])
        print(f"{len(cache.unreadable)} images cannot be read and are left out: {shown}")
