"""Two catalogues side by side: what counts as changed, by how much, and in which order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeler.catalogue import ListedLabel, ListedUnit
from labeler.catalogue.compare import Comparison, compare_units, differing_texts

VECTORS = {
    "dog": np.array([1, 0, 0], np.float32),
    "puppy": np.array([0.8, 0.6, 0], np.float32),
    "car": np.array([0, 0, 1], np.float32),
    "not a car": np.array([0, 0, -1], np.float32),
}


def unit(index: int, *texts: str, verdict: str = "", exemplars: tuple[int, ...] = (1, 2, 3)) -> ListedUnit:
    labels = tuple(ListedLabel(text, "object", None, 0, 0.5, None) for text in texts)
    name = verdict or ("accepted" if texts else "rejected")
    return ListedUnit(f"a:{index}", "a", index, "", name, "partial", None, "r", labels, exemplars)  # type: ignore[arg-type]


def compared(a: list[ListedUnit], b: list[ListedUnit], **more: bool) -> Comparison:
    return compare_units(a, b, VECTORS, similarity_by="model", same_probe=more.get("same_probe", True))


def test_a_catalogue_agrees_with_itself() -> None:
    found = [unit(0, "dog"), unit(1), unit(2, "car", "dog")]
    result = compared(found, found)
    assert (result.same_text, result.similarity, result.exemplars, result.changed) == (1, 1, 1, ())
    assert (result.common, result.only_a, result.only_b, result.labelled) == (3, 0, 0, 2)
    assert [one.what for one in result.units] == ["same", "unlabelled", "same"]
    assert differing_texts(found, found) == []


def test_units_are_sorted_by_how_much_they_changed() -> None:
    a = [unit(0, "dog"), unit(1, "dog"), unit(2, "dog"), unit(3), unit(4, "Dog"), unit(5, "dog"), unit(9)]
    b = [
        unit(0, "puppy"),
        unit(1, "car"),
        unit(2),
        unit(3, "car"),
        unit(4, "dog"),
        unit(5, "unheard of"),
        unit(8),
    ]
    result = compared(a, b)
    assert [(one.unit, one.what, one.change) for one in result.changed] == [
        ("a:1", "changed", 1.0),
        ("a:2", "lost", 1.0),
        ("a:3", "gained", 1.0),
        ("a:0", "changed", pytest.approx(0.2)),
        ("a:5", "changed", None),
    ]
    assert (result.only_a, result.only_b, result.labelled) == (1, 1, 4)
    assert result.same_text == 1 / 4  # but for case
    assert result.similarity_of == 3
    assert result.similarity == pytest.approx((0.8 + 0 + 1) / 3)
    assert {(pair.a, pair.b, pair.units) for pair in result.verdicts} == {
        ("accepted", "accepted", 4), ("accepted", "rejected", 1), ("rejected", "accepted", 1),
    }  # fmt: skip
    assert differing_texts(a, b) == ["car", "dog", "puppy", "unheard of"]


def test_of_equal_change_the_unit_with_other_exemplars_comes_first() -> None:
    a = [unit(0, "dog"), unit(1, "dog")]
    b = [unit(0, "car", exemplars=(1, 2, 3)), unit(1, "car", exemplars=(3, 4, 5, 6))]
    result = compared(a, b)
    assert [(one.unit, one.exemplars) for one in result.changed] == [("a:1", 1 / 6), ("a:0", 1.0)]
    assert result.exemplars == pytest.approx((1 / 6 + 1) / 2)


def test_opposites_have_changed_no_more_than_wholly() -> None:
    (change,) = compared([unit(0, "car")], [unit(0, "not a car")]).changed
    assert (change.similarity, change.change) == (-1.0, 1.0)


def test_several_labels_are_compared_with_the_nearest_of_the_other_side() -> None:
    (change,) = compared([unit(0, "dog", "car")], [unit(0, "puppy")]).changed
    assert change.similarity == pytest.approx(((0.8 + 0) / 2 + 0.8) / 2)


def test_exemplars_of_other_images_say_nothing() -> None:
    result = compared([unit(0, "dog")], [unit(0, "car")], same_probe=False)
    assert result.exemplars is None
    assert result.units[0].exemplars is None


words = st.lists(st.sampled_from(sorted(VECTORS)), max_size=2, unique=True)
catalogues = st.dictionaries(st.integers(0, 6), words).map(
    lambda found: [unit(index, *texts) for index, texts in sorted(found.items())]
)


@given(catalogues, catalogues)
def test_sides_may_be_exchanged(a: list[ListedUnit], b: list[ListedUnit]) -> None:
    there, back = compared(a, b), compared(b, a)
    assert (there.only_a, there.only_b, there.common) == (back.only_b, back.only_a, back.common)
    assert (there.same_text, there.similarity_of) == (back.same_text, back.similarity_of)
    assert there.similarity == (None if back.similarity is None else pytest.approx(back.similarity))
    assert {pair.units for pair in there.verdicts} == {pair.units for pair in back.verdicts}
    for one, other in zip(there.units, back.units, strict=True):
        assert one.unit == other.unit
        assert one.change == (None if other.change is None else pytest.approx(other.change))
        assert {one.what, other.what} in ({"same"}, {"changed"}, {"unlabelled"}, {"gained", "lost"})
    for one in there.units:
        assert one.change is None or 0 <= one.change <= 1
    assert sum(pair.units for pair in there.verdicts) == there.common
