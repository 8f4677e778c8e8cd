import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from labeler.errors import ProbeError, UnreadableImageError
from labeler.probes import decode
from labeler.probes.decode import decode_image, decode_mask

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(tmp_path, data, name="picture.jpg"):
    path = tmp_path / name
    path.write_bytes(data)
    return decode_image(path, name)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_the_content_decides_not_the_name(tmp_path, kind, options):
    image = decoded(tmp_path, encoded(Image.fromarray(PICTURE), kind, **options), "wrong.jpg")
    assert image.mode == "RGB"
    assert np.array_equal(image, PICTURE)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_are_refused_under_any_name(tmp_path, kind):
    with pytest.raises(UnreadableImageError, match=r"picture\.jpg is not a readable image"):
        decoded(tmp_path, encoded(Image.fromarray(PICTURE), kind))


def test_jpeg_is_close_and_cmyk_becomes_rgb(tmp_path):
    flat = Image.new("RGB", (16, 16), (200, 40, 90))
    for image in (flat, flat.convert("CMYK")):
        pixels = np.asarray(decoded(tmp_path, encoded(image, "JPEG", quality=95))).astype(int)
        assert np.abs(pixels - (200, 40, 90)).max() < 6


def test_palette_and_transparency(tmp_path):
    palette = Image.fromarray(PICTURE).quantize(16)
    assert np.array_equal(decoded(tmp_path, encoded(palette, "PNG")), palette.convert("RGB"))
    hidden = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.asarray(decoded(tmp_path, encoded(hidden, "PNG"))).min() == 255, "transparent lies over white"
    half = np.asarray(decoded(tmp_path, encoded(Image.new("LA", (2, 2), (0, 128)), "PNG")))
    assert abs(int(half[0, 0, 0]) - 127) <= 1


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    pixels = np.asarray(decoded(tmp_path, encoded(Image.fromarray(ramp), "PNG")))
    assert np.array_equal(pixels[..., 0], ramp >> 8)


def test_one_pixel_and_one_bit(tmp_path):
    assert decoded(tmp_path, encoded(Image.new("1", (1, 1), 1), "PNG")).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(tmp_path, kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert decoded(tmp_path, data).getpixel((4, 4))[0] > 240


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_forgotten(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = {  # how a camera held this way stores the upright picture
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2),
        6: np.rot90(PICTURE, 1),
        7: PICTURE[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PICTURE, -1),
    }[orientation]
    image = decoded(tmp_path, encoded(Image.fromarray(stored.copy()), "PNG", exif=exif))
    assert np.array_equal(image, PICTURE)
    assert not image.info
    assert not dict(image.getexif())


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_cost_the_pixels(tmp_path):
    data = encoded(Image.fromarray(PICTURE), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert decoded(tmp_path, data).size == (30, 20)


def png_with_header(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8193, 12_000, 60_000])
def test_a_bomb_is_an_error_before_its_pixels_exist(tmp_path, side):
    with pytest.raises(UnreadableImageError, match="pixels"):
        decoded(tmp_path, png_with_header(side, side))


def test_a_file_over_the_cap_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_BYTES", 100)
    with pytest.raises(UnreadableImageError, match="MB"):
        decoded(tmp_path, encoded(Image.fromarray(PICTURE), "PNG"))


def test_what_is_no_file_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("missing.jpg", "pipe.jpg", "."):
        with pytest.raises(UnreadableImageError):
            decode_image(tmp_path / name, name)
    with pytest.raises(UnreadableImageError):
        decoded(tmp_path, b"")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP"]), share=st.floats(0, 0.95))
def test_a_truncated_file_is_unreadable(tmp_path, kind, share):
    data = encoded(Image.fromarray(PICTURE), kind)
    with pytest.raises(UnreadableImageError):
        decoded(tmp_path, data[: int(len(data) * share)])


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=12),
)
def test_mutated_bytes_give_an_image_or_one_typed_error(tmp_path, kind, changes):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encoded(Image.fromarray(PICTURE), kind, exif=exif))
    for position, value in changes:
        data[position % len(data)] = value
    messages = []
    for _ in range(2):
        try:
            assert decoded(tmp_path, bytes(data)).mode == "RGB"
        except UnreadableImageError as error:
            messages.append(str(error))
    assert len(set(messages)) == len(messages) / 2, "two runs say the same"
    assert all(message.startswith("picture.jpg ") and "\n" not in message for message in messages)


def test_threads_decode_what_one_thread_does(tmp_path):
    pictures = np.random.default_rng(1).integers(0, 256, (24, 16, 16, 3)).astype(np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(24)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    limits = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: np.asarray(decode_image(path, path.name)), paths))
    assert np.array_equal(found, pictures)
    assert limits == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_masks_keep_indices_and_break_as_annotations(tmp_path):
    indices = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4), "P")
    indices.putpalette(list(range(255, -1, -1)) * 3)
    indices.save(tmp_path / "mask.png")
    assert np.array_equal(decode_mask(tmp_path / "mask.png", "mask.png"), np.arange(16).reshape(4, 4))
    (tmp_path / "mask.png").write_bytes(encoded(Image.fromarray(PICTURE), "JPEG"))
    with pytest.raises(ProbeError, match=r"mask\.png") as caught:
        decode_mask(tmp_path / "mask.png", "mask.png")
    assert not isinstance(caught.value, UnreadableImageError)
