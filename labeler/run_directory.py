"""A run directory as it lies on disk: run.json, how far the run is, and what is broken at a glance.

Nothing heavy is loaded.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any, TypeGuard

from labeler.catalogue import CatalogueStore, call_totals
from labeler.catalogue.files import is_begun
from labeler.errors import RunError
from labeler.storage import MANIFEST, is_held, stage_problem

_KEYS: dict[str, type] = {
    "fingerprint": str, "config": dict, "target": dict, "probe": dict, "units": int, "warnings": list,
    "versions": dict,
}  # fmt: skip

OPENINGS = "openings.json"
"""Which sets of labels the test split has been opened for by imports into other runs (fingerprints)."""
STAGES = ("activations", "exemplars", "visualisations")
_NAMED = 20  # unreadable images that are named
_PUT_BACK = "put a copy in its place; the same labeler run command with another --out writes one at once"
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
    except (ValueError, RecursionError):
        raise RunError(f"{path} is torn: {_PUT_BACK}.") from None
    if not _describes_run(data):
        raise RunError(f"{path} is not a run description: {_PUT_BACK}.")
    return data


def _describes_run(data: Any) -> TypeGuard[dict[str, Any]]:
    if not isinstance(data, dict) or not all(isinstance(data.get(key), kind) for key, kind in _KEYS.items()):
        return False
    return isinstance(data["probe"].get("images"), int)


def run_status(run: Path) -> dict[str, Any]:
    """Stages, images, units with a verdict, verdicts and model calls of a run directory.

    `problems` are sentences about stages that are broken at a glance (`labeler.verification` reads
    everything); `running` tells whether a process is working on it now; `next` says what to do.

    Raises:
        RunError: when it is not a run directory, or its catalogue cannot be read.
    """
    data = read_run(run)
    found: dict[str, Any] = {"run": str(run), "units": data["units"], "images": data["probe"]["images"]}
    found["running"] = is_held(run)
    problems = {path.name: stage_problem(path) for path in sorted((run / "stages").glob("*-????????????"))}
    for name in STAGES:
        found[name] = _stage(run, name, problems, found["running"])
    unreadable = [] if found[STAGES[0]] == "broken" else _unreadable(run)
    found |= {"unreadable": len(unreadable), "unreadable_images": unreadable[:_NAMED]}
    found["report"] = _report(run, found["running"])
    path, verdicts, decided = run / "catalogue.db", dict[str, int](), False
    if is_begun(path):
        with closing(CatalogueStore(path, read_only=True)) as store:
            for (_, verdict), count in store.counts().items():
                verdicts[verdict] = verdicts.get(verdict, 0) + count
            decided = store.meta("gate") is not None
        found |= {"verdicts": verdicts, **call_totals(path), "test_openings": len(read_openings(run))}
    found["with_verdict"] = sum(verdicts.values())
    found["problems"] = [problem for problem in problems.values() if problem is not None]
    found["next"] = _next(found, verdicts.get("failed", 0), decided)
    return found


def _stage(run: Path, name: str, problems: dict[str, str | None], running: bool) -> str:
    own = [problem for stage, problem in problems.items() if stage[:-13] == name]
    if own:
        return "done" if None in own else "broken"
    if any((run / "stages").glob(f"{name}-*.incomplete")):
        return "running" if running else "interrupted"
    return "not begun"


def _report(run: Path, running: bool) -> str:
    """Its first page is written last."""
    if (run / "report" / "index.html").is_file():
        return "done"
    return "not begun" if not (run / "report").exists() else "running" if running else "interrupted"


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
    if is_begun(run / "catalogue.db"):
        with closing(CatalogueStore(run / "catalogue.db", read_only=True)) as store:
            opened = [*json.loads(store.meta("test_openings") or "[]"), *opened]
    return list(dict.fromkeys(opened))


def _next(found: dict[str, Any], failed: int, decided: bool) -> str:
    if found["running"]:
        return "wait: a process is working on it"
    if found["problems"]:
        return f"mend the {len(found['problems'])} problem(s); then {_GO_ON}"
    if found["with_verdict"] < found["units"] or found["report"] != "done" or not decided:
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
