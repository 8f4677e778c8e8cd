"""The activation histogram of one unit as inline SVG, with the dissection threshold marked."""

from __future__ import annotations

from markupsafe import Markup

from labeler.records import ActivationSummary

_WIDTH, _BARS = 360, 90
_TOP, _BOTTOM = 14, 14  # room for the marks' names above the bars and the axis' ends below


def histogram_svg(summary: ActivationSummary) -> Markup:
    """Bars of the pooled activation over the probe (square-root heights, so that rare tops are seen)."""
    counts, edges = summary.histogram, summary.histogram_edges
    if not counts or edges[-1] <= edges[0]:
        return Markup("")
    marks = _marks(summary, edges[0], edges[-1])
    caption = f"Pooled activation from {edges[0]:.3g} to {edges[-1]:.3g}"
    base = _TOP + _BARS + _BOTTOM
    axis = (
        f'<text class="axis" x="2" y="{base - 3}">{edges[0]:.3g}</text>'
        f'<text class="axis" x="{_WIDTH - 2}" y="{base - 3}" text-anchor="end">{edges[-1]:.3g}</text>'
    )
    # every part is a number formatted here or a literal, so nothing needs escaping
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {_WIDTH} {base}" role="img" aria-label="{caption}">'
        f"{_bars(counts, edges)}{marks}{axis}</svg>"
    )


def _bars(counts: tuple[int, ...], edges: tuple[float, ...]) -> str:
    tallest, step = max(counts) ** 0.5 or 1.0, _WIDTH / len(counts)
    bars = []
    for position, count in enumerate(counts):
        height = _BARS * count**0.5 / tallest
        bars.append(
            f'<rect class="bar" x="{position * step:.1f}" y="{_TOP + _BARS - height:.1f}"'
            f' width="{step - 1:.1f}" height="{height:.1f}">'
            f"<title>{count} images from {edges[position]:.3g} to {edges[position + 1]:.3g}</title></rect>"
        )
    return "".join(bars)


def _marks(summary: ActivationSummary, first: float, last: float) -> str:
    marks = []
    for name, value in (("T", summary.threshold), ("p99", summary.quantiles.get("p99"))):
        if value is not None and first <= value <= last:
            x = (value - first) / (last - first) * _WIDTH
            # the two often lie close together, so their names stand on different sides
            anchor, offset = ("start", 3) if x < 20 or (name == "p99" and x < _WIDTH - 24) else ("end", -3)
            marks.append(
                f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{_TOP + _BARS}"/>'
                f'<text x="{x + offset:.1f}" y="11" text-anchor="{anchor}">{name}</text>'
            )
    return "".join(marks)
