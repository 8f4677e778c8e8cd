"""What the modules before a unit give where it fires: how the network comes to the unit's activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate

from labeler.checks import place_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray


def code_of(
    maps: Mapping[str, torch.Tensor], modules: Sequence[str], place: int, own_hw: torch.Tensor
) -> NDArray[np.float32]:
    """Mean activations ``(d,)`` of the modules' channels over the places where a unit fires.

    Args:
        maps: of the modules, ``(b, c, h, w)`` each.
        modules: whose channels are taken, in this order.
        place: of the image in the batch.
        own_hw: the unit's map of the image.
    """
    parts = []
    for module in modules:
        map_chw = maps[module][place]
        size = (int(map_chw.shape[1]), int(map_chw.shape[2]))
        wide_hw = interpolate(own_hw[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        weights_hw = torch.from_numpy(place_weights(wide_hw.cpu().numpy())).to(map_chw)
        parts.append((map_chw * weights_hw).sum(dim=(1, 2)).cpu().numpy())
    code_d: NDArray[np.float32] = np.concatenate(parts).astype(np.float32)
    return code_d
