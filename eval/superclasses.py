"""Superclasses of ImageNet's classes, as directions over the logits: known truth on a real network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .rightness import classes_of

SUPERCLASSES = (
    "animal", "mammal", "carnivore", "reptile", "invertebrate", "arthropod", "structure", "device",
    "equipment", "wheeled vehicle", "dog", "hunting dog", "terrier", "cat", "bear", "fox", "wolf",
    "monkey", "ape", "ungulate", "rodent", "marsupial", "bird", "aquatic bird", "snake", "lizard",
    "turtle", "frog", "salamander", "fish", "insect", "butterfly", "beetle", "spider", "crustacean",
    "mollusk", "fungus", "vehicle", "car", "truck", "boat", "ship", "aircraft", "furniture",
    "musical instrument", "food", "fruit", "vegetable", "building", "shop", "clothing", "headdress",
    "footwear", "tool", "weapon", "ball", "sports equipment", "timepiece", "measuring instrument",
    "electronic equipment", "home appliance", "cookware", "bottle", "fence", "bag", "box", "fabric",
    "geological formation",
)  # fmt: skip
"""Words of everyday use among the hypernyms of ImageNet's classes, each of three classes or more. Left out
are those that stand for classes of two kinds (dish, toy, cap)."""


def members() -> dict[str, list[int]]:
    """The classes of every superclass: those that WordNet puts under it (`imagenet_words.json`)."""
    return {name: sorted(classes_of(name)) for name in SUPERCLASSES}


def directions(groups: Mapping[str, Sequence[int]], classes: int) -> NDArray[np.float32]:
    """The mean of the members' logits, for every superclass: ``(superclasses, classes)``."""
    weights_sc = np.zeros((len(groups), classes), dtype=np.float32)
    for row, group in enumerate(groups.values()):
        weights_sc[row, list(group)] = 1 / len(group)
    return weights_sc


def write_directions(groups: Mapping[str, Sequence[int]], classes: int, path: Path) -> None:
    """`directions` as `target.directions` reads them: a ``.npy``, with the names in a ``.json`` beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, directions(groups, classes))
    path.with_suffix(".json").write_text(json.dumps(list(groups)), encoding="utf-8")
