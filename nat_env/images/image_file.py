"""The pixels of one image file: read right, or refused."""

import io
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from PIL import Image, ImageOps
from PIL.Image import Transpose

Crop = Literal["lanczos", "adm"]
"""How an image is brought to another size, see `Picture.fitted`."""
CROPS: tuple[str, ...] = get_args(Crop)


class ImageFile(Protocol):
    """A file of an image, or the part of one that is; `str` of it is what a message calls it."""

    def read_bytes(self) -> bytes:
        """All of it."""
        ...


_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Of a PNG: those that pixels need."""
_WEBP_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
_WEBP_FLAGS = 0x12
"""Of `VP8X`: opacity and animation, without colour profile, EXIF and XMP."""
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _FORMAT = 258, 259, 262, 277, 284, 339
_WHITE_IS_ZERO, _YCBCR, _SEPARATE, _SIGNED, _JPEGS = 0, 6, 2, 2, (6, 7)
"""Tags of a TIFF, and values of them (TIFF 6.0)."""
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What turns an image that a camera noted to be otherwise (EXIF 2.3, 4.6.4)."""


@dataclass(frozen=True)
class Picture:
    """What an image file shows."""

    image: Image.Image
    """RGB, white where it is transparent, upright."""
    bits: int
    """Of a channel in the file: 16, or 8 where there are no more."""
    used: int
    """Bits of the largest value: few where the image is dark."""
    damage: str
    """What is wrong in the file beside its pixels; empty where nothing is."""

    def fitted(self, size: tuple[int, int], channels: int, crop: Crop = "lanczos") -> np.ndarray:
        """Pixels [channels, height, width] uint8; what does not fit is cropped, both sides alike.

        Args:
            size: height and width.
            channels: 1 (grey) or 3.
            crop: `lanczos`: cropped to the shape, then resized once; or `adm`, for squares: what
                ADM (Dhariwal and Nichol 2021), MAGE, U-ViT and the papers' code do to ImageNet.
                Halved by mean as long as the shorter side stays as long as the square's, resized
                bicubically until it is, and cropped.
        """
        if crop == "adm":
            image = _adm_crop(self.image, size[0])
        else:
            image = ImageOps.fit(self.image, (size[1], size[0]), Image.Resampling.LANCZOS)
        pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
        return pixels.reshape(*size, channels).transpose(2, 0, 1)


def check_crop(crop: str, size: tuple[int, int]) -> None:
    """Check that images can be cropped so.

    Raises:
        ValueError: another name, or `adm` for images that are not square.
    """
    if crop not in CROPS:
        raise ValueError(f"crop: got {crop!r}, allowed are {CROPS}")
    if crop == "adm" and size[0] != size[1]:
        raise ValueError(f"crop: got 'adm' for images of {size} pixels, allowed are square ones")


def _adm_crop(image: Image.Image, side: int) -> Image.Image:
    while min(image.size) >= 2 * side:
        width, height = image.size
        image = image.resize((width // 2, height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    width, height = (round(length * scale) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


def read_picture(file: ImageFile) -> Picture:
    """The first picture of a file.

    A camera's note on how it was held is followed. Where only what stands beside the pixels is
    damaged (EXIF, a colour profile, a text), the image is read without it.

    Raises:
        Exception: what Pillow's decoder raises on damaged pixels, or a ValueError for pixels whose
            meaning is not known (floats, 32 bits, signed numbers, some orders of a TIFF).
    """
    try:
        return _picture(file if isinstance(file, Path) else io.BytesIO(file.read_bytes()))
    except Exception as error:  # whatever a parser raises on bytes that it did not expect
        data = file.read_bytes()
        pixels_alone = _without_metadata(data)
        if pixels_alone == data:
            raise
        try:
            return replace(_picture(io.BytesIO(pixels_alone)), damage=str(error))
        except Exception:
            raise error from None


def _picture(file: Path | io.BytesIO) -> Picture:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(file) as image:
            raw_mode = _raw_mode(image)
            _refuse_misread(image, raw_mode)
            image.load()
            found = _opaque(image, raw_mode)
            damage = [str(warning.message) for warning in told]
            try:
                Image.Exif().load(image.info.get("exif") or b"")  # a JPEG's own passes over damage
                orientation = image.getexif().get(_ORIENTATION)
            except Exception as error:  # as above; the pixels are there
                orientation, damage = None, [*damage, str(error)]
    if orientation in _UPRIGHT:
        found = replace(found, image=found.image.transpose(_UPRIGHT[orientation]))
    return replace(found, damage="; ".join(damage))


def _raw_mode(image: Image.Image) -> str:
    """How Pillow's decoder finds the pixels in the file, `RGB;16B` say; empty if it is not told."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else None
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _refuse_misread(image: Image.Image, raw_mode: str) -> None:
    """Refuse what Pillow would read as something else.

    Raises:
        ValueError: it says what the pixels are.
    """
    deep_grey = image.mode == "I" and raw_mode.startswith("I;16") and not raw_mode.endswith("S")
    if image.mode in ("I", "F") and not deep_grey:
        raise ValueError(f"pixels of mode {image.mode!r}; allowed are 8 or 16 bits a channel")
    if ";16" in raw_mode and isinstance(image.info.get("transparency"), tuple):
        raise ValueError("a transparent colour of 16 bits a channel; allowed is an alpha channel")
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return
    if tags.get(_PLANAR) == _SEPARATE and tags.get(_SAMPLES, 1) > 1 and max(tags[_BITS]) > 8:
        raise ValueError(
            "16 bits a channel, one channel after the other; allowed is pixel by pixel"
        )
    if _SIGNED in tags.get(_FORMAT, ()):
        raise ValueError("signed numbers; allowed are 8 or 16 bits a channel without sign")
    if tags.get(_PHOTOMETRIC) == _YCBCR and tags.get(_COMPRESSION) not in _JPEGS:
        raise ValueError("YCbCr that is not JPEG; allowed are grey, RGB, CMYK and palettes")


def _opaque(image: Image.Image, raw_mode: str) -> Picture:
    """In RGB, on white where it is transparent."""
    transparency = image.info.get("transparency")
    if image.mode.startswith("I"):  # Pillow would cut off at 255 instead of scaling
        values = np.asarray(image).astype(np.int64) * (16 if raw_mode.startswith("I;12") else 1)
        used = int(values.max()).bit_length()
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            values = 65535 - values
        grey = Image.fromarray((values >> 8).astype(np.uint8))
        if isinstance(transparency, int):
            opacity = np.where(values == transparency, 0, 255)
            grey.putalpha(Image.fromarray(opacity.astype(np.uint8)))
        return Picture(_on_white(grey), 16, used, "")
    if image.mode in ("1", "L") and isinstance(transparency, int):
        steps = {"1": 255, "L;2": 85, "L;4": 17}.get(raw_mode, 1)  # Pillow scales the pixels alone
        image = image.convert("L")
        image.info["transparency"] = transparency * steps
    opaque = _on_white(image)
    if ";16" not in raw_mode:
        return Picture(opaque, 8, int(np.asarray(opaque).max()).bit_length(), "")
    # Of 16 bits Pillow keeps the upper 8. Opacity is no brightness.
    bands = image.split()[: -1 if image.mode in ("LA", "RGBA") else None]
    largest = max(int(np.asarray(band).max()) for band in bands)
    return Picture(opaque, 16, 8 + largest.bit_length(), "")


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _without_metadata(data: bytes) -> bytes:
    """The same PNG, JPEG or WebP with its pixels alone; other files as they are."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        chunks = (chunk for name, chunk in _png_chunks(data) if name in _PIXEL_CHUNKS)
        return data[:8] + b"".join(chunks)
    if data.startswith(b"\xff\xd8"):
        return data[:2] + b"".join(_jpeg_segments(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        body = b"WEBP" + b"".join(_webp_chunks(data))
        return b"RIFF" + struct.pack("<I", len(body)) + body
    return data


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at:end]
        at = end


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:  # the pixels, to the file's end
            yield data[at:]
            return
        # Application data (0xE0 to 0xEF) tells nothing of colours but in Adobe's segment; 0xFE is
        # a comment.
        if marker == 0xEE or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            yield data[at:end]
        at = end


def _webp_chunks(data: bytes) -> Iterator[bytes]:
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        name, chunk = data[at : at + 4], data[at:end]
        if name == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & _WEBP_FLAGS]) + chunk[9:]
        if name in _WEBP_CHUNKS:
            yield chunk
        at = end
