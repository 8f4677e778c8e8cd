"""Published labelling methods, each over all units at once; the same functions serve as proposers."""

from labeler.baselines.invert import Explanations, auroc, explain
from labeler.baselines.netdissect import DETECTOR_IOU, UnitConcepts, network_dissection
from labeler.baselines.softwpmi import clip_dissect

__all__ = [
    "DETECTOR_IOU",
    "Explanations",
    "UnitConcepts",
    "auroc",
    "clip_dissect",
    "explain",
    "network_dissection",
]
