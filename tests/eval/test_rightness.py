import json

import pytest

from labeler.errors import UsageError
from labeler.records import Formula, Label, UnitId
from labeler.suites import suite_module

rightness, claims = suite_module("rightness"), suite_module("claims")


def claim(*texts, op=None):
    labels = [Label(text=text, score=0.5) for text in texts]
    if op:
        labels = [Label(text=f"{op} {texts}", formula=Formula(op=op, terms=texts), score=0.5)]
    return claims.Claim.of_labels(labels)


def truth(kind, *terms):
    return rightness.Truth(" ".join(terms), terms, kind)


@pytest.mark.parametrize(
    ("said", "known", "expected"),
    [
        (claim("Dotted"), truth("single", "dotted"), True),
        (claim("the dots"), truth("single", "dotted", "dot"), True),
        (claim("striped"), truth("single", "dotted"), False),
        (claim("dotted", "striped"), truth("single", "dotted"), False),
        (claim("dotted", "red"), truth("or", "red", "dotted"), True),
        (claim("dotted"), truth("or", "red", "dotted"), False),
        (claim("red", "dotted", op="or"), truth("or", "red", "dotted"), True),
        (claim("red", "dotted", op="and"), truth("or", "red", "dotted"), False),
        (claim("red", "dotted", op="and"), truth("and", "red", "dotted"), True),
        (claim("red", "dotted", op="and"), truth("context", "dotted", "red"), True),
        (claim("red", "red", op="and"), truth("and", "red", "dotted"), False),
        (claim("red", op="not"), truth("not", "red"), True),
        (claim("red"), truth("not", "red"), False),
        (claim("red", op="not"), truth("single", "red"), False),
        (claim("red"), truth("decoy"), False),
        (claim("red"), truth("unclear", "red"), False),
        (claim("hunting dog"), truth("superclass", "dog"), True),
        (claim("red"), truth("superclass", "dog"), False),
    ],
)
def test_what_counts_as_right(said, known, expected):
    assert rightness.right(said, known) is expected


def test_another_wording_counts_by_similarity_where_it_is_given():
    known = truth("or", "red", "dotted")
    said = claim("crimson", "dotted")

    def alike(first, second):
        return 0.9 if {first, second} == {"crimson", "red"} else 0.1

    assert not rightness.right(said, known)
    assert rightness.right(said, known, alike)
    assert not rightness.right(claim("crimson", "lined"), known, alike)


@pytest.mark.parametrize(
    ("text", "loose", "strict"),
    [
        ("dog", True, True),
        ("Dogs", True, True),
        ("domestic dog", True, True),
        ("terrier", True, False),
        ("beagle", False, False),
        ("canine", True, False),
        ("animal", False, False),
        ("cat", False, False),
        ("nothing of ImageNet", False, False),
    ],
)
def test_a_superclass_is_named_by_synonyms_hyponyms_and_near_hypernyms(text, loose, strict):
    assert rightness.fits_superclass(text, "dog") is loose
    assert rightness.is_superclass(text, "dog") is strict


def test_a_truth_file_is_read_and_a_broken_one_refused(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"units:3": {"label": "red or blue", "terms": ["red", "blue"], "kind": "or"}}))
    assert rightness.read_truth(path) == {
        UnitId("units", 3): rightness.Truth("red or blue", ("red", "blue"), "or")
    }
    for broken in ("[]", "{", '{"units:3": {"label": "red"}}'):
        path.write_text(broken)
        with pytest.raises(UsageError, match="is not a truth file"):
            rightness.read_truth(path)
    with pytest.raises(UsageError, match="is not a truth file"):
        rightness.read_truth(tmp_path / "missing.json")
