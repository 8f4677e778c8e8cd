"""The activation histogram of one unit as inline SVG, with the dissection threshold marked."""

from __future__ import annotations

from markupsafe import Markup

from labeler.records import ActivationSummary

_WIDTH, _HEIGHT = 360, 90


def histogram_svg(summary: ActivationSummary) -> Markup:
    """Bars of the pooled activation over the probe (square-root heights, so that rare tops are seen)."""
    counts, edges = summary.histogram, summary.histogram_edges
    if not counts or edges[-1] <= edges[0]:
        return Markup("")
    span, tallest = edges[-1] - edges[0], max(counts) ** 0.5 or 1.0
    step = _WIDTH / len(counts)
    bars = []
    for position, count in enumerate(counts):
        height = _HEIGHT * count**0.5 / tallest
        bars.append(
            f'<rect class="bar" x="{position * step:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 1:.1f}"'
            f' height="{height:.1f}"><title>{count} images from {edges[position]:.3g}</title></rect>'
        )
    marks = []
    for name, value in (("T", summary.threshold), ("p99", summary.quantiles.get("p99"))):
        if value is not None and edges[0] <= value <= edges[-1]:
            x = (value - edges[0]) / span * _WIDTH
            marks.append(
                f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}"/>'
                f'<text x="{min(x + 3, _WIDTH - 24):.1f}" y="11">{name}</text>'
            )
    caption = f"Pooled activation from {edges[0]:.3g} to {edges[-1]:.3g}"
    # every part is a number formatted here or a literal, so nothing needs escaping
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{caption}">'
        f"{''.join(bars)}{''.join(marks)}</svg>"
    )
