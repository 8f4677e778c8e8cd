"""The same records as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labeler.printable import printable
from labeler.records import Label, UnitRecord
from labeler.report.words import check_sentence, number


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to the widest cell; control characters in cells are replaced."""
    cells = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def run_text(records: Iterable[UnitRecord]) -> str:
    """The table that ends a run: a row per unit, then a row per layer."""
    rows: list[tuple[str, ...]] = []
    layers: dict[str, tuple[int, int]] = {}
    for record in records:
        best = max((label.score for label in record.labels if label.score is not None), default=None)
        label = "; ".join(label.text for label in record.labels)
        rows.append((record.unit, record.verdict, label, number(best), record.trust.verdict))
        total, accepted = layers.get(record.layer, (0, 0))
        layers[record.layer] = (total + 1, accepted + (record.verdict in ("accepted", "polysemantic")))
    summary = [
        (layer, str(total), str(accepted), f"{100 * accepted / total:.0f} %")
        for layer, (total, accepted) in layers.items()
    ]
    units = table(("unit", "verdict", "label", "score", "picture"), rows)
    return f"{units}\n\n{table(('layer', 'units', 'accepted', 'share'), summary)}"


def unit_text(record: UnitRecord) -> str:
    """Everything about one unit that fits in words."""
    name = f" ({record.name})" if record.name else ""
    lines = [f"{record.unit}{name}: {record.verdict}", record.reason]
    lines.append(f"picture: {record.trust.verdict.replace('_', ' ')}. {record.trust.reason}")
    if record.coverage is not None:
        lines.append(f"coverage: {100 * record.coverage:.0f} % of the activation mass on held-out images")
    for title, labels in (("accepted", record.labels), ("refused", record.candidates)):
        for label in labels:
            lines += ["", _heading(title, label)]
            lines += [f"  {name:<12} {check_sentence(check)}" for name, check in label.checks.items()]
    exemplars = [item for item in record.exemplars if item.tile]
    if exemplars:
        lines += ["", "strongest images"]
        lines += [f"  {number(item.activation):>8}  {item.path}" for item in exemplars]
    return "\n".join(printable(line) for line in lines)


def _heading(title: str, label: Label) -> str:
    matched = f"; judged as {label.match}" if label.match else ""
    return (
        f"{title}: {label.text} ({label.kind}, facet {label.facet}, round {label.round},"
        f" score {number(label.score)}, checked on {label.split}{matched})"
    )
