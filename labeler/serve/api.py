"""The JSON API: read-only questions to the catalogue, described by OpenAPI."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from labeler.catalogue.paging import Filter
from labeler.errors import UsageError
from labeler.records import Kind, TrustName, UnitId, UnitRecord, VerdictName
from labeler.report.cards import KeptIn, card
from labeler.serve.live import LiveRun

MOST = 200
"""Units, hits or images in one answer."""


class Problem(BaseModel):
    """Why a question was not answered."""

    error: str = Field(description="One sentence.")


class LabelSummary(BaseModel):
    """An accepted label without its checks."""

    text: str
    kind: Kind
    facet: int
    score: float | None = Field(description="The gate's score, comparable within the run.")
    probability: float | None = Field(description="Null outside the domain of the gate's calibration.")


class UnitSummary(BaseModel):
    """A unit as lists show it."""

    unit: str
    layer: str
    index: int
    name: str = Field(description="What the user calls it; empty for all but named directions.")
    verdict: VerdictName
    reason: str
    labels: list[LabelSummary] = Field(description="Accepted labels, best first.")
    refused: str = Field(description="The best refused label, where none is accepted.")
    score: float | None = Field(description="The score of the best label, accepted or not.")
    trust: TrustName = Field(description="How far its synthetic picture may be trusted.")
    photograph: str | None = Field(description="The strongest photograph: images/NAME.")
    picture: str | None = Field(description="A synthetic picture: images/NAME.")
    page: str = Field(description="Its page, from the server's root.")


class UnitList(BaseModel):
    """Some of the units that a question asks for."""

    total: int = Field(description="How many there are in all.")
    limit: int
    offset: int
    units: list[UnitSummary]


class Hit(BaseModel):
    """A unit whose accepted label is near to a text."""

    unit: str
    label: str
    score: float = Field(description="A cosine in [-1, 1], or 1 for a match of words.")


class Hits(BaseModel):
    """Units near to a text, nearest first."""

    method: str = Field(description="Whether texts were compared by embeddings or by words, and why.")
    hits: list[Hit]


class ProbeImage(BaseModel):
    """A probe image and the unit's pooled activation on it."""

    image: str
    activation: float


class ProbeImages(BaseModel):
    """The images that activate a unit most, strongest first."""

    unit: str
    images: list[ProbeImage]


class Status(BaseModel):
    """How far the run is."""

    run: str = Field(description="The run's fingerprint.")
    units: int = Field(description="How many units the run is to label.")
    with_verdict: int
    verdicts: dict[str, int]
    rounds: int = Field(description="Rounds that are recorded, of units with a verdict or without.")
    images: int = Field(description="Images of the probe.")
    progress: str = Field(description="The same as one sentence; empty when every unit has a verdict.")


_UNIT: dict[str, Any] = {
    "description": "A unit as layer:index, or layer:index- for a negative side.",
    "pattern": r"^.+:\d+-?$",
    "max_length": 600,
}
InPathUnit = Annotated[str, InPath(**_UNIT)]
InQueryUnit = Annotated[str, Query(**_UNIT)]
Many = Annotated[int, Query(ge=1, le=MOST, description=f"How many, at most {MOST}.")]


def _of_app(request: Request) -> LiveRun:
    live: LiveRun = request.app.state.live
    return live


Live = Annotated[LiveRun, Depends(_of_app)]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such thing, or not yet."},
    422: {"model": Problem, "description": "The question has another form."},
}
router = APIRouter(prefix="/api", responses=_PROBLEMS)


@router.get("/units", summary="Units by filter, in pages")
def list_units(
    live: Live,
    layer: Annotated[str | None, Query(max_length=500, description="Only this layer.")] = None,
    verdict: Annotated[VerdictName | None, Query(description="Only this verdict.")] = None,
    trust: Annotated[TrustName | None, Query(description="Only this trust in the picture.")] = None,
    q: Annotated[
        str, Query(max_length=200, description="Part of a unit, of its name or of an accepted label.")
    ] = "",
    order: Annotated[
        Literal["unit", "best", "worst"],
        Query(description="By layer and index; by falling score; by rising score, only those that have one."),
    ] = "unit",
    limit: Many = 60,
    offset: Annotated[int, Query(ge=0, le=10_000_000, description="How many to pass over.")] = 0,
) -> UnitList:
    """Units with a verdict, filtered by layer, verdict, trust in the picture and text."""
    wanted = Filter(layer=layer, verdict=verdict, trust=trust, text=q)
    page = live.catalogue().find(wanted, order=order, limit=limit, offset=offset)
    kept = KeptIn(live.images)
    units = [summary(record, kept) for record in page.records]
    return UnitList(total=page.total, limit=limit, offset=offset, units=units)


@router.get("/units/{unit:path}", summary="One unit with all its evidence")
def show_unit(live: Live, unit: InPathUnit) -> UnitRecord:
    """Everything that the catalogue knows about one unit."""
    return live.catalogue().unit(_unit(unit))


@router.get("/search", summary="Units whose accepted labels are nearest to a text")
def search(
    live: Live,
    q: Annotated[str, Query(min_length=1, max_length=200, description="What to look for.")],
    k: Many = 10,
) -> Hits:
    """By text embeddings where the run's encoder is to be had and knows the text, else by words."""
    method, found = live.search(q, k)
    hits = [Hit(unit=hit.unit, label=hit.label, score=hit.score) for hit in found]
    return Hits(method=method, hits=hits)


@router.get("/images", summary="The probe images that activate a unit most")
def top_images(live: Live, unit: InQueryUnit, k: Many = 9) -> ProbeImages:
    """Names of images and the unit's activation on them; the run has to keep its activations."""
    top = live.top_images(_unit(unit), k)
    images = [ProbeImage(image=image.image, activation=image.activation) for image in top]
    return ProbeImages(unit=unit, images=images)


@router.get("/status", summary="How far the run is")
def status(live: Live) -> Status:
    """Counts of units, verdicts and rounds as they are now."""
    verdicts: Counter[str] = Counter()
    for (_, name), count in live.catalogue().counts("verdict").items():
        verdicts[name] += count
    return Status(
        run=live.data["fingerprint"],
        units=live.data["units"],
        with_verdict=verdicts.total(),
        verdicts=dict(verdicts),
        rounds=live.catalogue().rounds(),
        images=live.data["probe"]["images"],
        progress=live.progress(),
    )


def summary(record: UnitRecord, kept: KeptIn) -> UnitSummary:
    """A unit as lists show it."""
    shown = card(record, kept)
    labels = [
        LabelSummary(
            text=text, kind=label.kind, facet=label.facet, score=label.score, probability=label.probability
        )
        for text, label in zip(shown.labels, record.labels, strict=True)
    ]
    return UnitSummary(
        unit=record.unit, layer=record.layer, index=record.index, name=shown.name, verdict=record.verdict,
        reason=record.reason, labels=labels, refused=shown.refused, score=shown.score, trust=shown.trust,
        photograph=shown.photograph, picture=shown.picture, page=shown.href,
    )  # fmt: skip


def _unit(text: str) -> UnitId:
    """Raises UsageError for what is no unit, also where the pattern let a line break through."""
    try:
        return UnitId.parse(text)
    except ValueError:  # more digits than Python reads as a number
        raise UsageError(f"{text[:60]!r} is not a unit: its index has too many digits.") from None
