"""How much memory the pass takes: whether it grows with the images, and how many units fit.

Each pass runs in a process of its own over synthetic images, activations, embeddings and areas; its figure is
the kernel's high-water mark of resident memory (VmHWM in /proc), packages included. Everything with a row for
each image goes to files below a temporary directory (TMPDIR chooses the disk).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from labeler.activations import run_pass
from labeler.allocator import keep_freed_memory
from labeler.config import ActivationsConfig
from labeler.errors import LabelerError
from labeler.report.text import table
from labeler.suites import Result

from .arguments import SuiteParser

SIDE = 4  # pixels per side of a synthetic image
DIM, CONCEPTS = 512, 300  # of embeddings and areas, as a CLIP tower and a large annotated probe have
GROWTH = {"small": (2_000, 20_000), "full": (10_000, 100_000)}  # images of the two passes that are compared
GROWTH_UNITS, GROWTH_SIDE = 256, 2
WIDE = {"small": (65_536, 1_000), "full": (65_536, 50_000)}  # units and images


class SyntheticTarget:
    """One layer of any number of units: fixed random projections of the pixels, shifted at each position."""

    name = fingerprint = "synthetic"
    layers = ("layer",)
    input_size = (SIDE, SIDE)
    device = torch.device("cpu")

    def __init__(self, units: int, side: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._weights_du = torch.randn(3 * SIDE * SIDE, units, generator=generator)
        self._units, self._side = units, side

    def unit_count(self, layer: str) -> int:
        return self._units

    def prepare(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255 - 0.5)

    def maps(self, images_bchw: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        responses_bu = images_bchw.flatten(1) @ self._weights_du
        shift_p = torch.arange(self._side * self._side, dtype=torch.float32)
        return {"layer": (responses_bu[:, :, None] - shift_p).unflatten(2, (self._side, self._side))}


class SyntheticProbe:
    """Random pictures by id. Only their number takes no memory: a real probe keeps a path for each."""

    name = fingerprint = "synthetic"
    concepts = ()

    def __init__(self, count: int) -> None:
        self.images = range(count)

    def image(self, image_id: int) -> Image.Image:
        return Image.fromarray(
            np.random.default_rng(image_id).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        )

    def annotation(self, image_id: int, image: Image.Image) -> None:
        return None


class SyntheticEncoder:
    """Unit-norm random projections of the pixels."""

    name = fingerprint = "synthetic"
    dim, vocabulary = DIM, ()

    def __init__(self) -> None:
        self._weights = torch.randn(3 * SIDE * SIDE, DIM, generator=torch.Generator().manual_seed(1))

    def prepare(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1))

    def embed_images(self, images_bchw: torch.Tensor) -> NDArray[np.float32]:
        projected = images_bchw.flatten(1) @ self._weights
        return np.asarray(torch.nn.functional.normalize(projected, dim=1).numpy())


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Measure growth and width; ``--size small`` takes a minute, ``full`` is what the README promises."""
    parser = SuiteParser("memory", __doc__)
    parser.add_argument("--size", choices=sorted(GROWTH), default="small")
    parser.add_argument("--images", type=int, help="images of the wide pass, in place of the size's own")
    asked = parser.parse_args(arguments)
    few, many = GROWTH[asked.size]
    units, images = WIDE[asked.size]
    passes = {
        "few": (GROWTH_UNITS, GROWTH_SIDE, few),
        "many": (GROWTH_UNITS, GROWTH_SIDE, many),
        "wide": (units, 1, asked.images or images),
    }
    found = {name: measure_pass(*sizes) for name, sizes in passes.items()}
    figures = {
        "growth": found["many"]["peak_mb"] / found["few"]["peak_mb"] - 1,
        "wide_gb": found["wide"]["peak_mb"] / 1000,
        **{f"{name}_mb": figure["peak_mb"] for name, figure in found.items()},
    }
    rows = [
        (
            name,
            str(sizes[0]),
            str(sizes[2]),
            f"{found[name]['peak_mb']:.1f}",
            f"{found[name]['files_mb']:.0f}",
            f"{found[name]['seconds']:.0f}",
        )
        for name, sizes in passes.items()
    ]
    text = table(("pass", "units", "images", "peak MB", "files MB", "seconds"), rows)
    return Result("memory", units, figures, f"{text}\n\ngrowth from few to many: {figures['growth']:+.2%}")


def measure_pass(units: int, side: int, images: int) -> dict[str, Any]:
    """One pass in a fresh process: ``peak_mb``, ``files_mb`` (10^6 bytes) and ``seconds``."""
    code = "import sys; from labeler.suites import suite_module; suite_module('memory').child(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(units), str(side), str(images)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LabelerError(f"The pass over {images} images did not finish: {last}.")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def child(units: str, side: str, images: str) -> None:
    """Run one pass and print its figures as JSON."""
    keep_freed_memory()
    torch.set_num_threads(1)  # the number of threads decides how many arenas the allocator keeps
    with tempfile.TemporaryDirectory() as folder:
        directory, begun = Path(folder) / "pass", time.perf_counter()
        made = run_pass(
            SyntheticTarget(int(units), int(side)), SyntheticProbe(int(images)), {"e": SyntheticEncoder()},  # type: ignore[arg-type, dict-item]
            ActivationsConfig(), measure=_areas, workers=0, directory=directory,
        )  # fmt: skip
        made.save(directory)
        seconds = time.perf_counter() - begun
        files = sum(path.stat().st_size for path in directory.iterdir())
    print(json.dumps({"peak_mb": _peak_bytes() / 1e6, "files_mb": files / 1e6, "seconds": seconds}))


def _areas(image_id: int, image: Image.Image) -> NDArray[np.float32]:
    return np.full(CONCEPTS, (image_id % 100) / 100, dtype=np.float32)


def _peak_bytes() -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        raise LabelerError("The memory suite reads /proc/self/status, which only Linux has.") from None
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024
