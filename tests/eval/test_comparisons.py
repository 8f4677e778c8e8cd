"""simulation, cosy and baselines on a run of doubles whose truth is known."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from labeler.checks import EncoderJudge
from labeler.errors import LabelerError, RunError, UnknownNameError, UsageError
from labeler.records import UnitId
from labeler.suites import run_suite, suite_module
from tests.eval.opened_double import COLOURS, OtherEncoder, opened_double

baselines, claims, cosy, generator, rightness, scoring, simulation = (
    suite_module(name)
    for name in ("baselines", "claims", "cosy", "generator", "rightness", "scoring", "simulation")
)
UNITS = [UnitId("conv1", index) for index in range(3)]
PUBLISHED = ("network_dissection", "softwpmi", "invert")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return opened_double(tmp_path_factory.mktemp("right"), dict(enumerate(COLOURS)))


@pytest.fixture(scope="module")
def judge(opened):
    encoder = OtherEncoder()
    return EncoderJudge("other", encoder, scoring._embed_test(opened.bench, encoder))


@pytest.mark.parametrize("method", ["ours", *PUBLISHED])
def test_every_method_names_the_colour_of_a_colour_channel(opened, method):
    found = claims.collect(opened, [method])[method]
    assert [found[unit].literals for unit in UNITS] == [((colour, False),) for colour in COLOURS]
    assert UnitId("conv1", 3) not in found  # dead


def test_the_judge_reads_held_out_images_only(opened, judge):
    read = np.isfinite(judge.embeddings_nd).all(axis=1)
    assert read.any()
    assert [bool(r) for r in read] == [split == "test" for split in opened.bench.evidence.splits]


def test_formulas_are_read_as_minimum_maximum_and_negation(opened, judge):
    ids = np.flatnonzero(np.array(opened.bench.evidence.splits) == "test")
    parts = [claims.Claim(c, 0.0, "", ((c, False),)) for c in ("red", "green")]
    red, green = scoring.read_claims(judge, parts, ids).T
    joined = [
        claims.Claim("", 0.0, op, (("red", False), ("green", negated)))
        for op in ("and", "or")
        for negated in (False, True)
    ]
    unknown = claims.Claim("", 0.0, "or", (("red", False), ("no colour", False)))
    both, both_not, either, either_not, nothing = scoring.read_claims(judge, [*joined, unknown], ids).T
    np.testing.assert_allclose(both, np.minimum(red, green))
    np.testing.assert_allclose(both_not, np.minimum(red, -green))
    np.testing.assert_allclose(either, np.maximum(red, green))
    np.testing.assert_allclose(either_not, np.maximum(red, -green))
    assert np.isnan(nothing).all()
    present = scoring.annotation_judge(opened.bench)
    shown, absent = scoring.read_claims(
        present, [parts[0], claims.Claim("", 0.0, "", (("red", True),))], ids
    ).T
    np.testing.assert_allclose(absent, 1 - shown)


def test_right_labels_predict_activation_and_wrong_ones_do_not(opened, judge, tmp_path):
    right = simulation.evaluate(opened, judge, ["ours", *PUBLISHED])
    assert right.units == 3
    assert right.figures["correlation"] > 0.9
    assert right.figures["correlation"] == right.figures["correlation.ours"]
    assert right.intervals["correlation"][0] > 0.8
    assert "other, which no method used" in right.text
    wrong = simulation.evaluate(opened_double(tmp_path, {0: "green", 1: "blue", 2: "red"}), judge, ["ours"])
    assert wrong.figures["correlation"] < 0


def test_methods_are_compared_at_the_number_of_the_one_that_labels_fewest():
    def scored(*pairs):
        return {UNITS[i]: scoring.Scored(confidence, value) for i, (confidence, value) in enumerate(pairs)}

    scores = {"many": scored((0.1, 0.0), (0.9, 0.6), (0.8, 0.4)), "few": scored((0.5, 0.3), (0.4, 0.1))}
    equal = scoring.matched(scores)
    assert (equal["many"].count, equal["few"].count) == (2, 2)
    assert equal["many"].value == pytest.approx(0.5)
    assert equal["few"].value == pytest.approx(0.2)
    shared = scoring.common(scores)
    assert shared["many"].value == pytest.approx(0.3)
    assert shared["few"].value == pytest.approx(0.2)


def test_a_run_without_labels_has_no_figure(judge, tmp_path):
    result = simulation.evaluate(opened_double(tmp_path, {}), judge, ["ours", "softwpmi"])
    assert result.units == 0
    assert result.figures["correlation"] is None


def test_auc_and_mad_are_as_defined():
    rng = np.random.default_rng(0)
    values_np = rng.normal(size=(60, 2)).astype(np.float32)
    present_np = np.zeros((60, 2))
    present_np[:20] = 1
    present_np[50:, 1] = np.nan
    values_np[:20, 0] += 2
    (first, second) = cosy._auc_and_mad(values_np, present_np)
    controls = values_np[20:, 0].astype(np.float64)
    assert first[0] == pytest.approx(roc_auc_score(present_np[:, 0], values_np[:, 0]))
    assert first[1] == pytest.approx((values_np[:20, 0].mean() - controls.mean()) / controls.std(), abs=1e-5)
    assert second[0] == pytest.approx(roc_auc_score(present_np[:50, 1], values_np[:50, 1]))
    few = np.zeros((60, 1))
    few[:4] = 1
    assert np.isnan(cosy._auc_and_mad(values_np[:, :1], few)[0]).all()


@pytest.mark.parametrize("source", ["judge", "annotations"])
def test_units_fire_on_images_of_their_labels(opened, judge, source):
    reader = judge if source == "judge" else scoring.annotation_judge(opened.bench)
    result = cosy.evaluate(opened, reader, ["ours", "invert"], 20)
    assert result.units == 3
    assert result.figures["auc"] > 0.8
    assert result.figures["mad"] > 0.5
    assert set(result.figures) == {f"{f}{m}" for f in ("auc", "mad") for m in ("", ".ours", ".invert")}


def test_a_generator_makes_the_concept_images(opened, tmp_path):
    file = tmp_path / "painter.py"
    file.write_text(
        "from PIL import Image\n"
        "COLOURS = {'red': (255, 0, 0), 'green': (0, 255, 0), 'blue': (0, 0, 255)}\n"
        "def paint(text, count, seed):\n"
        "    return [Image.new('RGB', (40, 40), COLOURS[text]) for _ in range(count)]\n"
        "def lazy(text, count, seed):\n"
        "    return []\n"
    )
    paint = generator.load_generator(f"{file}:paint", [file])
    result = cosy.evaluate_generated(opened, paint, "painter", ["ours"], 6)
    assert result.figures["auc"] == 1.0
    assert result.figures["mad"] > 1
    with pytest.raises(LabelerError, match="gave 0 pictures for 'blue', not 6"):
        cosy.evaluate_generated(opened, generator.load_generator(f"{file}:lazy", [file]), "x", ["ours"], 6)
    with pytest.raises(UsageError, match="would run code; if you trust it, pass --trust-code"):
        generator.load_generator(f"{file}:paint", [])
    with pytest.raises(UsageError, match="written MODULE:FUNCTION"):
        generator.load_generator("painter", [])
    with pytest.raises(UnknownNameError, match="did you mean paint"):
        generator.load_generator(f"{file}:pain", [file])
    with pytest.raises(LabelerError, match="could not be loaded"):
        generator.load_generator("no_such_module:paint", ["no_such_module"])
    assert isinstance(paint("red", 1, 0)[0], Image.Image)


def test_accuracy_is_of_what_is_known(tmp_path, opened):
    truth = rightness.truth_of(
        {
            **{f"conv1:{i}": {"label": c, "terms": [c], "kind": "single"} for i, c in enumerate(COLOURS)},
            "conv2:0": {"label": "", "terms": [], "kind": "decoy"},
            "conv2:1": {"label": "", "terms": [], "kind": "unclear"},
        }
    )
    wrong = opened_double(tmp_path, {0: "red", 1: "blue"})
    found = baselines.evaluate(wrong, ["ours", "invert"], truth=truth, judge=None, similarity=None)
    assert found.figures["accuracy.ours"] == 0.5
    assert found.figures["accuracy.invert"] == 1.0
    assert found.figures["accuracy_all.ours"] == pytest.approx(1 / 3)
    assert "0 of 1 labelled" in found.text  # ours says nothing of the decoy
    assert not any(name.startswith("simulation") for name in found.figures)


def test_baselines_simulate_too(opened, judge):
    found = baselines.evaluate(opened, ["ours", "softwpmi"], truth={}, judge=judge, similarity=None)
    assert set(found.figures) == {"simulation.ours", "simulation.softwpmi"}


@pytest.mark.parametrize("suite", ["simulation", "cosy", "baselines"])
def test_a_finished_run_is_needed(suite, tmp_path):
    arguments = ["--judge", "builtin:bridge@lite1"]
    with pytest.raises(UsageError, match=f"needs a finished run: labeler eval {suite} --run RUN"):
        run_suite(suite, arguments)
    with pytest.raises(RunError, match="is not a run directory"):
        run_suite(suite, arguments, run=tmp_path)


def test_a_judge_that_took_part_is_refused(opened, monkeypatch):
    with pytest.raises(UsageError, match="simulation needs a judge that no method used: -- --judge builtin:"):
        scoring.unused_judge(opened, None, ["ours"], "simulation")
    for spec in ("fake", "annotations"):
        with pytest.raises(UsageError, match=f"{spec} took part"):
            scoring.unused_judge(opened, spec, ["ours"], "simulation")
    monkeypatch.setattr(scoring, "load_encoder", lambda spec, device: opened.bench.inputs.encoder)
    with pytest.raises(UsageError, match="another-name took part"):  # the same model under another name
        scoring.unused_judge(opened, "another-name", ["ours"], "simulation")


def test_wrong_flags_are_said(tmp_path):
    with pytest.raises(UsageError, match="--count: at least 5 images"):
        run_suite("cosy", ["--count", "2"])
    with pytest.raises(UsageError, match="would run code"):
        run_suite("cosy", ["--generator", "painter:paint"])
    with pytest.raises(UsageError, match="give --truth FILE, --judge MODEL, or both"):
        run_suite("baselines")
    with pytest.raises(UsageError, match="invalid choice: 'guess'"):
        run_suite("simulation", ["--methods", "guess"])
    (tmp_path / "truth.json").write_text(json.dumps({"units:0": 3}))
    with pytest.raises(UsageError, match="is not a truth file"):
        run_suite("baselines", ["--truth", str(tmp_path / "truth.json")])
