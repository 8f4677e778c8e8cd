"""A catalogue of 100,000 units, made with the real records: how long questions take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeler import Catalogue
from labeler.catalogue import CatalogueStore
from tests.catalogue.catalogue_doubles import large_record

UNITS, PER_LAYER, WORDS, DIM = 100_000, 2048, 20_011, 512
_PART = 2000


class _Encoder:
    """In place of the run's activations and encoder, whose own time is not the catalogue's."""

    def embed_text(self, text: str) -> np.ndarray:
        return vector(int(text.removeprefix("word ")))


def vector(number: int) -> np.ndarray:
    drawn = np.random.default_rng(number).normal(size=DIM)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def build(path: Path, units: int = UNITS) -> None:
    """A catalogue of `units` records, a fifth of them labelled with one of `WORDS` words."""
    words = [f"word {number}" for number in range(WORDS)]
    store = CatalogueStore(path)
    for start in range(0, units, _PART):
        found = [large_record(number, PER_LAYER, words) for number in range(start, min(units, start + _PART))]
        store.put_decision(found, {}, "{}")
    for start in range(0, WORDS, _PART):
        store.put_label_embeddings(
            words[start : start + _PART],
            np.stack([vector(i) for i in range(start, min(WORDS, start + _PART))]),
        )
    store.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    folder = tmp_path_factory.mktemp("large")
    build(folder / "catalogue.db")
    with Catalogue.open(folder) as catalogue:
        catalogue._retrieval = _Encoder()  # type: ignore[assignment]
        yield catalogue


def seconds(ask: Callable[[], Any], times: int = 5) -> float:
    """Median wall time of asking, after once."""
    ask()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - start)
    return sorted(taken)[times // 2]


@pytest.mark.slow
def test_searches_and_lists_of_100_000_units_are_quick(large: Catalogue) -> None:
    assert len(large) == UNITS
    number = next(int(unit.text.removeprefix("word ")) for unit in large.listed(verdict="accepted", limit=9))
    assert large.search(f"word {number}", k=1)[0].label == f"word {number}"
    assert large.search_method == "text embeddings"
    assert seconds(lambda: large.search("word 70", k=20)) < 0.2
    wanted: dict[str, Any]
    for wanted in (
        {"layer": "blocks.7"},
        {"layer": "blocks.7", "verdict": "accepted"},
        {"kind": "texture", "probability": 0.9},
        {"trust": "partial", "verdict": "accepted", "probability": 0.9},
    ):
        assert seconds(lambda wanted=wanted: large.listed(**wanted)) < 0.3, wanted
        assert seconds(lambda wanted=wanted: large.units(limit=50, **wanted)) < 0.3, wanted
    large._retrieval = None
    assert len(large._store.find_words("word 70", 20)) == 20
    assert seconds(lambda: large._store.find_words("word 70", 20)) < 0.2
