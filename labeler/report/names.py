"""Where each page of the site lies. Links and files are named by the same functions."""

from __future__ import annotations

import functools
import hashlib
import re

from labeler.records import UnitId


@functools.lru_cache(maxsize=4096)
def slug(layer: str) -> str:
    """A file name for a layer: its own name where that is safe, else with a hash that keeps it unique."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", layer)[:80]
    if safe == layer and not safe.startswith("."):
        return safe
    return f"{safe.strip('.')}-{hashlib.sha256(layer.encode()).hexdigest()[:8]}"


def unit_file(unit: UnitId) -> str:
    """The file name of a unit's page in its layer's folder."""
    return f"{unit.index}{'-negative' if unit.negative else ''}.html"


def unit_page(unit: UnitId) -> str:
    """The page of a unit, from the site's root."""
    return f"units/{slug(unit.layer)}/{unit_file(unit)}"


def layer_page(layer: str, number: int) -> str:
    """The `number`-th page of a layer, counted from 1, from the site's root."""
    return f"layers/{slug(layer)}-{number}.html"
