"""The whole way on one screen. Nothing flows back but a round's failing images.

probe → activations → exemplars → visualisations → (proposals ⇄ checks) × rounds → catalogue → report
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from labeler.allocator import keep_freed_memory
from labeler.catalogue import PRICES, CatalogueStore, Ledger
from labeler.config import Config
from labeler.executors import open_executor
from labeler.pipeline.bench import Bench
from labeler.pipeline.evidence import evidence_stage
from labeler.pipeline.inputs import Inputs, check_apart, claim_run, load_inputs, restrict_units
from labeler.pipeline.pass_stage import activations_stage, index_stage
from labeler.pipeline.paths import paths_stage
from labeler.pipeline.pictures import Pictures, pictures_stage
from labeler.pipeline.plan import plan
from labeler.pipeline.progress import Reporter, SilentReporter
from labeler.pipeline.proposers import checked_endpoint, make_proposers
from labeler.pipeline.rounds import Rounds
from labeler.pipeline.run_gate import read_run_gate
from labeler.pipeline.unit_vectors import unit_vectors_stage
from labeler.pipeline.verdicts import put_verdicts
from labeler.propose.endpoint import Limit, parse_limit
from labeler.records import RoundRecord, UnitId
from labeler.run_report import write_report
from labeler.storage import run_lock, sweep
from labeler.verification import blaming_damage

__all__ = ["complete_run", "plan", "run_pipeline"]


def run_pipeline(
    config: Config,
    out: Path,
    *,
    units: tuple[str, ...] = (),
    trust_code: Path | None = None,
    reporter: Reporter | None = None,
    budget: str | None = None,
) -> None:
    """Label the units of `config` into the run directory `out`, or go on with a run that stopped.

    Args:
        config: what to do.
        out: the run directory.
        units: restrict to these.
        trust_code: the Python file that a ``file:`` target may execute.
        reporter: where progress is shown.
        budget: what all model calls of this run directory together may take: tokens or money, as
            ``200000`` or ``2.50USD``.

    Raises:
        LabelerError: one sentence that says what to do. What was finished stays.
    """
    config = checked_endpoint(config)
    limit = None if budget is None else parse_limit(budget, config.propose.prices)
    keep_freed_memory()
    check_apart(out, config)
    with run_lock(out):
        inputs = load_inputs(restrict_units(config, units), trust_code=trust_code)
        claim_run(out, inputs)
        with blaming_damage(out):
            complete_run(out, inputs, reporter or SilentReporter(), limit)


def complete_run(out: Path, inputs: Inputs, reporter: Reporter, limit: Limit | None = None) -> None:
    """All stages of a run whose directory `out` is locked and claimed for `inputs`; see `run_pipeline`.

    Raises:
        LabelerError: one sentence that says what to do. What was finished stays.
    """
    sweep(out)
    for warning in inputs.warnings:
        reporter.note(f"Warning: {warning}")
    with open_executor(inputs.config, reporter.note) as executor:
        activations, key = activations_stage(out, inputs, reporter.stage("activations"), executor=executor)
        index_stage(out, activations, key, inputs.config.activations.memory_gb)
        evidence = evidence_stage(
            out, inputs, activations, key, reporter.stage("exemplars"), executor=executor
        )
        unit_vectors_stage(out, evidence)
        bench = Bench(inputs, activations, evidence, read_run_gate(out))
        live = [unit for unit in inputs.units if bench.alive(unit)]
        pictures = pictures_stage(
            out, inputs, evidence, live, key, reporter.stage("visualisations"), executor=executor
        )
        paths = paths_stage(out, bench, pictures, reporter.stage("paths"), executor=executor)
        with closing(CatalogueStore(out / "catalogue.db")) as store:
            if not _settled(store):
                records = _rounds(out, bench, pictures, store, limit, live, reporter)
                put_verdicts(
                    bench, pictures, paths, records, store, reporter.stage("checks"), executor=executor
                )
    write_report(out, out / "report")


def _rounds(
    out: Path,
    bench: Bench,
    pictures: Pictures,
    store: CatalogueStore,
    limit: Limit | None,
    live: Sequence[UnitId],
    reporter: Reporter,
) -> dict[UnitId, list[RoundRecord]]:
    """All rounds, with the ledger of their model calls beside the catalogue's own tables."""
    with closing(Ledger(store.path)) as ledger:
        ledger.put_note(PRICES, _prices(bench.inputs.config))
        rounds = Rounds(out, bench, pictures, store, make_proposers(bench, ledger, limit))
        return rounds.complete(live, reporter.stage("rounds"))


def _prices(config: Config) -> str | None:
    """Noted, so that `labeler cost` knows the prices of the config that ran last."""
    prices = config.propose.prices
    return None if prices is None else prices.model_dump_json()


def _settled(store: CatalogueStore) -> bool:
    """Whether every unit has its verdict (the gate is written last) and none is to be asked for again."""
    failed = any(verdict == "failed" for _, verdict in store.counts())
    return store.meta("gate") is not None and not failed
