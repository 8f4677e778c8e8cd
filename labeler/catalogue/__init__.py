"""The catalogue: one SQLite file per run."""

from labeler.catalogue.store import CatalogueStore

__all__ = ["CatalogueStore"]
