"""What Python users hold: `run`, `import_labels`, `compare` and `Catalogue`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.api.catalogue import Catalogue
from labeler.api.hits import FoundImage, SearchHit, SimilarUnit, TopImage
from labeler.config import Config
from labeler.config_file import load_config
from labeler.errors import UsageError

if TYPE_CHECKING:
    from labeler.catalogue.compare import Comparison
    from labeler.pipeline.importing import Imported
    from labeler.pipeline.progress import Reporter

__all__ = [
    "Catalogue", "FoundImage", "SearchHit", "SimilarUnit", "TopImage", "compare", "import_labels", "run",
]  # fmt: skip


def run(
    config: str | Path | Config,
    out: str | Path,
    *,
    units: Sequence[str] = (),
    overrides: Sequence[str] = (),
    trust_code: str | Path | None = None,
    reporter: Reporter | None = None,
    budget: str | None = None,
) -> Catalogue:
    """Label the units of a network and return the catalogue.

    Running again with the same arguments goes on where an earlier run stopped.

    Args:
        config: a YAML file or a `Config`.
        out: the run directory; made when missing.
        units: restrict to units written as ``layer:0-63,80``.
        overrides: ``key=value`` pairs that replace values of the YAML file.
        trust_code: the Python file that a ``file:`` target may execute.
        reporter: where progress is shown; nowhere by default.
        budget: what all model calls of the run together may take: tokens or money, ``"200000"`` or
            ``"2.50USD"`` (which needs `propose.prices`). A run that reaches it is paused.

    Raises:
        LabelerError: one sentence that says what to do.
    """
    if isinstance(config, Config) and overrides:
        raise UsageError("overrides replace values of a YAML file; change the Config itself with model_copy.")
    from labeler.pipeline import run_pipeline

    loaded = config if isinstance(config, Config) else load_config(config, tuple(overrides))
    run_pipeline(
        loaded,
        Path(out),
        units=tuple(units),
        trust_code=Path(trust_code) if trust_code is not None else None,
        reporter=reporter,
        budget=budget,
    )
    return Catalogue.open(out)


def import_labels(
    file: str | Path,
    run: str | Path,
    out: str | Path | None = None,
    *,
    trust_code: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Imported:
    """Let the checks and the gate of a finished run judge labels made elsewhere.

    The catalogue of `run` stays as it is; the verdicts are in the run directory that the result names.

    Args:
        file: CSV, JSONL or Parquet with layer, unit and description (`labeler.catalogue.label_files`).
        run: the run directory whose network, images, splits and judges are used.
        out: the new run directory; ``RUN-imported-HASH`` beside `run` when None.
        trust_code: the Python file that a ``file:`` target may execute.
        reporter: where progress is shown; nowhere by default.

    Raises:
        LabelerError: one sentence that says what to do.
    """
    from labeler.pipeline.importing import import_labels as judge

    return judge(
        Path(file),
        Path(run),
        None if out is None else Path(out),
        trust_code=None if trust_code is None else Path(trust_code),
        reporter=reporter,
    )


def compare(a: str | Path, b: str | Path) -> Comparison:
    """What two run directories of the same units agree on: two checkpoints, or two labellers of one network.

    Raises:
        RunError: when one of them is not a run directory or has no catalogue.
    """
    from labeler.pipeline.comparing import compare_runs

    return compare_runs(Path(a), Path(b))
