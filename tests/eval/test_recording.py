"""Recording: from what waits to what is replayed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labeler.errors import PausedError, UsageError
from labeler.suites import run_suite, suite_module
from tests.propose.endpoint.loopback import labels, many
from tests.propose.endpoint.test_cassette import proposer

recording, vlm = suite_module("recording"), suite_module("vlm")


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    """Three questions that nobody has answered."""
    with pytest.raises(PausedError):
        list(proposer(tmp_path).propose_all(many(3)))
    return tmp_path


def test_what_waits_is_all_that_a_recorder_needs(cassette: Path) -> None:
    found = list(recording.outstanding(cassette))
    assert sorted(request["about"] for request in found) == [f"blocks.2:{n} round 1" for n in range(3)]
    for request in found:
        assert Path(request["sheet"]).is_file()
        assert request["prompt"].startswith("You name")
    script = [sys.executable, "-m", "eval.recording", str(cassette)]
    listed = subprocess.run(script, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert [json.loads(line) for line in listed.stdout.splitlines()] == found


def test_answers_are_taken_in_and_replayed(cassette: Path, tmp_path: Path) -> None:
    names = [request["request"] for request in recording.outstanding(cassette)]
    given = {names[0]: labels("cat"), names[1]: {"text": labels("dog"), "usage": {"prompt_tokens": 5}}}
    (tmp_path / "answers.json").write_text(json.dumps(given))
    assert recording.take_in(cassette, tmp_path / "answers.json", "some model") == 2
    assert [request["request"] for request in recording.outstanding(cassette)] == names[2:]
    (tmp_path / "answers.json").write_text(json.dumps({names[2]: labels("cow")}))
    recording.take_in(cassette, tmp_path / "answers.json")
    found = [proposed.proposals[0].text for proposed in proposer(cassette).propose_all(many(3))]
    assert sorted(found) == ["cat", "cow", "dog"]
    assert json.loads((cassette / "cassette.json").read_text())["model"] == "some model"


@pytest.mark.parametrize("text", ["", "[]", '{"a": 5}', '{"a": {"texte": "x"}}', '{"unasked": "x"}'])
def test_a_file_that_answers_nothing_is_refused_whole(cassette: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "answers.json").write_text(text)
    with pytest.raises(UsageError):
        recording.take_in(cassette, tmp_path / "answers.json")
    assert not (cassette / "answers").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["--base-url", "http://x/v1"], ["--base-url", "http://x/v1", "--cassette", "d"]]
)
def test_the_vlm_suite_wants_an_endpoint_or_a_cassette(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        run_suite("vlm", arguments)


def test_the_figures_of_the_vlm_suite() -> None:
    from labeler.records import Trust, UnitRecord

    trust = Trust(verdict="not_applicable", reason="r")
    verdicts = ("accepted", "polysemantic", "rejected", "dead", "failed")
    records = [
        UnitRecord(unit=f"a:{n}", layer="a", index=n, verdict=verdict, reason="r", trust=trust)
        for n, verdict in enumerate(verdicts)
    ]
    result = vlm.summarise(records, ["ok", "ok", "invalid", "refused"], "nothing spent")
    assert result.figures == {"accepted": 0.5, "schema_ok": 0.5}
    assert result.units == 4
    assert "nothing spent" in result.text
