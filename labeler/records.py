"""The nouns of the catalogue: frozen, typed, and the same in code, JSON and docs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from labeler.errors import UsageError

Kind = Literal[
    "object", "part", "scene", "texture", "material", "colour", "shape", "pattern", "text", "other"
]
KINDS: tuple[Kind, ...] = (
    "object", "part", "scene", "texture", "material", "colour", "shape", "pattern", "text", "other",
)  # fmt: skip
VerdictName = Literal[
    "accepted", "polysemantic", "rejected", "uninterpretable", "abstained", "dead", "failed"
]
VERDICTS: tuple[VerdictName, ...] = (
    "accepted", "polysemantic", "rejected", "uninterpretable", "abstained", "dead", "failed",
)  # fmt: skip
TrustName = Literal["supports", "partial", "contradicts", "suspect", "not_applicable"]
TRUSTS: tuple[TrustName, ...] = ("supports", "partial", "contradicts", "suspect", "not_applicable")
SplitName = Literal["propose", "feedback", "test"]
Answer = Literal["y", "n", "u"]
Source = Literal["accepted", "refused", "decoy"]
BandName = Literal["top", "high", "mid", "low", "silent"]

_UNIT = re.compile(r"^(?P<layer>.+):(?P<index>\d+)(?P<side>-?)$")


@dataclass(frozen=True, order=True)
class UnitId:
    """One unit of a target. Prints as ``layer:index``, or ``layer:index-`` for its negative side."""

    layer: str
    index: int
    negative: bool = False

    def __str__(self) -> str:
        return f"{self.layer}:{self.index}{'-' if self.negative else ''}"

    @property
    def side(self) -> str:
        """Where its activations are: ``layer``, or ``layer-`` for a negative side, whose maps are minus it.

        A target gives both as layers, and every number about the unit is looked up by `side` and `index`.
        """
        return f"{self.layer}-" if self.negative else self.layer

    @classmethod
    def of_side(cls, side: str, index: int) -> UnitId:
        """The unit at `index` of ``layer`` or ``layer-``: the inverse of `side`."""
        return cls(side.removesuffix("-"), index, side.endswith("-"))

    @classmethod
    def parse(cls, text: str) -> UnitId:
        """Read ``layer:index`` or ``layer:index-``.

        Raises:
            UsageError: when `text` has another form.
        """
        match = _UNIT.match(text)
        if match is None:
            raise UsageError(f"{text!r} is not a unit: write it as layer:index, for example blocks.2:17.")
        return cls(match["layer"], int(match["index"]), bool(match["side"]))


class Record(BaseModel):
    """Base of all records: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Null(Record):
    """How far a value stands from what chance gives: `z` in standard deviations, one-sided `p` in [0, 1]."""

    z: float | None
    p: float | None


class SpecificityNull(Null):
    """How far a value stands from the same label's value on the layer's other live units.

    `units` is the number of units in the null, after those correlated with this one are left out.
    """

    units: int


class CheckResult(Record):
    """One check of (unit, label).

    `value` is the effect size in the check's own range, `low` its one-sided 95 % lower confidence bound,
    `n` the number of images behind it, `judge` what read the images. A check that does not apply has
    ``status="not_applicable"``, a reason in `why`, and no value: never 0.
    """

    status: Literal["ok", "not_applicable", "failed"]
    why: str = ""
    value: float | None = None
    low: float | None = None
    n: int = 0
    judge: str | None = None
    significance: Null | None = None
    specificity: SpecificityNull | None = None

    @classmethod
    def not_applicable(cls, why: str, judge: str | None = None) -> CheckResult:
        """A check that cannot be made, and why."""
        return cls(status="not_applicable", why=why, judge=judge)


class Formula(Record):
    """A compound label: ``or``, ``and`` or ``not`` of simple terms."""

    op: Literal["or", "and", "not"]
    terms: tuple[str, ...]


class Label(Record):
    """A proposed label of one facet of a unit, with every number about it.

    `probability` is the calibrated probability that the label is right (null outside the calibration
    domain); `score` is the gate's score, comparable within one run; `split` says on which images the
    checks were made: ``test`` decides, ``feedback`` only guided the search.
    """

    text: str
    kind: Kind = "other"
    formula: Formula | None = None
    facet: int = 0
    round: int = 1
    probability: float | None = None
    score: float | None = None
    split: SplitName = "test"
    match: str = ""
    checks: dict[str, CheckResult] = Field(default_factory=dict)


class Trust(Record):
    """How far the synthetic picture of a unit may be trusted, and the numbers behind the verdict."""

    verdict: TrustName
    reason: str
    signals: dict[str, float | None] = Field(default_factory=dict)


class Exemplar(Record):
    """One probe image chosen for a unit.

    `region` is the box (left, top, right, bottom) of the activating region in [0, 1] of the prepared image,
    or null where the unit has no map. `tile` names a WebP file in the run's ``images/`` with the region
    outlined, `crop` one of the region alone, enlarged; null where no picture was kept.
    """

    image: int
    path: str
    activation: float
    band: BandName
    split: SplitName
    facet: int = 0
    region: tuple[float, float, float, float] | None = None
    tile: str | None = None
    crop: str | None = None


class Visualisation(Record):
    """One synthetic picture. `tile` names a WebP file in the run's ``images/``; `activation` is what the unit
    gives for the finished picture (spatial maximum), null when the optimisation failed (`why`).

    `parametrisation` is what was optimised (``""`` in records older than the choice) and `steps` for how
    long. `faded` is the same picture, greyed where the unit did not look; MACO has it. `second` pictures were
    made in another parametrisation to see whether the first can be trusted; no proposer sees them.
    """

    facet: int = 0
    seed: int = 0
    parametrisation: str = ""
    steps: int | None = None
    activation: float | None = None
    tile: str | None = None
    faded: str | None = None
    why: str = ""
    second: bool = False


class Facet(Record):
    """One cluster of a unit's top exemplars: `size` images, `clarity` in [0, 1] (Kopf et al.; DESIGN 5)."""

    index: int
    size: int
    clarity: float | None = None


class RoundRecord(Record):
    """One propose-check pass: what was proposed, how it fared on `feedback`, and where it failed.

    `failure` is the cause when the proposer gave no usable answer; `outcome` the policy's sentence.
    """

    round: int
    labels: tuple[Label, ...] = ()
    misses: tuple[Exemplar, ...] = ()
    false_alarms: tuple[Exemplar, ...] = ()
    sheet: str | None = None
    outcome: str = ""
    failure: str = ""


class ActivationSummary(Record):
    """The unit's activation over the probe: pooled maxima, the dissection threshold and the band edges."""

    threshold: float
    minimum: float
    maximum: float
    quantiles: dict[str, float] = Field(default_factory=dict)
    histogram: tuple[int, ...] = ()
    histogram_edges: tuple[float, ...] = ()


class DissectedConcept(Record):
    """The annotated concept of a category that a unit's activation masks cover best (Network Dissection).

    `iou` in [0, 1], over held-out annotated images, of which `images` show the concept.
    """

    category: str
    concept: str
    iou: float
    images: int


class Judgement(Record):
    """What a person said of one (unit, label): ``y`` it is right, ``n`` it is not, ``u`` unsure.

    `source` is what the label was when it was drawn: accepted or refused by the gate at the time,
    or a decoy.
    """

    unit: str
    text: str
    formula: Formula | None = None
    source: Source
    answer: Answer


class UnitRecord(Record):
    """Everything the catalogue knows about one unit, and everything that led to its verdict.

    `unit` is the `UnitId` as text; `name` what the user calls it, empty for all but named directions. `bands`
    are images from the rest of its range, strongest first, which no proposer sees; `dissection` the best
    concept of each category, best first.
    """

    unit: str
    layer: str
    index: int
    name: str = ""
    verdict: VerdictName
    reason: str
    labels: tuple[Label, ...] = ()
    candidates: tuple[Label, ...] = ()
    trust: Trust
    coverage: float | None = None
    facets: tuple[Facet, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    near_misses: tuple[Exemplar, ...] = ()
    bands: tuple[Exemplar, ...] = ()
    visualisations: tuple[Visualisation, ...] = ()
    rounds: tuple[RoundRecord, ...] = ()
    activation: ActivationSummary | None = None
    dissection: tuple[DissectedConcept, ...] = ()

    @property
    def id(self) -> UnitId:
        """The unit as a `UnitId`."""
        return UnitId.parse(self.unit)
