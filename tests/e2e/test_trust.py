"""Trust in the pictures of a run: what is made for it, who sees it, and what it says."""

import pytest

from tests.e2e.conftest import ASKED


def test_every_live_unit_has_one_more_picture_in_another_parametrisation(shown):
    for record in shown.values():
        if record["verdict"] == "dead":
            assert record["visualisations"] == []
            continue
        first = [item for item in record["visualisations"] if not item["second"]]
        (second,) = [item for item in record["visualisations"] if item["second"]]
        assert {item["parametrisation"] for item in first} == {"fourier"}
        assert second["parametrisation"] == "maco"
        assert second["tile"] is not None


def test_the_first_layer_has_nothing_before_it_to_compare_in(shown):
    record = next(shown[unit] for unit in ASKED if shown[unit]["verdict"] != "dead")
    assert record["trust"]["signals"]["path_percentile"] is None


@pytest.mark.parametrize("signal", ["activation", "natural_p99", "natural_p999", "excess"])
def test_what_the_pictures_do_to_the_unit_is_recorded(shown, signal):
    live = [record for record in shown.values() if record["verdict"] != "dead"]
    assert all(isinstance(record["trust"]["signals"][signal], float) for record in live)
