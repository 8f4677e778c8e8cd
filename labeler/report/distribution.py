"""Histograms of groups of labels under one axis, as inline SVG."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

_WIDTH, _ROW, _NAMES = 420, 34, 104
_BINS = 40
_LEAST = 1e-4  # a score below it is drawn at the left end of a logarithmic axis
_TAIL = 0.005  # so much at either end is drawn at the end of the axis, which outliers would stretch


@dataclass(frozen=True)
class Group:
    """Values of one group: `kind` is the class that gives its colour."""

    name: str
    kind: str
    values: Sequence[float]


def rows_svg(
    what: str,
    groups: Sequence[Group],
    *,
    mark: float | None = None,
    mark_name: str = "",
    logarithmic: bool = False,
) -> Markup:
    """One histogram for each group, above each other, each as high as its own fullest bin.

    Args:
        what: the quantity, for the description.
        groups: a group without values is an empty row that says so.
        mark: a value marked by a line through all rows.
        mark_name: what stands beside the line.
        logarithmic: for values in [0, 1] most of which are small.
    """
    every = sorted(value for group in groups for value in group.values)
    if not every:
        return Markup("")
    first, last = _ends(every, mark, logarithmic)
    height = 12 + _ROW * len(groups) + 16
    parts = [_row(group, 12 + _ROW * number, first, last, logarithmic) for number, group in enumerate(groups)]
    base = 12 + _ROW * len(groups)
    if mark is not None and first <= mark <= last:
        x = _place(mark, first, last, logarithmic)
        parts.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{base}"/>'
            f'<text x="{x:.1f}" y="9" text-anchor="middle">{mark_name} {mark:.3g}</text>'
        )
    for value, anchor in ((first, "start"), (last, "end")):
        x = _place(value, first, last, logarithmic)
        parts.append(
            f'<text class="axis" x="{x:.1f}" y="{base + 13}" text-anchor="{anchor}">{value:.3g}</text>'
        )
    said = "; ".join(f"{group.name}: {_said(group.values)}" for group in groups)
    return Markup(
        f'<svg class="distribution" viewBox="0 0 {_WIDTH} {height}" role="img"'
        f' aria-label="Distribution of {what}. {said}.">{"".join(parts)}</svg>'
    )


def _ends(every: Sequence[float], mark: float | None, logarithmic: bool) -> tuple[float, float]:
    if logarithmic:
        return max(_LEAST, min(every[0], mark or 1.0)), 1.0
    low, high = every[int(_TAIL * (len(every) - 1))], every[math.ceil((1 - _TAIL) * (len(every) - 1))]
    low, high = (min(low, mark), max(high, mark)) if mark is not None else (low, high)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _row(group: Group, top: int, first: float, last: float, logarithmic: bool) -> str:
    base, middle = top + _ROW - 3, top + _ROW / 2
    drawn = [
        f'<line class="base" x1="{_NAMES}" x2="{_WIDTH}" y1="{base}" y2="{base}"/>'
        f'<text x="0" y="{middle:.0f}">{group.name}</text>'
        f'<text class="axis" x="0" y="{middle + 12:.0f}">{len(group.values)}</text>'
    ]
    step = (_WIDTH - _NAMES) / _BINS
    edges = [_NAMES + step * number for number in range(1, _BINS)]
    counts = [0] * _BINS
    for value in group.values:
        counts[bisect_right(edges, _place(value, first, last, logarithmic))] += 1
    tallest = max(counts) or 1
    for number, count in enumerate(counts):
        if count:
            height = max((_ROW - 6) * count / tallest, 1.5)
            drawn.append(
                f'<rect class="{group.kind}" x="{_NAMES + step * number:.1f}" y="{base - height:.1f}"'
                f' width="{step - 0.6:.1f}" height="{height:.1f}"/>'
            )
    return "".join(drawn)


def _place(value: float, first: float, last: float, logarithmic: bool) -> float:
    shown = min(max(value, first), last)
    if logarithmic:
        share = math.log(shown / first) / math.log(last / first) if last > first else 0.5
    else:
        share = (shown - first) / (last - first)
    return _NAMES + share * (_WIDTH - _NAMES)


def _said(values: Sequence[float]) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    low, middle, high = (ordered[int(share * (len(ordered) - 1))] for share in (0.1, 0.5, 0.9))
    return f"{len(ordered)} values, median {middle:.3g}, 80 % of them from {low:.3g} to {high:.3g}"
