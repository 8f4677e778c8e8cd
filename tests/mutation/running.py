"""Runs tests against a mutated module, each time in a fork of one process that has the slow imports.

No file is changed: the fork imports the mutant in the module's place. Hypothesis draws the same examples
every time, so that a score can be repeated.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.abc
import importlib.util
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis
import pytest

MEMORY = 4 << 30
"""Bytes that a mutant may take beyond what it starts with."""
NOTICED, UNNOTICED, TIMED_OUT = "killed", "survived", "timed out"


class Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports `code` as the module `name`, and writes to `before` which modules were there by then."""

    def __init__(self, name: str, path: str, code: CodeType, before: int | None) -> None:
        self.name, self.path, self.code, self.before = name, path, code, before

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> object:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if self.before is not None:
            os.write(self.before, "\n".join(_whole_modules()).encode())
            os.close(self.before)
        exec(self.code, module.__dict__)


class PlainTestsFirst:
    """For pytest: examples before properties, as they notice more in less time."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: item.get_closest_marker("hypothesis") is not None)


def module_name(path: str) -> str:
    """``labeler.refine`` of ``labeler/refine.py``."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def warm_up(path: str, tests: Sequence[str]) -> None:
    """Import all that `tests` import before the module at `path`, which therefore does not depend on it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        source = Path(path).read_text(encoding="utf-8")
        _run_tests(path, compile(source, path, "exec", dont_inherit=True), tests, writing)
    os.close(writing)
    with os.fdopen(reading) as stream:
        names = stream.read().splitlines()
    os.waitpid(child, 0)
    for name in names:
        with contextlib.suppress(ImportError):  # some modules are made by others, not imported
            importlib.import_module(name)
    if module_name(path) in sys.modules:
        raise RuntimeError(f"{path} was imported with what it was thought not to be needed for.")
    gc.freeze()  # a collection in a fork would copy all that it looks at


def _whole_modules() -> list[str]:
    """The modules that are imported to their end, as are the packages that they lie in."""
    begun = {
        name for name, module in list(sys.modules.items())
        if getattr(getattr(module, "__spec__", None), "_initializing", False)
    } | {"tests", "conftest", "__main__"}  # fmt: skip
    return [name for name in list(sys.modules) if not any((name + ".").startswith(b + ".") for b in begun)]


def outcome(path: str, code: CodeType, tests: Sequence[str], limit: float) -> tuple[str, float]:
    """What became of the module at `path` with `code` in its place, and the seconds that it took."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _run_tests(path, code, tests)
    while time.monotonic() - start < limit:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            passed = os.WIFEXITED(status) and os.WEXITSTATUS(status) == pytest.ExitCode.OK
            return (UNNOTICED if passed else NOTICED), time.monotonic() - start
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return TIMED_OUT, time.monotonic() - start


def _run_tests(path: str, code: CodeType, tests: Sequence[str], before: int | None = None) -> None:
    status = 99
    try:
        os.setsid()
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
        sys.meta_path.insert(0, Replaced(module_name(path), os.path.abspath(path), code, before))
        hypothesis.settings.register_profile(
            "mutation", database=None, derandomize=True, deadline=None, max_examples=30,
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )  # fmt: skip
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        options = ["-x", "--tb=no", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
        profile = "--hypothesis-profile=mutation"
        status = int(pytest.main([*options, profile, *tests], plugins=[PlainTestsFirst()]))
    finally:
        os._exit(status)
