"""Recorded answers: a folder that shows what is to be answered, and keeps what was.

::

    DIR/cassette.json           {"format": 1, "model": ..., "about": ...}; optional, for people
    DIR/requests/CONTENT.json   {"about": "layer:3 round 1", "prompt": ..., "sheet": "sheets/NAME.webp",
                                 "max_tokens": ..., "earlier": [{"said": ..., "told": ...}]}
    DIR/sheets/NAME.webp        what the model is to be shown beside the prompt
    DIR/answers/CONTENT.json    {"text": ..., "finish_reason": "stop", "model": ...,
                                 "usage": {"prompt_tokens": ..., "completion_tokens": ...}};
                                 all but text may be missing

CONTENT is the sha256 of what the model is shown, text and picture. A question without an answer is written
to ``requests``, and the run pauses once all of its round are there. Whoever answers sees the prompt and the
sheet and nothing else.

Another processor may give activations and synthetic pictures that differ a little. A question that was not
recorded therefore takes the answer to the one about the same unit, round and step whose sheet is alike.
"""

from __future__ import annotations

import hashlib
import io
import json
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from labeler.errors import EndpointError
from labeler.propose.endpoint.dialect import Dialect
from labeler.propose.endpoint.wire import MOST_BYTES, Failed, Question, Reply, decode
from labeler.storage import write_atomic

FORMAT = 1
BLOCK = 32
"""Side of the blocks, in pixels, by which two sheets are compared."""
DIFFERENT = 16.0
"""Mean difference of a block's pixels, of 255, from which on it shows something else."""
ALIKE = 0.8
"""Least share of blocks that show the same on sheets that are alike. Synthetic pictures take less than a
fifth of a sheet."""


class CassetteExchange:
    """Implements `labeler.propose.endpoint.exchange.Exchange` with a folder of recorded answers.

    Args:
        base_url: ``cassette:DIR``.

    Raises:
        EndpointError: when the folder is of another format.
    """

    together = True
    dialect: Dialect | None = Dialect()

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.directory = Path(base_url.partition(":")[2])
        _check_format(self.directory)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        return None

    async def ask(self, question: Question, dialect: Dialect, key: str) -> Reply | Failed:
        """The recorded answer; a question without one is written down for whoever records."""
        path = self.directory / "answers" / f"{question.content}.json"
        if path.is_file():
            return _read_answer(path)
        for content, request in self._recorded.get((question.about, len(question.turns)), ()):
            if self._same_sheet(question, request):
                return _read_answer(self.directory / "answers" / f"{content}.json")
        write_request(self.directory, question)
        return Failed(f"Answer what is in {self.directory / 'requests'}, and run again.", waits=True)

    async def probe(self, question: Question, dialect: Dialect, key: str) -> Reply | Failed:
        """Nobody asks: the dialect is known."""
        return await self.ask(question, dialect, key)

    @cached_property
    def _recorded(self) -> dict[tuple[str, int], list[tuple[str, dict[str, Any]]]]:
        """Every answered request by what it is about and how many turns came before, by name."""
        found: dict[tuple[str, int], list[tuple[str, dict[str, Any]]]] = {}
        for path in sorted((self.directory / "requests").glob("*.json")):
            if (self.directory / "answers" / path.name).is_file():
                request = read_request(path)
                place = str(request["about"]), len(request["earlier"])
                found.setdefault(place, []).append((path.stem, request))
        return found

    def _same_sheet(self, question: Question, request: dict[str, Any]) -> bool:
        if not question.picture or request["sheet"] is None:
            return not question.picture and request["sheet"] is None
        path = self.directory / str(request["sheet"])
        return path.is_file() and alike(question.picture, path.read_bytes())


def write_request(directory: Path, question: Question) -> None:
    """Write down what a model is to be asked, and the sheet that it is to be shown."""
    sheet = None
    if question.picture:
        kind = "png" if question.picture.startswith(b"\x89PNG") else "webp"
        sheet = f"sheets/{hashlib.sha256(question.picture).hexdigest()[:16]}.{kind}"
        write_atomic(directory / sheet, question.picture)
    request = {
        "about": question.about,
        "prompt": question.prompt,
        "sheet": sheet,
        "max_tokens": question.max_tokens,
        "earlier": [{"said": turn.said, "told": turn.told} for turn in question.turns],
    }
    data = json.dumps(request, indent=1, ensure_ascii=False).encode()
    write_atomic(directory / "requests" / f"{question.content}.json", data)


def read_request(path: Path) -> dict[str, Any]:
    """A request as `write_request` wrote it.

    Raises:
        EndpointError: when the file is none.
    """
    try:
        request = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        request = None
    if isinstance(request, dict) and request.keys() >= {"about", "prompt", "sheet", "earlier"}:
        return request
    raise EndpointError(f"{path} is not a request of a cassette; delete it and run again.")


def waiting(directory: Path) -> list[Path]:
    """The requests without an answer, by name."""
    answered = {path.name for path in (directory / "answers").glob("*.json")}
    return [path for path in sorted((directory / "requests").glob("*.json")) if path.name not in answered]


def alike(one: bytes, other: bytes) -> bool:
    """Whether two sheets show the same, but for a few tiles and for noise."""
    import numpy as np
    from PIL import Image

    pictures = []
    for data in (one, other):
        with Image.open(io.BytesIO(data)) as image:
            pictures.append(image.convert("RGB"))
    if pictures[0].size != pictures[1].size:
        return False
    width, height = pictures[0].size
    blocks = max(1, width // BLOCK), max(1, height // BLOCK)
    first_hwc, second_hwc = (
        np.asarray(picture.resize(blocks, Image.Resampling.BOX), dtype=np.float32) for picture in pictures
    )
    differs_hw = np.abs(first_hwc - second_hwc).mean(axis=2) > DIFFERENT
    return bool(differs_hw.mean() <= 1 - ALIKE)


def _read_answer(path: Path) -> Reply | Failed:
    """The same limits as for an endpoint: what a recorder left is trusted no more than a server."""
    broken = Failed(f"{path.name} in the cassette's answers is not a recorded answer.")
    if path.stat().st_size > MOST_BYTES:
        return broken
    try:
        data: Any = json.loads(path.read_bytes())
        choice = {
            "message": {"content": data["text"], "refusal": data.get("refusal")},
            "finish_reason": data.get("finish_reason", "stop"),
        }
        reply = decode(json.dumps({"choices": [choice], "usage": data.get("usage")}).encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return broken
    return broken if isinstance(reply, Failed) else reply


def _check_format(directory: Path) -> None:
    path = directory / "cassette.json"
    if not path.is_file():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["format"]
    except (ValueError, KeyError, TypeError):
        found = None
    if found != FORMAT:
        raise EndpointError(f"{path} is not a cassette of format {FORMAT}; record it anew.")
