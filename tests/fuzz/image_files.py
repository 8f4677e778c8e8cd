"""The image files that are mutated, and the hostile ones that are made by hand."""

from __future__ import annotations

import functools
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from tests.fuzz.mutate import PNG_START, png_chunks, png_of

SIDE = 64


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(side: int = SIDE) -> Image.Image:
    """A gradient with noise, so that every format has something to say about every part."""
    ramp_hw = np.linspace(0, 200, side)[:, None] + np.linspace(0, 40, side)[None, :]
    noise_hwc = np.random.default_rng(0).integers(0, 15, (side, side, 3))
    return Image.fromarray((ramp_hw[..., None] + noise_hwc).astype(np.uint8))


def rotated(orientation: int) -> Image.Exif:
    """EXIF that says how the camera was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description " * 20
    return exif


@functools.cache
def whole_files() -> dict[str, bytes]:
    """Files of every accepted format in the variants that a probe meets, all of them readable."""
    image = picture()
    frames = [image.rotate(90), image.rotate(180)]
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "compressed " * 100, zip=True)
    text.add_itxt("Title", "words " * 50, zip=True)
    levels = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    palette = image.quantize(32)
    icc = bytes(range(256)) * 4
    return {
        "jpeg": encoded(image, "JPEG"),
        "jpeg-progressive": encoded(image, "JPEG", progressive=True),
        "jpeg-grey": encoded(image.convert("L"), "JPEG", restart_marker_blocks=3),
        "jpeg-cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "jpeg-exif": encoded(image, "JPEG", exif=rotated(6), icc_profile=icc, comment=b"a comment"),
        "jpeg-mpo": encoded(image, "MPO", save_all=True, append_images=frames),
        "png": encoded(image, "PNG"),
        "png-16": encoded(Image.fromarray(levels), "PNG"),
        "png-1": encoded(image.convert("1"), "PNG"),
        "png-rgba": encoded(image.convert("RGBA"), "PNG"),
        "png-la": encoded(image.convert("LA"), "PNG"),
        "png-palette": encoded(palette, "PNG", transparency=3),
        "png-palette-alpha": encoded(palette, "PNG", transparency=bytes(range(32))),
        "png-text": encoded(image, "PNG", pnginfo=text, exif=rotated(5), icc_profile=icc),
        "png-interlaced": interlaced(),
        "apng": encoded(image, "PNG", save_all=True, append_images=frames),
        "webp": encoded(image, "WEBP"),
        "webp-lossless": encoded(image, "WEBP", lossless=True),
        "webp-alpha": encoded(image.convert("RGBA"), "WEBP"),
        "webp-exif": encoded(image, "WEBP", exif=rotated(3), icc_profile=icc, xmp=b"<x/>"),
        "webp-animated": encoded(image, "WEBP", save_all=True, append_images=frames),
        "png-1x1": encoded(picture(1), "PNG"),
        "gif": encoded(image, "GIF"),
        "tiff": encoded(image, "TIFF"),
        "ppm": encoded(image, "PPM"),
    }


def interlaced() -> bytes:
    """Adam7, which Pillow reads and does not write: an 8 × 8 grey PNG, its seven passes row by row."""
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))  # (width, height) of each
    rows = b"".join(b"\0" + bytes(range(width)) for width, height in passes for _ in range(height))
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    return png_of([(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


def plain_png(
    width: int, height: int, depth: int, colour: int, extra: tuple[bytes, bytes] | None = None
) -> bytes:
    """A whole PNG of zeros: a few kilobytes whatever its size in pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + -(-width * channels * depth // 8))
    squeeze = zlib.compressobj(9)
    data = b"".join([squeeze.compress(row) for _ in range(height)]) + squeeze.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    if colour == 3:
        chunks.append((b"PLTE", bytes(range(48))))
    return png_of([*chunks, *([extra] if extra else []), (b"IDAT", data), (b"IEND", b"")])


def with_chunk(kind: bytes, body: bytes, times: int = 1) -> bytes:
    """A small PNG with a chunk of our own before its pixels."""
    chunks = png_chunks(whole_files()["png"])
    return png_of([chunks[0], *[(kind, body)] * times, *chunks[1:]])


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG that refines the same nothing again and again, at a few bytes a time."""
    data = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + last * scans + b"\xff\xd9"


def exif_bomb(entries: int, length: int) -> bytes:
    """An EXIF directory whose every entry is the same long piece of it."""
    body = b"".join(
        struct.pack(">HHLL", 0x8000 + number, 7, length, 8) for number in range(min(entries, 30_000))
    )
    return (b"MM\0*\0\0\0\x08" + struct.pack(">H", entries) + body).ljust(length + 8, b"\0")


def webp_canvas(width: int, height: int) -> bytes:
    """An animated WebP with a huge canvas and one small frame."""
    data = whole_files()["webp-animated"]
    place = data.index(b"VP8X") + 12
    return (
        data[:place]
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
        + data[place + 6 :]
    )


def hostile_files() -> dict[str, Callable[[], bytes]]:
    """Files that cost little to send and much to open, by name; each is made when it is asked for."""
    squeezed = zlib.compress(bytes(200 * 2**20), 9)
    return {
        "nothing": lambda: b"",
        "one pixel": lambda: whole_files()["png-1x1"],
        "20,000 x 1": lambda: plain_png(20_000, 1, 8, 2),
        "1 x 20,000": lambda: plain_png(1, 20_000, 8, 2),
        "100 x 1": lambda: plain_png(100, 1, 8, 2),
        "1,000,000 x 60": lambda: plain_png(1_000_000, 60, 8, 0),
        "67 megapixels, grey": lambda: plain_png(8192, 8192, 8, 0),
        "67 megapixels, 16-bit grey": lambda: plain_png(8192, 8192, 16, 0),
        "67 megapixels, 16-bit colour": lambda: plain_png(8192, 8192, 16, 2),
        "67 megapixels, RGBA": lambda: plain_png(8192, 8192, 8, 6),
        "67 megapixels, LA": lambda: plain_png(8192, 8192, 8, 4),
        "67 megapixels, palette with transparency": lambda: plain_png(8192, 8192, 8, 3, (b"tRNS", b"\0\x80")),
        "67 megapixels, one bit": lambda: plain_png(8192, 8192, 1, 0),
        "67 megapixels, JPEG": lambda: many_scans(8192, 0),
        "over 67 megapixels": lambda: plain_png(8200, 8192, 1, 0),
        "four gigapixels": lambda: plain_png(65_536, 1, 1, 0).replace(
            b"\0\1\0\0\0\0\0\1\1\0", b"\0\1\0\0\0\1\0\0\1\0"
        ),
        "zTXt bomb": lambda: with_chunk(b"zTXt", b"a\0\0" + squeezed),
        "iTXt bomb": lambda: with_chunk(b"iTXt", b"a\0\1\0\0\0" + squeezed),
        "iCCP bomb": lambda: with_chunk(b"iCCP", b"a\0\0" + squeezed),
        "many zTXt": lambda: with_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6), 9), 5000),
        "IDAT bomb": lambda: PNG_START + plain_png(1, 1, 8, 0)[8:33] + png_of([(b"IDAT", squeezed)])[8:],
        "many small chunks": lambda: with_chunk(b"prIv", b"", 300_000),
        "many empty IDAT": lambda: with_chunk(b"IDAT", b"", 300_000),
        "eXIf bomb": lambda: with_chunk(b"eXIf", exif_bomb(30_000, 20_000_000)),
        "many scans, small": lambda: many_scans(640, 200_000),
        "many scans, large": lambda: many_scans(8192, 5_000),
        "many comments": lambda: (
            whole_files()["jpeg"][:2] + b"\xff\xfe\0\2" * 1_000_000 + whole_files()["jpeg"][2:]
        ),
        "WebP canvas": lambda: webp_canvas(16_383, 16_383),
        "WebP of 2^24 pixels' width": lambda: webp_canvas(2**24, 2**24),
        "PNG behind a JPEG's name": lambda: whole_files()["png"],
        "words": lambda: b"This is no image.",
        "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    }


def lay_special_files(folder: Path) -> list[str]:
    """What is no image file but is called one: a pipe, a socket, devices, links, a folder. Their names."""
    (folder / "target.bin").write_bytes(b"no image")
    os.mkfifo(folder / "pipe.jpg")
    short = Path(os.path.relpath(folder)) / "socket.png"  # a socket's path has 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(min(short, folder / "socket.png", key=lambda path: len(str(path)))))
    links = {
        "zero.jpg": "/dev/zero",
        "null.png": "/dev/null",
        "loop.webp": "loop.webp",
        "nowhere.jpg": "nothing",
        "random.png": "/dev/urandom",
        "words.jpg": "target.bin",
        "linked-folder.png": ".",
        "tty.jpg": "/dev/tty",
        "memory.jpg": "/proc/self/mem",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    (folder / "folder.jpg").mkdir()
    with (folder / "large.jpg").open("wb") as stream:
        stream.write(whole_files()["jpeg"])
        stream.truncate(2**40)  # a terabyte of nothing, which takes no room on the disk
    (folder / "unreadable.jpg").write_bytes(whole_files()["jpeg"])
    (folder / "unreadable.jpg").chmod(0)
    return ["pipe.jpg", "socket.png", *links, "folder.jpg", "large.jpg", "unreadable.jpg"]
