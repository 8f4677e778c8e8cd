"""Two runs compared: their catalogues, and a model that says how alike two labels are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labeler.catalogue import CatalogueStore
from labeler.catalogue.compare import Comparison, compare_units, differing_texts
from labeler.config import Config
from labeler.errors import LabelerError, MissingExtraError
from labeler.run_directory import read_run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = dict[str, NDArray[np.float32]]


def compare_runs(a: Path, b: Path) -> Comparison:
    """Compare the catalogues of two run directories.

    Labels are compared by the first of these that knows all of them: the embeddings that both runs stored by
    one encoder, the encoder of `a`, MiniLM (the extra ``offline``); where none does, by what is stored.

    Raises:
        RunError: when one of them is not a run directory or has no catalogue.
    """
    first, second = read_run(a), read_run(b)
    with ExitStack() as stack:
        stores = [
            stack.enter_context(closing(CatalogueStore(run / "catalogue.db", read_only=True)))
            for run in (a, b)
        ]
        texts = differing_texts(stores[0].listed(), stores[1].listed())
        vectors, name = _vectors(texts, first, second, stores)
        return compare_units(
            stores[0].listed(),
            stores[1].listed(),
            vectors,
            similarity_by=name,
            same_probe=first["probe"]["fingerprint"] == second["probe"]["fingerprint"],
        )


def _vectors(
    texts: Sequence[str],
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    stores: Sequence[CatalogueStore],
) -> tuple[Vectors, str]:
    if not texts:
        return {}, ""
    name = Config.model_validate(first["config"]).encoder.model
    wanted = set(texts)
    stored: Vectors = {}
    encoders = [run.get("encoders", {}).get(name) for run in (first, second)]
    if encoders[0] is not None and encoders[0] == encoders[1]:
        for store in stores:
            known, rows_td = store.label_embeddings()
            stored |= {text: row_d for text, row_d in zip(known, rows_td, strict=True) if text in wanted}
    if len(stored) == len(wanted):
        return stored, name
    best = (stored, name)
    for model in (_by_encoder, _by_sentences):
        found = model(texts, name)
        if len(found[0]) > len(best[0]):
            best = found
        if len(best[0]) == len(wanted):
            break
    return best if best[0] else ({}, "")


def _by_encoder(texts: Sequence[str], name: str) -> tuple[Vectors, str]:
    from labeler.encoders import load_encoder

    try:
        encoder = load_encoder(name)
    except LabelerError:
        return {}, name
    known = [text for text in texts if encoder.covers(text)]
    return (dict(zip(known, encoder.embed_texts(known), strict=True)) if known else {}), name


def _by_sentences(texts: Sequence[str], name: str) -> tuple[Vectors, str]:
    from labeler.encoders.sentences import minilm

    try:
        model = minilm("comparing labels")
    except MissingExtraError:
        return {}, "MiniLM"
    return dict(zip(texts, model.embed(list(texts)), strict=True)), "MiniLM"
