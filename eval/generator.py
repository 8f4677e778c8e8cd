"""Image generators for `cosy`: a function in a module or file that the user trusts."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from labeler.errors import LabelerError, UnknownNameError, UsageError


def load_generator(name: str, trusted: Sequence[Path]) -> Callable[..., Any]:
    """The function that ``MODULE:FUNCTION`` names; MODULE is a module or a ``.py`` file.

    It takes ``(text, count, seed)`` and returns `count` PIL images.

    Raises:
        UsageError: when it is written otherwise, or MODULE is not among the trusted.
        UnknownNameError: when MODULE has no such function.
        LabelerError: when MODULE cannot be loaded.
    """
    module, colon, function = name.rpartition(":")
    if not colon or not module or not function:
        raise UsageError(f"--generator is written MODULE:FUNCTION, not {name!r}.")
    if module not in map(str, trusted):
        raise UsageError(f"--generator {name} would run code; if you trust it, pass --trust-code {module}.")
    try:
        loaded = _from_file(Path(module)) if module.endswith(".py") else importlib.import_module(module)
    except Exception as error:
        raise LabelerError(f"{module} could not be loaded ({type(error).__name__}: {error}).") from error
    found = getattr(loaded, function, None)
    if not callable(found):
        raise UnknownNameError(f"function in {module}", function, vars(loaded))
    made: Callable[..., Any] = found
    return made


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
