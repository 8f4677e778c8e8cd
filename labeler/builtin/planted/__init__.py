"""`builtin:planted-1` … `builtin:planted-18`: small networks whose units' truth is known.

Networks 1 to 4 and 15 to 18 may be fitted on. 5 to 8 may be looked at while methods are chosen, never fitted
on. 9 to 14 are held out: no method, constant or weight was ever chosen with a look at them, so tables for
others come from these. The last two groups plant concepts that the first does not, over trunks of their own
(7, 8 and 12 to 14 of another architecture). Networks of one trunk share its weights and differ in everything
after it. Made by `labeler.builtin.training.planted`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from labeler.builtin.planted.network import PlantedNetwork

PlantedKind = Literal["single", "duplicate", "or", "and", "not", "context", "decoy", "dead", "unclear"]

LAYER: Final = "units"
INPUT: Final = 112
"""Side of the input in pixels."""
FITTED: Final = tuple(f"planted-{number}" for number in (1, 2, 3, 4, 15, 16, 17, 18))
LOOKED_AT: Final = ("planted-5", "planted-6", "planted-7", "planted-8")
HELD_OUT: Final = tuple(f"planted-{number}" for number in range(9, 15))
PLANTED: Final = (*FITTED, *LOOKED_AT, *HELD_OUT)

HELD_OUT_CONCEPTS: Final = frozenset(
    {
        "orange", "purple", "zigzagged", "woven", "bubbly", "sprinkled", "wood", "star", "crescent",
        "boat", "sail", "cup", "handle", "clock", "beach", "city",
    }
)  # fmt: skip
"""Concepts that the networks fitted on do not plant. Wholes and their parts are held out together."""


FLOOR: Final = 0.85
"""A unit whose AUROC is lower does not do what its truth says: it is ``unclear`` and counts in no table."""
RIVAL_MARGIN: Final = 0.01
"""Nor does one whose activation correlates with another formula better by more than this."""
PART_MARGIN: Final = 0.1
"""A unit of two terms is one only if both together go with it better by so much than either alone."""
TIE: Final = 0.005
"""And its formula has to be the best there is by this: no scene tells ``dotted or petal`` from ``dotted or
flower``."""
ELSEWHERE: Final = 1.0
"""Nor does a unit of one concept whose cells another concept of the same scenes covers better, by IoU."""
DECOY_CEILING: Final = 0.6
"""A decoy that a concept, or a pair, predicts better is ``unclear`` too."""


@dataclass(frozen=True)
class PlantedUnit:
    """What one unit was trained to do, and how well it does it.

    Attributes:
        index: in the layer `LAYER`.
        kind: ``single``; ``duplicate`` (a second unit of a single's concept); ``or``, ``and``, ``not`` of
            `terms`; ``context`` (fires at the first term where the second is in the image too); ``decoy``
            (nothing that the scenes annotate); ``dead``; ``unclear`` (not what it was trained to be).
        terms: concepts of the scenes, empty for decoys and dead units.
        auroc: of the spatial maximum against the truth on scenes never trained on; for a decoy the greatest
            of any concept or pair, its distance from 1/2 added to 1/2; None for a dead unit.
    """

    index: int
    kind: PlantedKind
    terms: tuple[str, ...]
    auroc: float | None


def truth(name: str) -> tuple[PlantedUnit, ...]:
    """What the units of a planted network do, by index.

    Raises:
        KeyError: there is no such network.
    """
    stored = json.loads(_files(name)[0].read_text(encoding="utf-8"))
    return tuple(
        PlantedUnit(
            unit["index"], unit["kind"] if _clear(unit) else "unclear", tuple(unit["terms"]), unit["auroc"]
        )
        for unit in stored["units"]
    )


def _clear(unit: dict[str, Any]) -> bool:
    """Whether a unit does what its truth says, as measured on scenes never trained on."""
    if unit["kind"] == "dead":
        return True
    if unit["kind"] == "decoy":
        return bool(unit["auroc"] <= DECOY_CEILING)
    elsewhere = unit["kind"] in ("single", "duplicate") and unit["where_iou"] > ELSEWHERE * unit["iou"]
    lead = unit["correlation"] - unit["rival_correlation"]
    if unit["kind"] in ("single", "duplicate"):
        return bool(unit["auroc"] >= FLOOR and lead >= -RIVAL_MARGIN and not elsewhere)
    more = unit["kind"] == "not" or unit["correlation"] - unit["part_correlation"] >= PART_MARGIN
    return bool(unit["auroc"] >= FLOOR and lead >= TIE and more)


def load(name: str, pretrained: bool = True) -> PlantedNetwork:
    """The network, with its weights or with random ones.

    Raises:
        KeyError: there is no such network.
    """
    from safetensors.torch import load_file

    from labeler.builtin.planted.network import TRUNKS, PlantedNetwork

    described, weights = _files(name)
    architecture = json.loads(described.read_text(encoding="utf-8"))["architecture"]
    network = PlantedNetwork(TRUNKS[architecture]())
    if pretrained:
        state = {key: value.float() for key, value in load_file(weights).items()}
        network.load_state_dict(state, strict=False)  # batch norm's step counters are not kept
    return network.eval()


def _files(name: str) -> tuple[Path, Path]:
    if name not in PLANTED:
        raise KeyError(f"no planted network {name!r}; there are {', '.join(PLANTED)}")
    folder = Path(__file__).parent
    return folder / f"{name}.json", folder / f"{name}.safetensors"
