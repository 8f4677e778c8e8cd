"""The catalogue: one SQLite file per run, and what is asked of it."""

from labeler.catalogue.ledger import (
    PRICES,
    Ledger,
    ModelCost,
    call_totals,
    costs_by_round,
    read_costs,
    read_note,
)
from labeler.catalogue.query import ListedLabel, ListedUnit, Selection
from labeler.catalogue.store import CatalogueStore

__all__ = [
    "PRICES",
    "CatalogueStore",
    "Ledger",
    "ListedLabel",
    "ListedUnit",
    "ModelCost",
    "Selection",
    "call_totals",
    "costs_by_round",
    "read_costs",
    "read_note",
]
