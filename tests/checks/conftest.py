"""A simulated layer whose truth is known: some units detect a concept, the others nothing."""

from dataclasses import dataclass

import numpy as np
import pytest

from labeler.checks import AnnotationJudge, LayerData
from labeler.seams import Concept


@dataclass(frozen=True)
class Layer:
    data: LayerData
    judge: AnnotationJudge
    present_nc: np.ndarray
    truth: dict[int, str]  # planted unit -> concept


def build_layer(seed=0, images=600, units=96, planted=24, concepts=24, rate=0.1, strength=3.0):
    generator = np.random.default_rng(seed)
    present_nc = generator.random((images, concepts)) < rate
    activations_nu = generator.standard_normal((images, units)) ** 2  # heavy-tailed, as pooled maxima are
    for unit in range(planted):
        activations_nu[:, unit] += strength * present_nc[:, unit % concepts]
    names = tuple(Concept(f"concept{index:02d}", "texture") for index in range(concepts))
    order = np.argsort(-activations_nu, axis=0, kind="stable")
    data = LayerData(
        layer="block",
        live_units=np.arange(units),
        activations_nu=activations_nu.astype(np.float32),
        image_ids_n=np.arange(images),
        weights_n=np.ones(images),
        p99_u=np.quantile(activations_nu, 0.985, axis=0).astype(np.float32),
        exemplar_ids={unit: order[:12, unit].tolist() for unit in range(units)},
    )
    judge = AnnotationJudge(names, np.where(present_nc, 0.2, 0.0).astype(np.float32), 0.01)
    return Layer(data, judge, present_nc, {unit: f"concept{unit % concepts:02d}" for unit in range(planted)})


@pytest.fixture
def layer_factory():
    return build_layer


@pytest.fixture(scope="session")
def layer():
    return build_layer()
