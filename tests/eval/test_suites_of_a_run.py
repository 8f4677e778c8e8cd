"""The suites as commands on a real run of the toy network."""

import pytest

from tests.e2e.toy_run import NETWORK, labeler, run_toy, toy_config, write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    data = toy_config(visualise={"enabled": False})
    assert run_toy(write_config(folder, data), folder / "run").code == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("suite", "arguments", "figures"),
    [
        ("sanity", ["--repeats", "2"], {"passes_missing.prediction", "passes_extra.prediction"}),
        ("simulation", ["--judge", "builtin:bridge@lite1"], {"correlation", "correlation.invert"}),
        ("cosy", ["--source", "annotations"], {"auc", "mad", "auc.softwpmi"}),
        ("baselines", ["--judge", "builtin:bridge@lite1"], {"simulation.ours", "simulation.invert"}),
    ],
)
def test_a_suite_measures_a_run(run, suite, arguments, figures):
    done = labeler("eval", suite, "--run", run, "--json", "--", *arguments, "--trust-code", NETWORK)
    assert done.code == 0, done.err
    assert done.json["suite"] == suite
    assert figures <= set(done.json["figures"])


def test_a_judge_of_the_run_is_refused(run):
    done = labeler(
        "eval", "simulation", "--run", run, "--", "--judge", "builtin:scenes-clip", "--trust-code", NETWORK
    )
    assert done.code == 2
    assert "builtin:scenes-clip took part" in done.err


def test_a_file_target_needs_trust(run):
    done = labeler("eval", "simulation", "--run", run, "--", "--judge", "builtin:bridge@lite1")
    assert done.code == 1
    assert "would run code" in done.err


def test_the_outputs_of_a_classifier_are_labelled(tmp_path):
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\nblack\n")
    config = write_config(tmp_path, toy_config(propose={"kind": "vocabulary", "candidates": 5}))
    done = labeler(
        "eval", "known", "--config", config, "--run", tmp_path / "known", "--json", "--", "--least", "5",
        "--names", tmp_path / "names.txt", "--vocabulary", "names", "--trust-code", NETWORK,
        "--set", "visualise.enabled=false",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert {"top1", "top5", "text_cosine", "sentence_cosine"} <= set(done.json["figures"])
    assert done.json["units"] >= 1
    assert (tmp_path / "known" / "truth.json").is_file()
