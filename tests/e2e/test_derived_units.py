"""Negative sides, SAE latents and named directions go the whole way, each as a unit of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from labeler import Catalogue
from tests.e2e.toy_network import NEGATIVE
from tests.e2e.toy_run import NETWORK, Outcome, labeler, run_toy, toy_config, write_config

WHITE, BLACK = 4, 5  # of `colours`: one is minus the other, so colours:4- fires where colours:5 does
RED, YELLOW = 0, 3
ASKED = [
    *("colours:4", "colours:5", "colours:4-", "colours:5-", "colours:6-", "colours:7-"),
    *("colours.directions:0", "colours.directions:1", "colours.sae:0", "colours.sae:1"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("derived")
    outcome = run_toy(config_in(folder), folder / "run")
    assert outcome.code == 0, outcome.err
    return folder / "run"


def config_in(folder: Path, **target: Any) -> Path:
    weights = torch.randn(16, 12, generator=torch.Generator().manual_seed(0)) / 4
    weights[:, :2] = 0
    weights[RED, 0] = weights[YELLOW, 1] = 1
    save_file({"W_enc": weights, "b_enc": torch.full((12,), -0.2)}, folder / "sae.safetensors")
    directions = np.random.default_rng(0).normal(size=(12, 16))
    directions[0] = np.eye(16)[BLACK]
    np.save(folder / "d.npy", directions)
    (folder / "d.json").write_text(json.dumps(["darkness", *(f"random {i}" for i in range(11))]))
    asked = {
        "model": f"file:{NETWORK}:build",
        "layers": ["colours"],
        "units": {"colours": "4-5", "colours.sae": "0-1", "colours.directions": "0-1"},
        "negative": {"colours": "4-7"},
        "sae": {"colours": "sae.safetensors"},  # relative to the config file
        "directions": {"colours": "d.npy"},
        **target,
    }
    pictures = {"images": 1, "size": 32, "steps": 4}
    return write_config(
        folder, toy_config(images=140, target=asked, visualise=pictures, refine={"rounds": 1})
    )


def record(run: Path, unit: str) -> dict[str, Any]:
    return dict(labeler("show", run, unit, "--json").json)


def images(exemplars: list[dict[str, Any]]) -> list[int]:
    return [exemplar["image"] for exemplar in exemplars]


def test_every_derived_unit_has_a_record_of_its_own(run: Path) -> None:
    listed = labeler("list", run, "--json").json
    assert sorted(row["unit"] for row in listed) == sorted(ASKED)
    assert {row["layer"] for row in listed} == {"colours", "colours.directions", "colours.sae"}
    for unit in ASKED:
        shown = record(run, unit)
        assert shown["unit"] == unit
        page = (
            run / "report" / "units" / shown["layer"] / f"{unit.split(':')[1].replace('-', '-negative')}.html"
        )
        assert unit in page.read_text()
    assert record(run, "colours:6-")["verdict"] == "dead"


def test_a_negative_side_is_what_the_opposite_unit_is(run: Path) -> None:
    """White's negative side sees what black sees: exemplars, numbers over the images, and the picture."""
    negative, black = record(run, "colours:4-"), record(run, "colours:5")
    assert images(negative["exemplars"]) == images(black["exemplars"])
    assert images(negative["exemplars"]) != images(record(run, "colours:4")["exemplars"])
    for field in ("threshold", "minimum", "maximum"):
        assert negative["activation"][field] == pytest.approx(black["activation"][field], abs=1e-5)
    for one, other in zip(negative["exemplars"], black["exemplars"], strict=True):
        assert one["activation"] == pytest.approx(other["activation"], abs=1e-5)
        assert one["region"] == other["region"]
    assert negative["visualisations"][0]["activation"] > 0
    assert images(negative["near_misses"]) == images(black["near_misses"])


def test_the_specificity_null_of_a_negative_side_is_the_other_negative_sides(run: Path) -> None:
    shown = record(run, "colours:4-")
    labels = [*shown["labels"], *shown["candidates"]]
    assert labels
    # 16 units, of which one is dead and at least the unit itself is left out.
    units = [label["checks"]["prediction"]["specificity"]["units"] for label in labels]
    assert all(8 <= count <= 14 for count in units)
    gate = json.loads(Catalogue.open(run).note("gate") or "")["layers"]
    assert gate["colours-"]["units"] == 4
    assert gate["colours"]["units"] == 2


def test_a_unit_below_zero_everywhere_has_its_exemplars_on_the_other_side(run: Path) -> None:
    shown = record(run, f"colours:{NEGATIVE}-")
    assert shown["activation"]["minimum"] > 0
    assert len(shown["exemplars"]) > 0


def test_top_images_of_both_sides_are_opposite_ends(run: Path) -> None:
    top = labeler("top", run, "colours:4-", "-k", "5", "--json").json
    same = labeler("top", run, "colours:5", "-k", "5", "--json").json
    assert [row["image"] for row in top] == [row["image"] for row in same]
    assert top[0]["activation"] == pytest.approx(same[0]["activation"], abs=1e-5)


def test_a_direction_is_the_unit_that_it_points_to_and_keeps_its_name(run: Path) -> None:
    direction, black = record(run, "colours.directions:0"), record(run, "colours:5")
    assert images(direction["exemplars"]) == images(black["exemplars"])
    assert (direction["name"], black["name"]) == ("darkness", "")
    assert "darkness" in labeler("show", run, "colours.directions:0").out
    assert "darkness" in (run / "report" / "units" / "colours.directions" / "0.html").read_text()


def test_a_latent_fires_where_its_channel_does(run: Path) -> None:
    latent = labeler("top", run, "colours.sae:0", "-k", "5", "--json").json
    channel = labeler("top", run, f"colours:{RED}", "-k", "5", "--json").json
    assert [row["image"] for row in latent] == [row["image"] for row in channel]
    for one, other in zip(latent, channel, strict=True):
        assert one["activation"] == pytest.approx(other["activation"] - 0.2, abs=1e-5)  # its bias
    assert record(run, "colours.sae:0")["activation"]["minimum"] >= 0


def dry(config: Path, *more: object) -> Outcome:
    return labeler("run", config, "--dry-run", "--json", "--trust-code", NETWORK, *more)


def test_a_dry_run_counts_them_and_units_are_chosen_as_they_print(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    plan = dry(config).json
    assert plan["units"] == len(ASKED)
    assert plan["units_by_layer"] == {
        "colours": 2, "colours-": 4, "colours.sae": 2, "colours.directions": 2,
    }  # fmt: skip
    for asked, count in (
        (["colours:4-"], 1),
        (["colours:0-3,4-,6-"], 6),
        (["colours.sae:0-8"], 9),
        (["colours:1", "colours:1-", "colours.directions:2"], 3),
    ):
        options = [part for units in asked for part in ("--units", units)]
        assert dry(config, *options).json["units"] == count, asked
    for wrong in ("colours:99-", "colors:1-", "colours:--", "colours.sae:12"):
        outcome = dry(config, "--units", wrong)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err


def test_a_wrong_file_is_one_sentence_before_anything_runs(tmp_path: Path) -> None:
    for target, says in (
        ({"sae": {"colours": "none.safetensors"}}, str(tmp_path / "none.safetensors")),
        ({"directions": {"edges": "none.npy"}, "units": {}}, str(tmp_path / "none.npy")),
        ({"negative": {"colour": "1"}}, "colour"),
        ({"sae": {"colors": "sae.safetensors"}, "units": {}}, "colours"),
        ({"layers": ["colours-"]}, "target.negative"),
    ):
        outcome = dry(config_in(tmp_path, **target))
        assert outcome.code != 0
        assert says in outcome.err
        assert outcome.err.count("\n") == 1
