"""What each way of accepting a label believes of a unit, and whether the attack made it believe that.

Each way but the run's own gate takes the word of the vocabulary that scores best: on the unit's pictures, on
its top photographs, or over all held-out photographs; read by the run's encoder, and over all photographs
also by its judges (true presence, where it is annotated). Pictures and photographs are centred separately.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeler.checks.judges import centred
from labeler.pipeline.evidence import embeddings_of
from labeler.pipeline.pass_stage import activations_key
from labeler.pipeline.pictures import Pictures, pictures_stage
from labeler.pipeline.words import vocabulary
from labeler.records import Label, UnitId, UnitRecord
from labeler.report.text import table

from .claims import Claim
from .opened import ACCEPTED, OpenedRun
from .rightness import Truth, right

Floats = NDArray[np.float64]

GATE = "the gate"
WAYS = (
    GATE, "pictures", "top photographs", "all photographs", "all photographs, by the judges"
)  # fmt: skip
"""Ways of accepting a label."""
BELIEFS = ("natural", "decoy's", "another", "none")
"""What may be believed: what the unit does with photographs, what its decoy does, something else, nothing."""


@dataclass(frozen=True)
class Acceptance:
    """A finished run, asked what each way of accepting would say of its units."""

    run: Path
    opened: OpenedRun
    layer: str

    def words(self) -> dict[str, dict[UnitId, str]]:
        """By way (but the gate) and unit, the word that is believed; a unit that cannot be read is absent."""
        ways: tuple[tuple[str, Callable[[], Mapping[UnitId, Floats]]], ...] = (
            (WAYS[1], self._pictures), (WAYS[2], self._top_photographs), (WAYS[3], self._by_encoder),
            (WAYS[4], self._by_judges),
        )  # fmt: skip
        return {
            way: {unit: self._words[int(np.nanargmax(scores_w))] for unit, scores_w in make().items()}
            for way, make in ways
        }

    @cached_property
    def pictures(self) -> Pictures:
        """The synthetic pictures of the run."""
        bench = self.opened.bench
        key = activations_key(bench.inputs)
        return pictures_stage(self.run, bench.inputs, bench.evidence, self.opened.units, key, _quiet)

    @cached_property
    def _words(self) -> list[str]:
        return list(vocabulary(self.opened.bench))

    @cached_property
    def _texts_wd(self) -> NDArray[np.float32]:
        return centred(self.opened.bench.inputs.encoder.embed_texts(self._words))

    def _pictures(self) -> dict[UnitId, Floats]:
        pictures = self.pictures
        rows_nd = pictures.embeddings[self.opened.bench.inputs.encoder.name]
        return self._best(pictures.units, rows_nd)

    def _top_photographs(self) -> dict[UnitId, Floats]:
        shown = self.opened.bench.inputs.config.exemplars.shown
        found = {unit: self.opened.bench.evidence.units[unit].embeddings_kd for unit in self.opened.units}
        owners = [unit for unit, rows_kd in found.items() for _ in rows_kd[:shown]]
        return self._best(owners, np.concatenate([rows_kd[:shown] for rows_kd in found.values()]))

    def _best(self, owners: Sequence[UnitId], rows_nd: NDArray[np.float32]) -> dict[UnitId, Floats]:
        """Mean score of each word on each owner's images."""
        scores_nw = centred(rows_nd).astype(np.float64) @ self._texts_wd.T
        return {
            unit: scores_nw[[place for place, owner in enumerate(owners) if owner == unit]].mean(axis=0)
            for unit in dict.fromkeys(owners)
        }

    def _by_encoder(self) -> dict[UnitId, Floats]:
        bench = self.opened.bench
        ids_n = self.opened.layer_data(self.layer, "test").image_ids_n
        rows_nd = centred(embeddings_of(bench.activations, bench.inputs.encoder.name))[ids_n]
        return self._correlations(rows_nd @ self._texts_wd.T)

    def _by_judges(self) -> dict[UnitId, Floats]:
        bench, data = self.opened.bench, self.opened.layer_data(self.layer, "test")
        least = bench.inputs.config.checks.min_test_images
        readings = [bench.reading(Label(text=word), data, least) for word in self._words]
        blank_n = np.full(len(data.image_ids_n), np.nan)
        columns = [blank_n if read is None else read.scores_n[data.image_ids_n] for read in readings]
        return self._correlations(np.stack(columns, axis=1))

    def _correlations(self, scores_nw: NDArray[np.floating]) -> dict[UnitId, Floats]:
        """Of each unit's activation with each word over the held-out photographs."""
        data = self.opened.layer_data(self.layer, "test")
        found = {}
        for unit in self.opened.units:
            own_n = data.activations_nu[:, data.position[unit.index]].astype(np.float64)
            correlation_w = correlations(own_n, scores_nw.astype(np.float64))
            if np.isfinite(correlation_w).any():
                found[unit] = correlation_w
        return found


def correlations(values_n: Floats, columns_nw: Floats) -> Floats:
    """Pearson's correlation with each column where it is known, ``(w,)``; NaN where nothing varies."""
    found = np.full(columns_nw.shape[1], np.nan)
    for column, scores_n in enumerate(columns_nw.T):
        known = np.isfinite(scores_n)
        if known.sum() > 2 and values_n[known].std() > 0 and scores_n[known].std() > 0:
            found[column] = np.corrcoef(values_n[known], scores_n[known])[0, 1]
    return found


def belief(said: Claim | None, natural: Truth, decoy: Truth) -> str:
    """Which of `BELIEFS` a claim is."""
    if said is None:
        return "none"
    if right(said, natural):
        return "natural"
    return "decoy's" if right(said, decoy) else "another"


def gate_belief(record: UnitRecord, natural: Truth, decoy: Truth) -> str:
    """What the run itself accepted."""
    accepted = record.verdict in ACCEPTED and record.labels
    return belief(Claim.of_labels(record.labels) if accepted else None, natural, decoy)


def word_belief(word: str | None, natural: Truth, decoy: Truth) -> str:
    """What a single word says."""
    return belief(None if word is None else Claim(word, 0.0, "", ((word, False),)), natural, decoy)


def belief_table(counted: Sequence[tuple[str, str, str]]) -> str:
    """Counts of (whose units, way, belief), in the order in which they first come."""
    groups = list(dict.fromkeys((whose, way) for whose, way, _ in counted))
    rows = []
    for whose, way in groups:
        own = [what for one, by, what in counted if (one, by) == (whose, way)]
        shares = [f"{own.count(what)} ({100 * own.count(what) / len(own):.0f} %)" for what in BELIEFS]
        rows.append((whose, way, str(len(own)), *shares))
    return table(("units", "accepted on", "count", *BELIEFS), rows)


def _quiet(done: int, total: int) -> None:
    """The pictures are there already."""
