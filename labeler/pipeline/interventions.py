"""The images of *intervention*: composed from `test`, shown once to the target, read by every unit."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.activations.loader import batches, forward, prefetch, stack_padded
from labeler.checks import Interventions, annotation_judge
from labeler.checks.composites import control_region, grown, inpaint, paste
from labeler.checks.data import Booleans
from labeler.checks.intervention import Kind, Trial, plan_trials
from labeler.executors import LOCAL
from labeler.pipeline.bench import Bench
from labeler.pipeline.inputs import Inputs
from labeler.pipeline.spread import Spread
from labeler.probes import annotation_on_grid
from labeler.records import Label
from labeler.seams import Executor, Progress
from labeler.storage import fingerprint

RIM = 112
"""A mask is made wider by one pixel for every so many of the input's side before its region is filled: the
concept's blurred rim must not be what it is filled with."""

_ROWS = "rows.json"
Pixels = NDArray[np.float32]
Composed = tuple[Trial, Kind, torch.Tensor]


def intervene(
    bench: Bench,
    labels: Sequence[Label],
    progress: Progress,
    *,
    run: Path | None = None,
    executor: Executor = LOCAL,
) -> dict[str, Interventions]:
    """The altered images of every concept that a simple label names, and what each layer's live units gave.

    The cost grows with the number of different concepts, not of units. Empty where there are no masks.

    Args:
        bench: the run's.
        labels: all labels that are opened on `test`; decoys are drawn from them.
        progress: told of sources, or of pieces.
        run: the run directory that keeps what the images gave; None: nothing does.
        executor: who makes the images and shows them.
    """
    inputs, config = bench.inputs, bench.inputs.config
    concepts = _concepts(bench, labels)
    if not config.checks.interventions or not concepts:
        return {}
    rows = bench.evidence.rows_of("test", bench.activations)
    trials = plan_trials(
        bench.activations.areas, bench.activations.indexed_ids[rows], bench.evidence.groups,
        [concept.category for concept in inputs.probe.concepts], concepts, config.checks.interventions,
        config.checks.presence_area, config.seed,
    )  # fmt: skip
    units = {layer: bench.live_units(layer) for layer in inputs.target.layers}
    found = {layer: Interventions({concept: {} for concept in concepts}) for layer in units}
    if not trials:
        return found
    with tempfile.TemporaryDirectory(prefix="labeler-") as folder:
        spread = Spread(run or Path(folder), inputs, executor)
        for row in _read(_stage(spread, bench.evidence.key, units, trials, progress), trials, list(units)):
            for layer, maxima_u in row.maxima.items():
                found[layer].add(row.trial, row.kind, maxima_u)
    return found


def _stage(
    spread: Spread,
    evidence_key: str,
    units: Mapping[str, NDArray[np.int64]],
    trials: Sequence[Trial],
    progress: Progress,
) -> Path:
    """Build or load the stage of all altered images: the files of `show_altered`, for all trials."""
    key = fingerprint("altered", 1, evidence_key, [asdict(trial) for trial in trials], RIM)
    size = spread.inputs.config.activations.batch_size

    def build(directory: Path) -> None:
        count = spread.count(-(-len(trials) * len(get_args(Kind)) // size))
        ends = [len(trials) * part // count for part in range(count + 1)]
        parts = [(units, trials[start:end]) for start, end in pairwise(ends)]
        places = spread.pieces("altered", key, directory, show_altered, parts, progress, len(trials))
        named = [json.loads((place / _ROWS).read_text()) for place in places]
        shown = [
            [start + trial, kind] for start, rows in zip(ends, named, strict=False) for trial, kind in rows
        ]
        (directory / _ROWS).write_text(json.dumps(shown))
        for number in range(len(units)):
            tables = [np.load(place / _maxima_file(number), allow_pickle=False) for place in places]
            np.save(directory / _maxima_file(number), np.concatenate(tables))

    return spread.stage("altered", key, build)


def _maxima_file(number: int) -> str:
    return f"maxima-{number:03d}.npy"


@dataclass(frozen=True)
class _Row:
    """One altered image: the pooled maxima ``(u,)`` of every layer's live units."""

    trial: Trial
    kind: Kind
    maxima: dict[str, NDArray[np.float32]]


def _read(directory: Path, trials: Sequence[Trial], layers: Sequence[str]) -> Iterator[_Row]:
    tables = {
        layer: np.load(directory / _maxima_file(number), allow_pickle=False)
        for number, layer in enumerate(layers)
    }
    for row, (trial, kind) in enumerate(json.loads((directory / _ROWS).read_text())):
        yield _Row(trials[trial], kind, {layer: maxima_nu[row] for layer, maxima_nu in tables.items()})


def show_altered(
    inputs: Inputs,
    part: tuple[Mapping[str, NDArray[np.int64]], Sequence[Trial]],
    directory: Path,
    progress: Progress,
) -> None:
    """Alter the images of some trials and show them to the target.

    Written are which trial and kind each altered image is of, and the pooled maxima ``(images, u)`` of every
    layer's wanted units.
    """
    units, trials = part
    size = inputs.config.activations.batch_size
    position = {trial: index for index, trial in enumerate(trials)}
    rows: list[tuple[int, Kind]] = []
    maxima = {layer: [np.zeros((0, len(live)), np.float32)] for layer, live in units.items()}
    for batch in batches(_composed(inputs, trials), size):
        images = [pixels for _, _, pixels in batch]
        block_bchw = stack_padded(images, size, images[0].shape)
        maps = forward(inputs.target, block_bchw, list(units), inputs.config.activations.precision)
        for layer, live in units.items():
            chosen = torch.from_numpy(live).to(maps[layer].device)
            found_bu = maps[layer].amax(dim=(2, 3))[:, chosen].cpu().numpy()
            maxima[layer].append(found_bu[: len(batch)].astype(np.float32))
        rows += [(position[trial], kind) for trial, kind, _ in batch]
        progress(position[batch[-1][0]] + 1, len(trials))
    progress(len(trials), len(trials))
    (directory / _ROWS).write_text(json.dumps(rows))
    for number, layer in enumerate(units):
        np.save(directory / _maxima_file(number), np.concatenate(maxima[layer]))


def _concepts(bench: Bench, labels: Sequence[Label]) -> list[int]:
    """The annotated concepts that simple labels name, ascending."""
    judge = annotation_judge(bench.judges)
    if judge is None:
        return []
    matches = [judge.match(label.text, label.kind) for label in labels if label.formula is None]
    return sorted({match[0] for match in matches if match is not None})


def _composed(inputs: Inputs, trials: Sequence[Trial]) -> Iterator[Composed]:
    config = inputs.config
    studio = _Studio(inputs)
    for made in prefetch(
        trials, studio.compose, workers=config.executor.workers, ahead=config.activations.batch_size
    ):
        yield from made


class _Studio:
    """Makes altered images in the target's own input: prepared pixels, which are linear in the image's.

    There every image has the same size, and paste and fill commute with the preprocessing's normalisation.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._categories = np.array([concept.category for concept in inputs.probe.concepts])

    def compose(self, trial: Trial) -> list[Composed]:
        """As many of the four altered images of one trial as can be made; pasted and erased come in pairs."""
        source_chw, masks = self._look(trial.source)
        mask_hw = masks.get(trial.concept)
        if mask_hw is None or not mask_hw.any() or mask_hw.all():
            return []
        made: dict[Kind, Pixels] = {}
        if trial.background is not None and trial.wrong is not None and trial.wrong_source is not None:
            background_chw, _ = self._look(trial.background)
            wrong_chw, wrong_masks = self._look(trial.wrong_source)
            if trial.wrong in wrong_masks:
                made["concept pasted"] = paste(background_chw, source_chw, mask_hw)
                made["wrong pasted"] = paste(background_chw, wrong_chw, wrong_masks[trial.wrong])
        made.update(self._erase(trial.concept, source_chw, masks))
        return [(trial, kind, torch.from_numpy(pixels_chw)) for kind, pixels_chw in made.items()]

    def _erase(self, concept: int, source_chw: Pixels, masks: Mapping[int, Booleans]) -> dict[Kind, Pixels]:
        rim = max(1, round(max(source_chw.shape[1:]) / RIM))
        mask_hw = grown(masks[concept], rim)
        own = self._categories[concept]
        same = [m for c, m in masks.items() if c != concept and self._categories[c] == own]
        rest = [m for c, m in masks.items() if self._categories[c] != own]
        control_hw = control_region(mask_hw, [[grown(m, rim) for m in group] for group in (same, rest)])
        if control_hw is None or mask_hw.all():
            return {}
        return {
            "concept erased": inpaint(source_chw, mask_hw),
            "control erased": inpaint(source_chw, control_hw),
        }

    def _look(self, image_id: int) -> tuple[Pixels, dict[int, Booleans]]:
        """An image as the target sees it ``(3, h, w)``, and the masks ``(h, w)`` annotated there."""
        image = self._inputs.probe.image(image_id)
        pixels_chw = self._inputs.target.prepare(image).numpy()
        annotation = self._inputs.probe.annotation(image_id, image)
        if annotation is None:
            return pixels_chw, {}
        height, width = pixels_chw.shape[1:]
        grid = max(height, width)
        masks_cgg = annotation_on_grid(annotation, self._inputs.target.view_box(*image.size), grid)
        rows = np.arange(height) * grid // height
        columns = np.arange(width) * grid // width
        masks_chw = masks_cgg[:, rows[:, None], columns[None, :]]
        return pixels_chw, dict(zip(annotation.concepts.tolist(), masks_chw, strict=True))
