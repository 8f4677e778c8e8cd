import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from labeler.exemplars.select import top_of_split

SPLITS = ("propose", "feedback", "test")


@given(st.data(), st.integers(1, 25), st.integers(1, 30), st.integers(1, 8))
def test_equals_sorting_everything(data, images, kept, count):
    values = np.array(
        data.draw(
            st.lists(st.sampled_from([-1.5, 0.0, 0.25, 2.0, np.nan]), min_size=images, max_size=images)
        ),
        dtype=np.float32,
    )
    splits = data.draw(st.lists(st.sampled_from(SPLITS), min_size=images, max_size=images))
    groups = data.draw(st.lists(st.sampled_from("abcdef"), min_size=images, max_size=images))
    ranked = sorted((i for i in range(images) if np.isfinite(values[i])), key=lambda i: (-values[i], i))
    top_ids = np.array((ranked + [-1] * kept)[:kept], dtype=np.int64)
    top_values = np.where(top_ids >= 0, values[top_ids], -np.inf).astype(np.float32)

    expected = []
    for image in ranked:
        if splits[image] == "propose" and groups[image] not in {groups[i] for i in expected}:
            expected.append(image)
    ids, found = top_of_split(top_values, top_ids, splits, groups, "propose", count, dense_n=values)
    assert ids.tolist() == expected[:count]
    assert found.tolist() == values[expected[:count]].tolist()


def test_without_a_dense_index_the_top_k_gives_what_it_has():
    values, ids = np.array([3.0, 2.0], np.float32), np.array([4, 0])
    splits, groups = ["test"] * 5, ["a", "b", "c", "d", "e"]
    found, _ = top_of_split(values, ids, splits, groups, "test", 4)
    assert found.tolist() == [4, 0]


def test_a_dense_subset_adds_its_own_images():
    found, values = top_of_split(
        np.array([3.0], np.float32), np.array([4]), ["test"] * 5, list("abcde"), "test", 2,
        dense_n=np.array([1.0, 2.5], np.float32), dense_ids_n=np.array([1, 3]),
    )  # fmt: skip
    assert (found.tolist(), values.tolist()) == ([4, 3], [3.0, 2.5])
