"""A language model on this machine whose answers depend on every byte that it is asked, and which counts.

It looks at nothing: whoever sends the same sheet and the same words gets the same labels, and a sheet that a
resumed run drew otherwise would get others, which the catalogue would show.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from labeler.suites import suite_module

loopback = suite_module("loopback")
WORDS = (
    "red",
    "green",
    "blue",
    "yellow",
    "white",
    "black",
    "striped",
    "dotted",
    "grid",
    "circle",
    "tree",
    "sky",
)
SECONDS = 0.4
"""That an answer takes, so that a kill finds some calls in flight."""


@dataclass
class CountingModel:
    """`asked` counts every question by its bytes; those about the endpoint itself are left out."""

    asked: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: dict[str, Any]) -> str:
        """Four labels for facet 0, drawn by the question's hash."""
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
        with self._lock:
            self.asked[key.hex()] += 1
        time.sleep(SECONDS)
        words = dict.fromkeys(WORDS[byte % len(WORDS)] for byte in key[:4])
        plain = {"kind": "other", "facet": 0, "formula": {"op": "none", "terms": []}}
        return json.dumps({"candidates": [{**plain, "label": word} for word in words], "abstain": False})

    def count(self) -> int:
        """Questions that were asked, repeated ones too."""
        with self._lock:
            return sum(self.asked.values())


@contextmanager
def counting_model() -> Iterator[tuple[CountingModel, str]]:
    """The model and the address of its API."""
    model = CountingModel()
    with loopback.serving(model.answer) as url:
        yield model, url
