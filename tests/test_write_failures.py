"""What each library says of a disk that is full becomes one sentence; anything else stays what it is."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from labeler.errors import RunError, UsageError
from labeler.write_failures import writing

FULL = Path("/dev/full")
VALUES = np.zeros((64, 2048), np.float32)


def save_index(path: Path) -> None:
    index = faiss.IndexFlatIP(VALUES.shape[1])
    index.add(VALUES)
    faiss.write_index(index, str(path))


def save_numpy(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, VALUES)


WRITERS: list[Callable[[Path], object]] = [
    lambda path: path.write_text("x" * 100_000),
    save_numpy,
    save_index,
    lambda path: Image.new("RGB", (600, 600)).save(path, format="BMP"),
]


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_one_sentence_whoever_finds_it(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    with pytest.raises(RunError, match="make room") as caught, writing(tmp_path):
        write(FULL)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EROFS, "Read-only file system"), "writable"),
        (OSError(errno.EFBIG, "File too large"), "ulimit"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "room"),
        (OSError("4096 requested and 512 written"), "room"),
    ],
)
def test_every_cause_has_its_advice(tmp_path: Path, error: OSError, says: str) -> None:
    with pytest.raises(RunError, match=says), writing(tmp_path):
        raise error


def test_the_disk_that_is_full_is_the_one_that_is_named(tmp_path: Path) -> None:
    elsewhere = OSError(errno.EROFS, "Read-only file system", "/home/somebody/.cache")
    with pytest.raises(RunError, match=r"^/home/somebody/\.cache cannot be written"), writing(tmp_path):
        raise elsewhere
    inside = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / ".run.json.7.incomplete"))
    with pytest.raises(RunError) as caught, writing(tmp_path):
        raise inside
    assert str(caught.value).startswith(f"{tmp_path} cannot")
    with pytest.raises(RunError, match=r" of node-7 cannot be written"), writing(tmp_path, "node-7"):
        raise inside


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(errno.ENOENT, "gone"), ValueError("wrong"), UsageError("No space left on device")],
)
def test_what_is_no_failure_to_write_passes(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, writing(tmp_path):
        raise error
    assert caught.value is error


def test_safetensors_says_it_by_an_error_of_its_own(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(RunError, match="ulimit"), writing(tmp_path):
            save_file({"x": VALUES}, tmp_path / "x.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
