"""The drawings: every mark lies where its number says, inside the picture, and is said in words too."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.records import ActivationSummary, CheckResult, Null, SpecificityNull
from labeler.report.distribution import Group, rows_svg
from labeler.report.histogram import Ticks, histogram_svg
from labeler.report.nulls import nulls_svg, value_svg
from labeler.report.overview import Tally, tally
from labeler.report.words import MEANING
from tests.report.catalogues import units

VALUES = st.floats(-1e6, 1e6, allow_nan=False)
SUMMARY = ActivationSummary(
    threshold=2.0, minimum=0.0, maximum=4.0, quantiles={"p50": 1.0, "p90": 3.0, "p99": 3.5},
    histogram=(5, 0, 9, 1), histogram_edges=(0.0, 1.0, 2.0, 3.0, 4.0),
)  # fmt: skip


def ok(
    value: float, low: float | None = None, z: float | None = None, units_z: float | None = None
) -> CheckResult:
    return CheckResult(
        status="ok", value=value, low=low, n=9,
        significance=None if z is None else Null(z=z, p=0.01),
        specificity=None if units_z is None else SpecificityNull(z=units_z, p=None, units=40),
    )  # fmt: skip


def numbers(svg: ET.Element, tag: str, kind: str, name: str) -> list[float]:
    return [float(found.get(name, "nan")) for found in svg.iter(tag) if found.get("class") == kind]


@given(st.sampled_from(sorted(MEANING)), VALUES, st.none() | VALUES)
@settings(max_examples=50, deadline=None)
def test_a_value_is_drawn_inside_and_its_bound_to_its_left(
    name: str, value: float, low: float | None
) -> None:
    bound = None if low is None else min(low, value)
    svg = ET.fromstring(value_svg(name, ok(value, bound)))
    width = float(svg.get("viewBox", "").split()[2])
    (x,) = numbers(svg, "circle", "dot", "cx")
    assert 0 <= x <= width
    ends = numbers(svg, "line", "bound", "x1")
    assert (len(ends) == 2) == (bound is not None)
    assert all(0 <= end <= x + 0.1 for end in ends)
    assert f"value {value:.3g} " in svg.get("aria-label", "")


def test_larger_values_are_further_right_and_zero_is_marked() -> None:
    drawn = [ET.fromstring(value_svg("prediction", ok(value))) for value in (-1.0, 0.0, 0.5, 1.0)]
    places = [numbers(svg, "circle", "dot", "cx")[0] for svg in drawn]
    assert places == sorted(places)
    assert numbers(drawn[1], "line", "zero", "x1") == [places[1]]


@given(VALUES, VALUES)
@settings(max_examples=50, deadline=None)
def test_nulls_are_drawn_inside_and_said_with_their_numbers(z: float, units_z: float) -> None:
    svg = ET.fromstring(nulls_svg(ok(0.1, z=z, units_z=units_z)))
    said = svg.get("aria-label", "")
    assert f"{z:+.1f} standard deviations from chance" in said
    assert f"{units_z:+.1f} standard deviations from other units" in said
    width = float(svg.get("viewBox", "").split()[2])
    assert all(0 <= end <= width for end in numbers(svg, "line", "reach", "x2"))
    assert len(list(svg.iter("use"))) == 2


def test_a_check_that_does_not_apply_is_not_drawn_as_zero() -> None:
    absent = CheckResult.not_applicable("no judge")
    assert value_svg("iou", absent) == nulls_svg(absent) == ""
    assert nulls_svg(ok(0.1)) == ""


def test_a_picture_far_outside_the_natural_range_stretches_the_axis() -> None:
    svg = ET.fromstring(histogram_svg(SUMMARY, [Ticks("photographs", [3.9]), Ticks("synthetic", [40.0])]))
    (far,) = numbers(svg, "line", "tick synthetic", "x1")
    (near,) = numbers(svg, "line", "tick", "x1")
    bars = [float(bar.get("x", 0)) + float(bar.get("width", 0)) for bar in svg.iter("rect")]
    assert max(bars) < far / 5
    assert abs(near - max(bars)) < 10
    assert {"40", "0"} <= {text.text for text in svg.iter("text")}


def test_the_histogram_has_a_bar_for_each_filled_bin_and_a_line_for_each_mark() -> None:
    svg = ET.fromstring(histogram_svg(SUMMARY))
    assert [found.findtext("title") for found in svg.iter("rect")] == [
        "5 images from 0 to 1", "9 images from 2 to 3", "1 images from 3 to 4",
    ]  # fmt: skip
    marks = numbers(svg, "line", "mark", "x1") + numbers(svg, "line", "mark threshold", "x1")
    assert sorted(marks) == sorted(round(4 + value * 158, 1) for value in (1.0, 2.0, 3.0, 3.5))
    texts = [text.text for text in svg.iter("text")]
    assert {"median 1", "T 2", "p90 3", "p99 3.5"} <= set(texts)


def test_a_histogram_of_nothing_is_nothing() -> None:
    assert histogram_svg(SUMMARY.model_copy(update={"histogram": (), "histogram_edges": ()})) == ""


@given(
    st.lists(st.floats(0, 1), max_size=60),
    st.lists(st.floats(0, 1), max_size=60),
    st.none() | st.floats(0, 1),
    st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_distributions_hold_every_group_and_stay_inside(
    one: list[float], other: list[float], mark: float | None, logarithmic: bool
) -> None:
    groups = [Group("accepted", "accepted", one), Group("decoys", "decoys", other)]
    drawn = rows_svg("score", groups, mark=mark, mark_name="cut", logarithmic=logarithmic)
    if not one and not other:
        assert drawn == ""
        return
    svg = ET.fromstring(drawn)
    width, height = (float(end) for end in svg.get("viewBox", "").split()[2:])
    for bar in svg.iter("rect"):
        x, y, wide, high = (float(bar.get(name, "nan")) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + wide <= width + 0.2
        assert 0 <= y <= y + high <= height
    for group in groups:
        assert bool(numbers(svg, "rect", group.kind, "x")) == bool(group.values)
        said = f"{group.name}: {len(group.values)} values" if group.values else f"{group.name}: none"
        assert said in svg.get("aria-label", "")


def test_tallies_of_parts_add_up_to_the_tally_of_all() -> None:
    records = list(units("a", 30, ["t.webp"]))
    whole, parts = tally(records), Tally()
    for start in range(0, 30, 7):
        parts.merge(tally(records[start : start + 7]))
    assert parts == whole
    assert whole.verdicts.total() == whole.units == 30
    tried = sum(len(record.labels) + len(record.candidates) for record in records)
    for name, values in whole.values.items():
        assert sum(map(len, values.values())) + whole.absent[name] == tried
