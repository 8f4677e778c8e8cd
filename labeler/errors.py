"""Every error that reaches a user: one sentence that says what to do.

LabelerError
├── UsageError              exit 2: the command line or the config is wrong
│   └── ConfigError         a key or value of the config
├── UnknownNameError        exit 1: a name that does not exist, with the nearest that do
├── MissingExtraError       exit 1: a package that an extra installs
├── ProbeError              exit 1: the probe dataset cannot be used
│   └── UnreadableImageError    one image; the pass records it and goes on
├── TargetError             exit 1: the target or its weights cannot be used
├── EncoderError            exit 1: an image-text model cannot be used
├── EndpointError           exit 1 or a `failed` unit: a model endpoint
│   └── PausedError         exit 4: the run stopped early and can be resumed
├── ActivationError         exit 1: activations that are not numbers, shards that do not fit
├── RunError                exit 1: a run directory is broken, busy or of another config
└── CatalogueError          exit 1: a question that the catalogue cannot answer
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabelerError(Exception):
    """Base of all errors that users see; `exit_code` is the process's exit status."""

    exit_code = 1

    def __reduce__(self) -> tuple[object, ...]:
        # Processes that decode images send errors by pickle, which would call __init__ with the message.
        return _again, (type(self), self.args), self.__dict__


class UsageError(LabelerError):
    """The command line is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A key or a value of the config is wrong."""


class UnknownNameError(LabelerError):
    """A name that does not exist; the message names the nearest that do.

    Args:
        what: the kind of thing, e.g. ``"layer"``.
        name: what was asked for.
        known: the names that exist.
    """

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        close = nearest(name, known)
        hint = f"; did you mean {', '.join(close)}?" if close else "."
        super().__init__(f"There is no {what} named {name!r}{hint}")


class MissingExtraError(LabelerError):
    """Something needs a package that is installed with an extra.

    Args:
        what: what needs it, e.g. ``"builtin:efficientnet-lite0"``.
        extra: the extra's name, e.g. ``"demo"``.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs packages that are not installed: pip install "labeler[{extra}]".')


class ProbeError(LabelerError):
    """The probe dataset cannot be used."""


class UnreadableImageError(ProbeError):
    """One image cannot be decoded; it keeps its id and its status becomes ``unreadable``."""


class TargetError(LabelerError):
    """The target network or its weights cannot be used."""


class EncoderError(LabelerError):
    """An image-text model cannot be used."""


class EndpointError(LabelerError):
    """A model endpoint cannot be used."""


class PausedError(EndpointError):
    """The run stopped before its end and can be resumed with the same command."""

    exit_code = 4


class ActivationError(LabelerError):
    """Activations are not finite numbers, or shards do not belong together."""


class RunError(LabelerError):
    """A run directory is broken, in use, or belongs to another config."""


class CatalogueError(LabelerError):
    """A question that the catalogue cannot answer."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The `count` names in `known` most like `name`, best first; empty when none is close."""
    return difflib.get_close_matches(name, list(known), n=count, cutoff=0.5)


def _again(kind: type[LabelerError], arguments: tuple[object, ...]) -> LabelerError:
    return kind.__new__(kind, *arguments)
