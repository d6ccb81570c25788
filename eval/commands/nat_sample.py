"""Command nat-sample: images from a bundle and a policy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from agents.sharing.names import chosen_bundle, chosen_num_steps, named_policy
from eval.commands.arguments import Sample
from eval.commands.inpainting import read_partly_known
from eval.evaluation.policies import named_contestants, split_name
from eval.pictures.animation import columns_of, decoding_sheets, named_sheet
from eval.pictures.side_by_side import save_side_by_side
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.frozen.canvas import partly_known
from nat_env.frozen.conditions import balanced_conditions
from nat_env.generation import StepRecord, generate
from nat_env.render import thumbnail_scale, to_rgb
from nat_env.storage.files import require_writable_folder, written_aside

FRAME_MILLISECONDS = 500
"""Of an animation; the last picture stands four times as long."""

WIDTH = 112
"""Pixels that an image is drawn wide, about, where no scale is asked for."""

NAME_BYTES = 48
"""Of a class or prompt in a file's name."""

MOST_COLUMNS = 20
"""Of a grid with a row for each class."""

GIVEN = ("image", "known")
"""What an in-painting shows before its samples."""


def run(arguments: Sample) -> list[Path]:
    """Generate and write the images.

    Returns:
        The files written.

    Raises:
        ValueError: an unknown bundle, policy or class, a prompt that the bundle cannot take, a
            policy of another T or bundle, an image or mask that cannot be read or do not fit, or a
            folder that cannot be written.
    """
    given = [split_name(spec)[1] for spec in (arguments.policy, *arguments.beside)]
    num_steps = chosen_num_steps(given, arguments.num_steps)
    bundle = load_bundle(chosen_bundle(given, arguments.bundle), **arguments.models())
    if arguments.beside:
        return [_side_by_side(arguments, bundle, num_steps)]
    known = arguments.inpaint and read_partly_known(bundle, *arguments.inpaint)
    unknown = int((~known.known).sum()) if known else None
    _, policy = named_policy(arguments.policy, bundle, num_steps, unknown)
    if arguments.prompt:
        bundle = bundle.with_prompts(arguments.prompt)
    labels = sample_labels(bundle, arguments.prompt or arguments.classes, arguments.count)
    tokens = known.tokens(len(labels)) if known else {}
    grid = arguments.is_one_picture
    for name, file in (("out", arguments.out if grid else None), ("gif", arguments.gif)):
        if file is not None and file.is_dir():
            raise ValueError(f"{name}: got {str(file)!r}, a folder; allowed is a file")
    require_writable_folder(arguments.out.parent if grid else arguments.out)
    names = [bundle.conditions.names[label] for label in labels.tolist()]
    scale = arguments.scale or thumbnail_scale(bundle.tokenizer.image_size[1], WIDTH)
    records: list[list[StepRecord]] = [[] for _ in range(num_steps)]
    if arguments.gif is not None:
        require_writable_folder(arguments.gif.parent)
    images = generate(
        bundle, policy, labels, num_steps, arguments.seed, arguments.batch_size,
        (lambda record: records[record.timestep].append(record)) if arguments.gif else None,
        **tokens,
    )  # fmt: skip
    frames = to_rgb(known.pasted(images) if known and arguments.keep_pixels else images)
    paths = []
    if arguments.gif is not None:
        ids = torch.stack([torch.cat([r.ids for r in step]) for step in records])  # [T, B, N]
        confidences = None
        if getattr(policy, "sampler", None) is None:  # else masked by more than a confidence
            confidences = torch.stack([torch.cat([r.confidence for r in s]) for s in records])
        begun = partly_known(bundle.nat, **tokens, shape=tuple(ids[0].shape)) if tokens else None
        sheets = decoding_sheets(bundle, labels, ids, confidences, scale, begun)
        _save_animation(sheets, arguments.gif)
        paths.append(arguments.gif)
    given = known.frames(bundle.tokenizer.grid) if known else frames[:0]
    shown = GIVEN[: len(given)]
    if grid:
        frames = np.concatenate([given, frames]).repeat(scale, axis=1).repeat(scale, axis=2)
        rows = 1 if known else len(labels.unique())
        columns = columns_of(len(frames), rows, MOST_COLUMNS)
        _save(named_sheet(frames, [*shown, *names], columns), arguments.out)
        return [arguments.out, *paths]
    digits = max(4, len(str(len(labels) - 1)))
    files = [f"{name}.png" for name in shown]
    files += [f"{index:0{digits}}_{file_name(name)}.png" for index, name in enumerate(names)]
    for file, frame in zip(files, [*given, *frames], strict=True):
        paths.append(arguments.out / file)
        _save(Image.fromarray(frame), paths[-1])
    return paths


def _side_by_side(arguments: Sample, bundle: Bundle, num_steps: int) -> Path:
    """The policies of `beside` above that of `policy`, in one picture."""
    seed = arguments.seed
    specs = (*arguments.beside, arguments.policy)
    contestants = named_contestants(specs, (seed,), bundle, num_steps)
    bundle = bundle.with_prompts(arguments.prompt) if arguments.prompt else bundle
    labels = sample_labels(bundle, arguments.prompt or arguments.classes, arguments.count)
    require_writable_folder(arguments.out.parent)
    save_side_by_side(
        arguments.out,
        bundle,
        {one.name: policy for one in contestants if (policy := one.by_seed[seed])},
        labels.tolist(),
        num_steps,
        seed,
        arguments.scale or thumbnail_scale(bundle.tokenizer.image_size[1], WIDTH),
        arguments.batch_size,
    )
    return arguments.out


def sample_labels(bundle: Bundle, classes: Sequence[str], count: int) -> Tensor:
    """Labels [count] int64 of classes given by name or number, class by class.

    Raises:
        ValueError: a class that the bundle does not have.
    """
    labels = bundle.conditions.numbers(classes, "classes") or list(range(len(bundle.conditions)))
    return torch.tensor(labels)[balanced_conditions(count, len(labels)).sort().values]


def file_name(name: str) -> str:
    """Of a class or prompt, as much as a file's name may hold.

    Example:
        >>> file_name("T-shirt/top"), file_name("a " * 40)
        ('T-shirt-top', 'a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a')
    """
    letters = "".join(c if c.isalnum() else "-" for c in name)
    shown = letters.encode()[:NAME_BYTES].decode(errors="ignore")
    return shown.rstrip("-") if len(shown) < len(letters) else shown


def _save_animation(sheets: Sequence[Image.Image], path: Path) -> None:
    first, *others = sheets
    durations = [FRAME_MILLISECONDS] * len(others) + [4 * FRAME_MILLISECONDS]
    with written_aside(path) as aside:
        first.save(
            aside, format="GIF", save_all=True, append_images=others, duration=durations, loop=0
        )


def _save(image: Image.Image, path: Path) -> None:
    with written_aside(path) as aside:
        image.save(aside, format="PNG")


def command(arguments: Sample) -> None:
    """Generate the images, and say where they are."""
    paths = run(arguments)
    print(
        f"{len(paths)} files in {arguments.out}" if len(paths) > 2 else "\n".join(map(str, paths))
    )
