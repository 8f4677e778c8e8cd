"""The report of a run: what is said about the run itself, then the site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labeler.api import Catalogue
from labeler.config import TargetConfig
from labeler.errors import RunError
from labeler.report import RunInfo, build_report
from labeler.run_directory import read_run


def write_report(run: Path, out: Path) -> Path:
    """Build the static site of a run below `out`; the path of its first page.

    Raises:
        RunError: when `run` is not a run directory or has no catalogue, or `out` holds something else.
    """
    data = read_run(run)
    _check_free(run, out)
    with Catalogue.open(run) as catalogue:
        control = json.loads(catalogue.note("gate") or "{}")
        info = RunInfo(
            title=f"Labels of {_short(data['target']['name'])}",
            facts=_facts(data),
            warnings=tuple(data["warnings"]) + tuple(control.get("warnings", ())),
            gate=tuple((name, str(value)) for name, value in control.get("lines", ())),
        )
        return build_report(catalogue, info, run / "images", out)


def _check_free(run: Path, out: Path) -> None:
    """Pages of an earlier report are deleted, so `out` must be empty or such a report, nothing else."""
    if out.resolve() == (run / "report").resolve() or not out.exists():
        return
    report = out.is_dir() and (out / "style.css").is_file() and (out / "index.html").is_file()
    if not report and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} holds something that is not a report; give another --out.")


def _short(target: str) -> str:
    """A target from a file without the folders that it lies in on this machine."""
    return Path(target).name if target.startswith("file:") else target


def _proposer(kind: str, settings: dict[str, Any]) -> str:
    return f"{settings['model']} at {settings['base_url']}" if kind == "vlm" else kind


def _facts(data: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    config = data["config"]
    return (
        ("target", f"{data['target']['name']}, weights: {config['target']['weights'] or 'its own'}"),
        ("layers", ", ".join(TargetConfig.model_validate(config["target"]).every_layer)),
        ("probe", f"{data['probe']['name']}, {data['probe']['images']} images"),
        ("proposer", ", ".join(_proposer(kind, config["propose"]) for kind in config["propose"]["kind"])),
        ("encoder", config["encoder"]["model"]),
        ("judges", ", ".join(config["encoder"]["judge"])),
        ("requested precision", str(config["gate"]["precision"])),
        ("seed", str(config["seed"])),
        ("run", data["fingerprint"][:12]),
        ("versions", ", ".join(f"{name} {number}" for name, number in data["versions"].items())),
    )
