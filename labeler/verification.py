"""Whether a run directory still is what was written: its stages, its catalogue and its pictures."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from labeler.catalogue.paging import CataloguePages
from labeler.run_directory import read_run
from labeler.storage import verify_stage

_NAME = 16  # hex digits of the sha256 of a picture's bytes, which are its name (`ImageStore`)


def verify_run(run: Path) -> dict[str, Any]:
    """Read everything and say what is wrong: stages against their sha256, SQLite's own check of the
    catalogue, and pictures against their names.

    Returns:
        ``stages``, ``units`` and ``pictures``, how many were read, and ``problems``, a sentence for each.

    Raises:
        RunError: when `run` is not a run directory, or its catalogue cannot be opened at all.
    """
    read_run(run)
    stages = [path for path in sorted(run.glob("stages/*-????????????")) if path.is_dir()]
    problems = [problem for stage in stages for problem in verify_stage(stage)]
    pictures = sorted(run.glob("images/*.webp"))
    problems += [f"{path} is not what was written." for path in pictures if _content_name(path) != path.stem]
    units = 0
    if (run / "catalogue.db").is_file():
        with closing(CataloguePages(run / "catalogue.db")) as pages:
            units = sum(pages.layers().values())
        problems += _database_problems(run / "catalogue.db")
    return {
        "run": str(run), "stages": len(stages), "units": units, "pictures": len(pictures),
        "problems": problems,
    }  # fmt: skip


def _content_name(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:_NAME]


def _database_problems(path: Path) -> list[str]:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    return [f"{path} is damaged: {problem}." for problem in found if problem != "ok"]
