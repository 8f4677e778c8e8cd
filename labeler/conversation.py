"""The talk of ``labeler judge``: questions to stderr, one answer a line from a terminal or a pipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TextIO

import typer

from labeler.pipeline.judging import Judging, judging
from labeler.printable import printable
from labeler.records import Answer
from labeler.report.text import table

_ANSWERS: dict[str, Answer] = {"y": "y", "n": "n", "u": "u"}
_HELP = """\
Each question is one label and one contact sheet. Answer y where the label names what the pictures of A, or of
one facet of A, share in the outlined region, and where the pictures of C and the end of F lack it; else n.
y yes, n no, u unsure, b back, q stop. Some of the labels were never proposed for their pictures."""


def converse(
    run: Path, count: int | None, seed: int | None, answers: TextIO, *, show: bool
) -> dict[str, Any]:
    """Ask until the sample, or the input, ends or the person stops; then fit. Returns the summary.

    Args:
        run: the run directory.
        count: how many labels; see `judging`.
        seed: of the sample; see `judging`.
        answers: read line by line, a terminal or not.
        show: open each sheet in the system's image viewer.

    Raises:
        RunError: see `judging`.
    """
    with judging(run, count, seed) as judged:
        _ask(judged, answers, show)
        return judged.conclude()


def _ask(judged: Judging, answers: TextIO, show: bool) -> None:
    position = _unanswered(judged)
    if position is not None:
        _say(_HELP)
    while position is not None:
        sheet = judged.sheet(position)
        if show and typer.launch(str(sheet)):
            _say("There is no image viewer here; open the file yourself.")
        label = printable(judged.sample[position].label.text)
        _say(f"\n{position + 1} of {len(judged.sample)}: {label}\n{sheet}")
        answer = _answer(answers)
        if answer == "q":
            return
        if answer == "b":
            position = max(0, position - 1)
            continue
        judged.keep(position, _ANSWERS[answer])
        position = _unanswered(judged)


def _unanswered(judged: Judging) -> int | None:
    """The first place in the sample that has no answer."""
    places = (i for i, pair in enumerate(judged.sample) if pair.key not in judged.answers)
    return next(places, None)


def _answer(answers: TextIO) -> str:
    """The next answer that is one; the end of the input stops."""
    while True:
        print("y/n/u/b/q? ", end="", file=sys.stderr, flush=True)
        line = answers.readline()
        said = line.strip().casefold()
        if not line:
            return "q"
        if said in (*_ANSWERS, "b", "q"):
            return said
        _say("Answer y, n, u, b or q.")


def _say(text: str) -> None:
    print(printable(text, keep="\n"), file=sys.stderr)


def summary_text(summary: dict[str, Any]) -> str:
    """The summary for reading."""
    rows = []
    for source, share in summary["agreement"].items():
        value, ends = share["share"], share["interval"]
        shown = ("–", "–") if value is None else (f"{value:.0%}", f"{ends[0]:.0%} to {ends[1]:.0%}")
        rows.append((source, str(share["yes"]), str(share["definite"]), *shown))
    lines = [
        f"Answered {summary['answered']} of {summary['sample']}, unsure about {summary['unsure']}.",
        table(("drawn as", "yes", "of", "share", "95 % interval"), rows),
    ]
    if summary["own_error_at_least"] is not None:
        lines.append(
            f"Yes to {summary['own_error_at_least']:.0%} of the decoys: expect as much error elsewhere."
        )
    if summary["gate"] is None:
        lines.append(f"The gate stays as it is; to fit it, these answers are needed: {summary['lacking']}.")
    else:
        changed = summary["verdicts_changed"]
        lines.append(
            f"The gate was fitted to {summary['fitted_on']} answers: {summary['gate']}."
            f" Verdicts or labels changed: {changed}."
        )
    return "\n".join(lines)
