"""Killed in the middle, asked again: what was answered is not paid for twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from werkzeug import Request, Response

from labeler.catalogue import read_costs
from tests.propose.endpoint.asking_process import CONCURRENCY
from tests.propose.endpoint.loopback import GOOD, Endpoint, completion

COUNT = 60


@pytest.mark.parametrize("kills", [1, 3])
def test_a_kill_repays_at_most_the_calls_in_flight(endpoint: Endpoint, tmp_path: Path, kills: int) -> None:
    asked: Counter[bytes] = Counter()

    def answer(request: Request) -> Response:
        asked[request.get_data()] += 1
        time.sleep(0.03)
        return completion(GOOD)

    endpoint.script(answer)
    url = endpoint.server.url_for("/v1")
    command = [sys.executable, "-m", "tests.propose.endpoint.asking_process", url, str(tmp_path / "c.db")]
    seconds = random.Random(kills)
    for _ in range(kills):
        child = subprocess.Popen([*command, str(COUNT)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(seconds.randint(1, 8)):  # let it acknowledge some
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        child.stdout.close()
        child.wait()
    done = subprocess.run([*command, str(COUNT)], capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["dog"] * COUNT
    assert len(asked) == COUNT
    assert sum(asked.values()) - COUNT <= kills * CONCURRENCY
    assert len(endpoint.probes) == 1
    (cost,) = read_costs(tmp_path / "c.db")
    assert COUNT + 1 <= cost.calls <= sum(asked.values()) + 1
    before = sum(asked.values())
    again = subprocess.run([*command, str(COUNT)], capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout
    assert sum(asked.values()) == before
