"""Files of other labellers, with the columns that those write, and files that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labeler.catalogue.label_files import BadRow, ForeignLabel, read_label_file
from labeler.errors import UsageError
from labeler.records import Formula


def read(path: Path) -> list[tuple[str, str]]:
    return [
        (str(label.unit), label.text) for label in read_label_file(path) if isinstance(label, ForeignLabel)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "layer,unit,description,similarity\nlayer1,0,purple,0.43\nlayer1,1,window,0.16\n",  # CLIP-Dissect
        "layer,unit,description\nlayer1,0,purple\nlayer1,1,window\n",  # MILAN
        "layer,unit,summary\r\nlayer1,0,purple\r\nlayer1,1,window\r\n",  # MILANNOTATIONS
        "\ufefflayer,unit,description\nlayer1,0,purple\nlayer1,1,window\n",  # saved by Excel
        "Layer, Unit ,Description\nlayer1,0,purple\nlayer1,1,window\n",
        "unit,label\nlayer1:0,purple\nlayer1:1,window\n",
        "layer,neuron,explanation\nlayer1,0,purple\nlayer1,1,window\n",
        "unit,layer,index,label\nlayer1:0,layer1,0,purple\nlayer1:1,layer1,1,window\n",
    ],
)
def test_columns_of_other_labellers_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "descriptions.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert read(path) == [("layer1:0", "purple"), ("layer1:1", "window")]


def test_several_rows_of_a_unit_are_several_labels_and_empty_ones_are_none(tmp_path: Path) -> None:
    path = tmp_path / "annotations.csv"
    path.write_text("layer,unit,summary\na,3,dogs\na,3,\na,3,fur\n")
    assert read(path) == [("a:3", "dogs"), ("a:3", "fur")]


def test_plain_rows_of_jsonl_and_formulas_are_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    rows = [
        {"layer": "a", "unit": 3, "description": "dogs"},
        {"unit": "a:4-", "label": "red or blue", "op": "or", "terms": ["red", "blue"], "kind": "colour"},
        {"unit": "a:5", "labels": [{"text": "x", "formula": {"op": "not", "terms": ["red"]}}, {"text": "y"}]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = [label for label in read_label_file(path) if isinstance(label, ForeignLabel)]
    assert [(str(label.unit), label.text) for label in found] == [
        ("a:3", "dogs"), ("a:4-", "red or blue"), ("a:5", "x"), ("a:5", "y"),
    ]  # fmt: skip
    assert found[1].formula == Formula(op="or", terms=("red", "blue"))
    assert found[1].kind == "colour"
    assert found[2].formula == Formula(op="not", terms=("red",))


def test_text_is_never_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("layer,unit,description\na,3,red and white objects\n")
    (label,) = read_label_file(path)
    assert isinstance(label, ForeignLabel)
    assert label.formula is None


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (",3,dog,,", "no layer"),
        ("a,,dog,,", "no unit"),
        ("a,three,dog,,", "layer:index"),
        ("a,3,dog,xor,[]", "op"),
        ("a,3,dog,or,[", "JSON"),
        ('a,3,dog,or,"[""x""]"', "two or more"),
        ('a,3,dog,not,"[""x"",""y""]"', "one term"),
    ],
)
def test_a_row_that_cannot_be_used_says_why_and_the_others_stay(tmp_path: Path, row: str, why: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"layer,unit,description,op,terms\na,1,cat,,\n{row}\na,2,cow,,\n")
    found = list(read_label_file(path))
    assert [type(item) for item in found] == [ForeignLabel, BadRow, ForeignLabel]
    assert found[1].row == 2
    assert why in found[1].why  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        (
            "x.csv",
            b"unit,category,score\n1,scene,0.1\n",
            "needs the columns",
        ),  # Network Dissection's, by layer
        ("x.csv", b"layer,description\na,dog\n", "needs the columns"),
        ("x.csv", b"\xff\xfe\x00", "cannot be read"),
        ("x.jsonl", b"{", "line 1"),
        ("x.jsonl", b"[1]", "JSON object"),
        ("x.parquet", b"PAR1", "not a Parquet file"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=says):
        list(read_label_file(tmp_path / name))
    with pytest.raises(UsageError, match="no file"):
        list(read_label_file(tmp_path / "nowhere.csv"))
