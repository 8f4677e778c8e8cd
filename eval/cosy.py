"""CoSy: does a unit fire more on images of its label than on others?

Kopf et al. (2024), "CoSy: Evaluating Textual Explanations of Neurons", sec. 3: AUC is the share of pairs of a
concept image and a control image in which the concept image activates more; MAD is the difference of the mean
activations over the standard deviation of the controls. The activation is the unit's spatial maximum (the
paper takes the mean). Concept images are retrieved among the held-out ones: those that a judge that no method
used finds nearest to the label, or those annotated with it; or they come from an image generator. Controls
are the other held-out images. Intervals are bootstrap over units, 95 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.baselines import auroc
from labeler.checks import Judge
from labeler.errors import LabelerError
from labeler.pipeline.bench import by_layer
from labeler.records import UnitId
from labeler.report.text import table
from labeler.suites import Result

from .arguments import SuiteParser
from .bootstrap import Mean, figures_of
from .claims import METHODS, Claims, collect
from .generator import load_generator
from .opened import OpenedRun, open_run
from .scoring import Scored, annotation_judge, common, matched, read_claims, smallest, unused_judge
from .simulation import add_comparison_arguments

if TYPE_CHECKING:
    from PIL.Image import Image

FEWEST = 5
"""Fewer concept images, or control images: a label is left out."""
Generator = Callable[[str, int, int], Sequence["Image"]]
"""``(text, count, seed)`` to pictures."""
Pair = tuple[float, float]  # AUC and MAD


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Evaluate the labels of the run `run`; `config` is not used: a run carries its own."""
    parser = SuiteParser("cosy", "Activation on images of the label against others: AUC and MAD.")
    add_comparison_arguments(parser, METHODS)
    parser.add_argument(
        "--source", choices=("judge", "annotations"), default="judge", help="of concept images"
    )
    parser.add_argument("--count", type=int, default=20, help="concept images by the judge or the generator")
    parser.add_argument(
        "--generator", metavar="MODULE:FUNCTION", help="makes concept images; needs --trust-code MODULE"
    )
    options = parser.parse_args(list(arguments))
    if options.count < FEWEST:
        parser.error(f"argument --count: at least {FEWEST} images are needed")
    generator = load_generator(options.generator, options.trust_code) if options.generator else None
    opened = open_run(run, "cosy", options.trust_code)
    if generator is not None:
        return evaluate_generated(opened, generator, options.generator, options.methods, options.count)
    if options.source == "annotations":
        judge: Judge = annotation_judge(opened.bench)
    else:
        judge = unused_judge(opened, options.judge, options.methods, "cosy")
    return evaluate(opened, judge, options.methods, options.count)


def evaluate(opened: OpenedRun, judge: Judge, methods: Sequence[str], count: int) -> Result:
    """The suite's result with retrieved concept images."""
    claims = collect(opened, methods)
    found = {name: retrieved(opened, judge, own, count) for name, own in claims.items()}
    if judge.name == "annotations":
        source = "the held-out images annotated with the label"
    else:
        source = f"the {count} held-out images nearest to the label by {judge.name}, which no method used"
    return _result(opened, claims, found, source)


def evaluate_generated(
    opened: OpenedRun, generator: Generator, name: str, methods: Sequence[str], count: int
) -> Result:
    """The suite's result with generated concept images."""
    claims = collect(opened, methods)
    found = {method: generated(opened, generator, own, count) for method, own in claims.items()}
    return _result(opened, claims, found, f"{count} pictures for each label by {name}")


def retrieved(opened: OpenedRun, judge: Judge, claims: Claims, count: int) -> dict[UnitId, Pair]:
    """AUC and MAD of each claim with held-out images: the annotated ones, or the judge's `count` best."""
    found: dict[UnitId, Pair] = {}
    for layer, units in by_layer(list(claims)).items():
        data = opened.layer_data(layer, "test")
        scores_np = read_claims(judge, [claims[unit] for unit in units], data.image_ids_n)
        present_np = scores_np if judge.name == "annotations" else _nearest(scores_np, count)
        activations_np = data.activations_nu[:, [data.position[unit.index] for unit in units]]
        found.update(zip(units, _auc_and_mad(activations_np, present_np), strict=True))
    return {unit: pair for unit, pair in found.items() if np.isfinite(pair).all()}


def _nearest(scores_np: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """1 for the `count` highest scores of each column, 0 for the others, NaN for unread columns."""
    order_np = np.argsort(np.argsort(-scores_np, axis=0, kind="stable"), axis=0, kind="stable")
    return np.where(np.isnan(scores_np), np.nan, (order_np < count).astype(np.float64))


def _auc_and_mad(activations_np: NDArray[np.float32], present_np: NDArray[np.float64]) -> list[Pair]:
    """Of every column; NaN where a side has fewer than `FEWEST` images, or the controls are constant."""
    concept_np, control_np = present_np >= 0.5, present_np < 0.5
    enough_p = np.minimum(concept_np.sum(axis=0), control_np.sum(axis=0)) >= FEWEST
    auc_pp = auroc(torch.from_numpy(np.array(activations_np)), torch.from_numpy(present_np)).numpy()
    values_np = activations_np.astype(np.float64)
    control_mean_p, control_sd_p = _mean_and_sd(values_np, control_np)
    concept_mean_p, _ = _mean_and_sd(values_np, concept_np)
    mad_p = np.divide(
        concept_mean_p - control_mean_p, control_sd_p,
        out=np.full_like(control_sd_p, np.nan), where=control_sd_p > 0,
    )  # fmt: skip
    auc_p = np.where(enough_p, np.diagonal(auc_pp), np.nan)
    return list(zip(auc_p.tolist(), np.where(enough_p, mad_p, np.nan).tolist(), strict=True))


def _mean_and_sd(
    values_np: NDArray[np.float64], chosen_np: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count_p = np.maximum(chosen_np.sum(axis=0), 1)
    mean_p = (values_np * chosen_np).sum(axis=0) / count_p
    return mean_p, np.sqrt((((values_np - mean_p) * chosen_np) ** 2).sum(axis=0) / count_p)


def generated(opened: OpenedRun, generator: Generator, claims: Claims, count: int) -> dict[UnitId, Pair]:
    """AUC and MAD of each claim with `count` generated pictures against all held-out images."""
    inputs, found = opened.bench.inputs, {}
    units = by_layer(list(claims))
    data = {layer: opened.layer_data(layer, "test") for layer in units}
    texts = sorted({claim.text for claim in claims.values()})
    for number, text in enumerate(texts):
        pictures = list(generator(text, count, inputs.config.seed + number))
        if len(pictures) != count:
            raise LabelerError(f"The generator gave {len(pictures)} pictures for {text!r}, not {count}.")
        prepared_bchw = torch.stack([inputs.target.prepare(picture.convert("RGB")) for picture in pictures])
        with torch.inference_mode():
            maps = inputs.target.maps(prepared_bchw, list(units))
        for unit, claim in claims.items():
            if claim.text == text:
                own_n = maps[unit.side][:, unit.index].amax(dim=(1, 2)).cpu().numpy()
                layer = data[unit.side]
                controls_n = layer.activations_nu[:, layer.position[unit.index]]
                present_n1 = np.repeat([1.0, 0.0], [len(own_n), len(controls_n)])[:, None]
                (found[unit],) = _auc_and_mad(np.concatenate([own_n, controls_n])[:, None], present_n1)
    return {unit: pair for unit, pair in found.items() if np.isfinite(pair).all()}


def _result(
    opened: OpenedRun, claims: Mapping[str, Claims], found: Mapping[str, Mapping[UnitId, Pair]], source: str
) -> Result:
    means: dict[str, Mean] = {}
    rows = {name: [name, str(len(claims[name])), str(len(own))] for name, own in found.items()}
    for place, figure in enumerate(("auc", "mad")):
        scores = {
            name: {unit: Scored(claims[name][unit].confidence, pair[place]) for unit, pair in own.items()}
            for name, own in found.items()
        }
        equal, shared = matched(scores), common(scores)
        means[figure] = equal.get("ours", Mean(None, None, 0))
        means |= {f"{figure}.{name}": mean for name, mean in equal.items()}
        for name, row in rows.items():
            row += [str(equal[name]), str(matched({name: scores[name]})[name]), str(shared[name])]
    units = smallest(found)
    kinds = [
        f"{f}, {what}" for f in ("AUC", "MAD") for what in (f"best {units}", "all its own", "common units")
    ]
    figures, intervals = figures_of(means)
    head = f"{opened.describe()}\nconcept images: {source}; controls: the other held-out images"
    body = table(("method", "labelled", "measured", *kinds), list(rows.values()))
    return Result(
        "cosy", units, figures, f"{head}\n\n{body}\n\n95 % bootstrap intervals over units", intervals
    )
