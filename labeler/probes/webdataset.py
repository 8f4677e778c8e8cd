"""`webdataset:PATTERN`: tar shards of samples, read where they lie.

`PATTERN` is a path with braces (``train-{000..127}.tar``, ``{a,b}.tar``) or a glob (``train-*.tar``). As in
WebDataset (Aizman et al. 2019), a member's key is its name up to the first dot of the last part, the rest is
its type. Neighbouring members with one key are a sample, whose image is its ``.jpg``, ``.jpeg``, ``.png`` or
``.webp``, the first of these that it has. Members of any other type (``.json``, ``.cls``, ``.seg.png``,
directories, links) are passed over without being read.

Nothing is extracted: names are words, the bytes are read at their offset. Ids follow the shards by path and
the members by position. An image must be a plain file with a plain name: a link or a device in its place, a
name that is absolute or climbs with ``..``, a key that comes back and a shard that ends early are errors.
"""

from __future__ import annotations

import glob
import hashlib
import io
import itertools
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from PIL.Image import Image

from labeler.errors import ProbeError, UnreadableImageError
from labeler.printable import is_printable
from labeler.probes.decode import MAX_BYTES, decode_image_bytes
from labeler.probes.files import LONGEST_NAME, in_short
from labeler.seams import Annotation, Concept, ProbeImage
from labeler.storage import fingerprint

_TYPES: Final = ("jpg", "jpeg", "png", "webp")
_MOST_SHARDS: Final = 1_000_000
_BLOCK: Final = 512  # bytes: the unit of the tar format
_MOST_HEADER: Final = 2**20  # bytes of an extended header; real ones hold a few hundred
_PIECE: Final = 2**20  # bytes hashed at once
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_RANGE: Final = re.compile(r"(\d{1,18})\.\.(\d{1,18})")


@dataclass(frozen=True)
class _Member:
    """Where an image's bytes lie."""

    shard: Path
    name: str
    offset: int
    size: int


class WebDatasetProbe:
    """The images of local tar shards; they have no annotations.

    Args:
        pattern: the path of the shards, with braces or wildcards.
        name: how the source is called in image paths.

    Raises:
        ProbeError: when a shard is missing, compressed, broken or hostile, or there is no image.
    """

    concepts: tuple[Concept, ...] = ()

    def __init__(self, pattern: str, name: str) -> None:
        self.name = name
        shards = find_shards(pattern)
        short = _short_names(shards)
        members: list[_Member] = []
        images: list[ProbeImage] = []
        for shard in shards:
            for member, sha256 in _read_shard(shard):
                path = f"{name}/{short[shard]}/{member.name}"
                images.append(ProbeImage(len(images), path, sha256, sha256))
                members.append(member)
        if not images:
            raise ProbeError(
                f"There is no image in {pattern}; samples need members called KEY.jpg, KEY.png or KEY.webp."
            )
        self._members = tuple(members)
        self.images = tuple(images)
        self.fingerprint = fingerprint("webdataset", [(image.path, image.sha256) for image in images])

    def image(self, image_id: int) -> Image:
        """The decoded RGB image."""
        member, name = self._members[image_id], self.images[image_id].path
        if member.size > MAX_BYTES:
            raise UnreadableImageError(f"{name} is over {MAX_BYTES // 2**20} MB; make it smaller.")
        try:
            with member.shard.open("rb") as stream:
                stream.seek(member.offset)
                data = stream.read(member.size)
        except OSError as error:
            raise UnreadableImageError(f"{name} cannot be read: {error.strerror}.") from error
        return decode_image_bytes(data, name)

    def annotation(self, image_id: int, image: Image) -> Annotation | None:
        """None: shards have no masks."""
        return None


def find_shards(pattern: str) -> list[Path]:
    """The files that a pattern names, sorted: braces first, then wildcards.

    Raises:
        ProbeError: when a file without wildcards is missing, nothing matches, or braces name too many.
    """
    found: set[Path] = set()
    for path in itertools.islice(_expand(pattern), _MOST_SHARDS + 1):
        matches = [Path(match) for match in glob.glob(path)] if glob.has_magic(path) else [Path(path)]
        matches = [match for match in matches if os.path.isfile(match)]  # False of a name too long
        if not matches:
            raise ProbeError(f"There is no shard at {in_short(path)}; check probe.source in the config.")
        found.update(matches)
        if len(found) > _MOST_SHARDS:
            raise ProbeError(f"{pattern} names more than {_MOST_SHARDS} shards; check its braces.")
    return sorted(found, key=lambda shard: shard.as_posix())


def _expand(pattern: str) -> Iterator[str]:
    """What a pattern's braces stand for: ``{000..012}`` keeps the zeros, ``{a,b}`` is a list."""
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    for choice in _choices(braces[1]):
        yield from _expand(f"{pattern[: braces.start()]}{choice}{pattern[braces.end() :]}")


def _choices(inside: str) -> Iterator[str]:
    bounds = _RANGE.fullmatch(inside)  # 18 digits at most: Python refuses to read 5,000
    if bounds is None:
        yield from inside.split(",")
        return
    first, last = int(bounds[1]), int(bounds[2])
    for number in range(first, last + 1):
        yield f"{number:0{len(bounds[1])}d}"


def _short_names(shards: list[Path]) -> dict[Path, str]:
    """A shard's file name, or its path below the common directory where two share a file name."""
    if len({shard.name for shard in shards}) == len(shards):
        return {shard: shard.name for shard in shards}
    common = Path(*_common([shard.parent.parts for shard in shards]))
    return {shard: shard.relative_to(common).as_posix() for shard in shards}


def _common(paths: list[tuple[str, ...]]) -> list[str]:
    columns = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    return [parts[0] for parts in columns]


class _HeaderReader(io.FileIO):
    """A shard as `tarfile` may see it: a header that asks for a large piece of memory is refused."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MOST_HEADER:
            raise tarfile.ReadError("an extended header is too large")
        return super().read(size) or b""


def _read_shard(shard: Path) -> Iterator[tuple[_Member, str]]:
    """The images of one shard with their sha256, in order."""
    seen: set[str] = set()
    try:
        with shard.open("rb") as stream:
            for key, group in itertools.groupby(_members(shard), key=lambda found: found[0]):
                _, _, member = min(group, key=lambda found: _TYPES.index(found[1]))
                if key in seen:
                    raise ProbeError(
                        f"{shard} has the key {in_short(key)!r} twice; every sample has a key of its own."
                    )
                seen.add(key)
                yield member, _sha256(stream, member)
    except OSError as error:
        raise ProbeError(f"{shard} cannot be read: {error.strerror or error}.") from error


def _members(shard: Path) -> Iterator[tuple[str, str, _Member]]:
    """Key, type and place of every image member, in order."""
    try:
        with _HeaderReader(shard) as stream, tarfile.TarFile(fileobj=stream, mode="r") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else every header stays in memory
                if info.size < 0 or tar.offset <= info.offset:  # some Pythons would go round and round
                    raise tarfile.ReadError("a member has a negative size")
                split = _key_and_type(info.name)
                if split is None:
                    continue
                _check_plain(info, shard)
                yield *split, _Member(shard, _plain(info.name), info.offset_data, info.size)
            _check_end(stream, tar.offset, shard)
    except (tarfile.TarError, RecursionError, ValueError, OverflowError, LookupError, TypeError) as error:
        raise ProbeError(
            f"{shard} is not a complete, uncompressed tar file ({in_short(error)}); copy or pack it again."
        ) from error


def _key_and_type(name: str) -> tuple[str, str] | None:
    folder, slash, last = name.rpartition("/")
    stem, _, kind = last.partition(".")
    if not stem or kind.lower() not in _TYPES:
        return None
    return f"{folder}{slash}{stem}", kind.lower()


def _check_plain(info: tarfile.TarInfo, shard: Path) -> None:
    parts = PurePosixPath(info.name).parts
    climbs = parts[0] == "/" or ".." in parts or "\\" in info.name
    if climbs or not is_printable(info.name) or len(info.name) > LONGEST_NAME:
        shown = ascii(in_short(info.name))
        raise ProbeError(f"{shard} has a member called {shown}; pack it with plain relative names.")
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.issparse():
        shown = in_short(info.name)
        raise ProbeError(f"{shard} has a link or special file called {shown}; pack the image itself.")


def _check_end(stream: _HeaderReader, offset: int, shard: Path) -> None:
    """A tar file ends with blocks of zeros; `tarfile` takes a torn or broken header for the end as well."""
    stream.seek(offset)
    if stream.read(_BLOCK) != bytes(_BLOCK):
        raise ProbeError(f"{shard} breaks off or is damaged after {offset} bytes; copy or pack it again.")


def _sha256(stream: io.BufferedReader, member: _Member) -> str:
    digest, left = hashlib.sha256(), member.size
    stream.seek(member.offset)
    while left:
        piece = stream.read(min(left, _PIECE))
        if not piece:
            raise ProbeError(
                f"{member.shard} breaks off inside {in_short(member.name)}; copy or pack it again."
            )
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()


def _plain(name: str) -> str:
    return PurePosixPath(name).as_posix()  # "./a.jpg" is "a.jpg"
