import numpy as np
import pytest

from labeler.activations import image_maps
from labeler.checks.iou import upsample
from labeler.errors import LabelerError, UsageError
from labeler.pipeline.dissection import dissected_images
from labeler.suites import run_suite, suite_module
from tests.eval.opened_double import opened_double

sanity, dissection = suite_module("sanity"), suite_module("dissection")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return opened_double(tmp_path_factory.mktemp("run"), {}).bench


def test_damages_keep_half_of_the_positives_or_add_as_many_negatives(bench):
    variants = sanity._variants(bench, [0], 3)
    whole = set(variants["0--0"].donors)
    assert len(whole) >= sanity.FEWEST
    for repeat in range(3):
        missing = variants[f"0-missing-{repeat}"].donors
        extra = variants[f"0-extra-{repeat}"].donors
        assert set(missing) < whole
        assert len(missing) == len(whole) - len(whole) // 2
        assert set(extra) > whole
        assert len(extra) == 2 * len(whole)
        assert {extra[image] for image in set(extra) - whole} <= whole
    assert variants["0-missing-0"].donors != variants["0-missing-1"].donors


def test_checks_over_the_whole_range_pass_both_tests_on_units_that_follow_a_concept(bench):
    result = sanity.evaluate(bench, least=0.9, repeats=2, every_unit=False)
    assert result.units >= 3
    for name in ("prediction", "iou"):  # every red picture is as red: no image is over the 99th percentile
        for damage in ("missing", "extra"):
            assert result.figures[f"passes_{damage}.{name}"] == 1.0
            assert result.figures[f"drop_{damage}.{name}"] > 0.05
            assert result.figures[f"falls_{damage}.{name}"] == 1.0
            low, high = result.intervals[f"drop_{damage}.{name}"]
            assert 0 < low <= result.figures[f"drop_{damage}.{name}"] <= high
    assert not any("agreement" in name or "synthetic" in name for name in result.figures)


def test_a_score_that_does_not_fall_fails(bench):
    pairs = {"conv1": [(0, 0)] * 10}
    whole = np.linspace(0.5, 0.9, 10)
    falls = np.stack([whole, whole - 0.2, whole], axis=1)
    mostly = np.stack([whole, whole - 0.2, whole - 0.2 * (np.arange(10) > 1)], axis=1)
    figures = sanity._result(bench, pairs, {"blind": falls, "eight of ten": mostly}, 1).figures
    assert (figures["passes_missing.blind"], figures["passes_extra.blind"]) == (1.0, 0.0)
    assert figures["drop_missing.blind"] == pytest.approx(0.2 / 0.6)
    assert figures["drop_extra.blind"] == 0
    assert figures["falls_extra.eight of ten"] == 0.8
    assert figures["passes_extra.eight of ten"] == 0.0


def test_iou_sees_moved_masks(bench):
    images = dissected_images(bench, "test")
    positive = [i for i in images if i % 3 == 0]
    negative = [i for i in images if i % 3 == 1][: len(positive)]
    shown = dict(zip(positive, positive, strict=True))
    added = dict(zip(negative, positive, strict=False))
    columns = [dissection.Column(0), dissection.Column(0, shown), dissection.Column(0, shown | added)]
    red_v = dissection.dissect(bench, images, columns, ["conv1"])["conv1"].iou()[0]
    assert red_v[0] == red_v[1] > 0
    # The unit's own masks never meet the added ones: the intersection stays, the union grows by their area.
    area_i = bench.activations.areas[:, 0]
    active = _active_area(bench, images)
    union = (area_i[positive].sum() + active) / (1 + red_v[0])
    assert red_v[2] == pytest.approx(
        red_v[0] * union / (union + area_i[list(added.values())].sum()), rel=1e-5
    )


def _active_area(bench, images):
    """Share of a picture over the red unit's threshold, summed over the pictures."""
    threshold = bench.activations.layers["conv1"].threshold[0]
    total, grid = 0.0, bench.inputs.config.checks.iou_grid
    for _, _, maps in image_maps(bench.inputs.target, bench.inputs.probe, images, ["conv1"], workers=0):
        total += float((upsample(maps["conv1"][:, 0], grid) > threshold).float().mean(dim=(1, 2)).sum())
    return total


def test_too_little_to_test_is_said(bench):
    with pytest.raises(LabelerError, match=r"No unit matches an annotated concept with a prediction of 1\.5"):
        sanity.evaluate(bench, least=1.5, repeats=1, every_unit=True)
    with pytest.raises(UsageError, match="--repeats: at least 1"):
        run_suite("sanity", ["--repeats", "0"])
