"""The pictures of a run: WebP files named by their content."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_QUALITY = 85  # small and without visible artefacts at tile size


def encode_webp(image: Image) -> bytes:
    """WebP bytes of an RGB image without metadata: equal pixels, equal bytes (of one libwebp version)."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, format="WEBP", quality=_QUALITY, method=4)
    return stream.getvalue()


class ImageStore:
    """Pictures in one directory, each stored once however often it is put. Safe to use from threads."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)

    def put(self, image: Image) -> str:
        """Store a picture and return its file name: 16 hex digits of the sha256 of its bytes, ``.webp``.

        A reader sees the whole file or none. Files are not synced to the disk one by one (a run writes a
        million): after a power cut one may be short, and the next `put` of the same picture writes it again.
        """
        data = encode_webp(image)
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.webp"
        path = self.directory / name
        if path.is_file() and path.stat().st_size == len(data):
            return name
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}.incomplete")
        temporary.write_bytes(data)
        temporary.replace(path)
        return name
