"""A catalogue as files for others: Parquet with a dataset card, CSV, JSONL, or Neuronpedia's layout.

Nothing holds the whole catalogue in memory, and a file appears when it is complete or not at all.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from labeler.catalogue import cells
from labeler.catalogue.card import MARK, card
from labeler.catalogue.neuronpedia import export_neuronpedia
from labeler.catalogue.store import CatalogueStore
from labeler.errors import RunError, UnknownNameError
from labeler.storage import replacing, write_atomic

Format = Literal["parquet", "csv", "jsonl", "neuronpedia"]
FORMATS: tuple[Format, ...] = get_args(Format)
CARD = "README.md"

Run = Mapping[str, Any]
"""What run.json says of the run (`labeler.run_directory.read_run`)."""


def export(store: CatalogueStore, run: Run, to: str, out: Path) -> list[Path]:
    """Write a catalogue to `out`; the files or directories that were written.

    Args:
        store: the catalogue.
        run: what run.json says of it.
        to: ``parquet`` (a row per unit, labels and checks nested, and README.md beside it, a dataset card),
            ``csv`` (a row per accepted label), ``jsonl`` (a whole record per line) or ``neuronpedia`` (a
            directory, see `labeler.catalogue.neuronpedia`).
        out: the file, or for ``neuronpedia`` the directory. An earlier export there is replaced.

    Raises:
        UnknownNameError: when there is no such format.
        RunError: when the place is taken by something that is not an export.
    """
    writers: dict[str, Callable[[CatalogueStore, Run, Path], list[Path]]] = {
        "parquet": _parquet, "csv": _csv, "jsonl": _jsonl, "neuronpedia": export_neuronpedia,
    }  # fmt: skip
    if to not in writers:
        raise UnknownNameError("export format", to, writers)
    if to != "neuronpedia" and out.is_dir():
        raise RunError(f"{out} is a directory; give --out the name of a file.")
    return writers[to](store, run, out)


def _parquet(store: CatalogueStore, run: Run, out: Path) -> list[Path]:
    import pyarrow.parquet as pq

    from labeler.catalogue.tables import whole_batches, whole_schema

    beside = out.with_name(CARD)
    if beside.exists() and MARK not in beside.read_text(encoding="utf-8", errors="replace"):
        raise RunError(
            f"{beside} is no dataset card of labeler's and would be overwritten; give another --out."
        )
    with (
        replacing(out) as temporary,
        pq.ParquetWriter(temporary, whole_schema(), compression="zstd") as writer,
    ):
        for batch in whole_batches(store.units()):
            writer.write_batch(batch)
    write_atomic(beside, card(run, store, out.name).encode())
    return [out, beside]


def _csv(store: CatalogueStore, run: Run, out: Path) -> list[Path]:
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        # As RFC 4180 has it; with a bare "\n" here, a text with a lone CR would not be quoted.
        writer = csv.DictWriter(stream, list(cells.COLUMNS), lineterminator="\r\n")
        writer.writeheader()
        for record in store.units():
            for row in cells.rows(record):
                writer.writerow({k: cells.quoted(v) if isinstance(v, str) else v for k, v in row.items()})
    return [out]


def _jsonl(store: CatalogueStore, run: Run, out: Path) -> list[Path]:
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        for record in store.records():
            stream.write(record + "\n")
    return [out]
