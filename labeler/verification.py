"""Whether a run directory still is what was written: its stages, its catalogue and its pictures.

Every problem is a sentence that says what to do.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from labeler.catalogue.digests import changed_rows
from labeler.catalogue.files import MEND, is_begun, reading_address
from labeler.catalogue.paging import CataloguePages
from labeler.errors import ActivationError, LabelerError, RunError
from labeler.run_directory import read_run
from labeler.storage import verify_stage
from labeler.write_failures import write_failure

_PICTURE = re.compile(r'"([0-9a-f]{16}\.webp)"')
_NAME = 16  # hex digits of the sha256 of a picture's bytes, which are its name (`ImageStore`)


def verify_run(run: Path) -> dict[str, Any]:
    """Read everything and say what is wrong: stages and rows of the catalogue against their sha256, SQLite's
    own check of the catalogue, and pictures against their names.

    Returns:
        ``stages``, ``units`` and ``pictures``, how many were read, and ``problems``, a sentence for each.

    Raises:
        RunError: when `run` is not a run directory.
    """
    read_run(run)
    stages = [path for path in sorted(run.glob("stages/*-????????????")) if path.is_dir()]
    problems = [problem for stage in stages for problem in verify_stage(stage)]
    pictures = sorted(run.glob("images/*.webp"))
    units, of_rounds = 0, set[str]()
    try:
        if is_begun(run / "catalogue.db"):
            with closing(CataloguePages(run / "catalogue.db")) as pages:
                units = sum(pages.layers().values())
            found, of_rounds = _read_database(run / "catalogue.db")
            problems += found
    except RunError as error:
        problems.append(str(error))
    problems += _picture_problems(run, pictures, _named_by(stages), of_rounds)
    return {
        "run": str(run), "stages": len(stages), "units": units, "pictures": len(pictures),
        "problems": problems,
    }  # fmt: skip


@contextmanager
def blaming_damage(run: Path) -> Iterator[None]:
    """Where this block fails and something in `run` is not what was written, the error says that.

    Reading everything before each use would take minutes where a run is large.

    Raises:
        RunError: one sentence about the first damage and what to do. Without damage the exception passes.
    """
    try:
        yield
    except Exception as error:
        known = isinstance(error, LabelerError) and not isinstance(error, ActivationError)
        if known or write_failure(error) is not None:
            raise
        problems = verify_run(run)["problems"]
        if problems:
            raise RunError(problems[0]) from None
        raise


def _named_by(stages: Sequence[Path]) -> set[str]:
    """The pictures that finished stages name; those of a mere piece are still in it."""
    whole = [stage for stage in stages if not stage.name.startswith("piece-")]
    files = [path for stage in whole for path in (stage / "evidence.json", stage / "pictures.json")]
    return {
        name
        for path in files
        if path.is_file()
        for name in _PICTURE.findall(path.read_text("utf-8", "replace"))
    }


def _picture_problems(
    run: Path, pictures: Sequence[Path], of_stages: set[str], of_rounds: set[str]
) -> list[str]:
    made_by = f"{run}/stages/exemplars-* and {run}/stages/visualisations-*"
    problems = []
    for path in pictures:
        if _content_name(path) != path.stem:
            also = f" with {made_by} and run again" if path.name in of_stages else ""
            problems.append(f"{path} is not what was written: put a copy in its place, or delete it{also}.")
    missing = (of_stages | of_rounds) - {path.name for path in pictures}
    for path in (run / "images" / name for name in sorted(missing)):
        without = f"or delete {made_by} and run again" if path.name in of_stages else "else nobody sees it"
        problems.append(f"{path} is missing: put a copy in its place, {without}.")
    return problems


def _content_name(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:_NAME]


def _read_database(path: Path) -> tuple[list[str], set[str]]:
    """What is wrong with a catalogue, and the pictures that its rounds name."""
    pictures = set[str]()
    try:
        with closing(sqlite3.connect(reading_address(path), uri=True)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
            found += changed_rows(connection)
            for (record,) in connection.execute("SELECT record FROM rounds"):
                pictures.update(_PICTURE.findall(record))
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    return [f"{path} is damaged ({problem}): {MEND}." for problem in found if problem != "ok"], pictures
