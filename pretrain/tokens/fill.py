"""Command nat-pretrain tokens: every image of a folder through a bundle's tokenizer, once."""

import hashlib
import json
from contextlib import ExitStack
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
from nat_env.parallel.launch import started
from nat_env.parallel.processes import Processes
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


def fill(arguments: Tokens, processes: Processes | None = None) -> TokenCache:
    """Compute the shards that are missing, and give the whole.

    Several processes take shards by turns, each with all that belongs to them; the files are those
    that one process writes.

    Args:
        arguments: of the command.
        processes: that share the work; by default this one has all of it.

    Raises:
        ValueError: a folder that does not fit the bundle, one of another cache, or so many images
            that cannot be read that something else is wrong.
    """
    processes = processes or Processes(device=torch.device(check_device(arguments.device)))
    with ExitStack() as held:
        with processes.main_first():
            check_apart(out=arguments.out, data=arguments.data)
            bundle = load_bundle(arguments.bundle, "float32", str(processes.device))
            check_crop(arguments.crop, bundle.tokenizer.image_size)
            found = find_images(arguments.data)
            labels = folder_conditions(found, bundle)
            check_every_condition(labels, bundle.conditions.names, f"data: {str(arguments.data)!r}")
            print(found)
            about = _about(arguments, bundle, found)
            if processes.is_main:
                foreign = (LABELS, shard_file(0))
                held.enter_context(claimed(arguments.out, ABOUT, about, foreign=foreign))
        if not processes.from_main((arguments.out / COMPLETE).is_file()):
            if processes.is_main:
                _save(arguments.out / LABELS, labels.numpy().astype(np.int32))
            _fill(arguments, bundle, found, processes)
    return TokenCache.load(arguments.out, tokenizer=about["tokenizer"])


def _about(arguments: Tokens, bundle: Bundle, found: ImageFolder) -> dict[str, Any]:
    """What the tokens are of."""
    return {
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


def _fill(arguments: Tokens, bundle: Bundle, found: ImageFolder, processes: Processes) -> None:
    out, size, total = arguments.out, arguments.shard_images, len(found.paths)
    shards = [range(first, min(first + size, total)) for first in range(0, total, size)]
    paths = [out / shard_file(number) for number in range(len(shards))]
    own = list(zip(paths, shards, strict=True))[processes.index :: processes.count]
    count = sum(len(numbers) for _, numbers in own)
    with tqdm(total=count, desc="tokens", unit="image", mininterval=2, disable=None) as bar:
        for path, numbers in own:
            if path.is_file():  # one that is there is whole
                bar.update(len(numbers))
            else:
                _save(path, _shard(bundle, found, numbers, arguments, bar))
    processes.gathered("made")
    if processes.is_main:
        unreadable = [
            str(found.paths[numbers[int(place)]])
            for path, numbers in zip(paths, shards, strict=True)
            for place in np.flatnonzero(np.load(path, mmap_mode="r")[:, 0, 0] < 0)
        ]
        files = {path.name: sha256(path) for path in (out / LABELS, *paths)}
        write_json(out / COMPLETE, {"files": files, "unreadable": unreadable})
    processes.from_main("complete")


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
    with started(arguments.device) as processes:
        cache = fill(arguments, processes)
        print(f"{len(cache.ids)} rows of {cache.ids.num_tokens} tokens in {arguments.out}")
        if cache.unreadable:
            shown = ", ".join(cache.unreadable[:5])
            print(f"{len(cache.unreadable)} images cannot be read and are left out: {shown}")
