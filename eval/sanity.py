"""Sanity: does a check's score fall when the label is damaged?

The missing-label and extra-label tests of Oikarinen, Yan & Weng (2025), "Evaluating Neuron Explanations",
sec. 4: a unit is paired with the annotated concept that it matches best; then half of the concept's positive
images, drawn at random, become negatives (missing), or as many random negatives become positives (extra). A
score that does not fall cannot tell the label from one that is far too narrow or far too broad. As in the
paper's code the difference is divided by the range of the score over all pairs and damages. A test is passed
when the mean normalised fall is above 0 at the lower end of its 95 % interval (bootstrap over pairs) and at
least 90 % of the pairs fall by more than 0.001.

Pairs are chosen on `propose` and tested on `test`. *synthetic* and *agreement* read pictures, *intervention*
altered images, not the label's presence in images, so the tests say nothing about them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeler.checks import Reading, check_labels
from labeler.checks.prediction import correlations
from labeler.config_file import load_config
from labeler.errors import LabelerError
from labeler.pipeline.bench import Bench
from labeler.pipeline.dissection import dissect as dissect_all
from labeler.pipeline.dissection import dissected_images
from labeler.pipeline.words import rivals
from labeler.records import Label, UnitId
from labeler.report.text import table
from labeler.resources import resource_directory
from labeler.suites import Result

from .arguments import SuiteParser
from .bootstrap import Mean, bootstrap_mean, figures_of
from .claims import presence
from .dissection import Column, dissect
from .opened import make_bench, open_run

DAMAGES = ("missing", "extra")
FALLS = 0.001
"""Least normalised fall that counts: epsilon of the paper's code."""
SHARE = 0.9
"""Share of the pairs that must fall."""
FEWEST = 20
"""Positive test images that a concept needs, so that half of them are still a label."""
TINY = 1e-9  # both concepts miss the unit's mask


@dataclass(frozen=True)
class Variant:
    """A concept's presence on the test images, whole or damaged; `donors` as in `Column`."""

    concept: int
    damage: str  # "" for the whole one
    repeat: int
    donors: Mapping[int, int]

    @property
    def key(self) -> str:
        """Names it in a label."""
        return f"{self.concept}-{self.damage}-{self.repeat}"


@dataclass(frozen=True)
class VariantJudge:
    """Reads variants by their keys: 1 where a variant shows, 0 elsewhere, NaN where not annotated."""

    variants: Mapping[str, Variant]
    known_nc: NDArray[np.bool_]  # over the probe: whether the image is annotated with the concept
    name: str = "annotations"

    def read(self, labels: Sequence[Label]) -> list[Reading | None]:
        """One reading for each label, which must be a key."""
        return [self._read(self.variants[label.text]) for label in labels]

    def _read(self, variant: Variant) -> Reading:
        scores_n = np.where(self.known_nc[:, variant.concept], 0.0, np.nan).astype(np.float32)
        scores_n[list(variant.donors)] = 1.0
        return Reading(self.name, scores_n)


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Test the checks on the units of `config` (the demo's by default), or of an existing run `run`."""
    parser = SuiteParser("sanity", "The missing-label and extra-label tests on every check.")
    parser.add_argument("--least", type=float, default=0.2, help="least prediction, on propose, of a pair")
    parser.add_argument(
        "--repeats", type=int, default=5, help="random damages of each kind that are averaged"
    )
    parser.add_argument(
        "--every-unit", action="store_true", help="all live units of the layers, not the config's"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a config value"
    )
    parser.add_argument(
        "--trust-code", action="append", type=Path, default=[], metavar="FILE", help="as in: labeler run"
    )
    options = parser.parse_args(list(arguments))
    if options.repeats < 1:
        parser.error("argument --repeats: at least 1")
    if run is not None and (run / "catalogue.db").is_file():
        bench = open_run(run, "sanity", options.trust_code).bench
        return evaluate(bench, options.least, options.repeats, options.every_unit)
    loaded = load_config(config or resource_directory("configs") / "demo.yaml", tuple(options.set))
    with tempfile.TemporaryDirectory(prefix="labeler-sanity-") as temporary:
        bench = make_bench(loaded, run or Path(temporary), options.trust_code)
        return evaluate(bench, options.least, options.repeats, options.every_unit)


def evaluate(bench: Bench, least: float, repeats: int, every_unit: bool) -> Result:
    """The suite's result for the units of a bench."""
    pairs = {
        layer: found
        for layer in bench.inputs.target.layers
        if (found := _pairs(bench, layer, least, every_unit))
    }
    if not pairs:
        raise LabelerError(
            f"No unit matches an annotated concept with a prediction of {least:g} and {FEWEST} positive test"
            " images; lower --least, or give more annotated images."
        )
    concepts = sorted({concept for found in pairs.values() for _, concept in found})
    variants = _variants(bench, concepts, repeats)
    scores: dict[str, list[list[float]]] = {}
    for layer, found in pairs.items():
        _add_label_checks(bench, layer, found, variants, scores)
    _add_iou(bench, pairs, variants, scores)
    return _result(bench, pairs, {name: np.array(rows) for name, rows in scores.items() if rows}, repeats)


def _pairs(bench: Bench, layer: str, least: float, every_unit: bool) -> list[tuple[int, int]]:
    """Units of a layer and the concept that each matches best on `propose`."""
    data, test = bench.layer_data(layer, "propose"), bench.layer_data(layer, "test")
    value_uc = correlations(data.activations_nu, presence(bench, data.image_ids_n), data.weights_n)
    present_nc = presence(bench, test.image_ids_n)
    positives_c, known_c = np.nansum(present_nc, axis=0), np.isfinite(present_nc).sum(axis=0)
    value_uc[:, (positives_c < FEWEST) | (positives_c > known_c / 2)] = np.nan  # extra must find negatives
    value_uc = np.nan_to_num(value_uc, nan=-1.0)
    if not value_uc.shape[1]:
        return []
    asked = {unit.index for unit in bench.inputs.units if unit.side == layer}
    return [
        (unit, int(value_uc[column].argmax()))
        for unit, column in data.position.items()
        if (every_unit or unit in asked)
        and bench.alive(UnitId.of_side(layer, unit))
        and value_uc[column].max() >= least
    ]


def _variants(bench: Bench, concepts: Sequence[int], repeats: int) -> dict[str, Variant]:
    """The concepts as they are, and `repeats` damages of each kind, alike for all units."""
    layer = bench.inputs.target.layers[0]
    ids_n = bench.layer_data(layer, "test").image_ids_n
    present_nc = presence(bench, ids_n)
    dissected = set(dissected_images(bench, "test"))
    found = []
    for concept in concepts:
        positive, negative = ids_n[present_nc[:, concept] == 1], ids_n[present_nc[:, concept] == 0]
        found.append(Variant(concept, "", 0, {i: i for i in positive.tolist()}))
        shown = [i for i in positive.tolist() if i in dissected] or positive.tolist()
        for repeat in range(repeats):
            generator = np.random.default_rng((bench.inputs.config.seed, concept, repeat))
            kept = generator.choice(positive, len(positive) - len(positive) // 2, replace=False).tolist()
            found.append(Variant(concept, "missing", repeat, {i: i for i in kept}))
            added = generator.choice(negative, len(positive), replace=False).tolist()
            masks = dict(zip(added, generator.choice(shown, len(added)).tolist(), strict=True))
            found.append(Variant(concept, "extra", repeat, {i: i for i in positive.tolist()} | masks))
    return {variant.key: variant for variant in found}


def _rows(
    values: Mapping[str, float], pair: str, concept: int, variants: Mapping[str, Variant]
) -> list[float] | None:
    """One pair's score, whole, then under each damage, averaged over repeats; None where one is missing."""
    row = [values[f"{pair} {concept}--0"]]
    for damage in DAMAGES:
        keys = [key for key, v in variants.items() if v.concept == concept and v.damage == damage]
        row.append(float(np.mean([values[f"{pair} {key}"] for key in keys])))
    return row if np.isfinite(row).all() else None


def _add_label_checks(
    bench: Bench,
    layer: str,
    pairs: Sequence[tuple[int, int]],
    variants: Mapping[str, Variant],
    scores: dict[str, list[list[float]]],
) -> None:
    """The checks that read the label's score for every image, made as a run makes them."""
    known_nc = np.isfinite(np.asarray(bench.activations.areas))
    judge = VariantJudge(variants, known_nc)
    by_concept: dict[int, list[str]] = {}
    for key, variant in variants.items():
        by_concept.setdefault(variant.concept, []).append(key)
    asked = [(unit, key) for unit, concept in pairs for key in by_concept[concept]]
    config, data = bench.inputs.config, bench.layer_data(layer, "test")
    names = [concept.name for concept in bench.inputs.probe.concepts]
    others = replace(
        rivals(bench, data, scouts=bench.scouts(layer)),
        exempt=lambda label: {names[variants[label.text].concept]},
    )
    checked = check_labels(
        data, [(unit, Label(text=key)) for unit, key in asked], [judge],
        pictures=None, dissection=None, rivals=others, settings=config.checks, seed=config.seed,
    )  # fmt: skip
    values: dict[str, dict[str, float]] = {}
    for (unit, key), checks in zip(asked, checked, strict=True):
        for name, check in checks.items():
            value = check.value if check.status == "ok" and check.value is not None else np.nan
            values.setdefault(name, {})[f"{layer}:{unit} {key}"] = value
    for name, found in values.items():
        rows = [_rows(found, f"{layer}:{unit}", concept, variants) for unit, concept in pairs]
        scores.setdefault(name, []).extend(row for row in rows if row is not None)


def _add_iou(
    bench: Bench,
    pairs: Mapping[str, Sequence[tuple[int, int]]],
    variants: Mapping[str, Variant],
    scores: dict[str, list[list[float]]],
) -> None:
    """*iou* and *location*: a damage takes the concept's mask away, or shows that of another image."""
    images = dissected_images(bench, "test")
    others = {layer: found.iou() for layer, found in dissect_all(bench, lambda done, total: None).items()}
    columns = [Column(variant.concept, variant.donors) for variant in variants.values()]
    for layer, dissection in dissect(bench, images, columns, list(pairs)).items():
        iou_uv = dissection.iou()
        place = {int(unit): row for row, unit in enumerate(dissection.live_units)}
        for unit, concept in pairs[layer]:
            rival = np.delete(others[layer][place[unit]], concept)
            best = float(np.nanmax(rival)) if np.isfinite(rival).any() else np.nan
            own = {f"{unit} {key}": float(iou_uv[place[unit], c]) for c, key in enumerate(variants)}
            lead = {key: (value - best) / max(value, best, TINY) for key, value in own.items()}
            for name, found in (("iou", own), ("location", lead)):
                row = _rows(found, str(unit), concept, variants)
                if row is not None:
                    scores.setdefault(name, []).append(row)


def _result(
    bench: Bench,
    pairs: Mapping[str, Sequence[tuple[int, int]]],
    scores: Mapping[str, NDArray[np.float64]],
    repeats: int,
) -> Result:
    figures: dict[str, float | None] = {}
    falls: dict[str, Mean] = {}
    rows = []
    for check, values_pv in scores.items():
        for place, damage in enumerate(DAMAGES, start=1):
            fall_p = normalised_fall(values_pv, place)
            mean, share = bootstrap_mean(fall_p), float((fall_p > FALLS).mean())
            passed = mean.ends is not None and mean.ends[0] > 0 and share >= SHARE
            figures[f"passes_{damage}.{check}"] = float(passed)
            figures[f"falls_{damage}.{check}"] = share
            falls[f"drop_{damage}.{check}"] = mean
            rows.append(
                (
                    check, damage, str(len(values_pv)), f"{values_pv[:, 0].mean():.3f}",
                    f"{values_pv[:, place].mean():.3f}", str(mean), f"{100 * share:.0f} %",
                    "passes" if passed else "fails",
                )
            )  # fmt: skip
    drops, intervals = figures_of(falls)
    count = sum(map(len, pairs.values()))
    by_layer = ", ".join(f"{layer} {len(found)}" for layer, found in pairs.items())
    inputs = bench.inputs
    head = (
        f"{inputs.target.name} on {inputs.probe.name}, {len(inputs.probe.images)} images: {count} pairs of"
        f" a unit and its annotated concept ({by_layer}),"
        f" chosen on propose, tested on test; {repeats} random damages of each kind"
    )
    body = table(
        ("check", "labels", "pairs", "score", "damaged", "normalised fall (95 %)", "pairs that fall", "test"),
        rows,
    )
    return Result("sanity", count, {**figures, **drops}, f"{head}\n\n{body}", intervals)


def normalised_fall(values_pv: NDArray[np.float64], place: int) -> NDArray[np.float64]:
    """How far each pair's score falls in column `place`, over the range of all scores. ``(p,)``."""
    span = float(np.ptp(values_pv))
    falls_p: NDArray[np.float64] = (values_pv[:, 0] - values_pv[:, place]) / (span if span > 0 else 1.0)
    return falls_p
