"""Recording a cassette: answers of whoever saw a prompt and a sheet, checked and put where they are replayed.

``python -m eval.recording CASSETTE`` lists what waits for an answer, one JSON object a line; with a file of
answers it takes them in. That file is one JSON object: by request, the answer's text, or an object with
``text`` and what else `labeler.propose.endpoint.cassette` keeps.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labeler.errors import LabelerError, UsageError
from labeler.propose.endpoint.cassette import FORMAT, read_request, waiting
from labeler.storage import write_atomic

KEPT = ("text", "finish_reason", "refusal", "usage", "model")


def outstanding(cassette: Path) -> Iterator[dict[str, Any]]:
    """What waits for an answer: the request's name, what it is about, its prompt, and the sheet's path."""
    for path in waiting(cassette):
        request = read_request(path)
        sheet = None if request["sheet"] is None else str(cassette / request["sheet"])
        yield {"request": path.stem, "about": request["about"], "prompt": request["prompt"],
               "earlier": request["earlier"], "sheet": sheet}  # fmt: skip


def take_in(cassette: Path, file: Path, model: str = "", about: str = "") -> int:
    """Store the answers of a file; how many there were.

    Args:
        cassette: its folder.
        file: of answers.
        model: who answered, where the answers do not say.
        about: one sentence on how they were recorded, for `cassette.json`.

    Raises:
        UsageError: when the file is none, or answers what was not asked. Nothing is stored then.
    """
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
        answers = {str(name): _answer(value, model) for name, value in given.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        raise UsageError(f"{file} is not a file of answers: one JSON object, REQUEST: text.") from None
    known = {path.stem for path in (cassette / "requests").glob("*.json")}
    strange = sorted(set(answers) - known)
    if strange:
        raise UsageError(f"{file} answers {strange[0]}, which {cassette} does not ask.")
    for name, answer in answers.items():
        data = json.dumps(answer, indent=1, ensure_ascii=False).encode()
        write_atomic(cassette / "answers" / f"{name}.json", data)
    described = {"format": FORMAT, "model": model, "about": about}
    if model or about or not (cassette / "cassette.json").is_file():
        write_atomic(cassette / "cassette.json", json.dumps(described, indent=1).encode())
    return len(answers)


def _answer(value: object, model: str) -> dict[str, Any]:
    found = {"text": value} if isinstance(value, str) else dict(value)  # type: ignore[call-overload]
    if not isinstance(found.get("text"), str):
        raise TypeError("no text")
    return {"model": model, **{name: found[name] for name in KEPT if name in found}}


def main(arguments: list[str]) -> None:
    """``CASSETTE [ANSWERS.json [MODEL]]``."""
    if not 1 <= len(arguments) <= 3:
        raise UsageError("Give the cassette's folder, and a file of answers to take in.")
    cassette = Path(arguments[0])
    if len(arguments) > 1:
        count = take_in(cassette, Path(arguments[1]), *arguments[2:])
        print(f"{count} answers taken in, {len(waiting(cassette))} requests wait.", file=sys.stderr)
    else:
        for request in outstanding(cassette):
            print(json.dumps(request, ensure_ascii=False))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except LabelerError as error:
        sys.exit(f"recording: {error}")
