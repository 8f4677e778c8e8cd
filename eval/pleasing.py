"""Decoy pictures that please the judges of the trust in pictures: what an attacker does who knows them.

A picture is still driven towards what the decoy shows, but also towards the victim's own strongest
photographs: in the embedding of every judge that gives gradients, in the mean features of layers before the
unit, and by what photographs taught of the victim (`pleasing_read_outs`). The encoder, which proposes, is
left as it is: it shall go on to see the decoy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn.functional import cosine_similarity, interpolate

from labeler.encoders import load_encoder
from labeler.encoders.open_clip import OpenClipEncoder

from .attack_subject import Photographs, Subject, Victim
from .pleasing_read_outs import Eyes, standing_of

EXEMPLARS = 12
"""Strongest photographs of a victim whose mean a picture is drawn to."""

Features = Callable[[torch.Tensor], torch.Tensor]
"""Pictures in [0, 1], ``(b, 3, h, w)``, to features ``(b, d)``, with gradients."""


def judges_of(names: Sequence[str]) -> list[Features]:
    """The image towers of those judges that are open_clip models; others give no gradients."""
    loaded = [load_encoder(name, device="cpu") for name in names if name != "annotations"]
    return [_tower(judge) for judge in loaded if isinstance(judge, OpenClipEncoder)]


def _tower(judge: OpenClipEncoder) -> Features:
    model = judge._model.requires_grad_(False)  # an attacker looks inside
    mean, std = (
        torch.tensor(part).view(1, 3, 1, 1) for part in (model.visual.image_mean, model.visual.image_std)
    )

    def features(pictures_bchw: torch.Tensor) -> torch.Tensor:
        size = model.visual.image_size
        resized = interpolate(pictures_bchw, size=size, mode="bilinear", antialias=True, align_corners=False)
        embedded: torch.Tensor = model.encode_image((resized - mean) / std)
        return embedded

    return features


def early_layers(subject: Subject) -> list[Features]:
    """Mean features of the layers before the unit."""

    def of(layer: str) -> Features:
        return lambda pictures_bchw: subject.target.maps(subject.target.normalise(pictures_bchw), [layer])[
            layer
        ].mean(dim=(2, 3))

    return [of(layer) for layer in subject.early]


class Taste(Protocol):
    """What likes pictures in [0, 1], ``(b, 3, h, w)``, each for its victim: ``(b,)``, about 1 where much."""

    def likeness(self, pictures_bchw: torch.Tensor, victims: Sequence[Victim]) -> torch.Tensor: ...


@dataclass(frozen=True)
class _Taste:
    """What one judge likes: directions from its mean photograph to each victim's own, in units of spread."""

    features: Features
    centre_d: torch.Tensor
    spread_d: torch.Tensor
    liked: dict[Victim, torch.Tensor]

    def likeness(self, pictures_bchw: torch.Tensor, victims: Sequence[Victim]) -> torch.Tensor:
        away_bd = (self.features(pictures_bchw) - self.centre_d) / self.spread_d
        return cosine_similarity(away_bd, torch.stack([self.liked[victim] for victim in victims]), dim=1)


class Pleaser:
    """The wish of an adaptive attacker: `__call__` says how much a picture pleases, beside showing the decoy.

    Args:
        judges: image-text judges.
        early: features of layers before the unit.
        subject: the clean network.
        seen: photographs.
        victims: who is attacked.
        pictures_bchw: plain pictures of the decoys: judges are shown pictures beside pictures.
        weight: of each of the kinds of judges, where the decoy's own answer to its picture is 1.
        eyes: the read-outs, where they can be fitted.
    """

    def __init__(
        self, judges: Sequence[Features], early: Sequence[Features], subject: Subject, seen: Photographs,
        victims: Sequence[Victim], pictures_bchw: torch.Tensor, weight: float,
        eyes: Eyes | None = None,
    ) -> None:  # fmt: skip
        self.weight = weight
        kinds = [kind for kind in (judges, early) if kind]
        self._kinds: list[list[Taste]] = [
            [_taste(of, subject, seen, victims, pictures_bchw) for of in kind] for kind in kinds
        ]
        if eyes is not None:
            self._kinds.append([standing_of(eyes, pictures_bchw, victims)])

    def __call__(self, pictures_bchw: torch.Tensor, victims: Sequence[Victim]) -> torch.Tensor:
        """How much each picture pleases, ``(b,)``."""
        found = [
            torch.stack([taste.likeness(pictures_bchw, victims) for taste in kind]).mean(dim=0)
            for kind in self._kinds
        ]
        return self.weight * torch.stack(found).sum(dim=0)


@torch.no_grad()
def _taste(
    features: Features, subject: Subject, seen: Photographs, victims: Sequence[Victim],
    pictures_bchw: torch.Tensor,
) -> _Taste:  # fmt: skip
    photographs = [subject.pictured(part.float()) for part in seen.prepared_nchw.split(64)]
    natural_nd = torch.cat([features(part) for part in photographs])
    drawn_bd = features(pictures_bchw)
    tops_nu = seen.wanted_nuhw.float().amax(dim=(2, 3))
    spread_d = natural_nd.std(dim=0).clamp(min=1e-6)
    liked = {
        victim: (
            natural_nd[tops_nu[:, victim.unit].topk(EXEMPLARS).indices].mean(dim=0) - natural_nd.mean(dim=0)
        )
        / spread_d
        for victim in victims
    }
    return _Taste(features, drawn_bd.mean(dim=0), spread_d, liked)
