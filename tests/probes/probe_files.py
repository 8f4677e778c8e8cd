"""Writing the pictures that the probe tests read."""

import numpy as np
from PIL import Image


def save(path, picture, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(picture, dtype=np.uint8)).save(path, **options)


def panoptic_png(ids_hw):
    ids_hw = np.asarray(ids_hw)
    return np.stack([ids_hw & 255, ids_hw >> 8 & 255, ids_hw >> 16 & 255], axis=-1)
