"""The whole way on one screen. Nothing flows back but a round's failing images.

probe → activations → exemplars → visualisations → (proposals ⇄ checks) × rounds → catalogue → report
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labeler.allocator import keep_freed_memory
from labeler.catalogue import CatalogueStore
from labeler.config import Config
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.evidence import evidence_stage
from labeler.pipeline.inputs import claim_run, load_inputs, restrict_units
from labeler.pipeline.pass_stage import activations_stage, index_stage
from labeler.pipeline.pictures import pictures_stage
from labeler.pipeline.progress import Reporter, SilentReporter
from labeler.pipeline.proposers import checked_endpoint, make_proposers
from labeler.pipeline.reporting import write_report
from labeler.pipeline.rounds import Rounds
from labeler.pipeline.run_gate import read_run_gate
from labeler.pipeline.verdicts import put_verdicts
from labeler.storage import run_lock

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
    config = checked_endpoint(config)
    reporter = reporter or SilentReporter()
    keep_freed_memory()
    with run_lock(out):
        inputs = load_inputs(restrict_units(config, units), trust_code=trust_code)
        claim_run(out, inputs)
        for warning in inputs.warnings:
            reporter.note(f"Warning: {warning}")
        activations, key = activations_stage(out, inputs, reporter.stage("activations"))
        index_stage(out, activations, key, config.activations.memory_gb)
        evidence = evidence_stage(out, inputs, activations, key, reporter.stage("exemplars"))
        bench = Bench(inputs, activations, evidence, read_run_gate(out))
        live = [unit for unit in inputs.units if bench.alive(unit)]
        pictures = pictures_stage(out, inputs, live, key, reporter.stage("visualisations"))
        store = CatalogueStore(out / "catalogue.db")
        try:
            if not _settled(store):
                rounds = Rounds(out, bench, pictures, store, make_proposers(bench, store))
                records = rounds.complete(live, reporter.stage("rounds"))
                put_verdicts(bench, pictures, records, store, reporter.stage("checks"))
        finally:
            store.close()
        write_report(out, out / "report")


def _settled(store: CatalogueStore) -> bool:
    """Whether every unit has its verdict (the gate is written last) and none is to be asked for again."""
    failed = any(verdict == "failed" for _, verdict in store.counts())
    return store.meta("gate") is not None and not failed


def plan(config: Config, *, units: tuple[str, ...] = (), trust_code: Path | None = None) -> dict[str, Any]:
    """What a run would do, without doing it: units, images, pictures, and calls of a model endpoint."""
    inputs = load_inputs(restrict_units(config, units), trust_code=trust_code)
    asked = len(inputs.units)
    pictures = config.visualise.images * asked if config.visualise.enabled else 0
    calls = asked * config.refine.rounds if "vlm" in config.propose.kind else 0
    return {
        "target": inputs.target.name,
        "units": asked,
        "units_by_layer": {layer: len(units) for layer, units in by_layer(inputs.units).items()},
        "images": len(inputs.probe.images),
        "annotated_concepts": len(inputs.probe.concepts),
        "synthetic_pictures": pictures,
        "endpoint_calls_at_most": calls * 3,  # one answer, one re-ask, one with more tokens
        "endpoint_calls_expected": calls,
        "warnings": list(inputs.warnings),
    }
