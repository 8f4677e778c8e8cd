"""Neuronpedia's bulk layout: gzipped JSONL batches of features and explanations, a source for each layer.

Followed from Neuronpedia's own exporter and importer (github.com/hijohnnylin/neuronpedia, 2026:
``utils/neuronpedia-utils/neuronpedia_utils/export-data.py``, ``apps/webapp/app/api/admin/import/route.ts``,
``apps/webapp/lib/db/import.ts``, ``apps/webapp/prisma/schema.prisma``)::

    config/explanation_type.jsonl, config/explanation_model_type.jsonl
    MODEL/SOURCE/release.jsonl, model.jsonl, sourceset.jsonl, source.jsonl      one line each
    MODEL/SOURCE/features/batch-0.jsonl.gz, batch-1.jsonl.gz, ...               1,024 rows each
    MODEL/SOURCE/explanations/batch-0.jsonl.gz, ...                             accepted labels only

SOURCE is ``NUMBER-SET``: the layer's number in the run, and a set named after the run; the layer's module
path is each feature's ``hookName``. A layer's negative side is ``NUMBER-SET__negative``, as SAEDashboard
marks variants of a source. The importer takes the columns that the first line of a file names and leaves all
others at their defaults, so only what is known is written. Its activations are tokens of a text, which images
have none of, so there is no ``activations/``.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from labeler.catalogue.card import short_name
from labeler.catalogue.query import Selection
from labeler.catalogue.store import CatalogueStore
from labeler.catalogue.tables import parts
from labeler.errors import RunError
from labeler.records import Label, UnitRecord
from labeler.storage import canonical

BATCH = 1024
"""Rows of a file (``FEATURES_EXPLANATIONS_BATCH_SIZE``)."""
CREATOR = "clkht01d40000jv08hvalcvly"
"""The user whom a fresh installation of Neuronpedia has (``DEFAULT_CREATOR_USER_ID``)."""
TYPE = "labeler"
"""The name of the method among Neuronpedia's explanation types."""
_LEVEL = 5  # of gzip, as the exporter
_CONFIG = "config"


def export_neuronpedia(store: CatalogueStore, run: Mapping[str, Any], out: Path) -> list[Path]:
    """Write the layout into the directory `out`, whose contents a bucket's ``v1/`` would have.

    Raises:
        RunError: when `out` holds something else than an earlier export.
    """
    ours = (out / _CONFIG / "explanation_type.jsonl").is_file()
    if out.exists() and not ours and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} holds something that is not a Neuronpedia export; give another --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}.incomplete")
    try:
        _Layout(store, run, draft).write()
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return [out]


class _Layout:
    """One run laid out below `root`."""

    def __init__(self, store: CatalogueStore, run: Mapping[str, Any], root: Path) -> None:
        self.store = store
        self.run = run
        self.root = root
        self.model = _name(run["target"]["name"])
        self.set = f"labeler-{run['fingerprint'][:8]}"
        propose = run["config"]["propose"]
        self.explainer: str | None = propose["model"] if "vlm" in propose["kind"] else None

    def write(self) -> None:
        """All files of the run."""
        self._config()
        layers = self.store.layers()
        for number, layer in enumerate(layers):
            sides: dict[bool, list[str]] = {False: [], True: []}
            for unit in self.store.listed(Selection(layer=layer)):
                sides[unit.unit.endswith("-")].append(unit.unit)
            for negative, units in sides.items():
                if units:
                    self._source(number, layer, negative, len(units), len(layers))

    def _source(self, number: int, layer: str, negative: bool, units: int, layers: int) -> None:
        source = f"{number}-{self.set}{'__negative' if negative else ''}"
        place = self.root / self.model / source
        run, probe = self.run, self.run["probe"]["name"]
        about = f"{layer}{', negative side' if negative else ''}; probe {probe}; run {run['fingerprint']}"
        mine = {"creatorId": CREATOR, "creatorName": "labeler", "urls": [], "visibility": "PUBLIC"}
        _jsonl(place / "release.jsonl", {"name": self.set, "description": f"Labels of {self.model}", **mine})
        _jsonl(
            place / "model.jsonl",
            {"id": self.model, "displayName": short_name(run["target"]["name"]), "creatorId": CREATOR,
             "displayNameShort": self.model, "owner": "", "layers": layers, "neuronsPerLayer": units,
             "visibility": "PUBLIC"},
        )  # fmt: skip
        _jsonl(
            place / "sourceset.jsonl",
            {"modelId": self.model, "name": self.set, "releaseName": self.set, **mine,
             "description": f"Units of {self.model}, labelled by labeler", "allowInferenceSearch": False},
        )  # fmt: skip
        _jsonl(
            place / "source.jsonl",
            {"id": source, "modelId": self.model, "setName": self.set, "creatorId": CREATOR,
             "visibility": "PUBLIC", "dataset": probe, "notes": about, "inferenceEnabled": False},
        )  # fmt: skip
        _batches(
            place / "features", (self._feature(record, source) for record in self._records(layer, negative))
        )
        explained = (
            self._explanation(record, label, source)
            for record in self._records(layer, negative)
            for label in record.labels
        )
        _batches(place / "explanations", explained)

    def _records(self, layer: str, negative: bool) -> Iterator[UnitRecord]:
        return (r for r in self.store.units(Selection(layer=layer)) if r.id.negative == negative)

    def _feature(self, record: UnitRecord, source: str) -> dict[str, Any]:
        found = record.activation
        edges = () if found is None else found.histogram_edges
        return {
            "modelId": self.model, "layer": source, "index": str(record.index), "sourceSetName": self.set,
            "creatorId": CREATOR, "hookName": record.layer, "vectorLabel": record.name or None,
            "hasVector": False, "maxActApprox": None if found is None else found.maximum,
            "freq_hist_data_bar_heights": [] if found is None else list(found.histogram),
            "freq_hist_data_bar_values": [(a + b) / 2 for a, b in pairwise(edges)],
        }  # fmt: skip

    def _explanation(self, record: UnitRecord, label: Label, source: str) -> dict[str, Any]:
        said = {"unit": record.unit, "run": self.run["fingerprint"], "text": label.text, "facet": label.facet}
        number = int.from_bytes(hashlib.sha256(canonical(said)).digest())
        notes = {
            "verdict": record.verdict, "kind": label.kind, "facet": label.facet, "score": label.score,
            "probability": label.probability, "reason": record.reason, "picture": record.trust.verdict,
        }  # fmt: skip
        return {
            "id": _cuid(number), "modelId": self.model, "layer": source, "index": str(record.index),
            "authorId": CREATOR, "description": label.text, "typeName": TYPE,
            "explanationModelName": self.explainer, "notes": json.dumps(notes, ensure_ascii=False),
        }  # fmt: skip

    def _config(self) -> None:
        method = {
            "name": TYPE, "displayName": "labeler", "creatorName": "labeler", "creatorId": CREATOR,
            "description": "Labels of units of vision networks, accepted by checks on held-out images.",
        }  # fmt: skip
        _jsonl(self.root / _CONFIG / "explanation_type.jsonl", method)
        if self.explainer is not None:
            model = {
                "name": self.explainer,
                "displayName": self.explainer,
                "description": "",
                "creatorName": "",
            }
            _jsonl(self.root / _CONFIG / "explanation_model_type.jsonl", model)


def _name(target: str) -> str:
    """A target as an id: letters, digits, ``_`` and ``-`` (the importer's rule), lower case."""
    return re.sub(r"[^a-z0-9_]+", "-", short_name(target).lower()).strip("-") or "model"


def _cuid(number: int) -> str:
    """25 letters and digits that begin with c, as Neuronpedia's ids, from the lowest digits of `number`."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    return "c" + "".join(digits[number // 36**place % 36] for place in range(24))


def _jsonl(path: Path, row: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")


def _batches(place: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    place.mkdir(parents=True)
    for number, part in enumerate(parts(rows, BATCH)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        path = place / f"batch-{number}.jsonl.gz"
        path.write_bytes(gzip.compress(text.encode(), compresslevel=_LEVEL, mtime=0))
