"""The whole way on one screen. Nothing flows back but a round's failing images.

probe → activations → exemplars → visualisations → (proposals ⇄ checks) × rounds → catalogue → report
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from labeler.activations import Activations, run_pass
from labeler.allocator import keep_freed_memory
from labeler.catalogue import CatalogueStore
from labeler.config import Config
from labeler.pipeline.bench import Bench
from labeler.pipeline.evidence import evidence_stage
from labeler.pipeline.inputs import Inputs, claim_run, load_inputs, restrict_units
from labeler.pipeline.pictures import pictures_stage
from labeler.pipeline.progress import Reporter, SilentReporter
from labeler.pipeline.proposers import make_proposers
from labeler.pipeline.reporting import write_report
from labeler.pipeline.rounds import Rounds
from labeler.pipeline.verdicts import put_verdicts
from labeler.probes import concept_areas
from labeler.seams import Progress
from labeler.storage import fingerprint, run_lock, stage_directory

__all__ = ["plan", "run_pipeline"]


def run_pipeline(
    config: Config,
    out: Path,
    *,
    units: tuple[str, ...] = (),
    trust_code: Path | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Label the units of `config` into the run directory `out`, or go on with a run that stopped.

    Raises:
        LabelerError: one sentence that says what to do. What was finished stays.
    """
    reporter = reporter or SilentReporter()
    keep_freed_memory()
    with run_lock(out):
        inputs = load_inputs(restrict_units(config, units), trust_code=trust_code)
        claim_run(out, inputs)
        for warning in inputs.warnings:
            reporter.note(f"Warning: {warning}")
        activations, key = activations_stage(out, inputs, reporter.stage("activations"))
        evidence = evidence_stage(out, inputs, activations, key, reporter.stage("exemplars"))
        bench = Bench(inputs, activations, evidence)
        live = [unit for unit in inputs.units if bench.alive(unit)]
        pictures = pictures_stage(out, inputs, live, key, reporter.stage("visualisations"))
        store = CatalogueStore(out / "catalogue.db")
        try:
            rounds = Rounds(out, bench, pictures, store, make_proposers(bench, store))
            records = rounds.complete(live, reporter.stage("rounds"))
            put_verdicts(bench, pictures, records, store, reporter.stage("checks"))
        finally:
            store.close()
        write_report(out, out / "report")


def activations_stage(run: Path, inputs: Inputs, progress: Progress) -> tuple[Activations, str]:
    """The single pass over the probe, built or loaded, and its fingerprint."""
    config = inputs.config
    key = fingerprint(
        "activations", 1, inputs.key, config.activations.model_dump(), config.checks.iou_grid, config.seed
    )
    categories = [concept.category for concept in inputs.probe.concepts]

    def areas(image_id: int, image: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        annotation = inputs.probe.annotation(image_id, image)
        box = inputs.target.view_box(*image.size)
        return concept_areas(annotation, box, len(categories), categories, config.checks.iou_grid)

    def build(directory: Path) -> None:
        made = run_pass(
            inputs.target, inputs.probe, inputs.encoders, config.activations, measure=areas,
            workers=config.executor.workers, seed=config.seed, progress=progress,
        )  # fmt: skip
        made.save(directory)
        (directory / "images.json").write_text(json.dumps([image.path for image in inputs.probe.images]))

    return Activations.load(stage_directory(run, "activations", key, build)), key


def plan(config: Config, *, units: tuple[str, ...] = (), trust_code: Path | None = None) -> dict[str, Any]:
    """What a run would do, without doing it: units, images, pictures, and calls of a model endpoint."""
    inputs = load_inputs(restrict_units(config, units), trust_code=trust_code)
    asked = len(inputs.units)
    pictures = config.visualise.images * asked if config.visualise.enabled else 0
    calls = asked * config.refine.rounds if "vlm" in config.propose.kind else 0
    return {
        "target": inputs.target.name,
        "units": asked,
        "images": len(inputs.probe.images),
        "annotated_concepts": len(inputs.probe.concepts),
        "synthetic_pictures": pictures,
        "endpoint_calls_at_most": calls * 3,  # one answer, one re-ask, one with more tokens
        "endpoint_calls_expected": calls,
        "warnings": list(inputs.warnings),
    }
