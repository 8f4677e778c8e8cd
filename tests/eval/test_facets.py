"""The suite `facets`, on made-up units with known answers."""

from __future__ import annotations

import pytest

from labeler.suites import suite_module

facets = suite_module("facets")


def unit(*pairs, network="planted-5"):
    return facets.Parted(network, "a or b", tuple(t for t, _ in pairs), tuple(shown for _, shown in pairs))


@pytest.mark.parametrize(
    ("found", "split", "both"),
    [
        (unit(("a", (True, True)), ("b", (True, False))), True, True),
        (unit(("a", (True, True)), ("b", (False, False))), True, False),
        (unit(("a", (True, True)), ("a", (True, True))), False, False),
        (unit(("a", (True,)), ("", (False,))), False, False),  # a facet that shows neither
        (unit(("a", (False, False)), ("a", (True, True)), ("b", (True, True))), True, True),
        (unit(("a", (True, True)), ("b", ())), True, False),  # every picture of a facet failed
        (unit(), False, False),
    ],
)
def test_a_unit_is_split_where_facets_stand_for_both_and_shown_where_pictures_do(found, split, both):
    assert (found.split, found.both_shown) == (split, both)


def test_pictures_count_of_units_that_are_split():
    units = [
        unit(("a", (True, True)), ("b", (True, False))),
        unit(("a", (False, False)), ("a", (False, False))),
        unit(("a", (True, True)), ("b", (False, False)), network="planted-6"),
    ]
    found = facets.summarise(units, [("planted-5", False), ("planted-5", True), ("planted-6", False)])
    assert found.units == 3
    assert found.figures["split"] == pytest.approx(2 / 3)
    assert found.figures["pictures_right"] == pytest.approx(5 / 8)
    assert found.figures["both_shown"] == pytest.approx(1 / 2)
    assert found.figures["singles_split"] == pytest.approx(1 / 3)


def test_one_each_asks_which_facet_shows_which():
    units = [
        facets.Parted(
            "planted-5", "a or b", ("a", "b"), ((True,), (False,)), 0.4
        ),  # wrong by itself, right as a pair
        facets.Parted("planted-5", "a or b", ("a", "b"), ((False,), (False,)), -1.0),
        facets.Parted("planted-5", "a or b", ("a",), ((True,),), None),
    ]
    assert facets.summarise(units, [("planted-5", False)]).figures["one_each"] == pytest.approx(1 / 2)
