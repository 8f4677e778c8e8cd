"""Records as a run leaves them, drawn by Hypothesis or made by number, and catalogues full of them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from hypothesis import strategies as st

from labeler.catalogue import CatalogueStore
from labeler.propose.schema import clean_label
from labeler.records import (
    KINDS,
    ActivationSummary,
    CheckResult,
    DissectedConcept,
    Exemplar,
    Facet,
    Formula,
    Label,
    Null,
    SpecificityNull,
    Trust,
    UnitRecord,
)

RUN = {
    "fingerprint": "ab" * 32,
    "config": {
        "target": {"weights": None},
        "propose": {"kind": ["vocabulary"], "model": ""},
        "encoder": {"model": "builtin:scenes-clip", "judge": ["annotations"]},
        "gate": {"precision": 0.9},
        "seed": 0,
    },
    "target": {"name": "torchvision:resnet50", "fingerprint": "t"},
    "probe": {"name": "scenes", "fingerprint": "p", "images": 20},
    "versions": {"labeler": "0.1.0"},
    "warnings": [],
}
"""What run.json of a small run says, as far as exports read it."""


def is_clean(text: str) -> bool:
    """Whether a text may be a label as it is."""
    try:
        return clean_label(text) == text
    except ValueError:
        return False


# What a spreadsheet would run, and what looks like its escape, come more often than chance has it.
_starts = st.sampled_from(["", "=", "+", "-", "@", "'", "'=", "''-", "'tis "])
_reasons = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=9)
"""SQLite's JSON ends a text at NUL, in which no sentence of ours goes on."""
_middles = st.text(alphabet="abcé日ß09 =+-@'\",;:.|/\\#%&()!?*~^$_\u0301", max_size=9)
_ends = st.sampled_from(["a", "Z", "7", "日"])
texts = (
    st.tuples(_starts, _middles, _ends)
    .map(lambda parts: " ".join(unicodedata.normalize("NFC", "".join(parts)).split()))
    .filter(is_clean)
)
probabilities = st.none() | st.floats(0, 1)
_formulas = st.one_of(
    st.none(),
    st.builds(Formula, op=st.just("not"), terms=st.tuples(texts)),
    st.builds(Formula, op=st.sampled_from(["or", "and"]), terms=st.tuples(texts, texts)),
)
labels = st.builds(
    Label, text=texts, kind=st.sampled_from(KINDS), formula=_formulas, facet=st.integers(0, 3),
    round=st.integers(1, 3), score=st.floats(0, 1), probability=probabilities, match=st.text(max_size=5),
)  # fmt: skip


@st.composite
def records(draw: st.DrawFn) -> list[UnitRecord]:
    """The records of a small catalogue, in the order (layer, index, side)."""
    units = draw(
        st.lists(
            st.tuples(st.sampled_from(["layer1", "a.b", "=x"]), st.integers(0, 30), st.booleans()),
            unique=True,
            max_size=6,
        )
    )
    found = []
    for layer, index, negative in sorted(units):
        own = draw(st.lists(labels, max_size=3, unique_by=lambda label: label.text))
        verdict = ("rejected", "accepted", "polysemantic", "polysemantic")[len(own)]
        unit = f"{layer}:{index}{'-' if negative else ''}"
        found.append(record(unit, layer, index, verdict, tuple(own), reason=draw(_reasons)))
    return found


def record(
    unit: str,
    layer: str,
    index: int,
    verdict: str,
    own: tuple[Label, ...],
    *,
    reason: str = "r",
    images: int = 3,
) -> UnitRecord:
    """One record with some evidence."""
    shown = tuple(
        Exemplar(
            image=(7 * index + i) % 50_000, path=f"scene-{i}", activation=9.0 - i, band="top", split="propose"
        )
        for i in range(images)
    )
    return UnitRecord(
        unit=unit, layer=layer, index=index, verdict=verdict, reason=reason, labels=own,
        trust=Trust(verdict="partial", reason="t"), coverage=0.5 if own else None,
        facets=(Facet(index=0, size=images, clarity=0.4),), exemplars=shown,
        activation=ActivationSummary(
            threshold=1.0, minimum=0.0, maximum=9.0, histogram=(3, 1), histogram_edges=(0.0, 4.5, 9.0)
        ),
        dissection=(DissectedConcept(category="colour", concept="red", iou=0.2, images=30),),
    )  # fmt: skip


CHECK = CheckResult(
    status="ok", value=0.61, low=0.5, n=1200, judge="annotations",
    significance=Null(z=9.0, p=1e-6), specificity=SpecificityNull(z=4.5, p=None, units=90),
)  # fmt: skip


def filled(path: Path, found: list[UnitRecord]) -> CatalogueStore:
    """A catalogue of these records."""
    store = CatalogueStore(path)
    store.put_decision(found, {}, "{}")  # one transaction: each waits for the disk
    return store
