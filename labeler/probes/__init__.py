"""Probe datasets: the images shown to a target, with their concept annotations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from labeler.config import ProbeConfig
from labeler.errors import ProbeError, UnknownNameError
from labeler.printable import is_printable
from labeler.probes.colours import with_colours
from labeler.probes.combined import CombinedProbe
from labeler.probes.files import in_short
from labeler.probes.grid import PartialAnnotation, annotation_on_grid, concept_areas
from labeler.seams import ProbeDataset

__all__ = ["PartialAnnotation", "annotation_on_grid", "concept_areas", "load_probe"]

_LONGEST_NAME = 200
_SOURCES = ("builtin:scenes", "folder:", "coco_panoptic:", "masks:", "broden:", "webdataset:")


def load_probe(config: ProbeConfig, *, seed: int) -> ProbeDataset:
    """The probe dataset of a config; `seed` chooses the scenes of ``builtin:scenes``.

    File bytes are hashed, nothing is decoded or rendered yet.

    Raises:
        UnknownNameError: a source of no known kind.
        ProbeError: a source that cannot be used, in one sentence.
        MissingExtraError: a source needs packages that are not installed.
    """
    if not config.source:
        raise ProbeError("The probe has no source; set probe.source in the config, e.g. to builtin:scenes.")
    if len(set(config.source)) < len(config.source):
        raise ProbeError("probe.source names the same source twice; name it once.")
    names: Counter[str] = Counter()
    parts = [_load(source, config, seed, names) for source in config.source]
    return parts[0] if len(parts) == 1 else CombinedProbe(parts)


def _load(source: str, config: ProbeConfig, seed: int, names: Counter[str]) -> ProbeDataset:
    kind, _, path = source.partition(":")
    probe: ProbeDataset
    if source == "builtin:scenes":
        from labeler.probes.scenes import ScenesProbe  # needs scikit-image, an extra

        probe = ScenesProbe(seed=seed, count=config.images, size=config.size)
    elif kind == "folder":
        from labeler.probes.folder import FolderProbe

        probe = FolderProbe(path, _name(path, names))
    elif kind == "coco_panoptic":
        from labeler.probes.coco import CocoPanopticProbe

        probe = CocoPanopticProbe(path, _name(path, names))
    elif kind == "masks":
        from labeler.probes.index_masks import IndexMaskProbe

        probe = IndexMaskProbe(path, _name(path, names))
    elif kind == "broden":
        from labeler.probes.broden import BrodenProbe

        probe = BrodenProbe(path, _name(path, names))
    elif kind == "webdataset":
        from labeler.probes.webdataset import WebDatasetProbe

        probe = WebDatasetProbe(path, _name(str(Path(path).parent), names))
    else:
        raise UnknownNameError("probe source", source, _SOURCES)
    for concept in probe.concepts:
        for word in (concept.name, *concept.synonyms):
            # It goes to prompts, pages and the database: half a surrogate cannot be stored, a bidi mark lies.
            if not word.strip() or not is_printable(word) or len(word) > _LONGEST_NAME:
                raise ProbeError(
                    f"{in_short(source)} names a concept {in_short(word)!r}; a name is one line of at most "
                    f"{_LONGEST_NAME} characters that can be printed."
                )
    return with_colours(probe) if config.colours else probe


def _name(path: str, names: Counter[str]) -> str:
    """The directory's own name, numbered when two sources share it: image paths stay apart."""
    name = Path(path).resolve().name or "images"
    names[name] += 1
    return name if names[name] == 1 else f"{name}-{names[name]}"
