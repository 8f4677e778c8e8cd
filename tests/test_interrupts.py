"""An interrupt is one also where a library makes another error of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import pytest

from labeler import cli
from labeler.cli.interrupts import watching_interrupts


def interrupt_and_swallow() -> None:
    """What a library does that turns any exception into its own."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            pass
    except KeyboardInterrupt:
        raise ValueError("could not determine the shape") from None


def test_a_swallowed_interrupt_is_still_one() -> None:
    with watching_interrupts() as interrupted:
        assert not interrupted()
        with pytest.raises(ValueError, match="shape"):
            interrupt_and_swallow()
        assert interrupted()
        assert interrupted()
    with watching_interrupts() as again:
        assert not again()


def interrupt() -> None:
    """Ctrl-C while the commands are still being put together, before anybody minds it."""
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        pass


@pytest.mark.parametrize("app", [interrupt_and_swallow, interrupt])
def test_the_command_line_ends_with_130_and_one_sentence(
    app: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "labeler: interrupted; the same command goes on where it stopped.\n"


def test_an_error_without_an_interrupt_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a mistake in the program")

    monkeypatch.setattr(cli, "app", fail)
    hook = sys.unraisablehook
    with pytest.raises(ZeroDivisionError):
        cli.main()
    assert sys.unraisablehook is hook
