"""Work on a Ray cluster: a team of workers that each hold what they have loaded, one piece at a time each.

Workers are actors, not tasks, so that a network is loaded once for each GPU, not once for each piece. A
worker that is lost, with its node or alone, loses the one piece that it had: another does it again.

Nothing is reported to Ray's makers, and the key of an endpoint is in no argument and in no process that this
module starts.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from labeler.allocator import keep_freed_memory
from labeler.config import ExecutorConfig
from labeler.errors import LabelerError, MissingExtraError, RunError
from labeler.seams import Item, Result

HIRING_SECONDS = 600.0
"""How long the run waits while there is no worker at all: a cluster that grows on demand needs minutes for a
node."""
KNOCK_SECONDS = 10.0
"""How long a cluster's address may take to answer."""


class RayExecutor:
    """The workers of a Ray cluster, which is connected to when work first comes. A context manager.

    Args:
        settings: the cluster and its workers.
        secrets: environment variables that processes started here must not have.
        note: told in one line when a worker was lost.
    """

    def __init__(
        self, settings: ExecutorConfig, *, secrets: Sequence[str] = (), note: Callable[[str], None]
    ) -> None:
        self.pieces, self.here = settings.shards, False
        self._settings, self._secrets, self._note = settings, secrets, note
        self._open = contextlib.ExitStack()
        self._team: _Team | None = None

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """`function` of every item, in order.

        Raises:
            LabelerError: as `as_finished`.
        """
        early: dict[int, Result] = {}
        following = 0
        for place, result in self.as_finished(function, items):
            early[place] = result
            while following in early:
                yield early.pop(following)
                following += 1

    def as_finished(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """The place of each item and `function` of it, as they come.

        Raises:
            MissingExtraError: when Ray is not installed.
            RunError: when there is no cluster, or a piece lost its worker more often than `retries` allows.
        """
        if items:
            if self._team is None:
                self._team = self._connected()
            yield from self._team.work(function, items)

    def _connected(self) -> _Team:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read by ray.init
        try:
            import ray
        except ImportError:
            raise MissingExtraError("executor.kind ray", "ray") from None
        self._open.enter_context(contextlib.redirect_stdout(cast(io.TextIOBase, _WithoutRay())))
        if not ray.is_initialized():  # else the program has its own connection, which it keeps
            self._start(ray)
            self._open.callback(_stop, ray)
        team = _Team(ray, self._settings, self._note)
        self._open.callback(team.dismiss)
        return team

    def _start(self, ray: Any) -> None:
        address = self._settings.address
        # Cores and GPUs are a cluster's own unless it is made here; a client is told nothing but the address.
        more = {"include_dashboard": False} if address == "local" else {}
        with _hidden(self._secrets):
            try:
                _knock(address)
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
            except (OSError, ValueError, RuntimeError, ImportError) as error:
                said = (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".: ")
                raise RunError(
                    f"There is no Ray cluster at {address} ({said}); start one with: ray start --head, or "
                    "set executor.address to local."
                ) from None


@dataclass
class _Team:
    """The workers, each at rest, at work on the item of one place, or still to come."""

    ray: Any
    settings: ExecutorConfig
    note: Callable[[str], None]
    resting: list[Any] = field(default_factory=list)
    coming: dict[Any, Any] = field(default_factory=dict)  # reference -> worker
    working: dict[Any, tuple[Any, int]] = field(default_factory=dict)  # reference -> worker, place
    stillborn: int = 0  # that ended before they came, since the last one came

    def work(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """See `RayExecutor.as_finished`."""
        waiting = deque(range(len(items)))
        losses = [0] * len(items)
        left = len(items)
        self._call()
        try:
            while left:
                self._hire(left)
                self._set_to_work(function, items, waiting)
                ended = self._next()
                if ended in self.coming:
                    self._welcome(ended)
                    continue
                worker, place = self.working[ended]  # where the work raises, it goes with the others
                try:
                    result = self._result(ended)
                except _LostError as lost:
                    del self.working[ended]
                    self._let_go(worker)
                    losses[place] += 1
                    self._count(losses[place], lost)
                    waiting.appendleft(place)
                    continue
                del self.working[ended]
                self.resting.append(worker)
                self._set_to_work(function, items, waiting)  # before the caller looks at the result
                left -= 1
                yield place, cast(Result, result)
        finally:
            for worker, _ in self.working.values():  # the caller has had enough, or something failed
                self._let_go(worker)
            self.working.clear()

    def _call(self) -> None:
        """Dismiss those at rest that went with their nodes since: they had no piece that could be lost."""
        called = {worker.prepare.remote(self.settings.cpus): worker for worker in self.resting}
        self.resting.clear()
        for reference, worker in called.items():
            try:
                self._result(reference)
            except _LostError:
                self._let_go(worker)
            else:
                self.resting.append(worker)

    def _set_to_work(
        self, function: Callable[[Item], Result], items: Sequence[Item], waiting: deque[int]
    ) -> None:
        while waiting and self.resting:
            place, worker = waiting.popleft(), self.resting.pop()
            self.working[worker.work.remote(function, items[place])] = worker, place

    def dismiss(self) -> None:
        """End all workers."""
        for worker in (*self.resting, *self.coming.values()):
            self._let_go(worker)
        self.resting.clear()
        self.coming.clear()

    def _hire(self, wanted: int) -> None:
        """Ask for as many workers as the cluster has room for and the work needs; at least for one."""
        cpus, gpus = self.settings.cpus, self._gpus()
        room = sum(
            int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else float("inf")))
            for node in self._nodes()
        )
        if room == 0 and not self.coming:
            self.note(f"Warning: no node of the cluster has {cpus} CPU(s) and {gpus:g} GPU(s) yet.")
        have = len(self.resting) + len(self.coming) + len(self.working)
        for _ in range(min(max(room, 1), wanted) - have):
            kind = self.ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_Worker)
            worker = kind.remote()
            self.coming[worker.prepare.remote(cpus)] = worker

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _gpus(self) -> float:
        if self.settings.gpus is not None:
            return self.settings.gpus
        wanted = self.settings.device != "cpu" and any(node.get("GPU", 0) for node in self._nodes())
        return 1.0 if wanted else 0.0

    def _next(self) -> Any:
        """The reference that is ready first."""
        given = None if self.working else HIRING_SECONDS
        ready, _ = self.ray.wait([*self.working, *self.coming], num_returns=1, timeout=given)
        if not ready:
            raise RunError(
                f"The Ray cluster gave no worker of {self.settings.cpus} CPU(s) and {self._gpus():g} GPU(s) "
                f"in {HIRING_SECONDS / 60:.0f} minutes; look at: ray status, and run again to go on."
            )
        return ready[0]

    def _welcome(self, ended: Any) -> None:
        worker = self.coming[ended]
        try:
            other = self._result(ended)
        except _LostError as lost:
            del self.coming[ended]
            self._let_go(worker)  # its node went; another is hired in its place
            self._count_stillborn(lost)
            return
        self.stillborn = 0
        if other != _versions():
            raise RunError(
                f"A worker of the Ray cluster has {other}, this machine {_versions()}; install the same on "
                "every node, and run again to go on."
            )
        del self.coming[ended]
        self.resting.append(worker)

    def _count_stillborn(self, lost: _LostError) -> None:
        """Where nobody works and more have ended than a lost node takes along, no worker will ever come."""
        self.stillborn += 1
        if not (self.resting or self.working) and self.stillborn > self.settings.retries + len(self.coming):
            raise RunError(
                f"{self.stillborn} workers of the Ray cluster ended before they could begin (last: {lost}); "
                "install labeler on every node, see that a worker's memory is there, and run again to go on."
            )

    def _result(self, reference: Any) -> Any:
        errors = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, LabelerError):
                raise cause from None
            raise
        except errors.RayError as error:  # whatever took the worker, its node or the result with it
            raise _LostError(type(error).__name__) from None

    def _count(self, losses: int, lost: _LostError) -> None:
        if losses > self.settings.retries:
            raise RunError(
                f"One piece of work lost its worker {losses} times (last: {lost}), as a rule for want of "
                "memory; raise executor.shards or executor.cpus, and run again to go on."
            )
        self.note(f"Warning: the cluster lost a worker ({lost}); the piece that it had is done again.")

    def _let_go(self, worker: Any) -> None:
        self.ray.kill(worker)  # of no consequence where it is dead already


def _knock(address: str) -> None:
    """Whether anybody is at ``HOST:PORT``, or OSError: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def _stop(ray: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it has not yet said of lost nodes
        ray.shutdown()


class _LostError(Exception):
    """A worker went, and with it what it was doing; the message is Ray's name for it."""


class _Worker:
    """What a worker is on its node."""

    def prepare(self, threads: int) -> str:
        """Told before any work; what must be the same everywhere."""
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)  # torch comes with work
        keep_freed_memory()
        return _versions()

    def work(self, function: Callable[[Any], Any], item: Any) -> Any:
        return function(item)


def _versions() -> str:
    from importlib.metadata import version

    return f"labeler {version('labeler')} and torch {version('torch')}"


class _WithoutRay:
    """stdout, which is for data, without what Ray's own threads print about nodes that went."""

    def __init__(self) -> None:
        self._stream = sys.stdout

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Without these environment variables, so that no process which begins here has them."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
