from types import SimpleNamespace

import numpy as np
import pytest

from labeler.config import Config
from labeler.encoders.bridge import read_words
from labeler.errors import TargetError, UsageError
from labeler.records import Label, RoundRecord, Trust, UnitRecord
from labeler.suites import run_suite, suite_module
from tests.e2e.toy_network import __file__ as toy_network

known, outputs, superclasses = (suite_module(name) for name in ("known", "outputs", "superclasses"))
NAMES = ("tench", "dog", "cat", "bird")


def embed(texts):
    """One dimension for each name, and one for everything else."""
    found = np.zeros((len(texts), len(NAMES) + 1), dtype=np.float32)
    for row, text in enumerate(texts):
        found[row, NAMES.index(text) if text in NAMES else -1] = 1
    return found


def record(index, verdict, *texts, earlier=()):
    labels = tuple(Label(text=text, score=0.9 - 0.1 * place) for place, text in enumerate(texts))
    accepted = labels[:1] if verdict == "accepted" else ()
    rounds = (RoundRecord(round=1, labels=tuple(Label(text=text, score=0.99) for text in earlier)),)
    return UnitRecord(
        unit=f"fc:{index}", layer="fc", index=index, verdict=verdict, reason="", labels=accepted,
        candidates=labels[len(accepted) :], rounds=rounds, trust=Trust(verdict="not_applicable", reason=""),
    )  # fmt: skip


def test_places_of_the_true_name():
    every = [outputs.Output((name,), False) for name in NAMES]
    records = [
        record(0, "accepted", "Tench", "dog"),
        record(1, "rejected", "cat", earlier=("bird", "dogs")),
        record(2, "accepted", "bird", earlier=("a", "b", "c", "d", "cat")),
        record(3, "uninterpretable"),
    ]
    result = known.evaluate(records, every, head="toy", encoder=embed, sentences=embed)
    figures = result.figures
    assert result.units == 4
    assert (figures["top1"], figures["top5"]) == (0.25, 0.5)
    assert figures["accepted"] == 0.5
    assert figures["accepted_right"] == 0.5
    assert figures["text_cosine"] == figures["sentence_cosine"] == 0.0  # "Tench" is not "tench" to this model
    assert figures["nearest_top1"] == 0.25  # nothing is nearer to "Tench", as it is like no name
    assert {"top1", "top5", "text_cosine", "sentence_cosine"} <= set(result.intervals)
    assert "right at" in result.text


def test_candidates_are_ranked_accepted_first_then_by_score():
    assert known.ranked(record(0, "accepted", "one", "two", earlier=("three", "one"))) == [
        "one",
        "two",
        "three",
    ]


def test_superclasses_are_what_imagenet_has_under_them():
    groups = superclasses.members()
    assert groups["dog"] == list(range(151, 269))
    assert groups["snake"] == list(range(52, 69))
    assert {index: read_words()[index]["names"][0] for index in groups["bear"]} == {
        294: "brown bear", 295: "American black bear", 296: "ice bear", 297: "sloth bear",
    }  # fmt: skip
    assert min(map(len, groups.values())) >= 3
    assert len(groups) == len(set(groups)) >= 40


def test_directions_are_mean_logits(tmp_path):
    path = tmp_path / "made" / "some.npy"
    superclasses.write_directions({"a": [0, 2], "b": [1]}, 4, path)
    np.testing.assert_array_equal(np.load(path), [[0.5, 0, 0.5, 0], [0, 1, 0, 0]])
    assert path.with_suffix(".json").read_text() == '["a", "b"]'


def test_classes_are_read_from_file_names():
    paths = ["n01440764_tench.jpg", "sub/n02123045_tabby.jpg", "n99999999_x.jpg", "dog.jpg"]
    probe = SimpleNamespace(images=[SimpleNamespace(path=path) for path in paths])
    assert outputs.classes_in_names(probe).tolist() == [0, 281, -1, -1]


def test_names_come_from_a_file_or_are_imagenets(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("tench, Tinca tinca\n\ngoldfish\n")
    assert outputs.class_names(path, 2) == [("tench", "Tinca tinca"), ("goldfish",)]
    assert outputs.class_names(None, 1000)[1][0] == "goldfish"
    with pytest.raises(UsageError, match="has 2 names, but the classifier has 3 classes"):
        outputs.class_names(path, 3)
    with pytest.raises(UsageError, match="has 10 classes; name them"):
        outputs.class_names(None, 10)
    with pytest.raises(UsageError, match="not a readable text file"):
        outputs.class_names(tmp_path / "missing.txt", 2)


def test_the_logits_are_the_last_linear_layer():
    model = f"file:{toy_network}:build"
    config = Config.model_validate(
        {"target": {"model": model, "layers": ["outputs"]}, "probe": {"source": "builtin:scenes"}}
    )
    assert outputs.classifier_layer(config, [toy_network_path()]) == "head"
    with pytest.raises(TargetError, match="would run code"):
        outputs.classifier_layer(config)


def toy_network_path():
    from pathlib import Path

    return Path(toy_network)


def test_images_are_needed():
    with pytest.raises(UsageError, match="known needs images"):
        run_suite("known")
    with pytest.raises(UsageError, match="invalid choice: 'guess'"):
        run_suite("known", ["--images", "x", "--count-by", "guess"])
