import numpy as np

from labeler.exemplars.near_misses import near_misses

EMBEDDINGS = np.array([[1, 0], [0.8, 0.6], [0.8, 0.6], [0, 1], [0.96, 0.28], [np.nan, 0]], dtype=np.float32)
IDS = np.array([10, 22, 21, 13, 14, 15])


def test_quiet_lookalikes_nearest_first_ties_by_id():
    activations = np.array([9, 0, 0, 0, 5, 0], dtype=np.float32)
    assert near_misses(EMBEDDINGS, IDS, activations, [10], 0.0, 3).tolist() == [21, 22, 13]


def test_neither_exemplars_nor_active_nor_unreadable_images():
    activations = np.array([0, 0, 7, np.nan, 0, 0], dtype=np.float32)
    assert near_misses(EMBEDDINGS, IDS, activations, [10, 14, 99], 0.5, 9).tolist() == [22]


def test_without_a_known_exemplar_there_is_nothing():
    assert near_misses(EMBEDDINGS, IDS, np.zeros(6, np.float32), [99], 1.0, 4).size == 0
