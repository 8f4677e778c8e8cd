import pytest

from labeler.checks.trust import NaturalRange, judge_picture
from labeler.records import CheckResult, Null

NATURAL = NaturalRange(median=1.0, p99=3.0, p999=4.0)


def agreement(percentile, p):
    return CheckResult(status="ok", value=percentile, n=10, judge="j", significance=Null(z=1.0, p=p))


@pytest.mark.parametrize(
    ("percentile", "p", "activations", "verdict"),
    [
        (0.97, 0.001, [5.0, 6.0], "supports"),
        (0.97, 0.4, [5.0], "partial"),  # no more alike than random images
        (0.7, 0.001, [5.0], "partial"),
        (0.3, 0.6, [5.0], "contradicts"),
        (0.3, 0.6, [10.1], "suspect"),  # over 1 + 3 × (4 - 1)
        (0.97, 0.001, [50.0], "supports"),  # strong, but of one kind with the photographs
        (0.3, 0.6, [2.0], "partial"),  # a picture that does not drive the unit says nothing against it
    ],
)
def test_verdicts(percentile, p, activations, verdict):
    found = judge_picture(agreement(percentile, p), activations, NATURAL)
    assert found.verdict == verdict
    assert f"percentile {100 * percentile:.0f}" in found.reason
    assert found.signals["percentile"] == percentile
    assert found.signals["natural_p999"] == 4.0


def test_without_pictures_or_a_judge_it_does_not_apply():
    assert judge_picture(agreement(0.9, 0.01), [], NATURAL).verdict == "not_applicable"
    blind = judge_picture(CheckResult.not_applicable("the judge cannot read pictures"), [9.0], NATURAL)
    assert blind.verdict == "not_applicable"
    assert "cannot read pictures" in blind.reason
    assert blind.signals["activation"] == 9.0
    assert blind.signals["percentile"] is None
