"""A process that has imported everything once and forks a child for each ``labeler`` command.

A child begins where a fresh ``labeler`` would be after its imports, which take seconds, and ends like one:
by its exit status or by a signal. Nothing is computed before a fork, so a child inherits no thread.

``python -m tests.faults.warm`` reads a job (one line of JSON) at a time from stdin and answers each with a
line; `Warm` is the other end.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STAGES = (
    "loading", "activations", "index", "exemplars", "unit-vectors", "visualisations", "paths", "rounds",
    "checks", "report",
)  # fmt: skip
"""The parts of a run in their order; a child marks each as it begins."""
ACKNOWLEDGED = ("rounds", "units", "calls", "stages")
"""What a child counts once the function that makes it durable has returned."""
_PRELOADED = (
    "labeler.pipeline", "labeler.api", "labeler.run_report", "labeler.encoders.open_clip", "labeler.doctor",
    "labeler.verification", "labeler.builtin.scenes", "labeler.propose.endpoint.http", "open_clip", "faiss",
    "openai", "torch._dynamo", "skimage.data", "skimage.io", "scipy.linalg", "rich.progress",
    "PIL.WebPImagePlugin",
)  # fmt: skip
_TICK = 0.0005  # seconds between looks at a child
_PAGE = struct.Struct(f"<{1 + len(STAGES)}d{len(ACKNOWLEDGED)}q")  # now, began[stage], acknowledged[what]


@dataclass(frozen=True)
class Kill:
    """A signal `after` seconds: of the child's beginning, or of that of a stage."""

    signal: str
    after: float
    stage: str | None = None


@dataclass(frozen=True)
class Ended:
    """How a child ended: `code` is its exit status, or minus the signal; times in seconds.

    `pid` is also the number of its process group, in which its own children are. `sent` tells whether it got
    its signal, `stage` which one it was in, `began` says when each began, `acknowledged` what it counted.
    """

    code: int
    out: str
    err: str
    pid: int
    sent: bool
    stage: str
    began: dict[str, float]
    acknowledged: dict[str, int]
    wall: float
    cpu: float

    @property
    def json(self) -> Any:
        """What it printed."""
        return json.loads(self.out)


class Warm:
    """Starts the process and gives it jobs. Use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        environment.pop("OPENAI_API_KEY", None)
        environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.warm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=ROOT, env=environment,
        )  # fmt: skip

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def run(self, *arguments: object, kill: Kill | None = None, fault: tuple[object, ...] = ()) -> Ended:
        """``labeler ARGUMENTS`` in a child, with one of `tests.faults.injected.FAULTS`."""
        said, told = self._folder / "stdout", self._folder / "stderr"
        for left in (said, told):
            left.unlink(missing_ok=True)
            left.touch()
        job = {
            "arguments": [str(argument) for argument in arguments],
            "kill": None if kill is None else vars(kill),
            "fault": fault,
            "stdout": str(said),
            "stderr": str(told),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ended(out=said.read_text(), err=told.read_text(), **answer)


@dataclass
class Board:
    """Memory that a child shares with its parent: it outlives a killed child."""

    page: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, _PAGE.size))

    def read(self) -> tuple[dict[str, float], dict[str, int]]:
        """When each stage began (those that did), and what was acknowledged."""
        values = _PAGE.unpack(self.page[: _PAGE.size])
        began = {stage: at for stage, at in zip(STAGES, values[1:], strict=False) if at}
        return began, dict(zip(ACKNOWLEDGED, values[1 + len(STAGES) :], strict=True))

    def begin(self, stage: str) -> None:
        """A stage begins now."""
        struct.pack_into("<d", self.page, 8 * (1 + STAGES.index(stage)), time.monotonic())

    def acknowledge(self, what: str, count: int) -> None:
        """So many more are durable."""
        place = 8 * (1 + len(STAGES) + ACKNOWLEDGED.index(what))
        (before,) = struct.unpack_from("<q", self.page, place)
        struct.pack_into("<q", self.page, place, before + count)


def watch(board: Board) -> None:
    """Let the pipeline of this process mark its stages and what it has made durable on `board`."""
    from labeler import pipeline, storage
    from labeler.catalogue import CatalogueStore, Ledger

    marks = {
        "load_inputs": "loading", "activations_stage": "activations", "index_stage": "index",
        "evidence_stage": "exemplars", "unit_vectors_stage": "unit-vectors",
        "pictures_stage": "visualisations", "paths_stage": "paths", "_rounds": "rounds",
        "put_verdicts": "checks", "write_report": "report",
    }  # fmt: skip
    for name, stage in marks.items():
        around(pipeline, name, before=functools.partial(_begin, board, stage))
    around(CatalogueStore, "put_round", after=lambda *_: board.acknowledge("rounds", 1))
    around(CatalogueStore, "put_unit", after=lambda *_: board.acknowledge("units", 1))
    around(
        Ledger,
        "book",
        after=lambda self, found: board.acknowledge("calls", sum(len(b.answers) for b in found)),
    )
    around(
        storage, "_sync_directory", after=lambda at: at.name == "stages" and board.acknowledge("stages", 1)
    )


def _begin(board: Board, stage: str, *arguments: object) -> None:
    board.begin(stage)


def around(
    owner: Any,
    name: str,
    *,
    before: Callable[..., object] | None = None,
    after: Callable[..., object] | None = None,
) -> None:
    """Let `before` and `after` see the positional arguments of every call of ``owner.name``."""
    original = getattr(owner, name)

    def replaced(*arguments: Any, **named: Any) -> Any:
        if before is not None:
            before(*arguments)
        result = original(*arguments, **named)
        if after is not None:
            after(*arguments)
        return result

    setattr(owner, name, replaced)


def _child(job: dict[str, Any], board: Board) -> None:
    """All that the child does; it never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        for descriptor, path in ((1, job["stdout"]), (2, job["stderr"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        watch(board)
        if job["fault"]:
            from tests.faults.injected import FAULTS

            name, *arguments = job["fault"]
            FAULTS[name](*arguments)
        sys.argv = ["labeler", *job["arguments"]]
        from labeler.cli import main

        with contextlib.suppress(KeyboardInterrupt):  # one that waited; from here on they are main's
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _serve(job: dict[str, Any]) -> dict[str, Any]:
    board, began = Board(), time.monotonic()
    child = os.fork()
    if child == 0:
        _child(job, board)
    with contextlib.suppress(OSError):  # it may have ended
        os.setpgid(child, child)
    kill = None if job["kill"] is None else Kill(**job["kill"])
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        now = time.monotonic()
        if ended:
            break
        starts = began if kill is None or kill.stage is None else board.read()[0].get(kill.stage)
        if kill is not None and starts is not None and now - starts >= kill.after:
            os.kill(child, signal.Signals[kill.signal])
            kill = None
        time.sleep(_TICK)
    stages, acknowledged = board.read()
    return {
        "code": os.waitstatus_to_exitcode(status),
        "pid": child,
        "sent": job["kill"] is not None and kill is None,
        "stage": max(stages, key=lambda stage: stages[stage], default="start"),
        "began": {stage: at - began for stage, at in stages.items()},
        "acknowledged": acknowledged,
        "wall": now - began,
        "cpu": used.ru_utime + used.ru_stime,
    }


def _jobs() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


if __name__ == "__main__":
    for module in _PRELOADED:
        importlib.import_module(module)
    import torch

    torch.set_num_threads(1)
    assert len(os.listdir("/proc/self/task")) == 1, "a fork beside threads would inherit their locks"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell lets its children ignore it
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    for job in _jobs():
        print(json.dumps(_serve(job)), flush=True)
