"""How far a run is, read from its directory without loading anything heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labeler.catalogue import CatalogueStore
from labeler.pipeline.inputs import read_run
from labeler.storage import MANIFEST

STAGES = ("activations", "exemplars", "visualisations")


def run_status(run: Path) -> dict[str, Any]:
    """Stages, units with a verdict, verdicts and model calls of a run directory.

    Raises:
        RunError: when it is not a run directory, or its catalogue cannot be read.
    """
    data = read_run(run)
    found: dict[str, Any] = {"run": str(run), "units": data["units"]}
    for name in STAGES:
        finished = any((run / "stages").glob(f"{name}-????????????/{MANIFEST}"))
        begun = any((run / "stages").glob(f"{name}-*.incomplete"))
        found[name] = "done" if finished else "interrupted" if begun else "not begun"
    path = run / "catalogue.db"
    if not path.exists():
        return {**found, "with_verdict": 0}
    store = CatalogueStore(path, read_only=True)
    verdicts: dict[str, int] = {}
    for (_, verdict), count in store.counts().items():
        verdicts[verdict] = verdicts.get(verdict, 0) + count
    found |= {"with_verdict": sum(verdicts.values()), "verdicts": verdicts, **store.call_totals()}
    store.close()
    done = found["with_verdict"] == data["units"]
    found["next"] = "nothing: every unit has a verdict" if done else "the same labeler run command goes on"
    return found
