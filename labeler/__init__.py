"""labeler: labelled neuron catalogues for vision models, decided by numbers that no proposer saw.

The public names are these and no others; everything heavy loads on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labeler.api import (
        Catalogue,
        FoundImage,
        SearchHit,
        SimilarUnit,
        TopImage,
        compare,
        import_labels,
        run,
    )
    from labeler.catalogue.compare import Comparison
    from labeler.catalogue.query import ListedUnit
    from labeler.config import Config
    from labeler.config_file import load_config
    from labeler.errors import LabelerError
    from labeler.records import CheckResult, Label, Trust, UnitId, UnitRecord

__all__ = [
    "Catalogue",
    "CheckResult",
    "Comparison",
    "Config",
    "FoundImage",
    "Label",
    "LabelerError",
    "ListedUnit",
    "SearchHit",
    "SimilarUnit",
    "TopImage",
    "Trust",
    "UnitId",
    "UnitRecord",
    "compare",
    "import_labels",
    "load_config",
    "run",
]

_HOMES = {
    "Catalogue": "labeler.api",
    "FoundImage": "labeler.api",
    "SearchHit": "labeler.api",
    "SimilarUnit": "labeler.api",
    "TopImage": "labeler.api",
    "compare": "labeler.api",
    "import_labels": "labeler.api",
    "run": "labeler.api",
    "Comparison": "labeler.catalogue.compare",
    "ListedUnit": "labeler.catalogue.query",
    "Config": "labeler.config",
    "load_config": "labeler.config_file",
    "LabelerError": "labeler.errors",
    "CheckResult": "labeler.records",
    "Label": "labeler.records",
    "Trust": "labeler.records",
    "UnitId": "labeler.records",
    "UnitRecord": "labeler.records",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'labeler' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
