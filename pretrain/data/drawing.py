"""Vector graphics to pixels."""

import io

import numpy as np
from PIL import Image

from nat_env.commands.extras import missing_extra

SUPERSAMPLING = 4
"""An image is drawn so many times as large as it shall be, and reduced by averages of squares."""


def require_resvg() -> None:
    """Check that the package that draws is there.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise missing_extra("drawing SVG needs resvg-py", "pretrain") from error


def draw_svg(svg: str, size: int) -> np.ndarray:
    """Draw on white; the same on every machine, for no fonts of the system are used.

    Args:
        svg: the whole text of a square drawing.
        size: height and width in pixels.

    Returns:
        [3, size, size] uint8.

    Raises:
        ValueError: it is no SVG.
        ImportError: resvg-py is not installed.
    """
    require_resvg()
    import resvg_py

    side = SUPERSAMPLING * size
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=side, height=side, background="#ffffff", skip_system_fonts=True
    )
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB").reduce(SUPERSAMPLING))
    return pixels.transpose(2, 0, 1).copy()  # [size, size, 3] -> [3, size, size]
