"""One judge that no method used scores the claims of all methods on held-out images."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.checks import AnnotationJudge, EncoderJudge, Judge, text_similarity
from labeler.checks.prediction import correlations
from labeler.encoders import BUILTIN, load_encoder
from labeler.errors import UsageError
from labeler.executors import LocalExecutor
from labeler.pipeline.bench import Bench, by_layer
from labeler.records import KINDS, Kind, Label, UnitId
from labeler.report.text import table
from labeler.seams import Encoder

from .bootstrap import Mean, bootstrap_mean
from .claims import READ_ANNOTATIONS, Claim, Claims
from .opened import OpenedRun

ANNOTATIONS = "annotations"


def unused_judge(opened: OpenedRun, spec: str | None, methods: Sequence[str], suite: str) -> Judge:
    """The judge that `spec` names, reading the test images.

    Raises:
        UsageError: when none is named, or the run or a compared method has used it.
    """
    used = opened.took_part | ({ANNOTATIONS} if READ_ANNOTATIONS & set(methods) else frozenset())
    if spec is None:
        free = [name for name in (f"builtin:{name}" for name in BUILTIN) if name not in used]
        raise UsageError(
            f"{suite} needs a judge that no method used: -- --judge {free[0] if free else 'NAME'}."
        )
    refusal = UsageError(
        f"{spec} took part in the run or in a compared method and cannot judge; take a model that is not one"
        f" of {', '.join(sorted(used))}."
    )
    if spec in used:
        raise refusal
    if spec == ANNOTATIONS:
        return annotation_judge(opened.bench)
    encoder = load_encoder(spec, device=str(opened.bench.inputs.target.device))
    if encoder.fingerprint in {model.fingerprint for model in opened.bench.inputs.encoders.values()}:
        raise refusal
    return EncoderJudge(spec, encoder, _embed_test(opened.bench, encoder))


def annotation_judge(bench: Bench) -> AnnotationJudge:
    """The true presence of annotated concepts, matched as the run's own checks match."""
    checks = bench.inputs.config.checks
    return AnnotationJudge(
        bench.inputs.probe.concepts, bench.activations.areas, checks.presence_area,
        text_similarity(bench.inputs.encoder), checks.match_similarity,
    )  # fmt: skip


def _embed_test(bench: Bench, encoder: Encoder) -> NDArray[np.float32]:
    """Embeddings ``(n, dim)`` of the readable test images; NaN for all others, so that they do not count."""
    splits, probe = bench.evidence.splits, bench.inputs.probe
    wanted = [image for image in bench.activations.readable_ids.tolist() if splits[image] == "test"]
    embeddings_nd = np.full((len(splits), encoder.dim), np.nan, dtype=np.float32)
    step = bench.inputs.config.activations.batch_size
    executor = LocalExecutor(max(1, bench.inputs.config.executor.workers))
    for start in range(0, len(wanted), step):
        part = wanted[start : start + step]
        pixels = list(executor.map(lambda image: encoder.prepare(probe.image(image)), part))
        embeddings_nd[part] = encoder.embed_images(torch.stack(pixels))
    return embeddings_nd


def read_claims(judge: Judge, claims: Sequence[Claim], image_ids_n: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the judge says of each claim on each image, ``(n, p)``; NaN columns for what it does not know.

    OR is the maximum, AND the minimum of the literals; a negated literal is ``-s``, ``1 - s`` for presence.
    """
    asked = [[_label(term, claim.kind) for term, _ in claim.literals] for claim in claims]
    place = {
        label: column for column, label in enumerate(dict.fromkeys(itertools.chain.from_iterable(asked)))
    }
    scores_nt = np.full((len(image_ids_n), len(place)), np.nan)
    for column, reading in enumerate(judge.read([Label(text=text, kind=kind) for text, kind in place])):
        if reading is not None:
            scores_nt[:, column] = reading.scores_n[image_ids_n]
    joined_np = np.full((len(image_ids_n), len(claims)), np.nan)
    for size in {len(claim.literals) for claim in claims}:
        columns = [column for column, claim in enumerate(claims) if len(claim.literals) == size]
        values_npk = scores_nt[:, [[place[label] for label in asked[column]] for column in columns]]
        negated_pk = np.array([[negated for _, negated in claims[column].literals] for column in columns])
        values_npk = np.where(negated_pk, (judge.name == ANNOTATIONS) - values_npk, values_npk)
        every_p = np.array([claims[column].op == "and" for column in columns])
        joined_np[:, columns] = np.where(every_p, values_npk.min(axis=2), values_npk.max(axis=2))
    return joined_np


def _label(term: str, kind: str) -> tuple[str, Kind]:
    return term, next((known for known in KINDS if known == kind), "other")


@dataclass(frozen=True)
class Scored:
    """A claim's own confidence and the judge's value for it."""

    confidence: float
    value: float


def simulate(opened: OpenedRun, judge: Judge, claims: Claims) -> dict[UnitId, Scored]:
    """Correlation of each claim's score with the unit's pooled activation over the test images.

    Claims that the judge cannot read, or reads the same on all images, are left out.
    """
    found: dict[UnitId, Scored] = {}
    for layer, units in by_layer(list(claims)).items():
        data = opened.layer_data(layer, "test")
        own = [claims[unit] for unit in units]
        scores_np = read_claims(judge, own, data.image_ids_n)
        columns = [data.position[unit.index] for unit in units]
        value_pp = correlations(data.activations_nu[:, columns], scores_np, data.weights_n)
        for unit, claim, value in zip(units, own, np.diagonal(value_pp).tolist(), strict=True):
            if np.isfinite(value):
                found[unit] = Scored(claim.confidence, value)
    return found


Scores = Mapping[str, Mapping[UnitId, Scored]]


def most_confident(scored: Mapping[UnitId, Scored], count: int) -> list[float]:
    """The values of the `count` claims of which a method is most confident; ties by unit."""
    order = sorted(scored, key=lambda unit: (-scored[unit].confidence, unit))
    return [scored[unit].value for unit in order[:count]]


def smallest(by_method: Mapping[str, Mapping[UnitId, object]]) -> int:
    """The fewest units of any method that has some."""
    return min((len(found) for found in by_method.values() if found), default=0)


def matched(scores: Scores, count: int | None = None) -> dict[str, Mean]:
    """Each method's mean over its `count` most confident claims; by default `smallest`."""
    count = smallest(scores) if count is None else count
    return {name: bootstrap_mean(most_confident(scored, count)) for name, scored in scores.items()}


def common(scores: Scores) -> dict[str, Mean]:
    """Each method's mean value over the units that all of them label; those that label none are left out."""
    labelled = [set(scored) for scored in scores.values() if scored]
    units = sorted(set.intersection(*labelled)) if labelled else []
    return {
        name: bootstrap_mean([scored[unit].value for unit in units] if scored else [])
        for name, scored in scores.items()
    }


def comparison_table(claims: Mapping[str, Claims], scores: Scores, what: str) -> str:
    """The methods side by side: coverage, equal numbers of units, common units."""
    full = max((len(scored) for scored in scores.values()), default=0)
    counts = sorted({smallest(scores), full // 4, full // 2, full} - {0})
    header = (
        "method",
        "labelled",
        "read by the judge",
        *(f"{what}, best {n}" for n in counts),
        "common units",
    )
    by_count = {n: matched(scores, n) for n in counts}
    shared = common(scores)
    rows = [
        (
            name, str(len(claims[name])), str(len(scored)),
            *(str(by_count[n][name]) if len(scored) >= n else "fewer" for n in counts),
            f"{shared[name]} of {shared[name].count}",
        )
        for name, scored in scores.items()
    ]  # fmt: skip
    return table(header, rows)
