"""Labels made elsewhere, judged as a run's own: a run directory beside it, with the same images and splits.

The new run takes over all that the first one measured (activations, exemplars, pictures), by hard links where
the disk allows it, and leaves it as it is. The labels are its proposals: looked at on `feedback`, opened on
`test` beside decoys, and decided by the same gate.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeler.allocator import keep_freed_memory
from labeler.catalogue import CatalogueStore
from labeler.catalogue.label_files import BadRow
from labeler.config import Config
from labeler.errors import RunError, UsageError
from labeler.pipeline import complete_run
from labeler.pipeline.inputs import LABELS, Inputs, claim_run, load_inputs
from labeler.pipeline.progress import Reporter, SilentReporter
from labeler.run_directory import OPENINGS, read_openings, read_run
from labeler.storage import MANIFEST, file_sha256, run_lock, write_atomic
from labeler.verification import blaming_damage

_STAGES = ("activations", "index", "exemplars", "unit-vectors", "visualisations")


@dataclass(frozen=True)
class Imported:
    """A file of labels, judged.

    `openings` is how many different sets of labels the test split of the first run has been opened for by
    now, its own and those of all imports.
    """

    run: Path
    labels: int
    units: int
    left_out: tuple[BadRow, ...]
    openings: int


def import_labels(
    file: Path,
    run: Path,
    out: Path | None = None,
    *,
    trust_code: Path | None = None,
    reporter: Reporter | None = None,
) -> Imported:
    """Judge the labels in `file` with the network, images, splits and judges of a finished run.

    Args:
        file: see `labeler.catalogue.label_files`.
        run: the finished run; its catalogue stays as it is.
        out: the new run directory; ``RUN-imported-HASH`` beside `run`, with the file's hash, when None. Where
            it was made from the same labels, it is gone on with.
        trust_code: the Python file that a ``file:`` target may execute.
        reporter: where progress is shown; nowhere by default.

    Raises:
        UsageError: when the file cannot be read, or has no label that can be judged.
        RunError: when `run` is not finished, or its network, images or models are no longer what they were,
            or `out` holds something else.
    """
    if not file.is_file():
        raise UsageError(f"There is no file {file}.")
    stored = _finished(run)
    out = out or run.parent / f"{run.resolve().name}-imported-{file_sha256(file)[:8]}"
    reporter = reporter or SilentReporter()
    keep_freed_memory()
    with run_lock(out):
        labels = _keep(file, out)
        with _nothing_left(out, labels):
            inputs = load_inputs(_config(stored, labels), trust_code=trust_code)
            _check_same(run, stored, inputs)
            claim_run(out, inputs)
        _take_over(run, out)
        try:
            _count_from(run, out)
            with blaming_damage(out), blaming_damage(run):  # what is broken there was taken over
                complete_run(out, inputs, reporter)
        finally:
            openings = _tell(run, out, reporter)
    found = inputs.labels
    return Imported(out, found.count, len(found.by_unit), found.left_out, openings)


def _finished(run: Path) -> dict[str, Any]:
    stored = read_run(run)
    with closing(CatalogueStore(run / "catalogue.db", read_only=True)) as store:
        if store.meta("gate") is None:
            raise RunError(f"{run} has no verdicts yet; go on with: labeler run CONFIG --out {run}.")
    return stored


def _keep(file: Path, out: Path) -> Path:
    """A copy of `file` in the new run, which may be moved and gone on with."""
    copy = out / f"{LABELS}{file.suffix.lower().lstrip('.') or 'csv'}"
    others = [
        path for path in out.glob(f"{LABELS}*") if path != copy or file_sha256(copy) != file_sha256(file)
    ]
    if others or ((out / "run.json").exists() and not copy.exists()):
        raise RunError(f"{out} is another run, or one of other labels; give another --out.")
    if not copy.exists():
        write_atomic(copy, file.read_bytes())
    return copy


def _config(stored: Mapping[str, Any], labels: Path) -> Config:
    config = Config.model_validate(stored["config"])
    propose = config.propose.model_copy(update={"kind": ("imported",), "labels": str(labels.resolve())})
    return config.model_copy(
        update={"propose": propose, "refine": config.refine.model_copy(update={"rounds": 1})}
    )


@contextmanager
def _nothing_left(out: Path, labels: Path) -> Iterator[None]:
    """Where a new run does not come about, what was laid down for it goes again."""
    try:
        yield
    except BaseException:
        if not (out / "run.json").exists():
            labels.unlink()
            if all(path.name == ".lock" for path in out.iterdir()):
                shutil.rmtree(out)
        raise


def _check_same(run: Path, stored: Mapping[str, Any], inputs: Inputs) -> None:
    now = {
        "network": (inputs.target.fingerprint, stored["target"]["fingerprint"]),
        "images": (inputs.probe.fingerprint, stored["probe"]["fingerprint"]),
        "models": ({n: m.fingerprint for n, m in inputs.encoders.items()}, stored.get("encoders")),
    }
    changed = [what for what, (found, before) in now.items() if found != before]
    if changed:
        raise RunError(f"The {' and '.join(changed)} of {run} are no longer what they were; run again.")


def _take_over(run: Path, out: Path) -> None:
    """Link (or copy) the finished stages and the pictures of `run`; both are never written to again."""
    for name in _STAGES:
        for manifest in run.glob(f"stages/{name}-????????????/{MANIFEST}"):
            final = out / "stages" / manifest.parent.name
            if not final.exists():
                draft = final.with_name(f"{final.name}.incomplete")
                shutil.rmtree(draft, ignore_errors=True)
                shutil.copytree(manifest.parent, draft, copy_function=_link)
                draft.rename(final)
    (out / "images").mkdir(exist_ok=True)
    for picture in (run / "images").iterdir():
        if not (out / "images" / picture.name).exists():
            _link(picture, out / "images" / picture.name)


def _link(source: str | Path, copy: str | Path) -> None:
    try:
        os.link(source, copy)
    except OSError:  # another disk, or one without hard links
        draft = Path(copy).with_name(f".{Path(copy).name}.incomplete")
        shutil.copyfile(source, draft)
        draft.replace(copy)


def _count_from(run: Path, out: Path) -> None:
    """The new run counts the openings of the test split on from those of `run` and of earlier imports."""
    with closing(CatalogueStore(out / "catalogue.db")) as store:
        if store.meta("test_openings") is None:
            store.put_meta("test_openings", json.dumps(read_openings(run)))


def _tell(run: Path, out: Path, reporter: Reporter) -> int:
    """Leave in `run` which openings there have been, so that the next import counts on; how many."""
    opened = list(dict.fromkeys([*read_openings(run), *read_openings(out)]))
    try:
        write_atomic(run / OPENINGS, json.dumps(opened).encode())
    except OSError:
        reporter.note(
            f"{run} cannot be written to, so other imports will not count this opening of its test."
        )
    return len(opened)
