"""A check as two small drawings: its value with the lower bound, and how far it stands from each null."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from labeler.records import CheckResult

_WIDTH = 190
_FIRST, _LAST = -4.0, 10.0  # standard deviations; what lies outside is drawn at the edge, with an arrow
_STRIP = 20
_OUTLINE = "L".join(f"{x / 4} {-math.exp(-((x / 4) ** 2) / 2):.3f}" for x in range(-12, 13))
BELL = Markup(
    f'<svg class="defs" aria-hidden="true"><defs><path id="bell" d="M-3 0L{_OUTLINE}L3 0Z"/></defs></svg>'
)
"""A normal density, one standard deviation to a unit, 1 high; a page that draws nulls has it once."""


@dataclass(frozen=True)
class Scale:
    """The range on which a check's value is drawn, with a value worth marking."""

    first: float
    last: float
    mark: float = 0.0


SCALES = {
    "auprc": Scale(0.0, 1.0),
    "real": Scale(-1.0, 3.0),
    "synthetic": Scale(-1.0, 3.0),
    "agreement": Scale(0.0, 1.0, 0.5),
    "iou": Scale(0.0, 0.4, 0.04),
}
"""Checks whose value is not in [-1, 1]. 0.5 is chance; Network Dissection's detectors begin at 0.04."""


def value_svg(name: str, check: CheckResult) -> Markup:
    """The value as a dot and a line down to its one-sided 95 % lower bound; empty where there is no value."""
    if check.status != "ok" or check.value is None:
        return Markup("")
    scale = SCALES.get(name, Scale(-1.0, 1.0))
    first, last = min(scale.first, check.value), max(scale.last, check.value)
    x, zero = _place(check.value, first, last), _place(scale.mark, first, last)
    bound = ""
    if check.low is not None:
        low = _place(max(check.low, first), first, last)
        bound = (
            f'<line class="bound" x1="{low:.1f}" x2="{x:.1f}" y1="10" y2="10"/>'
            f'<line class="bound" x1="{low:.1f}" x2="{low:.1f}" y1="6" y2="14"/>'
        )
    caption = f"value {check.value:.3g} on a scale from {first:.3g} to {last:.3g}, mark at {scale.mark:.3g}"
    return Markup(
        f'<svg class="value" viewBox="0 0 {_WIDTH} 32" role="img" aria-label="{caption}">'
        f'<line class="base" x1="0" x2="{_WIDTH}" y1="18" y2="18"/>'
        f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="2" y2="22"/>{bound}'
        f'<circle class="dot" cx="{x:.1f}" cy="10" r="4.5"/>'
        f'<text x="1" y="30">{first:.3g}</text>'
        f'<text x="{zero:.1f}" y="30" text-anchor="middle">{_inner(scale.mark, first, last)}</text>'
        f'<text x="{_WIDTH - 1}" y="30" text-anchor="end">{last:.3g}</text></svg>'
    )


def nulls_svg(check: CheckResult) -> Markup:
    """Each null as a bell of one standard deviation around zero, with the value's distance from it."""
    if check.status != "ok":
        return Markup("")
    found = [
        (name, null.z)
        for name, null in (("chance", check.significance), ("other units", check.specificity))
        if null is not None and null.z is not None
    ]
    if not found:
        return Markup("")
    said = ", ".join(f"{z:+.1f} standard deviations from {name}" for name, z in found)
    strips = "".join(_strip(name, z, _STRIP * number) for number, (name, z) in enumerate(found))
    base = _STRIP * len(found)
    ticks = "".join(
        f'<text x="{_place(z, _FIRST, _LAST):.1f}" y="{base + 8}" text-anchor="middle">{text}</text>'
        for z, text in ((0.0, "0"), (5.0, "5"), (9.4, "10 sd"))
    )
    return Markup(
        f'<svg class="nulls" viewBox="0 0 {_WIDTH + 78} {base + 10}" role="img" aria-label="{said}">'
        f"{strips}{ticks}</svg>"
    )


def _strip(name: str, z: float, top: int) -> str:
    base, shown = top + _STRIP - 4, min(max(z, _FIRST), _LAST)
    x, zero = _place(shown, _FIRST, _LAST), _place(0.0, _FIRST, _LAST)
    width = _place(1.0, _FIRST, _LAST) - zero
    kind = "chance" if name == "chance" else "units"
    if shown != z:
        turn = 1 if z > 0 else -1
        mark = f'<path class="{kind}" d="M{x - 5 * turn:.1f} {base - 9}l{7 * turn} 4.5l{-7 * turn} 4.5z"/>'
    elif kind == "chance":
        mark = f'<circle class="{kind}" cx="{x:.1f}" cy="{base - 4.5}" r="4"/>'
    else:
        mark = f'<path class="{kind}" d="M{x:.1f} {base - 9.5}l5 5l-5 5l-5 -5z"/>'
    return (
        f'<use href="#bell" class="bell"'
        f' transform="translate({zero:.1f} {base}) scale({width:.1f} {_STRIP - 6})"/>'
        f'<line class="base" x1="0" x2="{_WIDTH}" y1="{base}" y2="{base}"/>'
        f'<line class="reach" x1="{zero:.1f}" x2="{x:.1f}" y1="{base - 4.5}" y2="{base - 4.5}"/>{mark}'
        f'<text x="{_WIDTH + 4}" y="{base - 1}">{name}</text>'
    )


def _place(value: float, first: float, last: float) -> float:
    return 6 + (value - first) / (last - first) * (_WIDTH - 12)


def _inner(mark: float, first: float, last: float) -> str:
    """The mark's number, where the ends' numbers leave room for it."""
    inside = 0.15 < (mark - first) / (last - first) < 0.85
    return f"{mark:.3g}" if inside else ""
