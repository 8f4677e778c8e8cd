"""Files to RGB images, for bytes that nobody vouches for.

JPEG, PNG and WebP only, told apart by their first bytes, never by the name. Limits are checked before pixels
are made, so no global state of Pillow (`MAX_IMAGE_PIXELS`, warning filters, `LOAD_TRUNCATED_IMAGES`) is
touched, and any number of threads may decode at once.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from labeler.errors import ProbeError, UnreadableImageError

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 2**26
"""67 million pixels, 200 MB as RGB: more than any camera of a probe dataset, less than Pillow's own limit."""
MAX_RATIO = 100
"""Of the longer side to the shorter. A network's preprocessing brings the shorter one to its input size
first: 20,000 x 1 pixels take torchvision 2 GB and 29 seconds."""
MAX_SCANNED = 2**31
"""Pixels times passes over them, about five seconds of decoding. A pass of a progressive JPEG takes a few
bytes of the file, so that 64 MB of them would go on for hours; photographs have ten."""

_LEAST_SCANNED = 2**20  # pixels: a pass over fewer takes as long
_SCAN = b"\xff\xda"  # begins a pass; inside of one, 0xFF is never before 0xDA

_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(path: Path, name: str) -> Image.Image:
    """The RGB image in a file, upright by its EXIF orientation, without metadata.

    Transparent pixels are laid over white, 16-bit grey keeps its upper 8 bits, an animation gives its first
    frame. `name` is what errors call the file.

    Raises:
        UnreadableImageError: not a regular file, over 64 MB, 67 million pixels or 100 times as long as wide,
            of another format, truncated or otherwise broken.
    """
    return decode_image_bytes(_read(path, name), name)


def decode_image_bytes(data: bytes, name: str) -> Image.Image:
    """The RGB image that `decode_image` would make of a file with the bytes `data`.

    Raises:
        UnreadableImageError: as in `decode_image`.
    """
    image = _decode(data, name, ("JPEG", "PNG", "WEBP"))
    try:
        return _upright_rgb(image)
    except Exception as error:  # a palette or a transparency that contradicts the header shows only here
        raise UnreadableImageError(f"{name} is not a readable image: {_sentence(error)}.") from error


def decode_mask(path: Path, name: str) -> Image.Image:
    """The PNG in a file in its own mode: palette indices and 16-bit values are kept, nothing is rotated.

    Raises:
        ProbeError: when it cannot be decoded. (An annotation that is broken is not an unreadable image.)
    """
    try:
        return _decode(_read(path, name), name, ("PNG",))
    except UnreadableImageError as error:
        raise ProbeError(f"The annotation {error}") from error


def _decode(data: bytes, name: str, accepted: tuple[str, ...]) -> Image.Image:
    image_format = _format(data)
    if image_format not in accepted:
        raise UnreadableImageError(
            f"{name} is not a readable image: it is not a {' or '.join(accepted)} file."
        )
    try:
        image = Image.open(io.BytesIO(data), formats=[image_format])
        excess = _excess(*image.size, data.count(_SCAN) if image_format == "JPEG" else 1)
        if not excess:
            image.load()
            return image
    except Exception as error:  # Pillow's decoders raise almost anything on hostile bytes
        raise UnreadableImageError(f"{name} is not a readable image: {_sentence(error)}.") from error
    raise UnreadableImageError(f"{name} is not a readable image: {excess}.")


def _excess(width: int, height: int, scans: int) -> str:
    """Which limit an image exceeds, known before its pixels are made; empty for none."""
    pixels = width * height
    if pixels > MAX_PIXELS:
        return f"{pixels} pixels are more than the {MAX_PIXELS} allowed"
    if max(width, height) > MAX_RATIO * min(width, height):
        return f"one side of its {width} x {height} pixels is more than {MAX_RATIO} times the other"
    if scans * max(pixels, _LEAST_SCANNED) > MAX_SCANNED:
        return f"{scans} passes over {pixels} pixels are more than a photograph has"
    return ""


def _read(path: Path, name: str) -> bytes:
    try:
        if not path.is_file():  # also keeps a pipe from blocking for ever
            raise UnreadableImageError(f"{name} is not a readable image: there is no such regular file.")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableImageError(f"{name} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_BYTES:
        raise UnreadableImageError(f"{name} is over {MAX_BYTES // 2**20} MB; make it smaller.")
    return data


def _format(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return "PNG" if data.startswith(b"\x89PNG\r\n\x1a\n") else ""


def _upright_rgb(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    rgb = _rgb(image)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    # A tile that is written again must not carry the orientation, nor where the photograph was taken.
    rgb.info.clear()
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (ArithmeticError, KeyError, OSError, SyntaxError, TypeError, ValueError, Warning, struct.error):
        return 1  # broken metadata does not make the pixels unreadable; viewers show such files upright


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels_hw = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(levels_hw).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _sentence(error: Exception) -> str:
    # Pillow puts the repr of the stream, with its address, into some messages; two runs must say the same.
    if isinstance(error, UnidentifiedImageError):
        return "its header is broken"
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
