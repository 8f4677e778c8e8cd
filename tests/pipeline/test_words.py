"""The words of a run, on a bench whose judges are given and whose probe needs no pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeler.checks import AnnotationJudge, EncoderJudge, LayerData
from labeler.config import Config
from labeler.errors import ConfigError
from labeler.pipeline import words
from labeler.pipeline.bench import Bench, Scouts
from labeler.pipeline.inputs import Inputs
from labeler.records import Formula, Label, UnitId
from labeler.seams import Concept
from labeler.testing import FakeEncoder, FakeProbe, toy_target

IMAGES = 200
SHOWN = tuple(f"thing{index:02d}" for index in range(20))
CONCEPTS = (
    Concept("car", "object", ("auto", "motor car")),
    Concept("red", "colour"),
    *(Concept(name, "texture") for name in SHOWN),
)


def make_bench(**propose: Any) -> Bench:
    """Two judges: the annotations of 22 concepts, and an encoder that knows the eleven colours."""
    settings = {
        "target": {"model": "toy", "layers": ["conv1"]},
        "probe": {"source": "fake"},
        "encoder": {"model": "fake", "judge": ["annotations"]},
        "checks": {"min_test_images": 50},
        "propose": propose,
    }
    probe = FakeProbe([None] * IMAGES, CONCEPTS)
    config = Config.model_validate(settings)
    inputs = Inputs(config, toy_target(), probe, FakeEncoder(), (), (UnitId("conv1", 0),))
    bench = Bench(inputs, None, None)  # type: ignore[arg-type]  # words needs neither pass nor evidence
    generator = np.random.default_rng(0)
    areas_nc = (generator.random((IMAGES, len(CONCEPTS))) < 0.2).astype(np.float32)
    seen_nd = generator.random((IMAGES, 11)).astype(np.float32)
    annotations = AnnotationJudge(CONCEPTS, areas_nc, 0.01)
    bench.__dict__["judges"] = [annotations, EncoderJudge("fake-judge", FakeEncoder(), seen_nd)]
    return bench


def layer_data(units: int = 3) -> LayerData:
    ids = np.arange(0, IMAGES, 2)
    return LayerData(
        layer="conv1", live_units=np.arange(units),
        activations_nu=np.random.default_rng(1).random((len(ids), units)).astype(np.float32),
        image_ids_n=ids, weights_n=np.ones(len(ids)), p99_u=np.ones(units, np.float32), exemplar_ids={},
    )  # fmt: skip


def test_each_judge_competes_with_the_words_that_it_knows_on_the_images_of_the_split() -> None:
    bench, data = make_bench(), layer_data()
    by_name = {item.judge: item for item in words.rivals(bench, data).words}
    assert list(by_name) == ["annotations", "fake-judge"]
    assert by_name["annotations"].names == tuple(concept.name for concept in CONCEPTS)
    assert set(by_name["fake-judge"].names) == set(FakeEncoder.vocabulary)
    for judge in bench.judges:
        item = by_name[judge.name]
        for column, name in enumerate(item.names):
            (reading,) = judge.read([Label(text=name)])
            assert reading is not None
            np.testing.assert_array_equal(item.scores_nw[:, column], reading.scores_n[data.image_ids_n])


@pytest.mark.parametrize(
    ("text", "exempt"),
    [
        ("auto", {"auto", "car"}),  # a synonym of the annotations
        ("Cars", {"Cars", "car"}),
        ("bright red", {"bright red", "red"}),  # the encoder's text embeddings are alike
        ("red or blue", {"red or blue"}),  # half alike is not alike
        ("zeppelin", {"zeppelin"}),
    ],
)
def test_words_that_may_mean_the_same_are_no_rivals(text: str, exempt: set[str]) -> None:
    assert set(words.rivals(make_bench(), layer_data()).exempt(Label(text=text))) == exempt


def test_every_word_is_a_rival_of_a_compound_its_own_terms_first_of_all() -> None:
    label = Label(text="car or red", formula=Formula(op="or", terms=("car", "red")))
    assert not words.rivals(make_bench(), layer_data()).exempt(label)


def test_too_many_words_are_thinned_always_alike_whatever_else_competes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(words, "MOST_RIVALS", 8)
    first, again = (words.rivals(make_bench(), layer_data(units)) for units in (3, 1))
    for one, other in zip(first.words, again.words, strict=True):
        assert one.names == other.names
        assert len(one.names) == 8
    assert set(first.words[0].names) < {concept.name for concept in CONCEPTS}


def test_rivals_are_picked_on_the_images_of_the_scouts() -> None:
    bench, data = make_bench(), layer_data()
    ids = np.arange(1, IMAGES, 2)
    scouts = Scouts(np.random.default_rng(2).random((len(ids), 3)).astype(np.float32), ids)
    found = words.rivals(bench, data, scouts=scouts)
    assert found.scouted_mu is scouts.activations_mu
    for item, plain in zip(found.words, words.rivals(bench, data).words, strict=True):
        assert item.scouted_mw is not None
        assert item.scouted_mw.shape == (len(ids), len(item.names))
        assert plain.scouted_mw is None
        (reading,) = next(j for j in bench.judges if j.name == item.judge).read([Label(text=item.names[0])])
        assert reading is not None
        np.testing.assert_array_equal(item.scouted_mw[:, 0], reading.scores_n[ids])


def test_kin_are_the_labels_of_units_with_more_than_one_facet() -> None:
    bench, data = make_bench(), layer_data()
    both = [Label(text="car", facet=0), Label(text="red", facet=1), Label(text="a zeppelin", facet=1)]
    alone = [Label(text="car", facet=0), Label(text="red", facet=0)]
    kin = words.rivals(bench, data, {0: both, 1: alone, 2: []}).kin
    assert list(kin) == [0]
    assert [item.facet for item in kin[0]] == [0, 1]  # nobody can read "a zeppelin"
    better = {0: [both[0].model_copy(update={"score": 0.2}), both[1].model_copy(update={"score": 0.3})]}
    assert [item.facet for item in words.rivals(bench, data, better).kin[0]] == [1, 0]  # the best first
    (car,) = bench.judges[0].read([Label(text="car")])
    assert car is not None
    np.testing.assert_array_equal(kin[0][0].scores_n, car.scores_n[data.image_ids_n])


def test_a_vocabulary_of_ones_own_takes_the_place_of_all_other_words(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("dark red\n\n  blue \ndark red\nzeppelin\n", encoding="utf-8")
    bench = make_bench(vocabulary=str(path))
    by_name = {item.judge: item.names for item in words.rivals(bench, layer_data()).words}
    assert by_name["fake-judge"] == ("dark red", "blue")
    assert words.vocabulary(bench) == {"dark red": "other", "blue": "other"}


def test_annotated_words_keep_their_kind_in_the_vocabulary() -> None:
    found = words.vocabulary(make_bench())
    assert found["red"] == "colour"
    assert found["blue"] == "other"
    assert "car" not in found  # the encoder does not know it


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is not a readable text file"),
        (b"\xff\xfe\x00", "is not a readable text file"),
        (b" \n\n", "has no words"),
        (b"zeppelin\n", "knows no word of the vocabulary"),
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_an_error_that_says_why(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        words.vocabulary(make_bench(vocabulary=str(path)))
