"""A synthetic run of any number of units: records of the size that a real run writes, without a network.

It has a catalogue, embeddings of its labels and an encoder as a finished run has, so that the reading
commands, the report and the server find what they look for. Only the evidence repeats itself.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from labeler.activations import Activations
from labeler.catalogue import CatalogueStore
from labeler.config import Config
from labeler.exemplars.images import ImageStore
from labeler.records import (
    KINDS,
    ActivationSummary,
    CheckResult,
    DissectedConcept,
    Exemplar,
    Facet,
    Label,
    Null,
    RoundRecord,
    SpecificityNull,
    Trust,
    UnitId,
    UnitRecord,
    Visualisation,
)
from labeler.report.words import MEANING
from labeler.storage import fingerprint, stage_directory

VERDICTS = ("accepted", "rejected", "rejected", "uninterpretable", "accepted", "polysemantic", "abstained")
TRUSTS = ("supports", "partial", "partial", "contradicts", "not_applicable", "suspect")
WORDS = (
    "striped", "dotted", "scaly", "dog", "wheel", "sky", "purple", "grid", "bubbly", "star", "fur", "face",
)  # fmt: skip
ENCODER, DIM = "builtin:scenes-clip", 128
_DIFFERENT = 30 * len(VERDICTS)
_EDGES = tuple(float(edge) for edge in range(41))
_TOGETHER = 500  # records in one transaction


def some_tiles(images: Path, count: int = 24) -> list[str]:
    """Names of `count` pictures that are stored in `images`."""
    store, draw = ImageStore(images), random.Random(0)
    colours = [tuple(draw.randrange(256) for _ in range(3)) for _ in range(count)]
    return [store.put(Image.new("RGB", (48, 48), colour)) for colour in colours]


def checks(draw: random.Random) -> dict[str, CheckResult]:
    """Every check there is, with numbers; one does not apply."""
    found = {}
    for name in MEANING:
        value = draw.uniform(-0.2, 0.6)
        found[name] = CheckResult(
            status="ok", value=value, low=value - 0.1, n=612, judge="annotations",
            significance=Null(z=draw.gauss(3, 3), p=draw.random() / 10),
            specificity=SpecificityNull(z=draw.gauss(2, 2), p=None, units=110),
        )  # fmt: skip
    found["synthetic"] = CheckResult.not_applicable(
        "the judge does not read synthetic pictures better than chance"
    )
    return found


def unit(layer: str, index: int, tiles: Sequence[str], **more: Any) -> UnitRecord:
    """One record as large as a real one; `more` replaces fields. The same arguments give the same record."""
    draw = random.Random(f"{layer}:{index}")
    verdict = VERDICTS[index % len(VERDICTS)]

    def exemplar(band: str, shown: bool = True) -> Exemplar:
        return Exemplar(
            image=draw.randrange(10**6), path=f"photographs/n0144/{draw.randrange(10**6):06}.jpg", band=band,
            activation=draw.uniform(1, 40), split="propose", region=(0.1, 0.2, 0.6, 0.7),
            tile=draw.choice(tiles) if shown else None,
        )  # fmt: skip

    def label(split: str, number: int) -> Label:
        text = f"{draw.choice(WORDS)} {draw.choice(WORDS)}"
        return Label(
            text=text, kind="texture", score=draw.random() ** 4, split=split, round=number, match=text,
            checks=checks(draw),
        )  # fmt: skip

    accepted = {"accepted": 1, "polysemantic": 2}.get(verdict, 0)
    finals = sorted((label("test", 1) for _ in range(3)), key=lambda found: -(found.score or 0))
    base = {
        "unit": f"{layer}:{index}", "layer": layer, "index": index, "verdict": verdict,
        "reason": "prediction 0.26 (at least 0.19) on 624 images, 3.9 deviations above 111 other units.",
        "labels": finals[:accepted], "candidates": finals[accepted:],
        "trust": Trust(verdict=TRUSTS[index % len(TRUSTS)], reason="The picture agrees only in part."),
        "coverage": 0.25, "facets": (Facet(index=0, size=24, clarity=0.5),),
        "exemplars": [exemplar("top", number < 9) for number in range(24)],
        "near_misses": [exemplar("low") for _ in range(4)],
        "bands": [exemplar(band) for band in ("high", "mid", "low", "silent") for _ in range(2)],
        "visualisations": [
            Visualisation(seed=seed, activation=draw.uniform(20, 60), tile=draw.choice(tiles))
            for seed in (0, 1)
        ],
        "rounds": [
            RoundRecord(
                round=number, labels=[label("feedback", number) for _ in range(4)],
                misses=[exemplar("top") for _ in range(3)], outcome="Went on: another may be better.",
            )
            for number in (1, 2)
        ],
        "activation": ActivationSummary(
            threshold=20.0, minimum=0.0, maximum=40.0, quantiles={"p50": 12.0, "p90": 25.0, "p99": 35.0},
            histogram=[draw.randrange(100) for _ in range(40)], histogram_edges=_EDGES,
        ),
        "dissection": [DissectedConcept(category="colour", concept="red", iou=0.07, images=41)] * 5,
    }  # fmt: skip
    return UnitRecord.model_validate({**base, **more})


def units(layer: str, count: int, tiles: Sequence[str], texts: Sequence[str] = ()) -> Iterator[UnitRecord]:
    """The first `count` units of a layer. From `_DIFFERENT` on their evidence is that of an earlier one.

    Where there are `texts`, accepted labels are taken from them in turn, with all kinds and probabilities.
    """
    different = [unit(layer, index, tiles) for index in range(min(count, _DIFFERENT))]
    draw = random.Random(layer)
    for index in range(count):
        made = different[index % _DIFFERENT]
        own = made.labels if not texts else tuple(_worded(label, draw, texts) for label in made.labels)
        yield made.model_copy(update={"unit": f"{layer}:{index}", "index": index, "labels": own})


def _worded(label: Label, draw: random.Random, texts: Sequence[str]) -> Label:
    more = {"text": draw.choice(texts), "kind": draw.choice(KINDS), "probability": draw.random()}
    return label.model_copy(update=more)


def write_run(run: Path, records: Iterable[UnitRecord], expected: int, texts: Sequence[str] = ()) -> Path:
    """A run directory with these records, as the reading commands and the server find it.

    Where there are `texts`, it also has their embeddings, and a finished pass over one image.
    """
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text(json.dumps(_described(expected)))
    store = CatalogueStore(run / "catalogue.db")
    part: list[UnitRecord] = []
    for record in records:
        part.append(record)
        if len(part) == _TOGETHER:
            store.put_decision(part, {}, gate_note())
            part = []
    decoys = {
        UnitId("layer.1", index): [Label(text="dog", score=0.01)] * 8 for index in range(min(expected, 600))
    }
    store.put_decision(part, decoys, gate_note())
    if texts:
        draw = np.random.default_rng(0)
        vectors_td = draw.normal(size=(len(texts), DIM)).astype(np.float32)
        store.put_label_embeddings(texts, vectors_td / np.linalg.norm(vectors_td, axis=1, keepdims=True))
        stage_directory(run, "activations", fingerprint("synthetic"), _write_pass)
    store.close()
    return run


def gate_note() -> str:
    """What a run notes about its gate."""
    return json.dumps({"threshold": 0.03, "lines": [["cut", "score 0.030"]], "warnings": []})


def _described(expected: int) -> dict[str, Any]:
    """What run.json says."""
    config = Config.model_validate(
        {
            "target": {"model": "builtin:planted-1", "layers": ["layer.1"]},
            "probe": {"source": "builtin:scenes"},
            "encoder": {"model": ENCODER},
        }
    )
    return {
        "fingerprint": "f" * 64, "config": config.model_dump(mode="json"), "units": expected, "warnings": [],
        "target": {"name": "builtin:planted-1", "fingerprint": "a" * 64},
        "probe": {"name": "scenes", "fingerprint": "b" * 64, "images": 1200},
        "versions": {"labeler": "0.1.0"},
    }  # fmt: skip


def _write_pass(stage: Path) -> None:
    one = Activations(
        layers={}, indexed_ids=np.zeros(1, np.int64), status=("ok",), nonfinite=(),
        embeddings={ENCODER: np.zeros((1, DIM), np.float32)}, areas=np.zeros((1, 1), np.float32),
    )  # fmt: skip
    one.save(stage)
    (stage / "images.json").write_text('["scene-000000"]')
