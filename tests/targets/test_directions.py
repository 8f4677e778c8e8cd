import json

import numpy as np
import pytest
import torch

from labeler.errors import TargetError
from labeler.targets.directions import read_directions, read_names


def test_projections_are_inner_products_with_the_rows_as_they_are(tmp_path):
    rows = np.random.default_rng(0).normal(size=(3, 5)) * 4  # float64, not normalised
    np.save(tmp_path / "d.npy", rows)
    directions = read_directions(tmp_path / "d.npy", 5, "l")
    maps = torch.randn(2, 5, 4, 3)
    assert directions.units == 3
    np.testing.assert_allclose(directions(maps), np.einsum("dc,bchw->bdhw", rows, maps.numpy()), atol=1e-4)


def test_names_are_a_list_beside_the_file(tmp_path):
    path = tmp_path / "d.npy"
    np.save(path, np.eye(2))
    assert read_names(path) == ()
    (tmp_path / "d.json").write_text(json.dumps(["striped", "dotted"]))
    assert read_names(path) == ("striped", "dotted")
    for wrong in (["striped"], ["a", ""], ["a", "b\nc"], {"a": 1}, ["a", 2]):
        (tmp_path / "d.json").write_text(json.dumps(wrong))
        with pytest.raises(TargetError, match=r"d\.json must be a list of 2 names"):
            read_names(path)
    (tmp_path / "d.json").write_text("[")
    with pytest.raises(TargetError, match="not readable JSON"):
        read_names(path)


@pytest.mark.parametrize(
    ("array", "says"),
    [(np.eye(4), "4 numbers each, but layer b has 5 channels"), (np.ones(5), "direction a row"),
     (np.zeros((0, 5)), "direction a row"), (np.full((1, 5), np.inf), "not finite"),
     (np.array([["x"] * 5]), "real numbers"), (np.ones((1, 5), complex), "real numbers")],
)  # fmt: skip
def test_what_is_no_list_of_directions_is_one_sentence(tmp_path, array, says):
    np.save(tmp_path / "d.npy", array)
    with pytest.raises(TargetError, match=says) as caught:
        read_directions(tmp_path / "d.npy", 5, "b")
    assert str(caught.value).endswith(".")


def test_files_that_are_not_npy_are_named_and_nothing_is_unpickled(tmp_path):
    with pytest.raises(TargetError, match="no file of directions"):
        read_directions(tmp_path / "none.npy", 5, "b")
    np.save(tmp_path / "p.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "t.npy").write_text("1 2 3")
    (tmp_path / "e.npy").write_bytes(b"")
    for name in ("p", "t", "e"):
        with pytest.raises(TargetError, match=rf"{name}\.npy"):
            read_directions(tmp_path / f"{name}.npy", 5, "b")
    np.savez(tmp_path / "z", a=np.eye(5))
    with pytest.raises(TargetError, match="several arrays"):
        read_directions(tmp_path / "z.npz", 5, "b")
