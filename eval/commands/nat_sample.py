"""Command nat-sample: images from a bundle and a policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eval.evaluation.policies import chosen_bundle, named_policy, own_num_steps
from nat_env.bundles.bundle import Bundle, balanced_conditions, load_bundle
from nat_env.commands.command_line import parse
from nat_env.commands.computation import Computation
from nat_env.generation import StepRecord, generate
from nat_env.render import canvas, confidence_map, frame_grid, image_grid, to_rgb
from nat_env.storage.files import require_writable_folder, written_aside

FRAME_MILLISECONDS = 500
"""Of an animation; the last picture stands four times as long."""

_OTHER_FORMATS = {".bmp", ".gif", ".jpeg", ".jpg", ".pdf", ".svg", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Arguments(Computation):
    """Generate images from a bundle with a schedule or a trained policy."""

    out: Path
    """A file ending in .png for one grid, or a folder for one PNG per image."""
    policy: str = "heuristic"
    """heuristic (the papers' schedule), 'heuristic(lambda, k, tau1)', a schedule's file, or a
    run folder of nat-train, or what nat-share wrote: a folder or hub:user/name."""
    bundle: str | None = None
    """A shipped bundle's name or a folder. By default that of the run folder, or else fashion."""
    num_steps: int | None = None
    """T, decoding steps. By default that of the run or schedule, and 4 for a heuristic."""
    classes: tuple[str, ...] = ()
    """Names or numbers of the classes; all of them by default."""
    count: int = 16
    """Images altogether, as even among the classes as can be, class by class."""
    gif: Path | None = None
    """Also write here how they are decoded, step by step, masked tokens covered. Beside each image
    is how sure the step was of the tokens that it drew: from violet to yellow, older ones white."""
    seed: int = 0
    """Image i is drawn with the random numbers of seed + i."""
    scale: int = 4
    """Pixels in a grid for each pixel of an image; images in a folder are as they are."""

    def __post_init__(self) -> None:
        """Check the numbers and the file's ending.

        Raises:
            ValueError: a number below 1, or a picture format other than PNG.
        """
        super().__post_init__()
        for name in ("count", "scale"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed is >= 1")
        if self.out.suffix.lower() in _OTHER_FORMATS:
            raise ValueError(f"out: got {str(self.out)!r}, allowed are a .png file or a folder")
        if self.gif is not None and self.gif.suffix.lower() != ".gif":
            raise ValueError(f"gif: got {str(self.gif)!r}, allowed is a .gif file")


def run(arguments: Arguments) -> list[Path]:
    """Generate and write the images.

    Returns:
        The files written.

    Raises:
        ValueError: an unknown bundle, policy or class, a policy of another T or bundle, or a
            folder that cannot be written.
    """
    own = own_num_steps(arguments.policy)
    num_steps = (own or 4) if arguments.num_steps is None else arguments.num_steps
    bundle = load_bundle(
        chosen_bundle([arguments.policy], arguments.bundle), arguments.dtype, arguments.device
    )
    _, policy = named_policy(arguments.policy, bundle, num_steps)
    labels = sample_labels(bundle, arguments.classes, arguments.count)
    grid = arguments.out.suffix.lower() == ".png"
    require_writable_folder(arguments.out.parent if grid else arguments.out)
    columns = _columns(len(labels), len(labels.unique()))
    records: list[list[StepRecord]] = [[] for _ in range(num_steps)]
    if arguments.gif is not None:
        require_writable_folder(arguments.gif.parent)
    images = generate(
        bundle, policy, labels, num_steps, arguments.seed, arguments.batch_size,
        lambda record: records[record.timestep].append(record),
    )  # fmt: skip
    paths = []
    if arguments.gif is not None:
        ids = torch.stack([torch.cat([r.ids for r in step]) for step in records])  # [T, B, N]
        confidences = [torch.cat([r.confidence for r in step]) for step in records]
        _save_animation(bundle, ids, confidences, columns, arguments.scale, arguments.gif)
        paths.append(arguments.gif)
    if grid:
        _save(image_grid(images, columns, arguments.scale), arguments.out)
        return [arguments.out, *paths]
    digits = max(4, len(str(len(labels) - 1)))
    for index, (frame, label) in enumerate(zip(to_rgb(images), labels.tolist(), strict=True)):
        name = "".join(c if c.isalnum() else "-" for c in bundle.class_names[label])
        paths.append(arguments.out / f"{index:0{digits}}_{name}.png")
        _save(Image.fromarray(frame), paths[-1])
    return paths


def sample_labels(bundle: Bundle, classes: Sequence[str], count: int) -> Tensor:
    """Labels [count] int64 of classes given by name or number, class by class.

    Raises:
        ValueError: a class that the bundle does not have.
    """
    known = bundle.labels_by_name
    unknown = [c for c in classes if c.casefold() not in known]
    if unknown:
        allowed = ", ".join(f"{label} ({name})" for label, name in enumerate(bundle.class_names))
        raise ValueError(f"classes: got {', '.join(map(repr, unknown))}, allowed are {allowed}")
    labels = [known[c.casefold()] for c in classes] or list(range(bundle.num_classes))
    return torch.tensor(labels)[balanced_conditions(count, len(labels)).sort().values]


def _columns(count: int, num_classes: int) -> int:
    """A row for each class where that comes out even and is not too wide, else about a square."""
    if num_classes > 1 and count % num_classes == 0 and count // num_classes <= 20:
        return count // num_classes
    return max(1, round(count**0.5))


def _save_animation(
    bundle: Bundle, ids: Tensor, confidences: Sequence[Tensor], columns: int, scale: int, path: Path
) -> None:
    """Each sample before the first step and after each of ids [T, B, N]: canvas, confidences."""
    mask_id = bundle.nat.mask_id
    before = torch.full_like(ids[0], mask_id)
    known = torch.full(before.shape, torch.inf)
    grid, cell = bundle.tokenizer.config.grid, bundle.tokenizer.config.factor * scale
    sheets = []
    for shown, confidence in zip([before, *ids], [known, *confidences], strict=True):
        left = canvas(bundle.tokenizer, shown, ids[-1], mask_id, scale)
        right = confidence_map(confidence, grid, cell)
        sheets.append(frame_grid(np.concatenate([left, right], axis=2), columns))
    first, *others = sheets
    durations = [FRAME_MILLISECONDS] * len(others) + [4 * FRAME_MILLISECONDS]
    with written_aside(path) as aside:
        first.save(
            aside, format="GIF", save_all=True, append_images=others, duration=durations, loop=0
        )


def _save(image: Image.Image, path: Path) -> None:
    with written_aside(path) as aside:
        image.save(aside, format="PNG")


def main() -> None:
    """Entry point."""
    try:
        arguments = parse(Arguments, "nat-sample")
        torch.set_num_threads(arguments.threads)
        paths = run(arguments)
    except ValueError as error:
        raise SystemExit(f"nat-sample: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("nat-sample: interrupted") from None
    print(
        f"{len(paths)} files in {arguments.out}" if len(paths) > 2 else "\n".join(map(str, paths))
    )


if __name__ == "__main__":
    main()
