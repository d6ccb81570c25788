"""One's own images as a data set: a folder with one sub-folder per class, of any size."""

import unicodedata

import torch

from nat_env.images.image_folder import ImageFolder, read_images
from pretrain.data.labelled import LabelledImages
from pretrain.data.names import check_name

MIN_CLASS_IMAGES = 10
"""Two of them are for testing."""
MIN_IMAGES = 200
"""160 of them are for training: more than the 64 numbers of a judge's embedding, whose covariance
would have no full rank, and than the 128 real images in a discriminator's batch."""
TEST_EVERY = 5
"""One image in so many is for testing."""


def check_folder(folder: ImageFolder) -> None:
    """Check that there is enough to learn from.

    Raises:
        ValueError: a name that cannot be drawn or printed, one class only, two whose names differ
            in case alone, or too few images.
    """
    for name in folder.files:
        check_name("folder", name)
    path, counts = str(folder.path), {name: len(paths) for name, paths in folder.files.items()}
    if len(counts) < 2:
        raise ValueError(
            f"folder: {path!r} has one class, allowed are two or more: a judge learns its "
            "features by telling them apart; sort the images into sub-folders, or put other images "
            "beside them as a second class"
        )
    if len({unicodedata.normalize("NFC", name).casefold() for name in counts}) < len(counts):
        raise ValueError(
            f"folder: {path!r} has sub-folders whose names differ in upper and lower case alone; "
            "rename them"
        )
    few = [f"{name!r} {count}" for name, count in counts.items() if count < MIN_CLASS_IMAGES]
    if few:
        raise ValueError(
            f"folder: {path!r} has sub-folders with too few images ({', '.join(few)}), allowed is "
            f"at least {MIN_CLASS_IMAGES}; add some, or remove or merge these sub-folders"
        )
    if sum(counts.values()) < MIN_IMAGES:
        raise ValueError(
            f"folder: {path!r} holds {sum(counts.values())} images, allowed is at least "
            f"{MIN_IMAGES}; add some"
        )


def folder_images(
    folder: ImageFolder, image_size: int, channels: int | None = None, name: str | None = None
) -> LabelledImages:
    """Read all images, and put one in five of each class aside for testing.

    The split depends on the files' number and names alone, not on the seed of a training, so that
    two bundles of a folder are measured on the same images.

    Args:
        folder: what is there, see `find_images`; the class names are those of the sub-folders.
        image_size: height and width that they are resized and cropped to, see `read_images`.
        channels: 1 (grey) or 3 (colour). By default 1 if all images are grey, else 3.
        name: of the data set; by default the folder's.

    Raises:
        ValueError: too few images (see `check_folder`), or files that cannot be read.
    """
    check_folder(folder)
    name = name or folder.path.resolve().name
    check_name("name", name)
    images = read_images(folder.paths, (image_size, image_size), channels or 3)
    if channels is None and bool((images == images[:, :1]).all()):
        images = images[:, :1].contiguous()
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([len(paths) for paths in folder.files.values()])
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    ranks = torch.cat([torch.randperm(int(count), generator=generator) for count in counts])
    test = ranks < (counts // TEST_EVERY)[labels]
    return LabelledImages(
        name=name,
        class_names=tuple(folder.files),
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
    )
