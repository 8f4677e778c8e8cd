"""A stage done in pieces: here one after another, or by an executor's workers, whose files come back.

A worker writes into a folder of its own and returns what it wrote; the process that began the run is the only
one that writes into the run directory, so nodes share no file system for what comes out. It keeps every piece
as a stage of its own, ``stages/piece-NAME-3-of-64-<12 hex>``, until the stage is complete: a run that is
killed goes on with the pieces that it has.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from labeler.executors import LOCAL
from labeler.pipeline.inputs import Inputs
from labeler.pipeline.recipe import Recipe
from labeler.seams import Executor, Progress
from labeler.storage import fingerprint, stage_directory, verify_stage
from labeler.write_failures import writing

Item = TypeVar("Item")
Plan = TypeVar("Plan")
Made = TypeVar("Made", covariant=True)
_IMAGES = "images"
_TAR = "files.tar"
_BLOCKS = 3
"""Of a piece that is done here, at least: of less, beginning and keeping it would cost too much."""


Work = Callable[[Inputs, Item, Path, Progress], None]
"""One piece of a stage: a function of a module that does an item and writes all that it finds into a folder,
pictures into the one that `images_of` names."""


class Lazily(Sequence[Made]):
    """Items that are made when their turn comes, each time anew, so that memory never holds them all.

    Args:
        plans: what each is made from.
        make: makes it.
    """

    def __init__(self, plans: Sequence[Plan], make: Callable[[Plan], Made]) -> None:
        self._make = partial(_made, plans, make)
        self._count = len(plans)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Lazily(range(self._count)[place], self._make)
        return self._make(place)


def _made(plans: Sequence[Plan], make: Callable[[Plan], Made], place: int) -> Made:
    return make(plans[place])


def images_of(directory: Path) -> Path:
    """Where a piece of work puts the pictures that are for the run's ``images/``."""
    return directory / _IMAGES


@dataclass(frozen=True)
class Spread:
    """The stages of one run, done by an executor.

    Args:
        run: the run directory.
        inputs: of the run.
        executor: who does the pieces.
    """

    run: Path
    inputs: Inputs
    executor: Executor = LOCAL

    def stage(self, name: str, key: str, build: Callable[[Path], None]) -> Path:
        """`stage_directory`, after which nothing is left of the pieces."""

        def built(directory: Path) -> None:
            build(directory)
            shutil.rmtree(_place(directory), ignore_errors=True)

        made = stage_directory(self.run, name, key, built)
        for names in (f"piece-{name}-*", f"piece-here-{name}-*"):
            for piece in self.run.glob(f"stages/{names}"):
                shutil.rmtree(piece)
        return made

    def count(self, blocks: int) -> int:
        """How many pieces something is cut into that is computed in so many blocks."""
        most = blocks // _BLOCKS if self.executor.here else blocks
        return max(1, min(self.executor.pieces, most))

    def pieces(
        self,
        name: str,
        key: str,
        directory: Path,
        work: Work[Item],
        items: Sequence[Item],
        progress: Progress | None,
        whole: int | None = None,
    ) -> list[Path]:
        """Folders with the files of every item, in order; they go when the stage is complete.

        Their pictures are in the run's ``images/`` by then.

        Args:
            name: of the stage, or more than its name where it has several such steps.
            key: fingerprint of the stage.
            directory: where the stage is built.
            work: does an item.
            items: all of them.
            progress: of the stage.
            whole: what the items make together, of which progress is told where they are done here; by
                default their number.
        """
        report = progress or _ignore
        if not self.executor.here:
            places = self._elsewhere(name, key, directory, work, items, report)
        elif len(items) == 1:
            places = [_place(directory) / name]
            places[0].mkdir(parents=True)
            work(self.inputs, items[0], places[0], report)
        else:
            places = self._here(name, key, work, items, report, whole or len(items))
        for place in places:
            self._adopt(images_of(place))
        return places

    def _here(
        self, name: str, key: str, work: Work[Item], items: Sequence[Item], report: Progress, whole: int
    ) -> list[Path]:
        keeper = _Keeper(self.run, f"here-{name}", key, len(items))
        for number in range(len(items)):
            if not keeper.has(number):
                told = partial(_part_of, report, number, len(items), whole)
                keeper.build(number, partial(_done, work, self.inputs, items[number], told))
        return [keeper.place(number) for number in range(len(items))]

    def _elsewhere(
        self,
        name: str,
        key: str,
        directory: Path,
        work: Work[Item],
        items: Sequence[Item],
        report: Progress,
    ) -> list[Path]:
        places = [_place(directory) / f"{name}-{number}" for number in range(len(items))]
        keeper = _Keeper(self.run, name, key, len(items))
        missing = [number for number in range(len(items)) if not keeper.has(number)]
        done = len(items) - len(missing)
        report(done, len(items))
        packed = partial(_packed, work, Recipe.of(self.inputs))
        for number, files in self.executor.as_finished(packed, Lazily(missing, items.__getitem__)):
            keeper.keep(missing[number], files)
            done += 1
            report(done, len(items))
        for number, place in enumerate(places):
            with tarfile.open(keeper.place(number) / _TAR) as archive:
                archive.extractall(place, filter="data")
        return places

    def _adopt(self, images: Path) -> None:
        """A piece stays as it was written, so its pictures get a second name, or a copy."""
        for path in images.iterdir() if images.is_dir() else ():
            own = self.run / _IMAGES / path.name  # named by its content, so any other is the same
            own.parent.mkdir(exist_ok=True)
            temporary = own.with_name(f".{own.name}.{os.getpid()}.incomplete")
            try:
                os.link(path, temporary)
            except OSError:  # some file systems know no second names
                shutil.copyfile(path, temporary)
            temporary.replace(own)
            temporary.unlink(missing_ok=True)  # which stays where both are one file already


@dataclass(frozen=True)
class _Keeper:
    """The pieces of one step, kept until its stage is complete."""

    run: Path
    name: str
    key: str
    count: int

    def place(self, number: int) -> Path:
        """Where a piece is, if it is there."""
        name, key = self._named(number)
        return self.run / "stages" / f"{name}-{key[:12]}"

    def has(self, number: int) -> bool:
        """Whether a piece is there as it was written; one that is damaged goes, to be done again."""
        place = self.place(number)
        if place.is_dir() and verify_stage(place):
            shutil.rmtree(place)
        return place.is_dir()

    def keep(self, number: int, files: NDArray[np.uint8]) -> None:
        """Write a piece that was done elsewhere."""

        def build(directory: Path) -> None:
            (directory / _TAR).write_bytes(files.data)

        self.build(number, build)

    def build(self, number: int, build: Callable[[Path], None]) -> None:
        """Do a piece; see `stage_directory`."""
        stage_directory(self.run, *self._named(number), build)

    def _named(self, number: int) -> tuple[str, str]:
        name = f"piece-{self.name}-{number + 1}-of-{self.count}"
        return name, fingerprint(name, 1, self.key)


def _done(work: Work[Item], inputs: Inputs, item: Item, progress: Progress, directory: Path) -> None:
    work(inputs, item, directory, progress)


def _part_of(report: Progress, number: int, count: int, whole: int, done: int, total: int) -> None:
    """Progress of one of `count` pieces, taken as equal, as that of the whole."""
    report(round(whole * (number + done / max(total, 1)) / count), whole)


def _packed(work: Work[Item], recipe: Recipe, item: Item) -> NDArray[np.uint8]:
    """The files of one piece as an uncompressed tar, (bytes,): what comes back is one array."""
    place = Path(tempfile.gettempdir())
    with writing(place, platform.node()), tempfile.TemporaryDirectory(prefix="labeler-") as folder:
        work(recipe.inputs(), item, Path(folder), _ignore)
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            archive.add(folder, arcname=".")
    return np.frombuffer(stream.getbuffer(), dtype=np.uint8)


def _place(directory: Path) -> Path:
    return directory / "pieces"


def _ignore(done: int, total: int) -> None:
    """What nobody asked to see."""
