import json

import numpy as np
import pytest

from .probe_files import panoptic_png, save


@pytest.fixture
def coco_root(tmp_path):
    """Three 12 × 8 images; a.jpg and b.jpg are annotated, c.jpg is not in the JSON."""
    root = tmp_path / "tiny"
    for index, name in enumerate("abc"):
        save(root / "images" / f"{name}.jpg", np.full((8, 12, 3), 60 * index))
    ids_hw = np.zeros((8, 12), dtype=np.int64)
    ids_hw[:, :4] = 7  # a person
    ids_hw[:, 4:8] = 70_000  # a brick wall; the id needs all three bytes
    ids_hw[:2, 8:] = 300  # a wall of another kind
    save(root / "panoptic" / "a.png", panoptic_png(ids_hw))
    save(root / "panoptic" / "b.png", panoptic_png(np.where(ids_hw == 7, 7, 0)))
    names = {1: "person", 175: "wall-brick", 199: "wall-other-merged"}
    data = {
        "images": [{"id": i, "file_name": f"{n}.jpg"} for i, n in enumerate("ab")],
        "categories": [{"id": i, "name": n, "isthing": int(i == 1)} for i, n in names.items()],
        "annotations": [
            {
                "image_id": 0,
                "file_name": "a.png",
                "segments_info": [
                    {"id": 7, "category_id": 1},
                    {"id": 70_000, "category_id": 175},
                    {"id": 300, "category_id": 199},
                ],
            },
            {"image_id": 1, "file_name": "b.png", "segments_info": [{"id": 7, "category_id": 1}]},
        ],
    }
    (root / "panoptic.json").write_text(json.dumps(data))
    return root


@pytest.fixture
def masks_root(tmp_path):
    """Two annotated 6 × 6 images, one without a mask; wood is a material."""
    root = tmp_path / "street"
    mask_hw = np.zeros((6, 6))
    mask_hw[:, :3] = 1
    mask_hw[:, 3] = 255
    mask_hw[:, 4:] = 2
    for name in ("x/one", "x/two", "bare"):
        save(root / "images" / f"{name}.jpg", np.full((6, 6, 3), 90))
    save(root / "masks/x/one.png", mask_hw)
    save(root / "masks/x/two.png", np.zeros((6, 6)))
    (root / "classes.json").write_text(
        json.dumps(
            {"1": "Traffic_Light", "2": {"name": "wood", "category": "material", "synonyms": ["timber"]}}
        )
    )
    return root
