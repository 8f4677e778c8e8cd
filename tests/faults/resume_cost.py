"""What a kill costs a run that takes minutes: ``python -m tests.faults.resume_cost CONFIG --kills 5``.

The run is made once undisturbed, then once more with kills (SIGKILL) at equal shares of its time, each
followed by the same command. Counted are seconds of clock and of processor of all attempts together; both
catalogues have to be equal. Every attempt starts Python and loads networks once more.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.toy_run import rows_of

MAIN = "from labeler.cli import main; main()"


@dataclass(frozen=True)
class Attempt:
    """How one ``labeler run`` ended, and what it took; processor time with that of its own processes."""

    code: int
    wall: float
    cpu: float


def attempt(config: Path, out: Path, seconds: float | None = None) -> Attempt:
    """Run, and kill after so many seconds."""
    begun = time.monotonic()
    command = [sys.executable, "-c", MAIN, "run", str(config), "--out", str(out)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        process, status, used = os.wait4(child.pid, os.WNOHANG)
        if process:
            child.returncode = os.waitstatus_to_exitcode(status)
            return Attempt(child.returncode, time.monotonic() - begun, used.ru_utime + used.ru_stime)
        if seconds is not None and time.monotonic() - begun >= seconds:
            os.kill(child.pid, signal.SIGKILL)
            seconds = None
        time.sleep(0.02)


def main() -> None:
    """Print the figures as JSON; exit status 1 where the catalogues differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        calm, killed = Path(folder) / "calm", Path(folder) / "killed"
        whole = attempt(options.config, calm)
        step = whole.wall / (options.kills + 1)
        attempts = [attempt(options.config, killed, step) for _ in range(options.kills)]
        attempts.append(attempt(options.config, killed))
        equal = rows_of(calm) == rows_of(killed)
    happened = sum(one.code == -signal.SIGKILL for one in attempts)
    over = {
        "wall": sum(one.wall for one in attempts) - whole.wall,
        "cpu": sum(one.cpu for one in attempts) - whole.cpu,
    }
    figures = {
        "undisturbed": {"wall": whole.wall, "cpu": whole.cpu}, "kills": happened, "over": over,
        "over_per_kill": {name: seconds / max(happened, 1) for name, seconds in over.items()},
        "allowed_per_kill": {"wall": 0.02 * whole.wall + 10, "cpu": 0.02 * whole.cpu + 10},
        "equal": equal,
    }  # fmt: skip
    print(json.dumps(figures, indent=1))
    sys.exit(0 if equal and attempts[-1].code == 0 else 1)


if __name__ == "__main__":
    main()
