"""The shipped scenes-clip models: their files and the words they know.

Written by `labeler.builtin.training.scenes_clip`; the quality measured on unseen scenes lies beside each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from labeler.builtin.scenes.concepts import CONCEPTS

SCENES_CLIP_NAMES: Final = ("scenes-clip", "scenes-clip-judge")

SCENES_CLIP_WORDS: Final[frozenset[str]] = frozenset(
    word for concept in CONCEPTS for phrase in concept.words for word in phrase.split()
) - {"plus", "sign", "thin", "spider"}
"""Lower-case words that the models have seen for a concept; without those that name none on their own."""


def scenes_clip_files(name: str) -> tuple[Path, Path]:
    """The open_clip config (JSON) and the weights (safetensors) of one of `SCENES_CLIP_NAMES`.

    Raises:
        KeyError: there is no such model.
    """
    if name not in SCENES_CLIP_NAMES:
        raise KeyError(f"no built-in model {name!r}; there are {', '.join(SCENES_CLIP_NAMES)}")
    folder = Path(__file__).parent
    return folder / f"{name}.json", folder / f"{name}.safetensors"
