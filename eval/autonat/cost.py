"""What AutoNAT's searches cost, in one unit for training and generation."""

TRAINING = 3
"""Row-passes of a row in training: forward, and backward at twice that."""


def row_passes(trained_rows: int, images: int, num_steps: int) -> int:
    """Rows that went through the NAT; a row in training counts `TRAINING` times.

    An image takes a conditional and a null row at every step but the first, whose passes depend
    on the label alone and are kept. Those few, the tokenizer and the judge are left out.

    Args:
        trained_rows: of all training steps.
        images: generated.
        num_steps: T of each image.

    Example:
        >>> row_passes(trained_rows=64, images=10, num_steps=4)
        252
    """
    return TRAINING * trained_rows + images * 2 * (num_steps - 1)
