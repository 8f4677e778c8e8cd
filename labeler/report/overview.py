"""What the first page counts over all units: verdicts, trust, and how the checks came out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from markupsafe import Markup

from labeler.records import TRUSTS, VERDICTS, Label, UnitRecord
from labeler.report.distribution import Group, rows_svg
from labeler.report.info import RunInfo
from labeler.report.nulls import SCALES


@dataclass
class Tally:
    """Counts and values over units; tallies of parts of the units add up.

    Attributes:
        units: how many were counted.
        verdicts: units by (layer, verdict).
        trusts: units by (layer, trust in the picture).
        values: values of each check, of accepted labels and of refused ones, as tested on `test`.
        absent: for each check, how many labels it did not apply to.
        scores: the gate's scores of accepted and of refused labels.
    """

    units: int = 0
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    trusts: Counter[tuple[str, str]] = field(default_factory=Counter)
    values: dict[str, dict[bool, list[float]]] = field(default_factory=dict)
    absent: Counter[str] = field(default_factory=Counter)
    scores: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})

    def add(self, record: UnitRecord) -> None:
        """Count one unit."""
        self.units += 1
        self.verdicts[record.layer, record.verdict] += 1
        self.trusts[record.layer, record.trust.verdict] += 1
        for accepted, labels in ((True, record.labels), (False, record.candidates)):
            for label in labels:
                if label.split == "test":
                    self._add_label(label, accepted)

    def _add_label(self, label: Label, accepted: bool) -> None:
        if label.score is not None:
            self.scores[accepted].append(label.score)
        for name, check in label.checks.items():
            values = self.values.setdefault(name, {True: [], False: []})
            if check.status == "ok" and check.value is not None:
                values[accepted].append(check.value)
            else:
                self.absent[name] += 1

    def merge(self, other: Tally) -> None:
        """Add what `other` counted, of other units."""
        self.units += other.units
        self.verdicts.update(other.verdicts)
        self.trusts.update(other.trusts)
        self.absent.update(other.absent)
        for accepted, scores in other.scores.items():
            self.scores[accepted] += scores
        for name, values in other.values.items():
            own = self.values.setdefault(name, {True: [], False: []})
            for accepted, found in values.items():
                own[accepted] += found


def tally(records: Iterable[UnitRecord]) -> Tally:
    """Count all units of `records`."""
    found = Tally()
    for record in records:
        found.add(record)
    return found


@dataclass(frozen=True)
class LayerRow:
    """One layer in the table of verdicts: units by verdict and by trust, in the order of the table's head."""

    layer: str
    units: int
    verdicts: tuple[tuple[str, int], ...]
    trusts: tuple[tuple[str, int], ...]
    bar: Markup


@dataclass(frozen=True)
class CheckPlot:
    """How one check came out over all labels that were opened."""

    name: str
    plot: Markup
    applied: int
    absent: int


@dataclass(frozen=True)
class Overview:
    """The first page's tables and drawings.

    `seen` is how many units the drawings are of: all, or an evenly spaced part.
    """

    rows: tuple[LayerRow, ...]
    scores: Markup
    checks: tuple[CheckPlot, ...]
    seen: int
    units: int


def overview(
    drawn: Tally,
    info: RunInfo,
    layers: Iterable[str],
    verdicts: dict[tuple[str, str], int],
    trusts: dict[tuple[str, str], int],
) -> Overview:
    """The first page's content: tables from the counts of all units, drawings from `drawn`."""
    by_layer: dict[str, Counter[str]] = defaultdict(Counter)
    for (layer, name), count in (*verdicts.items(), *trusts.items()):
        by_layer[layer][name] += count
    rows = tuple(_row(layer, by_layer[layer]) for layer in layers)
    groups = [
        Group("accepted", "accepted", drawn.scores[True]),
        Group("refused", "refused", drawn.scores[False]),
        Group("decoys", "decoys", list(info.decoy_scores)),
    ]
    plots = [_plot(name, values, drawn.absent[name]) for name, values in drawn.values.items()]
    scores = rows_svg("gate score", groups, mark=info.cut, mark_name="cut", logarithmic=True)
    return Overview(rows, scores, tuple(plots), drawn.units, sum(row.units for row in rows))


def _plot(name: str, values: dict[bool, list[float]], absent: int) -> CheckPlot:
    groups = [Group("accepted", "accepted", values[True]), Group("refused", "refused", values[False])]
    mark = SCALES[name].mark if name in SCALES else 0.0
    return CheckPlot(name, rows_svg(name, groups, mark=mark), sum(map(len, values.values())), absent)


def _row(layer: str, found: Counter[str]) -> LayerRow:
    verdicts = tuple((str(name), found[name]) for name in VERDICTS)
    units = sum(count for _, count in verdicts)
    return LayerRow(
        layer, units, verdicts, tuple((str(name), found[name]) for name in TRUSTS), _bar(verdicts, units)
    )


def _bar(verdicts: tuple[tuple[str, int], ...], units: int) -> Markup:
    """A layer's verdicts as one bar of 100 %. The table beside it gives the numbers."""
    parts, x = [], 0.0
    for name, count in verdicts:
        width = 300 * count / units if units else 0.0
        if count:
            parts.append(
                f'<rect class="{name}" x="{x:.1f}" y="0" width="{max(width - 1, 0.5):.1f}" height="14">'
                f"<title>{count} {name}</title></rect>"
            )
        x += width
    said = ", ".join(f"{count} {name}" for name, count in verdicts if count) or "no units"
    return Markup(
        f'<svg class="share" viewBox="0 0 300 14" role="img" aria-label="{said}">{"".join(parts)}</svg>'
    )
