"""Hostile image files through the loader that the probes use: `python -m tests.fuzz.images`."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from labeler.errors import UnreadableImageError
from labeler.probes.decode import MAX_PIXELS, decode_image
from tests.fuzz.harness import GOOD, Case, Figures, fuzz, main, run_case, sentence
from tests.fuzz.image_files import hostile_files, lay_special_files, whole_files
from tests.fuzz.mutate import mutated

COUNT = 100_000
LIMIT = 5.0
"""Seconds for a mutated file."""
SLOW_LIMIT = 60.0
"""Seconds for a file made to be slow; up to 67 megapixels, while other work takes the processor."""


def outcome(path: Path, name: str) -> str:
    """What the loader makes of a file: an upright RGB image without metadata, or one typed sentence."""
    try:
        image = decode_image(path, name)
    except UnreadableImageError as error:
        return check_refused(error, name)
    assert image.mode == "RGB", image.mode
    assert 0 < image.width * image.height <= MAX_PIXELS, image.size
    assert not image.info, image.info
    return GOOD


def check_refused(error: UnreadableImageError, name: str) -> str:
    """A refusal that names the file."""
    assert str(error).startswith(f"{name} "), str(error)
    return sentence(error)


def drawer(folder: Path) -> Callable[[random.Random], Case]:
    """Draws a mutated file of a random format, written to `folder`."""
    files = whole_files()
    others = list(files.values())

    def draw(rng: random.Random) -> Case:
        kind = rng.choice(list(files))
        change, data = mutated(rng, files[kind], others)
        path = folder / rng.choice(("a.jpg", "a.png", "a.webp"))
        path.write_bytes(data)
        return f"{kind} {change}", lambda: outcome(path, "probe/a.jpg")

    return draw


def run_special(figures: Figures, folder: Path) -> None:
    """The files made by hand, and what is no file."""
    made = folder / "made.jpg"
    for name, make in hostile_files().items():
        made.write_bytes(make())
        run_case(figures, name, "made", lambda: outcome(made, "probe/made.jpg"))
    made.unlink()
    special = folder / "special"
    special.mkdir()
    for name in lay_special_files(special):
        run_case(figures, name, "special", lambda name=name: outcome(special / name, f"probe/{name}"))


def run(numbers: range, seed: int) -> Figures:
    """The mutated files `numbers`, and, where they begin at 0, all that are made by hand."""
    with tempfile.TemporaryDirectory(prefix="fuzz-images-", dir=_memory()) as name:
        figures = fuzz("images", drawer(Path(name)), numbers, seed, LIMIT)
        if numbers.start == 0:
            figures.limit = SLOW_LIMIT
            run_special(figures, Path(name))
            figures.limit = LIMIT
    return figures


def _memory() -> str | None:
    """A folder in memory where there is one: a file is written for each case."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    main("images", run, COUNT)
