import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from labeler.checks import Dissection
from labeler.cli import app
from labeler.errors import UnknownNameError, UsageError
from labeler.propose.softwpmi import log_likelihood
from labeler.suites import SUITES, Result, run_suite, suite_module

references, timing, control = (suite_module(name) for name in ("references", "timing", "control"))


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_is_there_and_refuses_what_it_does_not_know(name):
    with pytest.raises(UsageError, match=rf"labeler eval {name} --: unrecognized arguments: --nonsense"):
        run_suite(name, ["--nonsense"])


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean speed"):
        run_suite("sped")


def test_both_dissection_loops_are_the_dissection_of_the_package():
    generator = torch.Generator().manual_seed(0)
    maps_nuhw = torch.randn(8, 6, 7, 7, generator=generator)
    masks_ncgg = torch.rand(8, 4, 28, 28, generator=generator) < 0.2
    known = [frozenset({"object"})] * 5 + [frozenset({"object", "colour"})] * 3
    categories = ("object", "object", "colour", "colour")
    known_nc = np.array([[category in names for category in categories] for names in known])
    masks_ncgg &= torch.from_numpy(known_nc)[:, :, None, None]
    thresholds_u = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 9.0])
    ours = Dissection(np.arange(6), thresholds_u.numpy(), categories, (), min_images=1)
    ours.add(maps_nuhw, masks_ncgg, known)
    loop_uc = references.dissection_loop(maps_nuhw, masks_ncgg, known_nc, thresholds_u)
    sparse_uc = references.dissection_sparse(maps_nuhw, masks_ncgg, known_nc, thresholds_u)
    np.testing.assert_allclose(sparse_uc, loop_uc)
    np.testing.assert_allclose(ours.iou(), loop_uc, atol=1e-6)
    assert loop_uc[:4].min() > 0
    assert (loop_uc[5] == 0).all()


def test_the_softwpmi_loop_is_that_of_the_package():
    generator = torch.Generator().manual_seed(0)
    probabilities_nl = torch.softmax(3 * torch.randn(50, 40, generator=generator), dim=1)
    ids_uk = torch.stack([torch.randperm(50, generator=generator)[:30] for _ in range(5)])
    before_nl = probabilities_nl.clone()
    _, likelihood_ul = references.soft_wpmi_loop(probabilities_nl, ids_uk)
    torch.testing.assert_close(log_likelihood(probabilities_nl, ids_uk), likelihood_ul, rtol=1e-4, atol=0)
    assert torch.equal(probabilities_nl, before_nl)


def test_the_auroc_loop_goes_over_units_and_concepts():
    rng = np.random.default_rng(0)
    activations_nu, presence_nc = rng.random((40, 3)), (rng.random((40, 2)) < 0.4).astype(np.float32)
    found_uc = references.auroc_loop(activations_nu, presence_nc)
    assert found_uc.shape == (3, 2)
    assert found_uc[2, 1] == roc_auc_score(presence_nc[:, 1], activations_nu[:, 2])


def test_sides_take_turns_and_a_ratio_is_of_medians():
    calls = []
    watch = timing.Stopwatch("wall", 3, torch.device("cpu"))
    watch.interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, warm=False)
    assert "".join(calls) == "abbaab"
    ratio, ends = timing.Times({"slow": [2.0, 9.0, 4.0], "fast": [1.0, 3.0, 1.0]}).ratio("slow", "fast")
    assert ratio == 4.0
    assert ends == (2.0, 4.0)


def test_control_figures_are_of_the_layers_from_the_middle_on():
    counts = control.LayerCounts
    own = {"a": counts(10, 9, 10, 9), "b": counts(10, 5, 40, 1), "c": counts(20, 8, 40, 0)}
    untrained = {"a": counts(10, 6, 10, 9), "b": counts(10, 0, 40, 0), "c": counts(20, 1, 40, 2)}
    result = control.summarise(own, [untrained, untrained], [0, 1])
    assert result.units == 30
    assert result.figures["trained_accepted"] == pytest.approx(13 / 30)
    assert result.figures["random_accepted"] == pytest.approx(2 / 60)
    assert result.figures["decoys_accepted"] == pytest.approx(5 / 240)
    low, high = result.intervals["random_accepted"]
    assert 0 < low < 2 / 60 < high < 0.12
    nothing = control.summarise({"a": counts()}, [{"a": counts()}], [0])
    assert nothing.figures["decoys_accepted"] is None


def test_control_sets_the_dissection_of_both_networks_side_by_side():
    counts = control.LayerCounts
    own = {
        "a": counts(9, dissected=8, iou=0.8, detectors=6),
        "b": counts(4, dissected=4, iou=0.4, detectors=3),
    }
    untrained = {"a": counts(9, dissected=9, iou=0.45, detectors=5), "b": counts(4)}
    result = control.summarise(own, [untrained, untrained], [0, 1])
    lines = [line.split() for line in result.text.splitlines()]
    assert ["a", "0.1", "0.05", "6", "of", "8", "10", "of", "18"] in lines
    assert ["b", "0.1", "–", "3", "of", "4", "–"] in lines
    assert result.figures["trained_iou"] == pytest.approx(0.1)
    assert result.figures["trained_detectors"] == 0.75
    assert result.figures["random_iou"] is None
    assert result.figures["random_detectors"] is None
    assert "random_detectors" not in result.intervals


def test_the_command_passes_a_suite_its_own_arguments_and_prints_its_object(monkeypatch, capsys):
    asked = []

    def run(name, arguments, *, config, run):
        asked.append((name, list(arguments), config, run))
        return Result("speed", 3, {"softwpmi": 2.5, "invert": None}, "a table", {"softwpmi": (2.0, 3.0)})

    monkeypatch.setattr("labeler.suites.run_suite", run)
    command = ["eval", "speed", "--run", "runs/x", "--json", "--", "--size", "small"]
    app(command, standalone_mode=False)
    assert asked == [("speed", ["--size", "small"], None, Path("runs/x"))]
    assert json.loads(capsys.readouterr().out) == {
        "suite": "speed", "units": 3, "figures": {"softwpmi": 2.5, "invert": None},
        "intervals": {"softwpmi": [2.0, 3.0]},
    }  # fmt: skip
    app(["eval", "speed"], standalone_mode=False)
    assert capsys.readouterr().out == "a table\n"


@pytest.mark.slow
def test_the_command_prints_the_promised_object():
    command = ["eval", "speed", "--json", "--", "--size", "small", "--repeats", "1"]
    done = subprocess.run(
        [sys.executable, "-c", "from labeler.cli import main; main()", *command],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (found["suite"], set(found)) == ("speed", {"suite", "units", "figures", "intervals"})
    assert {"extraction", "dissection", "softwpmi", "visualise"} <= set(found["figures"])
    assert found["figures"]["softwpmi_error"] < 1e-4
    assert found["figures"]["invert_error"] < 1e-6
    assert found["figures"]["dissection_error"] <= 1e-6
    assert found["figures"]["dissection_sparse_error"] <= 1e-6
