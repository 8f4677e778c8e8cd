import pytest

from labeler.checks import Informativeness, NaturalRange, PathSignals, judge_picture
from labeler.records import CheckResult, Null

NATURAL = NaturalRange(median=1.0, p99=3.0, p999=4.0)
BLIND = CheckResult.not_applicable("the judge cannot read pictures")
SILENT = PathSignals(why="no module with weights runs before this layer")


def agreement(percentile, p=0.001):
    return CheckResult(status="ok", value=percentile, n=10, judge="j", significance=Null(z=1.0, p=p))


def path(percentile, usual=0.98, stands=7.0, usually=7.0):
    return PathSignals(
        percentile, 0.9, 0.7, 1.0, 1.0, usual, standing=stands, exemplars_standing=8.0,
        weakest_standing=stands, usual_standing=usually,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("agreed", "way", "activations", "verdict"),
    [
        (BLIND, path(0.97), [5.0, 6.0], "supports"),
        (agreement(0.97), SILENT, [5.0], "supports"),
        (agreement(0.7), path(0.97), [5.0], "partial"),  # the mean of both
        (BLIND, path(0.7), [5.0], "partial"),
        (BLIND, path(0.3), [5.0], "contradicts"),
        (agreement(0.3), SILENT, [5.0], "contradicts"),
        (BLIND, path(0.97, stands=2.9), [5.0], "suspect"),  # like its photographs, by another way
        (BLIND, path(0.97, stands=2.9, usually=3.9), [5.0], "supports"),  # where nearly all stand low
        (BLIND, path(0.97, stands=3.1), [5.0], "supports"),
        (BLIND, path(0.97, stands=None), [5.0], "supports"),  # nobody knows
        (BLIND, path(0.3, stands=2.0), [2.0], "suspect"),
        (BLIND, path(0.3), [2.0], "partial"),  # a picture that does not drive the unit says nothing against
        (BLIND, path(0.97), [50.0], "supports"),  # strong, but of one kind with the photographs
    ],
)
def test_verdicts(agreed, way, activations, verdict):
    found = judge_picture(agreed, way, activations, NATURAL)
    assert found.verdict == verdict
    assert found.signals["natural_p999"] == 4.0
    assert found.signals["likeness"] is not None
    assert f"gives {sum(activations) / len(activations):.3g}" in found.reason


def test_a_judge_that_hardly_reads_pictures_does_not_hide_what_the_layers_see():
    found = judge_picture(agreement(0.9), path(0.1, usual=1.0), [5.0], NATURAL, agreement_usual=0.55)
    assert found.verdict == "contradicts"
    assert found.signals["likeness"] == pytest.approx((0.5 * 0.1 + 0.05 * 0.9) / 0.55)
    equal = judge_picture(agreement(0.9), path(0.1, usual=0.95), [5.0], NATURAL, agreement_usual=0.95)
    assert equal.signals["likeness"] == pytest.approx(0.5)


def test_suspicion_falls_with_the_weakest_standing():
    def suspicion(stands):
        return judge_picture(BLIND, path(0.9, stands=stands), [5.0], NATURAL).signals["suspicion"]

    assert suspicion(4.0) == pytest.approx(0.2)
    assert suspicion(-1.0) == suspicion(0.0) == 1.0
    assert suspicion(0.5) > suspicion(2.0) > suspicion(9.0) > 0


def test_a_low_crest_is_taken_from_the_standing():
    honest, low = (judge_picture(BLIND, path(0.97), [5.0], NATURAL, crest=crest) for crest in (0.5, 0.34))
    assert (honest.verdict, low.verdict) == ("supports", "suspect")
    assert low.signals["suspicion"] == pytest.approx(1 / 3)
    assert "34 % of pairs" in low.reason
    assert low.signals["crest"] == 0.34


def test_a_suspect_says_what_stands_low():
    reason = judge_picture(BLIND, path(0.97, stands=1.234), [5.0], NATURAL).reason
    assert "1.2 spreads over other units on its pictures" in reason
    assert "an unknown number of spreads on those made in another way" in reason
    assert "8.0 spreads on its strongest photographs" in reason


def test_without_pictures_or_a_witness_it_does_not_apply():
    assert judge_picture(agreement(0.9), path(0.9), [], NATURAL).verdict == "not_applicable"
    blind = judge_picture(BLIND, SILENT, [9.0], NATURAL)
    assert blind.verdict == "not_applicable"
    assert "cannot read pictures" in blind.reason
    assert "no module with weights" in blind.reason
    assert blind.signals["activation"] == 9.0
    assert blind.signals["suspicion"] is None


def test_what_a_judge_learns_is_kept_and_what_is_not_a_number_is_not():
    told = Informativeness("j", 0.8, float("nan"))
    signals = judge_picture(BLIND, path(0.9), [5.0], NATURAL, told).signals
    assert signals["informative_pictures"] == 0.8
    assert signals["informative_photographs"] is None
