"""scikit-learn's handwritten digits."""

import torch

from nat_env.commands.extras import missing_extra
from pretrain.data.labelled import LabelledImages


def digits() -> LabelledImages:
    """scikit-learn's handwritten digits: 1,797 grey images of 8 x 8; every fifth is for testing.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing_extra("the digits need scikit-learn", "pretrain") from error

    pixels, targets = load_digits(return_X_y=True)  # [n, 64] in 0 .. 16, [n]
    images = torch.from_numpy(pixels / 16 * 255).round().to(torch.uint8).view(-1, 1, 8, 8)
    labels = torch.from_numpy(targets).long()
    test = torch.arange(len(images)) % 5 == 0
    return LabelledImages(
        name="digits",
        class_names=tuple("0123456789"),
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
    )
