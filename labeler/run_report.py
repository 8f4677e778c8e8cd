"""The report of a run: what is said about the run itself, and its units as the site reads them.

Nothing heavy is loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labeler.catalogue.paging import CataloguePages
from labeler.config import TargetConfig
from labeler.errors import RunError
from labeler.records import UnitId, UnitRecord
from labeler.report import RunInfo, build_report, is_report
from labeler.run_directory import read_run
from labeler.write_failures import writing

DECOYS = 500
"""Units whose decoys' scores are drawn."""
_MANY = 2000  # units from which on building pages in several processes is worth their start


def write_report(run: Path, out: Path) -> Path:
    """Build the static site of a run below `out`; the path of its first page.

    Raises:
        RunError: when `run` is not a run directory or has no catalogue, or `out` holds something else.
    """
    data = read_run(run)
    if out.resolve() != (run / "report").resolve():
        _check_free(out)
    pages = CataloguePages(run / "catalogue.db")
    try:
        info = run_info(data, pages)
        layers = ordered_layers(data, pages.layers())
        units = sum(pages.layers().values())
    finally:
        pages.close()
    processes = (os.cpu_count() or 1) if units >= _MANY else 1
    source = _CatalogueSource(run / "catalogue.db", layers)
    with writing(out):
        return build_report(source, info, run / "images", out, processes=processes)


def run_info(data: Mapping[str, Any], pages: CataloguePages) -> RunInfo:
    """What the report says about a run, as far as it is: `data` is its ``run.json``."""
    control = json.loads(pages.note("gate") or "{}")
    return RunInfo(
        title=f"Labels of {_short(data['target']['name'])}",
        facts=_facts(data),
        warnings=tuple(data["warnings"]) + tuple(control.get("warnings", ())),
        gate=tuple((name, str(value)) for name, value in control.get("lines", ())),
        cut=control.get("threshold"),
        decoy_scores=pages.decoy_scores(DECOYS),
        provenance=_provenance(data),
        config=yaml.safe_dump(_shown_config(data["config"]), sort_keys=False, allow_unicode=True),
        run=data["fingerprint"][:12],
    )


def ordered_layers(data: Mapping[str, Any], found: Mapping[str, int]) -> list[str]:
    """The layers that have units, in the order of the config, which is mostly the network's."""
    config = TargetConfig.model_validate(data["config"]["target"])
    named = list(dict.fromkeys(layer.removesuffix("-") for layer in config.every_layer))
    place = {layer: number for number, layer in enumerate(named)}
    return sorted(found, key=lambda layer: (place.get(layer, len(place)), layer))


@dataclass(frozen=True)
class _CatalogueSource:
    """A catalogue as the site reads it. Every answer opens the file anew: a connection outlives no fork."""

    path: Path
    ordered: Sequence[str]

    def layers(self) -> Sequence[str]:
        """Layers in the order of the config."""
        return self.ordered

    def units(self, layer: str) -> Sequence[UnitId]:
        """The units of a layer by index."""
        pages = CataloguePages(self.path)
        try:
            return pages.units(layer)
        finally:
            pages.close()

    def records(self, layer: str, first: UnitId, count: int) -> Iterator[UnitRecord]:
        """`count` records of a layer, from the unit `first` on."""
        pages = CataloguePages(self.path)
        try:
            yield from pages.records(layer, first, count)
        finally:
            pages.close()


def _check_free(out: Path) -> None:
    """Pages of an earlier report are deleted, so `out` must be empty or such a report, nothing else."""
    if out.exists() and not is_report(out) and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} holds something that is not a report; give another --out.")


def _short(target: str) -> str:
    """A target from a file without the folders that it lies in on this machine."""
    return Path(target).name if target.startswith("file:") else target


def _shown_config(config: Mapping[str, Any]) -> Any:
    """What the catalogue depends on: how many workers made it does not show."""
    return _without_folders({name: part for name, part in config.items() if name != "executor"})


def _without_folders(value: Any) -> Any:
    """A config without the folders of this machine: of an absolute path, the name remains."""
    if isinstance(value, dict):
        return {key: _without_folders(found) for key, found in value.items()}
    if isinstance(value, list):
        return [_without_folders(found) for found in value]
    if not isinstance(value, str) or "://" in value:
        return value
    head, colon, path = value.rpartition(":")
    return f"{head}{colon}{Path(path).name}" if path.startswith("/") else value


def _proposer(kind: str, settings: dict[str, Any]) -> str:
    return f"{settings['model']} at {settings['base_url']}" if kind == "vlm" else kind


def _facts(data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    config = _without_folders(data["config"])
    return (
        ("target", f"{_short(data['target']['name'])}, weights: {config['target']['weights'] or 'its own'}"),
        ("layers", ", ".join(TargetConfig.model_validate(config["target"]).every_layer)),
        ("probe", f"{data['probe']['name']}, {data['probe']['images']} images"),
        ("proposer", ", ".join(_proposer(kind, config["propose"]) for kind in config["propose"]["kind"])),
        ("encoder", config["encoder"]["model"]),
        ("judges", ", ".join(config["encoder"]["judge"])),
        ("requested precision", str(config["gate"]["precision"])),
        ("seed", str(config["seed"])),
    )


def _provenance(data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    encoders = tuple((name, found) for name, found in data.get("encoders", {}).items())
    return (
        ("run", data["fingerprint"]),
        ("target", data["target"]["fingerprint"]),
        ("probe", data["probe"]["fingerprint"]),
        *encoders,
        *(data["versions"].items()),
    )
