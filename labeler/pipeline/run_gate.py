"""RUN/gate.json: the calibration that a person's answers gave one run."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from labeler.checks import Calibration
from labeler.errors import RunError
from labeler.run_directory import read_run
from labeler.storage import write_atomic

GATE = "gate.json"


def read_run_gate(run: Path) -> Calibration | None:
    """The calibration of `run`, which holds for it alone; None where nobody has judged it.

    Raises:
        RunError: when the file is broken or was fitted for another run.
    """
    path = run / GATE
    if not path.is_file():
        return None
    advice = f"delete it, and judge this run with: labeler judge {run}"
    try:
        found = Calibration.model_validate_json(path.read_bytes())
    except ValidationError:
        raise RunError(f"{path} is not a calibration; {advice}.") from None
    if found.domain.run != read_run(run)["fingerprint"]:
        raise RunError(f"{path} was fitted for another run; {advice}.")
    return found


def write_run_gate(run: Path, calibration: Calibration) -> Path:
    """Store the calibration of `run`; the path of the file."""
    path = run / GATE
    write_atomic(path, (calibration.model_dump_json(indent=1) + "\n").encode())
    return path
