"""A person judges a finished run: the sample, its sheets, the answers, and the gate that they give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeler.catalogue import CatalogueStore
from labeler.checks import Calibration, Gate, shipped
from labeler.checks.calibration import Domain
from labeler.checks.person import (
    Key,
    Pair,
    Share,
    agreement,
    blinded_sample,
    examples,
    fit_to_person,
    lacking,
)
from labeler.config import Config
from labeler.errors import RunError
from labeler.exemplars.images import encode_webp
from labeler.pipeline.deciding import control, decide_again
from labeler.pipeline.run_gate import write_run_gate
from labeler.pipeline.sheet import person_sheet
from labeler.records import Answer, Judgement, UnitRecord
from labeler.run_directory import read_run
from labeler.run_report import write_report
from labeler.storage import run_lock, write_atomic

SAMPLE, SEED = 100, 0
SHEETS = "judge"


@contextmanager
def judging(run: Path, count: int | None = None, seed: int | None = None) -> Iterator[Judging]:
    """Hold a run while a person judges it.

    Args:
        run: the run directory.
        count: pairs to rate; those of the last time, or `SAMPLE`, where None.
        seed: draws the sample; that of the last time, or `SEED`, where None.

    Raises:
        RunError: when there is no such run, it has no verdicts or no decoys, or another process works on it.
    """
    description = read_run(run)
    with run_lock(run):
        path = run / "catalogue.db"
        unfinished = f"{run} has no verdicts yet; go on with: labeler run CONFIG --out {run}."
        if not path.is_file():
            raise RunError(unfinished)
        store = CatalogueStore(path)
        try:
            note = store.meta("gate")
            if note is None:
                raise RunError(unfinished)
            decoys = store.decoys()
            if not any(decoys.values()):
                raise RunError(
                    f"{run} has no decoys to mix in, so nobody would be blinded; judge a run of more units,"
                    " made by this version."
                )
            judged = Judging(run, description, store, {r.unit: r for r in store.units()}, json.loads(note))
            judged.draw(count, seed)
            yield judged
        finally:
            store.close()


@dataclass
class Judging:
    """One sitting. `sample` is in the order in which it is shown; `answers` are those to its pairs."""

    run: Path
    description: dict[str, Any]
    store: CatalogueStore
    records: dict[str, UnitRecord]
    note: dict[str, Any]
    sample: list[Pair] = field(default_factory=list)
    answers: dict[Key, Answer] = field(default_factory=dict)

    def draw(self, count: int | None, seed: int | None) -> None:
        """Take up the stored sample, or draw and store one where another count or seed is asked for.

        The stored one is kept as it was drawn, because a refit changes what is accepted.
        """
        pool = self._pool()
        stored = json.loads(self.store.meta("judge") or "null")
        last = stored or {"count": SAMPLE, "seed": SEED, "pairs": []}
        wanted = {
            "count": last["count"] if count is None else count,
            "seed": last["seed"] if seed is None else seed,
        }
        if stored is None or wanted != {"count": stored["count"], "seed": stored["seed"]}:
            sample = blinded_sample(list(pool.values()), wanted["count"], wanted["seed"])
            drawn = [[pair.unit, pair.label.text, pair.source] for pair in sample]
            self.store.put_meta("judge", json.dumps({**wanted, "pairs": drawn}))
            stored = {"pairs": drawn}
        self.sample = [
            Pair(unit, pool[unit, text].label, source)
            for unit, text, source in stored["pairs"]
            if (unit, text) in pool
        ]
        asked = {pair.key for pair in self.sample}
        self.answers = {
            (found.unit, found.text): found.answer
            for found in self.store.judgements()
            if (found.unit, found.text) in asked
        }

    def _pool(self) -> dict[Key, Pair]:
        """All that can be asked: labels and decoys with a score, of units that have pictures."""
        pairs = []
        for record in self.records.values():
            pairs += [Pair(record.unit, label, "accepted") for label in record.labels]
            pairs += [Pair(record.unit, label, "refused") for label in record.candidates]
        for unit, labels in self.store.decoys().items():
            pairs += [Pair(str(unit), label, "decoy") for label in labels]
        return {
            pair.key: pair
            for pair in pairs
            if pair.label.score is not None and any(shown.tile for shown in self.records[pair.unit].exemplars)
        }

    def sheet(self, position: int) -> Path:
        """Make the contact sheet of one pair; its name is its place in the sample and says nothing else."""
        path = self.run / SHEETS / f"{position + 1:03d}.webp"
        path.parent.mkdir(exist_ok=True)
        found = person_sheet(self.run / "images", self.records[self.sample[position].unit])
        write_atomic(path, encode_webp(found.image))
        return path

    def keep(self, position: int, answer: Answer) -> None:
        """Store an answer; it is kept whatever happens next."""
        pair = self.sample[position]
        self.store.put_judgement(
            Judgement(
                unit=pair.unit, text=pair.label.text, formula=pair.label.formula, source=pair.source,
                answer=answer,
            )
        )  # fmt: skip
        self.answers[pair.key] = answer

    def conclude(self) -> dict[str, Any]:
        """Fit the gate where there are answers enough, decide anew, and say what was found.

        All answers to this run count, those to earlier samples too.
        """
        judgements = self.store.judgements()
        opened = {pair.key: pair.label for pair in self._pool().values() if pair.source != "decoy"}
        found = examples(judgements, opened)
        config = Config.model_validate(self.description["config"])
        domain = Domain(
            target=self.description["target"]["name"],
            probe=self.description["probe"]["name"],
            judges=config.encoder.judge,
            fitted_on=f"fitted to {len(found)} answers of a person about this run",
            run=self.description["fingerprint"],
        )
        fitted = fit_to_person(shipped(), found, domain)
        shares = agreement(judgements)
        return {
            "run": str(self.run),
            "sample": len(self.sample),
            "answered": len(self.answers),
            "unsure": sum(answer == "u" for answer in self.answers.values()),
            "agreement": {source: _share(share) for source, share in shares.items()},
            "own_error_at_least": shares["decoy"].value,
            "fitted_on": len(found),
            "lacking": lacking(found),
            "gate": None if fitted is None else str(write_run_gate(self.run, fitted)),
            "verdicts_changed": None if fitted is None else self._decide(config, fitted),
        }

    def _decide(self, config: Config, fitted: Calibration) -> int:
        """Decide all units by the fitted gate; how many have another verdict or other accepted labels now."""
        gate = Gate(config.gate, True, fitted)
        before = list(self.records.values())
        decided = decide_again(
            before, self.store.decoys(), gate,
            test_images=self.note["test_images"], min_test_images=config.checks.min_test_images,
        )  # fmt: skip
        pairs = list(zip(before, decided.records, strict=True))
        self.note = control(
            decided.cut, decided.decoys, decided.records, gate,
            openings=self.note["test_openings"], test_images=self.note["test_images"],
        )  # fmt: skip
        decoys = {unit: [item.label for item in labels] for unit, labels in decided.decoys.items()}
        changed = [new for old, new in pairs if new != old]
        self.store.put_decision(changed, decoys, json.dumps(self.note, sort_keys=True))
        self.records = {record.unit: record for record in decided.records}
        write_report(self.run, self.run / "report")
        return sum(_outcome(old) != _outcome(new) for old, new in pairs)


def _outcome(record: UnitRecord) -> tuple[str, ...]:
    return (record.verdict, *(label.text for label in record.labels))


def _share(share: Share) -> dict[str, Any]:
    return {"yes": share.yes, "definite": share.definite, "share": share.value, "interval": share.interval}
