"""Image files of all forms, written byte by byte here: read right, warned of, or refused."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nat_env.bundles import discriminator_reals
from nat_env.bundles.loading import load_bundle
from nat_env.images.image_file import read_picture
from nat_env.images.image_folder import read_images

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""Colour types of a PNG."""


def packed(row, bits):
    """Numbers of so many bits, one after the other, filled up to whole bytes."""
    if bits in (8, 16):
        return row.astype(f">u{bits // 8}").tobytes()
    text = "".join(format(value, f"0{bits}b") for value in row)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def chunk(name, data, checksum=None):
    checksum = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png(pixels, colour, bits, before=b"", after=b""):
    """A PNG (RFC 2083) of [h, w, samples] or [h, w]."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + packed(row, bits) for row in pixels.reshape(height, -1))
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + before + chunk(b"IDAT", zlib.compress(rows)) + after
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def tiff(pixels, photometric, bits, order="<", number=1, planar=1, extra=()):
    """A TIFF 6.0 of [h, w, samples], not compressed."""
    height, width, samples = pixels.shape
    kind = {1: "u", 2: "i", 3: "f"}[number]
    if planar == 2:
        pixels = pixels.transpose(2, 0, 1)
    if bits in (8, 16, 32, 64):
        data = pixels.astype(f"{order}{kind}{bits // 8}").tobytes()
    else:
        data = b"".join(packed(row, bits) for row in pixels.reshape(height, -1))
    strips = samples if planar == 2 else 1
    size = len(data) // strips
    tags = {
        256: [width], 257: [height], 258: [bits] * samples, 259: [1], 262: [photometric],
        273: [8 + strip * size for strip in range(strips)], 277: [samples], 278: [height],
        279: [size] * strips, 284: [planar], 339: [number] * samples,
    } | ({338: list(extra)} if extra else {})  # fmt: skip
    data += b"\0" * (len(data) % 2)
    directory, beyond = struct.pack(order + "H", len(tags)), b""
    for tag, values in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}I", *values)
        directory += struct.pack(order + "HHI", tag, 4, len(values))
        if len(raw) > 4:
            place = 8 + len(data) + 2 + 12 * len(tags) + 4 + len(beyond)
            raw, beyond = struct.pack(order + "I", place), beyond + raw
        directory += raw
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    return head + data + directory + bytes(4) + beyond


def read(tmp_path, data, channels=3, size=None):
    """Pixels [h, w, channels] as a folder reads them."""
    path = tmp_path / "x.png"
    path.write_bytes(data)
    if size is None:
        size = read_picture(path).image.size[::-1]
    return read_images([path], size, channels)[0].permute(1, 2, 0).numpy()


def on_white(colours, opacity):
    """[h, w, 3] in 0 .. 1 over white, opacity [h, w], as 0 .. 255."""
    return 255 * (colours * opacity[..., None] + 1 - opacity[..., None])


R = np.random.default_rng(0)
DEEP = R.integers(0, 65536, (3, 5, 4))
DEEP[0, 0], DEEP[0, 1] = 0, 65535
EIGHT = DEEP >> 8
TRANSPARENT = int(DEEP[1, 1, 0])
CMYK = 255 * (1 - EIGHT[..., :3] / 255) * (1 - EIGHT[..., 3:] / 255)
PALETTED = R.integers(0, 256, (16, 3))
FOUR = R.integers(0, 16, (3, 5))
ALPHA = EIGHT[..., 3] / 255


def grey(values):
    return np.repeat(values[..., None], 3, axis=2)


def right():
    """By name: the file, and what it shows [h, w, 3] in 0 .. 255."""
    first, three, deep_first = EIGHT[..., 0], EIGHT[..., :3], DEEP[..., :1]
    forms = {
        "PNG grey 16": (png(DEEP[..., 0], GREY, 16), grey(first)),
        "PNG grey 16, a transparent one": (
            png(DEEP[..., 0], GREY, 16, chunk(b"tRNS", struct.pack(">H", TRANSPARENT))),
            grey(np.where(DEEP[..., 0] == TRANSPARENT, 255, first)),
        ),
        "PNG RGB 16": (png(DEEP[..., :3], RGB, 16), three),
        "PNG grey and alpha 16": (
            png(DEEP[..., [0, 3]], GREY_ALPHA, 16), on_white(grey(first) / 255, ALPHA)
        ),
        "PNG RGB and alpha 16": (png(DEEP, RGB_ALPHA, 16), on_white(three / 255, ALPHA)),
        "PNG RGB and alpha 8": (png(EIGHT, RGB_ALPHA, 8), on_white(three / 255, ALPHA)),
        "PNG grey and alpha 8": (
            png(EIGHT[..., [0, 3]], GREY_ALPHA, 8), on_white(grey(first) / 255, ALPHA)
        ),
        "TIFF CMYK 8": (tiff(EIGHT, 5, 8), CMYK),
        "TIFF CMYK 16": (tiff(DEEP, 5, 16), CMYK),
        "TIFF grey 12": (tiff(deep_first >> 4, 1, 12), grey(first)),
        "TIFF RGB planar 8": (tiff(EIGHT[..., :3], 2, 8, planar=2), three),
        "TIFF RGB and another 16": (tiff(DEEP, 2, 16, extra=(0,)), three),
    }  # fmt: skip
    for bits in (1, 2, 4, 8):
        values = FOUR % 2**bits
        scaled = values * (255 // (2**bits - 1))
        forms[f"PNG grey {bits}"] = (png(values, GREY, bits), grey(scaled))
        hidden = chunk(b"tRNS", struct.pack(">H", 1))
        forms[f"PNG grey {bits}, a transparent one"] = (
            png(values, GREY, bits, hidden), grey(np.where(values == 1, 255, scaled))
        )  # fmt: skip
        palette = chunk(b"PLTE", PALETTED[: 2**bits].astype(np.uint8).tobytes())
        forms[f"PNG palette {bits}"] = (png(values, PALETTE, bits, palette), PALETTED[values])
        one = values[..., None]
        forms[f"TIFF white is zero {bits}"] = (tiff(one, 0, bits), grey(255 - scaled))
    for order in "<>":
        forms |= {
            f"TIFF grey 16 {order}": (tiff(deep_first, 1, 16, order), grey(first)),
            f"TIFF RGB 16 {order}": (tiff(DEEP[..., :3], 2, 16, order), three),
            f"TIFF RGB and alpha 16 {order}": (
                tiff(DEEP, 2, 16, order, extra=(2,)), on_white(three / 255, ALPHA)
            ),
        }  # fmt: skip
    forms["TIFF white is zero 16"] = (tiff(deep_first, 0, 16), grey((65535 - DEEP[..., 0]) >> 8))
    return forms


@pytest.mark.parametrize("form", right())
def test_a_form_is_read_right(tmp_path, form):
    data, expected = right()[form]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of 4 bits in 8, say: they are dark
        found = read(tmp_path, data)
    np.testing.assert_allclose(found, expected, atol=1.5)  # opacity is multiplied in 8 bits


def test_opacity_multiplied_in(tmp_path):
    colours = (EIGHT[..., :3] * ALPHA[..., None]).round()
    data = tiff(np.dstack([colours, EIGHT[..., 3]]), 2, 8, extra=(1,))
    expected = on_white(EIGHT[..., :3] / 255, ALPHA)
    np.testing.assert_allclose(read(tmp_path, data), expected, atol=2.5)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "form",
    [
        {"bits": 16, "number": 2}, {"bits": 32}, {"bits": 32, "number": 2},
        {"bits": 32, "number": 3}, {"bits": 64, "number": 3}, {"bits": 8, "number": 2},
    ],
)  # fmt: skip
def test_numbers_of_no_known_scale_are_refused(tmp_path, form, order):
    values = DEEP[..., :1] >> 9
    with pytest.raises(ValueError, match=r"^folder: 1 of 1 images cannot be read; .*x\.png \("):
        read(tmp_path, tiff(values, 1, order=order, **form), size=(3, 5))


@pytest.mark.parametrize(
    "data",
    [
        tiff(DEEP[..., :3], 2, 16, planar=2),
        tiff(DEEP, 2, 16, planar=2, extra=(2,)),
        tiff(DEEP[..., :3], 2, 16, order=">", planar=2),
        tiff(EIGHT[..., :3], 6, 8),
        png(DEEP[..., :3], RGB, 16, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))),
    ],
)
def test_what_pillow_would_read_as_something_else_is_refused(tmp_path, data):
    with pytest.raises(ValueError, match=r"^folder: 1 of 1 images cannot be read; .*allowed "):
        read(tmp_path, data, size=(3, 5))


def few_bits():
    """By name: the file, the bits that it could use, and those that it does."""
    few = DEEP >> 4
    few[..., 3] = 4095
    return {
        "PNG grey": (png(few[..., 0], GREY, 16), 16, 12),
        "PNG RGB": (png(few[..., :3], RGB, 16), 16, 12),
        "PNG RGB, 10": (png(few[..., :3] >> 2, RGB, 16), 16, 10),
        "PNG RGB, 8": (png(few[..., :3] >> 4, RGB, 16), 16, 8),
        "PNG grey and alpha": (png(few[..., [0, 3]], GREY_ALPHA, 16), 16, 12),
        "PNG RGB and alpha": (png(few, RGB_ALPHA, 16), 16, 12),
        "PNG RGB and whole alpha": (png(few | [0, 0, 0, 65535], RGB_ALPHA, 16), 16, 12),
        "TIFF grey": (tiff(few[..., :1], 1, 16), 16, 12),
        "TIFF white is zero": (tiff(few[..., :1], 0, 16), 16, 12),
        "TIFF RGB": (tiff(few[..., :3], 2, 16, ">"), 16, 12),
        "TIFF RGB and alpha": (tiff(few, 2, 16, extra=(2,)), 16, 12),
        "TIFF CMYK": (tiff(few, 5, 16), 16, 12),
        "numbers of classes": (png(FOUR, GREY, 8), 8, 4),
        "a dark palette": (
            png(FOUR, PALETTE, 8, chunk(b"PLTE", (PALETTED % 32).astype(np.uint8).tobytes())), 8, 5
        ),
    }  # fmt: skip


@pytest.mark.parametrize("form", few_bits())
def test_few_bits_are_warned_of(tmp_path, form):
    data, bits, used = few_bits()[form]
    advice = rf"{bits} bits a channel .* no value of more than {used}: .* by {2 ** (bits - used)} "
    with pytest.warns(UserWarning, match=rf"^folder: 1 of 1 images have {advice}in .*x\.png$"):
        read(tmp_path, data, size=(3, 5))


def test_a_folder_is_warned_of_once_and_where_most_images_are_dark(tmp_path):
    few, whole = png(DEEP[..., :3] >> 4, RGB, 16), png(DEEP[..., :3], RGB, 16)
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for path, data in zip(paths, (few, few, few, whole, whole), strict=True):
        path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"^folder: 3 of 5 images have 16 bits") as told:
        read_images(paths, (3, 5), 3)
    assert len(told) == 1
    paths[0].write_bytes(whole)
    read_images(paths, (3, 5), 3)


def test_a_large_folder_is_warned_of_when_it_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(discriminator_reals, "KEPT_BYTES", 1)
    for name in "0123456789":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(png(DEEP[..., 0] >> 4, GREY, 16))
    with pytest.warns(UserWarning, match="^folder: 10 of 10 images"):
        reals = discriminator_reals.folder_reals(tmp_path, load_bundle("digits", "float32"))
    (images,) = reals.batches([torch.tensor([1])])  # and not at every draw
    assert images.shape == (1, 1, 8, 8)


# Damage beside the pixels

ORIENTATION = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x112, 3, 1, 6, 0, 0)
"""EXIF: turn by a quarter, clockwise."""
PICTURE = EIGHT[..., :3].astype(np.uint8)


def saved(kind, **options):
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, kind, **options)
    return file.getvalue()


def segment(marker, data):
    return bytes([255, marker]) + struct.pack(">H", len(data) + 2) + data


def damaged():
    garbage, cut = b"Exif\0\0garbage", b"Exif\0\0" + ORIENTATION[:-6]
    text = chunk(b"tEXt", b"Title\0x" * 9)
    plain = saved("JPEG", quality=100)
    files = {
        "PNG EXIF": saved("PNG", exif=garbage),
        "JPEG EXIF": saved("JPEG", exif=garbage),
        "JPEG cut EXIF": saved("JPEG", exif=cut),
        "WebP EXIF": saved("WEBP", lossless=True, exif=garbage),
        "WebP cut in its EXIF": saved("WEBP", lossless=True, exif=garbage)[:-8],
        "PNG cut in a text": png(PICTURE, RGB, 8, after=text)[:-30],
        "PNG profile": png(PICTURE, RGB, 8, chunk(b"iCCP", b"x")),
        "JPEG profile": plain[:2] + segment(0xE2, b"ICC_PROFILE\0") + plain[2:],
        "JPEG Photoshop": plain[:2] + segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4") + plain[2:],
        "JPEG JFIF": plain[:2] + segment(0xE0, b"JFIF") + plain[2:],
    }
    for name in (b"tEXt", b"iTXt", b"gAMA", b"pHYs", b"eXIf", b"tIME", b"sRGB"):
        files[f"PNG {name.decode()}"] = png(PICTURE, RGB, 8, chunk(name, b"\0\0\0\1", 7))
    return files


@pytest.mark.parametrize("form", damaged())
def test_damage_beside_the_pixels_is_warned_of(tmp_path, form):
    data = damaged()[form]
    with pytest.warns(UserWarning, match=r"^folder: 1 of 1 images are read without .*x\.png \("):
        found = read(tmp_path, data, size=(3, 5))
    exact = "JPEG" not in form
    expected = PICTURE if exact else np.asarray(Image.open(io.BytesIO(saved("JPEG"))))
    if exact or "EXIF" in form:
        np.testing.assert_array_equal(found, expected)


def test_a_profile_that_is_none_changes_nothing(tmp_path):
    for kind in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = saved(kind, icc_profile=b"garbage" * 9, **options)
        np.testing.assert_array_equal(read(tmp_path, data), PICTURE)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "TIFF"])
def test_damaged_pixels_are_refused(tmp_path, kind):
    data = saved(kind, exif=b"Exif\0\0" + ORIENTATION)
    place = data.index(b"IDAT") + 8 if kind == "PNG" else 60 if kind == "WEBP" else 100
    with pytest.raises(ValueError, match=r"^folder: 1 of 1 images cannot be read"):
        read(tmp_path, data[:place], size=(3, 5))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_an_image_is_upright(tmp_path, kind, orientation):
    """By the positions of row 0 and column 0 that EXIF 2.3 (4.6.4) gives for each number."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    turned = {
        2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90,
    }.get(orientation, lambda a: a)  # fmt: skip
    data = saved(kind, exif=exif, **options)
    np.testing.assert_array_equal(read(tmp_path, data), turned(PICTURE))


def test_the_file_itself_stays_as_it_is(tmp_path):
    path = Path(tmp_path / "x.png")
    path.write_bytes(saved("PNG", exif=b"Exif\0\0garbage"))
    before = path.read_bytes()
    assert read_picture(path).damage
    assert path.read_bytes() == before
