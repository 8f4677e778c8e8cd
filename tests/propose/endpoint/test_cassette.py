"""Recorded answers: what is to be answered is written down, and what was is replayed anywhere."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labeler.config import ProposeConfig
from labeler.errors import EndpointError, PausedError
from labeler.propose.endpoint import EndpointProposer
from labeler.propose.endpoint.cassette import alike, read_request, waiting
from labeler.propose.endpoint.connect import make_exchange
from labeler.seams import Evidence
from labeler.testing import MemoryLedger
from tests.propose.endpoint.loopback import GOOD, evidence, labels, many


def proposer(folder: Path, ledger: MemoryLedger | None = None) -> EndpointProposer:
    config = ProposeConfig(kind=("vlm",), model="recorded", base_url=f"cassette:{folder}", candidates=2)
    ledger = ledger or MemoryLedger()
    return EndpointProposer(config, make_exchange(config, ledger), ledger)


def picture(seed: int, noise: float = 0.0, changed: int = 0) -> bytes:
    """A sheet of 6 x 8 coloured tiles, with noise and with some tiles replaced."""
    generator = np.random.default_rng(seed)
    tiles = generator.integers(0, 255, (8, 6, 3))
    for number in range(changed):
        tiles[number // 6, number % 6] = (tiles[number // 6, number % 6] + 128) % 255
    pixels = np.kron(tiles, np.ones((64, 64, 1)))
    pixels = np.clip(pixels + np.random.default_rng(1).normal(0, noise, pixels.shape), 0, 255).astype(
        np.uint8
    )
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=85)
    return stream.getvalue()


def sheets(count: int, **changes: Any) -> list[Evidence]:
    return [evidence(picture=picture(n, **changes), unit=n) for n in range(count)]


def record(folder: Path, text: str = GOOD) -> int:
    """Answer everything that waits, as whoever records does: from the prompt and the sheet alone."""
    found = waiting(folder)
    (folder / "answers").mkdir(exist_ok=True)
    for path in found:
        request = read_request(path)
        assert request["prompt"].startswith("You name what one unit")
        assert (folder / request["sheet"]).read_bytes()
        answer = {"text": text, "usage": {"prompt_tokens": 1500, "completion_tokens": 40}}
        (folder / "answers" / path.name).write_text(json.dumps(answer))
    return len(found)


def test_what_is_not_recorded_is_written_down_all_at_once_and_then_replayed(tmp_path: Path) -> None:
    with pytest.raises(PausedError, match=f"Paused for 25 answers. .*{tmp_path}"):
        list(proposer(tmp_path).propose_all(many(25)))
    assert record(tmp_path) == 25
    ledger = MemoryLedger()
    found = list(proposer(tmp_path, ledger).propose_all(many(25)))
    assert [proposed.proposals[0].text for proposed in found] == ["dog"] * 25
    assert [(call.input_tokens, call.billing) for call in ledger.calls] == [(1500, "reported")] * 25


def test_a_recorded_answer_that_cannot_be_used_leads_to_a_second_request(tmp_path: Path) -> None:
    with pytest.raises(PausedError):
        list(proposer(tmp_path).propose_all(sheets(1)))
    record(tmp_path, "It is a dog.")
    with pytest.raises(PausedError):
        list(proposer(tmp_path).propose_all(sheets(1)))
    (again,) = waiting(tmp_path)
    assert read_request(again)["earlier"][0]["said"] == "It is a dog."
    record(tmp_path, labels("cat"))
    assert proposer(tmp_path).propose(sheets(1)[0]).proposals[0].text == "cat"


def test_a_sheet_that_another_processor_made_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(PausedError):
        list(proposer(tmp_path).propose_all(sheets(2)))
    record(tmp_path)
    before = len(waiting(tmp_path))
    found = list(proposer(tmp_path).propose_all(sheets(2, noise=6.0, changed=4)))
    assert all(proposed.proposals for proposed in found)
    assert len(waiting(tmp_path)) == before
    with pytest.raises(PausedError):
        list(proposer(tmp_path).propose_all(sheets(2, changed=24)))
    other = [evidence(picture=picture(0), unit=7)]  # the sheet of another unit is none of this one
    with pytest.raises(PausedError):
        list(proposer(tmp_path).propose_all([*other, evidence(picture=picture(1, noise=5.0), unit=0)]))


def test_sheets_are_alike_but_for_noise_and_a_few_tiles() -> None:
    assert alike(picture(0), picture(0, noise=8.0))
    assert alike(picture(0), picture(0, changed=6))
    assert not alike(picture(0), picture(0, changed=20))
    assert not alike(picture(0), picture(1))
    stream = io.BytesIO()
    Image.new("RGB", (100, 100)).save(stream, "WEBP")
    assert not alike(picture(0), stream.getvalue())


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"text": 5, "usage": 3}', b"\xff\xfe", b"[" * 10_000, b" " * 2_000_000]
)
def test_a_broken_recording_fails_its_unit_alone(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(PausedError):
        list(proposer(tmp_path).propose_all(sheets(2)))
    record(tmp_path)
    first = sorted((tmp_path / "answers").iterdir())[0]
    first.write_bytes(data)
    failures = [proposed.failure for proposed in proposer(tmp_path).propose_all(sheets(2))]
    assert sorted(failure is None for failure in failures) == [False, True]


def test_a_cassette_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cassette.json").write_text('{"format": 99}')
    with pytest.raises(EndpointError, match="not a cassette of format 1"):
        proposer(tmp_path)
