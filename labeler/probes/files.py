"""Image files under a directory: listed, ordered and hashed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labeler.errors import ProbeError
from labeler.printable import printable
from labeler.probes.decode import MAX_BYTES
from labeler.seams import ProbeImage
from labeler.storage import file_sha256, fingerprint

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
LONGEST_NAME = 1024
"""Characters of a name in a foreign table or archive; a file system takes not many more for a path."""
_THREADS = 16  # hashing waits for the disk; hashlib and reads release the interpreter lock
_QUOTED = 200
_PIECE = 64  # files a task; one task a file costs more than a small file's hash


def directory(path: str | Path, what: str) -> Path:
    """`path` when it is a directory.

    Raises:
        ProbeError: when it is not; `what` says what was expected there.
    """
    path = Path(path)
    if not os.path.isdir(path):  # Path.is_dir raises for a name that is too long
        raise ProbeError(
            f"There is no {what} directory at {in_short(path)}; check probe.source in the config."
        )
    return path


def list_files(root: Path, suffixes: frozenset[str]) -> list[str]:
    """Relative posix paths of the files under `root` with one of `suffixes` (any case), sorted.

    Hidden files and directories are left out; links to directories are not followed. Links to nowhere and
    special files stay in the list, so that they are reported instead of skipped.
    """
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(folder).relative_to(root)
        found += [
            (relative / name).as_posix()
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
        ]
    return sorted(found)


def hash_files(paths: Iterable[Path]) -> list[str]:
    """sha256 of the bytes of every file, in order; one that is no image has a value of its own, unread.

    That is what cannot be read, and what is over the size that is decoded: a sparse file can be endless.
    """
    paths = list(paths)
    pieces = [paths[start : start + _PIECE] for start in range(0, len(paths), _PIECE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [sha256 for found in pool.map(_hash_piece, pieces) for sha256 in found]


def list_images(root: Path, prefix: str, advice: str) -> tuple[tuple[ProbeImage, ...], tuple[str, ...]]:
    """The images under `root`, sorted, with ids in that order, and their paths relative to `root`.

    `prefix` stands before the relative path in `ProbeImage.path`. The group is the sha256, so exact
    duplicates stay together.

    Raises:
        ProbeError: when there is no image.
    """
    names = list_files(root, IMAGE_SUFFIXES)
    if not names:
        raise ProbeError(f"There are no JPEG, PNG or WebP images in {root}; {advice}")
    hashes = hash_files(root / name for name in names)
    images = tuple(
        ProbeImage(id=position, path=f"{prefix}/{_printable(name)}", sha256=sha256, group=sha256)
        for position, (name, sha256) in enumerate(zip(names, hashes, strict=True))
    )
    return images, tuple(names)


def in_short(what: object) -> str:
    """Something out of a foreign file as an error quotes it: on one line, at most 200 characters."""
    text = printable(" ".join(str(what).split()))
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."


def _hash_piece(paths: list[Path]) -> list[str]:
    return [_sha256(path) for path in paths]


def _sha256(path: Path) -> str:
    try:
        if path.is_file():
            size = path.stat().st_size
            return (
                file_sha256(path)
                if size <= MAX_BYTES
                else fingerprint("too large", _printable(path.name), size)
            )
    except OSError:
        return fingerprint("unreadable", _printable(path.name))
    return fingerprint("unreadable", _printable(path.name))


def _printable(name: str) -> str:
    """A file name as valid UTF-8: bytes that are not become U+FFFD, since paths go into JSON."""
    return os.fsencode(name).decode("utf-8", "replace")
