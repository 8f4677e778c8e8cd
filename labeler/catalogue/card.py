"""The dataset card that goes with a Parquet export, in the form that the Hugging Face hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from labeler.catalogue.store import CatalogueStore
from labeler.printable import printable

MARK = "<!-- written by labeler export -->"
_SIZES = (("n<1K", 1_000), ("1K<n<10K", 10_000), ("10K<n<100K", 100_000), ("100K<n<1M", 1_000_000))

_COLUMNS = {
    "unit, layer, index, name": "the unit as `layer:index` (`3-` at the end is the negative side of unit 3),"
    " its layer, its channel, latent or direction, and the name of a named direction",
    "verdict, reason": "what was decided, and the sentence that explains it",
    "trust, trust_reason": "how far the unit's synthetic picture may be trusted",
    "coverage": "share of the unit's activation mass on held-out images where an accepted label is present;"
    " null where that is not known",
    "labels": "the accepted labels, best first: text, kind, formula (`op` joins `terms`; null for a simple"
    " label), facet, round, score, probability, match (the annotated concept it was judged as), checks",
    "candidates": "the labels that were opened on held-out images and refused, alike",
    "checks": "one for each check: status (`ok`, `not_applicable`, `failed`), why, judge, images, value, low"
    " (one-sided 95 % lower bound), significance_z and _p (images permuted), specificity_z, _p and _units"
    " (the same label on the layer's other units)",
    "exemplars": "the probe images that activate the unit most, strongest first, from the split that"
    " proposers were shown; paths are those of the machine of the run",
    "dissection": "the best annotated concept of each category by overlap (Network Dissection)",
    "threshold, minimum, maximum": "the dissection threshold, and the range of the unit's spatial maximum",
}


def card(run: Mapping[str, Any], store: CatalogueStore, file: str) -> str:
    """The card of a run's export `file`; `run` is what run.json says of it."""
    counts = store.counts()
    units = sum(counts.values())
    size = next((name for name, most in _SIZES if units < most), "n>1M")
    target = short_name(run["target"]["name"])
    lines = [
        "---",
        "license:  # yours to choose before you publish, e.g. cc-by-4.0",
        f"pretty_name: {_quoted(f'Labels of {target}')}",
        "tags: [interpretability, neurons, vision]",
        f"size_categories: [{size}]",
        f"configs: [{{config_name: default, data_files: {_quoted(file)}}}]",
        "---",
        MARK,
        "",
        f"# Labels of {_said(target)}",
        "",
        f"{units} units of a vision network, labelled by `labeler`: one row for each, in {_said(file)}.",
        "",
        *_made(run),
        "",
        "| layer | verdict | units |",
        "|---|---|---|",
        *(f"| {_said(layer)} | {verdict} | {count} |" for (layer, verdict), count in sorted(counts.items())),
        "",
        "## Columns",
        "",
        *(f"- `{names}`: {meaning}." for names, meaning in _COLUMNS.items()),
        "",
        *_meaning(json.loads(store.meta("gate") or "{}")),
        "",
        "## Licence",
        "",
        "To be chosen by whoever publishes this. The images of the probe are not in it; their paths are, and"
        " the words may come from a model with terms of its own.",
        "",
    ]
    return "\n".join(lines)


def short_name(target: str) -> str:
    """A target without the folders that it lies in on the machine of the run."""
    return target.rpartition("/")[2] if target.startswith("file:") else target


def _weights(weights: str | None) -> str:
    return "its own" if weights is None else weights.rpartition("/")[2]


def _made(run: Mapping[str, Any]) -> list[str]:
    config = run["config"]
    facts = {
        "target": f"{short_name(run['target']['name'])}, weights: {_weights(config['target']['weights'])}",
        "probe": f"{run['probe']['name']}, {run['probe']['images']} images",
        "proposers": ", ".join(config["propose"]["kind"]),
        "encoder": config["encoder"]["model"],
        "judges": ", ".join(config["encoder"]["judge"]),
        "requested precision": config["gate"]["precision"],
        "seed": config["seed"],
        "run": run["fingerprint"],
        "versions": ", ".join(f"{name} {found}" for name, found in run["versions"].items()),
    }
    return [
        *(f"- {name}: {_said(value)}" for name, value in facts.items()),
        *(f"- {_said(warning)}" for warning in run["warnings"]),
    ]


def _meaning(gate: Mapping[str, Any]) -> list[str]:
    return [
        "## What the numbers mean, and what they do not",
        "",
        "- Labels were proposed on some images and decided on others that no proposer saw, against two nulls:"
        " images permuted (significance), and the same label on the layer's other units (specificity).",
        "- `significant` does not mean right: half a layer may like dark images. `specific` is what says this"
        " unit.",
        "- `probability` is null outside the networks that it was calibrated on; then the run's own labels on"
        " wrong units (decoys) decided. Their share is a lower bound of the error: near misses escape it.",
        "- `score` is comparable within this run only. A check that did not apply has no value, never 0.",
        "- What holds on these images holds on these images.",
        *(f"- {_said(name)}: {_said(value)}" for name, value in gate.get("lines", ())),
        *(f"- {_said(warning)}" for warning in gate.get("warnings", ())),
    ]


def _said(value: object) -> str:
    """A value as Markdown: one line, with no markup of its own."""
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", printable(str(value)))


def _quoted(text: str) -> str:
    """A text in YAML: JSON without what YAML does not allow in a string."""
    return json.dumps(printable(text), ensure_ascii=False)
