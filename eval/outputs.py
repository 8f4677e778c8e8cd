"""The outputs of a classifier: which layer they are, what they are called, and how many images each has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeler.activations import image_maps
from labeler.config import Config
from labeler.encoders.bridge import read_words
from labeler.errors import UsageError
from labeler.seams import ProbeDataset
from labeler.targets import load_target
from labeler.targets.sources import open_source

from .opened import trusted_file
from .rightness import fits_superclass, is_superclass, same_name

_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Output:
    """One labelled output: its names, the first of which is the one that text cosines are taken with."""

    names: tuple[str, ...]
    superclass: bool

    def right(self, text: str) -> bool:
        """Whether a label names it."""
        return fits_superclass(text, self.names[0]) if self.superclass else same_name(text, self.names)

    def loose(self, text: str) -> bool:
        """Whether a label names it or any part of it: every hyponym of a superclass."""
        return fits_superclass(text, self.names[0], 0.0) if self.superclass else self.right(text)

    def strict(self, text: str) -> bool:
        """Whether a label is its very name, or a synonym."""
        return is_superclass(text, self.names[0]) if self.superclass else same_name(text, self.names)


def classifier_layer(config: Config, trusted: Sequence[Path] = ()) -> str:
    """The path of the network's last linear layer: the logits of torchvision's and timm's classifiers.

    Raises:
        UsageError: when it has none.
    """
    from torch import nn

    code = trusted_file(config.target.model, trusted)
    network = open_source(config.target, seed=config.seed, trust_code=code).network
    linear: list[str] = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(
            f"{config.target.model} has no linear layer; name the layer of logits: -- --layer NAME."
        )
    return linear[-1]


def predicted_classes(
    config: Config, layer: str, probe: ProbeDataset, trusted: Sequence[Path]
) -> tuple[NDArray[np.int64], int]:
    """The network's first class for every probe image ``(n,)``, and how many classes there are."""
    target = load_target(
        config.target, seed=config.seed, device=config.executor.device,
        trust_code=trusted_file(config.target.model, trusted),
    )  # fmt: skip
    classes = np.full(len(probe.images), -1, dtype=np.int64)
    for ids, _, maps in image_maps(
        target, probe, [image.id for image in probe.images], [layer],
        batch_size=config.activations.batch_size, workers=config.executor.workers,
    ):  # fmt: skip
        classes[ids] = maps[layer].amax(dim=(2, 3)).argmax(dim=1).cpu().numpy()
    return classes, target.unit_count(layer)


def classes_in_names(probe: ProbeDataset) -> NDArray[np.int64]:
    """The ImageNet class of every probe image by the WordNet id in its file name ``(n,)``; -1 without one."""
    from timm.data.imagenet_info import ImageNetInfo

    wnids: list[str] = ImageNetInfo().label_names()  # type: ignore[no-untyped-call]
    index = {wnid: place for place, wnid in enumerate(wnids)}
    found = [_WNID.search(Path(image.path).name) for image in probe.images]
    return np.array([index.get(match[0], -1) if match else -1 for match in found], dtype=np.int64)


def class_names(file: Path | None, count: int) -> list[tuple[str, ...]]:
    """Names and synonyms of every class: a line of `file`, split at commas, or ImageNet's.

    Raises:
        UsageError: when there are not `count` of them.
    """
    if file is None:
        if count != 1000:
            raise UsageError(
                f"The classifier has {count} classes; name them: -- --names FILE, one name a line."
            )
        return [tuple(entry["names"]) for entry in read_words()]
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"--names: {file} is not a readable text file.") from None
    names = [tuple(part.strip() for part in line.split(",") if part.strip()) for line in lines]
    names = [name for name in names if name]
    if len(names) != count:
        raise UsageError(f"--names: {file} has {len(names)} names, but the classifier has {count} classes.")
    return names
