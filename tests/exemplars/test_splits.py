import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.errors import ConfigError
from labeler.exemplars.splits import assign_splits, near_duplicate_groups

GROUPS = st.lists(st.text(max_size=4), max_size=30)


@given(GROUPS, GROUPS, st.integers(0, 9))
def test_a_group_keeps_its_split_whatever_else_is_there(groups, others, seed):
    alone = dict(zip(groups, assign_splits(groups, 0.35, 0.15, seed), strict=True))
    mixed = [*others, *reversed(groups)]
    for group, split in zip(mixed, assign_splits(mixed, 0.35, 0.15, seed), strict=True):
        assert alone.get(group, split) == split


def test_shares_are_about_as_asked_and_depend_on_the_seed():
    groups = [f"image-{i}" for i in range(4000)]
    splits = assign_splits(groups, 0.35, 0.15, seed=0)
    assert splits.count("propose") / 4000 == pytest.approx(0.35, abs=0.03)
    assert splits.count("feedback") / 4000 == pytest.approx(0.15, abs=0.03)
    assert splits != assign_splits(groups, 0.35, 0.15, seed=1)


def test_shares_that_leave_no_test_images_are_refused():
    with pytest.raises(ConfigError):
        assign_splits(["a"], 0.7, 0.3, 0)


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_near_duplicates_join_and_take_the_smallest_name():
    random = np.random.default_rng(0)
    photographs = unit(random.standard_normal((20, 32)))
    copies = unit(photographs[[3, 7]] + 0.005 * random.standard_normal((2, 32)))
    names = [f"image-{i:02d}" for i in range(20)] + ["copy-3", "zz-copy-7"]
    groups = near_duplicate_groups(np.concatenate([photographs, copies]), names)
    assert groups[3] == groups[20] == "copy-3"
    assert groups[7] == groups[21] == "image-07"
    assert len(set(groups)) == 20


def test_base_groups_never_part_and_join_as_a_whole():
    random = np.random.default_rng(1)
    frames = unit(random.standard_normal((6, 16)))
    embeddings = np.concatenate([frames, frames[[4]]])
    groups = near_duplicate_groups(embeddings, ["video-b", "video-b", "video-b", "c", "d", "video-b", "a"])
    assert groups == ("video-b", "video-b", "video-b", "c", "a", "video-b", "a")


def test_an_encoder_to_which_everything_looks_alike_does_not_chain_the_probe_together():
    random = np.random.default_rng(2)
    embeddings = unit(1 + 0.05 * random.standard_normal((400, 8)))  # all cosines about 0.997
    groups = near_duplicate_groups(embeddings, [f"{i:03d}" for i in range(400)])
    assert max(map(groups.count, set(groups))) <= 8
    splits = assign_splits(groups, 0.35, 0.15, 0)
    assert all(splits.count(split) > 20 for split in ("propose", "feedback", "test"))


def test_unreadable_images_join_nothing():
    embeddings = np.full((3, 4), np.nan, dtype=np.float32)
    embeddings[0] = [1, 0, 0, 0]
    assert near_duplicate_groups(embeddings, ["a", "b", "c"]) == ("a", "b", "c")
    assert near_duplicate_groups(embeddings[:0], []) == ()


def slow_groups(embeddings, names, threshold, largest):
    """Single linkage with the bound on sizes, from the definition: raise the level until parts are small."""
    distinct = sorted(set(names))
    member = [np.array(names) == name for name in distinct]
    link = np.array([[(embeddings[a] @ embeddings[b].T).max() for b in member] for a in member]).round(6)
    result = {}

    def split(nodes, level):
        components, left = [], set(nodes)
        while left:
            component, stack = set(), [left.pop()]
            while stack:
                node = stack.pop()
                component.add(node)
                stack += [n for n in left if link[node, n] >= level]
                left -= set(stack)
            components.append(component)
        for component in components:
            if len(component) <= largest:
                result.update({distinct[n]: distinct[min(component)] for n in component})
            else:
                higher = [link[a, b] for a in component for b in component if a < b and link[a, b] > level]
                split(component, min(higher) if higher else 2.0)

    split(range(len(distinct)), threshold)
    return tuple(result[name] for name in names)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.02, 0.6), st.integers(2, 40))
def test_equals_bounded_single_linkage_in_any_order(seed, noise, images):
    random = np.random.default_rng(seed)
    centres = random.standard_normal((5, 6))
    embeddings = unit(centres[random.integers(0, 5, images)] + noise * random.standard_normal((images, 6)))
    names = [f"g{random.integers(0, images):02d}" for _ in range(images)]
    groups = near_duplicate_groups(embeddings, names, threshold=0.9)
    assert groups == slow_groups(embeddings, names, 0.9, largest=4)
    order = random.permutation(images)
    shuffled = near_duplicate_groups(embeddings[order], [names[i] for i in order], threshold=0.9)
    assert shuffled == tuple(groups[i] for i in order)
