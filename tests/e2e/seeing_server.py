"""A vision-language model for tests: an OpenAI-compatible server that looks at the sheet it is sent.

It finds the numbered tiles in the picture, embeds them with `builtin:scenes-clip` and answers with the words
nearest to what fires and furthest from what does not. It sees nothing but the request.
"""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from werkzeug import Request, Response

from labeler.seams import Encoder

GAP, COLUMNS = 8, 6
NONSENSE = "flibbertigibbet"
ABSURD = "tree"
WRONG_EVERYWHERE = (NONSENSE, ABSURD)
_KEY_LINE = re.compile(r"^(\d+): ([A-E])(?:, facet (\d+))?(?:: activation (\S+))?$", re.MULTILINE)
_TRIED = re.compile(r'^- facet (\d+): "([^"]+)" scored', re.MULTILINE)


@dataclass(frozen=True)
class Tile:
    """One numbered tile: its picture, and what the key in the prompt says of it."""

    number: int
    section: str
    facet: int
    image: Image.Image


@dataclass(frozen=True)
class Asked:
    """One request, as the server understood it."""

    sheet: bytes
    prompt: str
    tiles: tuple[Tile, ...]
    tried: tuple[str, ...]
    authorisation: str

    def count(self, section: str) -> int:
        return sum(tile.section == section for tile in self.tiles)


@dataclass
class SeeingServer:
    """Handles chat completions. `asked` grows by every request; `broken` says which ones fail."""

    eyes: Encoder
    broken: Callable[[Asked], bool] = lambda asked: False
    asked: list[Asked] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, request: Request) -> Response:
        with self._lock:
            try:
                body = json.loads(request.get_data())
                asked = read_request(body, request.headers.get("Authorization", ""))
                self.asked.append(asked)
                if self.broken(asked):
                    return _error(500, "the model fell over")
                return _completion(json.dumps(self._answer(asked, _schema(body))))
            except Exception as problem:  # what the double cannot read must fail the test, not hang it
                self.complaints.append(repr(problem))
                return _error(400, repr(problem))

    def _answer(self, asked: Asked, schema: dict[str, Any]) -> dict[str, Any]:
        candidates = []
        for facet in sorted({tile.facet for tile in asked.tiles if tile.section == "A"}):
            words = [*self._words(asked, facet)[:2], *WRONG_EVERYWHERE]
            candidates += [
                {"label": word, "kind": "other", "facet": facet, "formula": {"op": "none", "terms": []}}
                for word in words
            ]
        answer = {"candidates": candidates, "abstain": False}
        assert set(answer) == set(schema["required"])
        entry = schema["properties"]["candidates"]["items"]
        assert all(set(candidate) == set(entry["required"]) for candidate in candidates)
        assert all("other" in entry["properties"]["kind"]["enum"] for _ in candidates)
        return answer

    def _words(self, asked: Asked, facet: int) -> list[str]:
        fires = [t for t in asked.tiles if t.section == "D" or (t.section == "A" and t.facet == facet)]
        silent = [t for t in asked.tiles if t.section in "CE"]
        direction = self._mean(fires) - (self._mean(silent) if silent else 0)
        words = [word for word in self.eyes.vocabulary if word not in asked.tried]
        order = np.argsort(-self.eyes.embed_texts(words) @ direction, kind="stable")
        return [words[index] for index in order]

    def _mean(self, tiles: list[Tile]) -> NDArray[np.float32]:
        pixels = torch.stack([self.eyes.prepare(_looked_at(tile)) for tile in tiles])
        return self.eyes.embed_images(pixels).mean(axis=0)


def _looked_at(tile: Tile) -> Image.Image:
    """The surroundings of the outlined region, with the dimming undone; other tiles as they are."""
    if tile.section != "A":
        return tile.image
    pixels_hwc = np.asarray(tile.image).astype(np.float32)
    side = len(pixels_hwc)
    body_hwc = pixels_hwc[side // 5 :]  # the number's box is above
    white_hw = body_hwc.min(axis=2) > 225
    bright = np.clip(body_hwc / 0.55, 0, 255).astype(np.uint8)
    if not white_hw.any():
        return Image.fromarray(bright)
    rows, columns = np.nonzero(white_hw)
    y, x, half = int(rows.mean()), int(columns.mean()), side // 6
    return Image.fromarray(bright[max(0, y - half) : y + half, max(0, x - half) : x + half])


def read_request(body: dict[str, Any], authorisation: str) -> Asked:
    """Decode the picture and the prompt of a chat completion."""
    text, picture = body["messages"][0]["content"]
    sheet = base64.b64decode(picture["image_url"]["url"].partition("base64,")[2])
    prompt = text["text"]
    images = find_tiles(np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB")))
    key = _KEY_LINE.findall(prompt)
    assert [int(number) for number, *_ in key] == list(range(1, len(images) + 1)), (key, len(images))
    tiles = tuple(
        Tile(int(number), section, int(facet or 0), image)
        for (number, section, facet, _), image in zip(key, images, strict=True)
    )
    tried = tuple(label for _, label in _TRIED.findall(prompt))
    return Asked(sheet, prompt, tiles, tried, authorisation)


def find_tiles(sheet_hwc: NDArray[np.uint8]) -> list[Image.Image]:
    """The tiles of a contact sheet in order of their numbers, found by the black box of each number."""
    side = (sheet_hwc.shape[1] - GAP) // COLUMNS - GAP
    dark_hw = (sheet_hwc.max(axis=2) < 70).astype(np.uint8)
    found = []
    y = GAP
    while y + side <= sheet_hwc.shape[0]:
        lefts = [GAP + column * (side + GAP) for column in range(COLUMNS)]
        # The left edge inside a number's box is black over its whole height; no letter is as tall.
        boxed = [left for left in lefts if dark_hw[y + 3 : y + 29, left + 3 : left + 5].mean() > 0.95]
        if boxed and boxed[0] == lefts[0]:
            found += [Image.fromarray(sheet_hwc[y : y + side, left : left + side]) for left in boxed]
            y += side
        y += 1
    return found


def _schema(body: dict[str, Any]) -> dict[str, Any]:
    form = body["response_format"]
    assert form["type"] == "json_schema"
    schema: dict[str, Any] = form["json_schema"]["schema"]
    return schema


def _completion(text: str) -> Response:
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "toy",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 60, "total_tokens": 960},
    }
    return Response(json.dumps(body), content_type="application/json")


def _error(status: int, message: str) -> Response:
    return Response(
        json.dumps({"error": {"message": message}}), status=status, content_type="application/json"
    )
