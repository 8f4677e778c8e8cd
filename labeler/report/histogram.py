"""One unit's activation over the probe as inline SVG: the threshold, the bands, and what is shown of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from labeler.records import ActivationSummary, UnitRecord

_WIDTH, _BARS = 640, 120
_TOP = 60  # room for the marks' names, each in a row of its own: they often lie close together
_ROW = 13  # one row of ticks below the axis
_MARKS = (("p50", "median"), ("p90", "p90"), ("p99", "p99"))


@dataclass(frozen=True)
class Ticks:
    """A row of ticks below the bars: activations of what the page shows."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class _Axis:
    first: float
    last: float

    def x(self, value: float) -> float:
        return 4 + (value - self.first) / (self.last - self.first) * (_WIDTH - 8)


def unit_histogram(record: UnitRecord) -> Markup:
    """The histogram of a unit, with the photographs, near misses and pictures that its page shows."""
    if record.activation is None:
        return Markup("")
    rows = [
        Ticks("photographs", [item.activation for item in record.exemplars if item.tile]),
        Ticks("near misses", [item.activation for item in record.near_misses]),
        Ticks("synthetic", [v.activation for v in record.visualisations if v.activation is not None]),
    ]
    return histogram_svg(record.activation, [row for row in rows if row.values])


def histogram_svg(summary: ActivationSummary, rows: Sequence[Ticks] = ()) -> Markup:
    """Bars of the pooled activation over the probe (square-root heights, so that rare tops are seen).

    The axis reaches as far as any tick: a picture far outside the natural range is seen to be there.
    """
    counts, edges = summary.histogram, summary.histogram_edges
    if not counts or edges[-1] <= edges[0]:
        return Markup("")
    ticks = [value for row in rows for value in row.values]
    axis = _Axis(min([edges[0], *ticks]), max([edges[-1], *ticks]))
    base = _TOP + _BARS
    height = base + 4 + _ROW * (len(rows) + 1)
    caption = (
        f"Pooled activation of the probe's images from {edges[0]:.3g} to {edges[-1]:.3g};"
        f" threshold T {summary.threshold:.3g}"
    )
    parts = [_bars(axis, counts, edges), _marks(axis, summary), _ends(axis, base)]
    parts += [_tick_row(axis, row, base + 4 + _ROW * (number + 1)) for number, row in enumerate(rows)]
    # every part is a number formatted here or a literal, so nothing needs escaping
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{caption}">'
        f"{''.join(parts)}</svg>"
    )


def _bars(axis: _Axis, counts: tuple[int, ...], edges: tuple[float, ...]) -> str:
    tallest, base = max(counts) ** 0.5 or 1.0, _TOP + _BARS
    bars = []
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            x, height = axis.x(left), max(_BARS * count**0.5 / tallest, 1.5)
            bars.append(
                f'<rect class="bar" x="{x:.1f}" y="{base - height:.1f}" width="{axis.x(right) - x - 0.6:.1f}"'
                f' height="{height:.1f}"><title>{count} images from {left:.3g} to {right:.3g}</title></rect>'
            )
    return "".join(bars)


def _marks(axis: _Axis, summary: ActivationSummary) -> str:
    found = [(summary.quantiles[key], name) for key, name in _MARKS if key in summary.quantiles]
    marks = [(value, name, "mark") for value, name in found] + [(summary.threshold, "T", "mark threshold")]
    drawn = []
    for number, (value, name, kind) in enumerate(sorted(marks)):
        if axis.first <= value <= axis.last:
            x, y = axis.x(value), 12 + 14 * number
            anchor, offset = ("start", 3) if x < _WIDTH - 90 else ("end", -3)
            drawn.append(
                f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 9}" y2="{_TOP + _BARS}"/>'
                f'<text x="{x + offset:.1f}" y="{y}" text-anchor="{anchor}">{name} {value:.3g}</text>'
            )
    return "".join(drawn)


def _ends(axis: _Axis, base: int) -> str:
    return (
        f'<line class="base" x1="0" x2="{_WIDTH}" y1="{base}" y2="{base}"/>'
        f'<text class="axis" x="2" y="{base + 13}">{axis.first:.3g}</text>'
        f'<text class="axis" x="{_WIDTH - 2}" y="{base + 13}" text-anchor="end">{axis.last:.3g}</text>'
    )


def _tick_row(axis: _Axis, row: Ticks, y: int) -> str:
    kind = "tick synthetic" if row.name == "synthetic" else "tick"
    lines = "".join(
        f'<line class="{kind}" x1="{axis.x(value):.1f}" x2="{axis.x(value):.1f}" y1="{y}" y2="{y + 9}"/>'
        for value in row.values
    )
    # the name stands where the row has no ticks
    left = sum(axis.x(value) < _WIDTH / 2 for value in row.values) * 2 > len(row.values)
    x, anchor = (_WIDTH - 2, "end") if left else (2, "start")
    return f'{lines}<text class="axis" x="{x}" y="{y + 8}" text-anchor="{anchor}">{row.name}</text>'
