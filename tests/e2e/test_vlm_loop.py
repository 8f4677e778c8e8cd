"""The whole loop with a model that sees: sheet out, words in, checks between them and the catalogue."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from pytest_httpserver import HTTPServer

import labeler
from labeler import cli
from labeler.cost import run_cost
from labeler.encoders import load_encoder
from labeler.run_directory import run_status

HERE = Path(__file__).parent
NETWORK = HERE / "toy_network.py"
CANARY = "sk-canary-5f1b0c9e7d"
CONFIG = """
target: {{model: "file:{network}:build", layers: [colours], units: {{colours: "0-5"}}}}
probe: {{source: "builtin:scenes", images: 180, size: 64}}
encoder: {{model: "builtin:scenes-clip", judge: [annotations, "builtin:scenes-clip-judge"]}}
exemplars: {{propose: 0.35, feedback: 0.25, considered: 12, shown: 6, near_misses: 3}}
visualise: {{images: 1, size: 40, steps: 6}}
propose: {{kind: vlm, model: toy, base_url: "{url}?key={canary}", candidates: 4, retries: 0, timeout: 60}}
checks: {{min_test_images: 50, min_null_units: 8, permutations: 200}}
refine: {{rounds: 2}}
"""


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


seeing = _load("seeing_server")


@dataclass
class Loop:
    """A run directory, the server that it asks, and the command line."""

    config: Path
    run: Path
    server: HTTPServer
    model: seeing.SeeingServer

    def arguments(self) -> list[str]:
        """Those of `labeler run`."""
        return ["run", str(self.config), "--out", str(self.run), "--trust-code", str(NETWORK)]

    def command(self, *more: str) -> int:
        """`labeler run`, its exit status."""
        argv = ["labeler", *self.arguments(), *more]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", argv)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        assert self.model.complaints == []
        return int(ended.value.code or 0)

    def calls(self) -> int:
        return len(self.model.asked)

    def on(self, run: Path, **model: object) -> Loop:
        """The same config in a copy of this run directory, with a server of another temper."""
        shutil.copytree(self.run, run)
        return _loop(self.server, self.model.eyes, self.config, run, **model)


def _loop(server: HTTPServer, eyes: object, config: Path, run: Path, **model: object) -> Loop:
    server.clear()
    answering = seeing.SeeingServer(eyes, **model)
    server.expect_request("/v1/chat/completions", method="POST").respond_with_handler(answering.handle)
    return Loop(config, run, server, answering)


@pytest.fixture(scope="module")
def stages(
    make_httpserver: HTTPServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Loop, str]]:
    """A run whose server is down: all stages are there, no answer is; and what stderr said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", CANARY)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            patch.delenv(name, raising=False)
        folder = tmp_path_factory.mktemp("vlm")
        config = folder / "vlm.yaml"
        config.write_text(CONFIG.format(network=NETWORK, url=make_httpserver.url_for("/v1"), canary=CANARY))
        eyes = load_encoder("builtin:scenes-clip")
        loop = _loop(make_httpserver, eyes, config, folder / "down", broken=lambda asked: True)
        heard = _Stderr()
        patch.setattr(sys, "stderr", heard)
        assert loop.command() == 4
        yield loop, heard.text
        make_httpserver.clear()


class _Stderr:
    """A stderr for a fixture of wider scope than capsys."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


@pytest.fixture(scope="module")
def healthy(stages: tuple[Loop, str], tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """The same run, resumed once its server works."""
    loop = stages[0].on(tmp_path_factory.mktemp("vlm") / "healthy")
    assert loop.command() == 0
    return loop


def test_a_server_that_is_down_pauses_the_run_with_one_sentence(stages: tuple[Loop, str]) -> None:
    loop, stderr = stages
    said = [line for line in stderr.splitlines() if line.startswith("labeler: ")]
    assert len(said) == 1
    assert "status 500: the model fell over" in said[0]
    assert "run again to resume" in said[0].lower()
    assert "Traceback" not in stderr
    assert run_status(loop.run)["with_verdict"] == 0


def test_the_same_command_completes_once_the_server_works(healthy: Loop) -> None:
    status = run_status(healthy.run)
    assert status["with_verdict"] == status["units"] == 6
    assert "failed" not in status["verdicts"]
    # One more: the run that found the server down had asked it what it understands.
    assert status["input_tokens"] == 900 * (healthy.calls() + 1)


def test_labels_reach_the_catalogue_only_through_the_checks(healthy: Loop) -> None:
    with labeler.Catalogue.open(healthy.run) as catalogue:
        records = list(catalogue)
    accepted = [label for record in records for label in record.labels]
    assert accepted, "a model that sees colours must get a label of a colour unit through"
    for label in accepted:
        check = label.checks["prediction"]
        assert label.split == "test"
        assert label.text != seeing.NONSENSE
        assert check.status == "ok"
        assert check.low is not None
        assert check.low > 0
        assert check.significance is not None
        assert check.significance.p is not None
        assert check.significance.p < 0.05
        assert check.specificity is not None
        assert check.specificity.z is not None
        assert check.specificity.z >= 3
    for record in records:
        tried = {label.text: label for item in record.rounds for label in item.labels}
        assert set(seeing.WRONG_EVERYWHERE) <= set(tried)
        assert tried[seeing.NONSENSE].checks["prediction"].status == "not_applicable"
        assert tried[seeing.ABSURD].checks["prediction"].why or tried[seeing.ABSURD].checks["prediction"].n
        assert all(set(label.checks) == set(tried[seeing.ABSURD].checks) for label in record.candidates)


def test_the_eyes_name_what_the_unit_looks_at(healthy: Loop) -> None:
    with labeler.Catalogue.open(healthy.run) as catalogue:
        found = {record.index: [label.text for label in record.labels] for record in catalogue}
    right = [name for unit, name in enumerate(("red", "green", "blue")) if name in found[unit]]
    assert right, found


def test_a_second_round_shows_where_the_best_label_failed(healthy: Loop) -> None:
    first = [asked for asked in healthy.model.asked if not asked.tried]
    second = [asked for asked in healthy.model.asked if asked.tried]
    assert len(first) == 6
    assert second
    assert all(asked.count("D") == asked.count("E") == 0 for asked in first)
    with labeler.Catalogue.open(healthy.run) as catalogue:
        records = {
            _sent(healthy, record.rounds[1].sheet): record for record in catalogue if record.rounds[1:]
        }
    assert len(records) == len(second)
    for asked in second:
        record = records[asked.sheet]
        before = record.rounds[0]
        assert asked.count("D") == len(before.misses)
        assert asked.count("E") == len(before.false_alarms)
        assert set(asked.tried) == {label.text for label in before.labels}
        assert "round 2" in asked.prompt
        failing = asked.count("D") + asked.count("E")
        assert ("sections D and E show where it fails" in asked.prompt) == bool(failing)
        (opening,) = [one for one in first if one.sheet == _sent(healthy, before.sheet)]
        assert len(asked.tiles) == len(opening.tiles) + failing
    assert any(asked.count("D") + asked.count("E") for asked in second)


def test_no_test_image_is_ever_on_a_sheet(healthy: Loop) -> None:
    with labeler.Catalogue.open(healthy.run) as catalogue:
        for record in catalogue:
            assert {item.split for item in (*record.exemplars, *record.near_misses)} == {"propose"}
            for item in record.rounds:
                assert {image.split for image in (*item.misses, *item.false_alarms)} <= {"feedback"}


def test_the_stored_sheet_is_what_was_sent(healthy: Loop) -> None:
    with labeler.Catalogue.open(healthy.run) as catalogue:
        stored = [_sent(healthy, item.sheet) for record in catalogue for item in record.rounds]
    assert sorted(stored) == sorted(asked.sheet for asked in healthy.model.asked)


def _sent(loop: Loop, sheet: str | None) -> bytes:
    assert sheet is not None
    return (loop.run / "images" / sheet).read_bytes()


def test_a_second_run_makes_no_call_and_changes_nothing(healthy: Loop) -> None:
    with labeler.Catalogue.open(healthy.run) as catalogue:
        before = list(catalogue)
    calls = healthy.calls()
    assert healthy.command() == 0
    assert healthy.calls() == calls
    with labeler.Catalogue.open(healthy.run) as catalogue:
        assert list(catalogue) == before


def test_answers_are_replayed_from_the_cache_when_only_the_rounds_are_lost(
    healthy: Loop, tmp_path: Path
) -> None:
    import sqlite3

    again = healthy.on(tmp_path / "again")
    with sqlite3.connect(again.run / "catalogue.db") as database:
        for table in ("rounds", "units", "labels", "meta WHERE key = 'gate' OR key = 'test_openings' --"):
            database.execute(f"DELETE FROM {table}")
    database.close()
    assert again.command() == 0
    assert again.calls() == 0
    with labeler.Catalogue.open(again.run) as one, labeler.Catalogue.open(healthy.run) as other:
        assert list(one) == list(other)


def test_a_server_that_fails_for_one_unit_fails_that_unit_alone(
    stages: tuple[Loop, str], healthy: Loop, tmp_path: Path
) -> None:
    with labeler.Catalogue.open(healthy.run) as catalogue:
        spoilt = _sent(healthy, catalogue["colours:3"].rounds[0].sheet)
        whole = {record.unit: record.verdict for record in catalogue}
    loop = stages[0].on(tmp_path / "one", broken=lambda asked: asked.sheet == spoilt)
    assert loop.command() == 3
    with labeler.Catalogue.open(loop.run) as catalogue:
        failed = catalogue["colours:3"]
        assert failed.verdict == "failed"
        assert "status 500: the model fell over" in failed.reason
        assert failed.labels == failed.candidates == ()
        assert [record.unit for record in catalogue.units(verdict="failed")] == ["colours:3"]
        assert {record.unit for record in catalogue} == set(whole)
    mended = loop.on(tmp_path / "mended")
    assert mended.command() == 0
    assert {asked.sheet for asked in mended.model.asked if not asked.tried} == {spoilt}
    with labeler.Catalogue.open(mended.run) as one, labeler.Catalogue.open(healthy.run) as other:
        assert list(one) == list(other)


def test_the_key_is_in_no_file_and_on_no_screen(
    stages: tuple[Loop, str], healthy: Loop, capfd: pytest.CaptureFixture[str]
) -> None:
    assert {asked.authorisation for asked in healthy.model.asked} == {f"Bearer {CANARY}"}
    healthy.command()
    shown = capfd.readouterr()
    assert CANARY not in shown.out + shown.err + stages[1]
    for run in (stages[0].run, healthy.run):
        leaks = [path for path in run.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
        assert leaks == []


def test_a_budget_pauses_the_run_before_the_call_that_would_exceed_it(
    stages: tuple[Loop, str], healthy: Loop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = stages[0].on(tmp_path / "budget")
    assert loop.command("--budget", "9000") == 4
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("labeler: ")]
    assert len(said) == 1
    assert "the budget of 9,000 tokens" in said[0]
    spent = run_cost(loop.run)
    assert 1 <= loop.calls() < healthy.calls()
    assert 0 < spent["input_tokens"] + spent["output_tokens"] <= 9000
    assert loop.command("--budget", "0.01EUR") == 2  # no prices in the config
    calls = loop.calls()
    assert loop.command("--set", "propose.prices={input: 1, output: 2, currency: EUR}") == 0
    assert calls < loop.calls() == healthy.calls()  # nothing was paid for twice
    assert run_cost(loop.run)["money"] == pytest.approx(
        (960 - 60 + 2 * 60) * (loop.calls() + 1) / 1e6, rel=0.01
    )
    with labeler.Catalogue.open(loop.run) as one, labeler.Catalogue.open(healthy.run) as other:
        assert list(one) == list(other)


def test_a_dry_run_says_what_would_be_asked(healthy: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    assert healthy.command("--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["units"] == 6
    assert plan["sheets"] == plan["endpoint_calls_expected"] == 12
    assert plan["endpoint_calls_at_most"] == 36
    assert plan["output_tokens_expected"] == 12 * 800
    assert 12 * 1000 < plan["input_tokens_expected"] < 12 * 6000
    assert plan["tokens_at_most"] > 3 * plan["input_tokens_expected"]
    assert "currency" not in plan
    prices = "propose.prices={input: 1, output: 2, currency: EUR}"
    assert healthy.command("--dry-run", "--json", "--set", prices) == 0
    plan = json.loads(capsys.readouterr().out)
    tokens = plan["input_tokens_expected"] + 2 * plan["output_tokens_expected"]
    assert (plan["money_expected"], plan["currency"]) == (round(tokens / 1e6, 4), "EUR")


def test_a_kill_while_units_are_asked_for_repays_at_most_the_calls_in_flight(
    stages: tuple[Loop, str], healthy: Loop, tmp_path: Path
) -> None:
    loop = stages[0].on(tmp_path / "killed")
    command = [
        sys.executable,
        "-m",
        "tests.faults.killed_run",
        "SIGKILL",
        "call",
        "3",
        "--",
        *loop.arguments(),
    ]
    killed = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert 1 <= loop.calls() < healthy.calls()
    assert loop.command() == 0
    assert loop.calls() - healthy.calls() <= 8  # propose.concurrency
    with labeler.Catalogue.open(loop.run) as one, labeler.Catalogue.open(healthy.run) as other:
        assert list(one) == list(other)
