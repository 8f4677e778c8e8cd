"""A run directory as it lies on disk: run.json, and how far the run is. Nothing heavy is loaded."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from labeler.catalogue import CatalogueStore, call_totals
from labeler.errors import RunError
from labeler.storage import MANIFEST

_KEYS = frozenset({"fingerprint", "config", "target", "probe", "units", "warnings", "versions"})

OPENINGS = "openings.json"
"""Which sets of labels the test split has been opened for by imports into other runs (fingerprints)."""
STAGES = ("activations", "exemplars", "visualisations")
_NAMED = 20  # unreadable images that are named
_GO_ON = "the same labeler run command goes on"


def read_run(out: Path) -> dict[str, Any]:
    """run.json of a run directory.

    Raises:
        RunError: when it is missing or broken.
    """
    path = out / "run.json"
    if not path.is_file():
        raise RunError(
            f"{out} is not a run directory (no run.json); make one with: labeler run CONFIG --out {out}."
        )
    try:
        data = json.loads(path.read_text())
    except ValueError:
        raise RunError(f"{path} is torn; delete {out} and run again.") from None
    if not isinstance(data, dict) or not data.keys() >= _KEYS:
        raise RunError(f"{path} is not a run description; delete {out} and run again.")
    return data


def run_status(run: Path) -> dict[str, Any]:
    """Stages, images, units with a verdict, verdicts and model calls of a run directory.

    Raises:
        RunError: when it is not a run directory, or its catalogue cannot be read.
    """
    data = read_run(run)
    found: dict[str, Any] = {"run": str(run), "units": data["units"], "images": data["probe"]["images"]}
    for name in STAGES:
        finished = any((run / "stages").glob(f"{name}-????????????/{MANIFEST}"))
        begun = any((run / "stages").glob(f"{name}-*.incomplete"))
        found[name] = "done" if finished else "interrupted" if begun else "not begun"
    unreadable = _unreadable(run)
    found |= {"unreadable": len(unreadable), "unreadable_images": unreadable[:_NAMED]}
    found["report"] = "done" if (run / "report" / "index.html").is_file() else "not begun"
    path = run / "catalogue.db"
    if not path.exists():
        return {**found, "with_verdict": 0, "next": _GO_ON}
    store = CatalogueStore(path, read_only=True)
    verdicts: dict[str, int] = {}
    for (_, verdict), count in store.counts().items():
        verdicts[verdict] = verdicts.get(verdict, 0) + count
    found |= {"with_verdict": sum(verdicts.values()), "verdicts": verdicts, **call_totals(path)}
    store.close()
    found["test_openings"] = len(read_openings(run))
    found["next"] = _next(found, verdicts.get("failed", 0))
    return found


def read_openings(run: Path) -> list[str]:
    """Fingerprints of the sets of labels that the run's test split has been opened for, in any run.

    Raises:
        RunError: when the catalogue or the list cannot be read.
    """
    path, opened = run / OPENINGS, []
    if path.is_file():
        try:
            opened = [str(key) for key in json.loads(path.read_text())]
        except (ValueError, TypeError):
            raise RunError(f"{path} is torn; delete it, and openings by imports are forgotten.") from None
    if (run / "catalogue.db").is_file():
        with closing(CatalogueStore(run / "catalogue.db", read_only=True)) as store:
            opened = [*json.loads(store.meta("test_openings") or "[]"), *opened]
    return list(dict.fromkeys(opened))


def _next(found: dict[str, Any], failed: int) -> str:
    if found["with_verdict"] < found["units"] or found["report"] != "done":
        return _GO_ON
    if failed:
        return f"the same labeler run command asks again for the {failed} failed unit(s)"
    return "nothing: every unit has a verdict"


def _unreadable(run: Path) -> list[str]:
    """Paths of the probe's images that could not be decoded; none before the pass is done."""
    for manifest in (run / "stages").glob(f"activations-????????????/{MANIFEST}"):
        try:
            paths = json.loads((manifest.parent / "images.json").read_text())
            not_ok = json.loads((manifest.parent / "activations.json").read_text())["not_ok"]
            return [paths[int(number)] for number in not_ok]
        except (OSError, ValueError, LookupError):
            raise RunError(f"{manifest.parent} is broken; delete it and run again.") from None
    return []
