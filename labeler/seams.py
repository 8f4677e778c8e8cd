"""The seams between the parts of labeler: few, narrow, and everything that a replacement must offer.

Stages depend on these protocols, never on each other. Test doubles ship in `labeler.testing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

    from labeler.records import Formula, Kind, UnitId


class Target(Protocol):
    """The network under study. All its tensors live on `device`; parameters need no gradient.

    SAE latents, directions and negative sides (``LAYER-``, see `UnitId.side`) are layers like any others.
    """

    name: str
    fingerprint: str  # sha256 over architecture, weights, layers and what is derived from them
    layers: tuple[str, ...]  # in the order in which the forward pass reaches them
    input_size: tuple[int, int]  # (h, w) in pixels that `prepare` returns
    device: torch.device

    def unit_count(self, layer: str) -> int:
        """The number of units of `layer`."""
        ...

    def prepare(self, image: Image) -> torch.Tensor:
        """The model's own preprocessing of an RGB image: float32 ``(3, h, w)``, normalised, on the CPU."""
        ...

    def normalise(self, images_bchw: torch.Tensor) -> torch.Tensor:
        """Pictures in [0, 1] of any size to the model's input range, differentiable: ``(b, 3, h, w)``."""
        ...

    def view_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part (left, top, right, bottom), in pixels, of a width × height image that `prepare` keeps.

        Tiles and annotation masks are cut to it, so that they lie on the activation maps.
        """
        ...

    def earlier(self, layer: str, count: int) -> tuple[str, ...]:
        """Paths of the last `count` modules with weights that run before `layer` is computed, in order.

        `maps` takes them like layers.
        """
        ...

    def maps(self, images_bchw: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Activation maps ``(b, u, h, w)`` of `layers` for prepared images.

        The forward pass stops after the last of them. Flat outputs have h = w = 1. Gradients flow when the
        caller's context allows them. Hooks are gone when it returns or raises.
        """
        ...


@dataclass(frozen=True)
class Concept:
    """An annotated concept. `name` is lower case; `synonyms` are other words for it."""

    name: str
    category: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProbeImage:
    """One row of the probe dataset. `group` joins near-duplicates (frames of one video), which never part
    between splits. `sha256` is over the encoded file, or over the pixels of a generated image."""

    id: int
    path: str
    sha256: str
    group: str


@dataclass(frozen=True)
class Annotation:
    """Pixel masks of named concepts on one image.

    `concepts` are ascending indices into the dataset's `concepts`; `masks[i]` belongs to `concepts[i]`.
    `categories` are those in which the image is annotated, so that absence means absence there.
    """

    concepts: NDArray[np.int64]  # (c,)
    masks: NDArray[np.bool_]  # (c, h, w), at the resolution of the image
    categories: frozenset[str]


class ProbeDataset(Protocol):
    """The images shown to the target, with whatever annotations they have. Several threads may use it."""

    name: str
    fingerprint: str  # sha256 over contents and annotations
    images: tuple[ProbeImage, ...]  # images[i].id == i
    concepts: tuple[Concept, ...]

    def image(self, image_id: int) -> Image:
        """The decoded RGB image.

        Raises:
            UnreadableImageError: when it cannot be decoded.
        """
        ...

    def annotation(self, image_id: int, image: Image) -> Annotation | None:
        """The masks of one image, or None where it has none in any category.

        `image` is what `image(image_id)` returned, so that nothing is decoded twice.

        Raises:
            ProbeError: when the annotation itself is broken.
        """
        ...


class Encoder(Protocol):
    """An image-text model. Embeddings are unit-norm float32 in one space for images and texts."""

    name: str
    fingerprint: str
    dim: int
    vocabulary: tuple[str, ...]  # words that it is known to know, for the `vocabulary` proposer; may be empty

    def prepare(self, image: Image) -> torch.Tensor:
        """The model's own preprocessing of an RGB image: float32 ``(3, h, w)`` on the CPU."""
        ...

    def embed_images(self, images_bchw: torch.Tensor) -> NDArray[np.float32]:
        """Unit-norm embeddings ``(b, dim)`` of prepared images."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit-norm embeddings ``(t, dim)``."""
        ...

    def covers(self, text: str) -> bool:
        """Whether the model can know what `text` means; where not, a check says `not applicable`."""
        ...


@dataclass(frozen=True)
class FacetEvidence:
    """What a proposer may know of one facet: image ids are of the `propose` split only.

    `weights` are the activations of the exemplars; `embeddings_kd` the encoder's embeddings of the
    activating regions.
    """

    index: int
    exemplar_ids: tuple[int, ...]
    weights: tuple[float, ...]
    embeddings_kd: NDArray[np.float32]  # (k, dim)


@dataclass(frozen=True)
class Tried:
    """A label that was checked on `feedback` in an earlier round, with the score it got in [0, 1]."""

    text: str
    facet: int
    score: float
    outcome: str  # one sentence in numbers; never model-written text


@dataclass(frozen=True)
class Scored:
    """A word that a proposer without a language model scored for one facet; larger fits better."""

    text: str
    facet: int
    score: float


@dataclass(frozen=True)
class Evidence:
    """All that is put before a proposer for one unit in one round."""

    unit: UnitId
    round: int
    facets: tuple[FacetEvidence, ...]
    sheet: bytes = b""  # one WebP or PNG contact sheet, empty for proposers without eyes
    sheet_key: str = ""  # what each numbered tile is, one line each, for the prompt
    history: tuple[Tried, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """One hypothesis about one facet."""

    text: str
    kind: Kind = "other"
    facet: int = 0
    formula: Formula | None = None


Billing = Literal["reported", "maybe", "no"]


@dataclass(frozen=True)
class Call:
    """One attempt at a model call, or one answer from the cache: a row of the ledger.

    `unit` is empty for a question about the endpoint itself. Tokens are what the server reported, else None;
    `expected_input` and `expected_output` what the call was expected to take at most. They stand in for the
    report where `billing` is ``maybe``: the server may have worked, and did not say how much.
    """

    unit: str
    round: int
    step: Literal["ask", "again", "longer", "probe"]
    key: str
    model: str
    outcome: Literal["ok", "invalid", "refused", "error"]
    cached: bool = False
    billing: Billing = "no"
    input_tokens: int | None = None
    output_tokens: int | None = None
    expected_input: int = 0
    expected_output: int = 0
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class Booking:
    """What `CallLedger.book` stores at once: rows, answers by request key, and keys whose answers go."""

    calls: tuple[Call, ...] = ()
    answers: tuple[tuple[str, str], ...] = ()
    forget: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spent:
    """Tokens of all calls so far, those that nobody reported at their most (`unreported` of them), and the
    greatest ratio of reported to expected input tokens; None before the first report."""

    input_tokens: int = 0
    output_tokens: int = 0
    unreported: int = 0
    input_ratio: float | None = None


@dataclass(frozen=True)
class Proposed:
    """What a proposer returns: proposals, or a `failure` with its cause; neither means that it abstains.

    `unanswered`: the failure is that no answer came back at all.
    """

    proposals: tuple[Proposal, ...] = ()
    failure: str | None = None
    unanswered: bool = False


class Proposer(Protocol):
    """Turns evidence into hypotheses. Never decides."""

    name: str
    needs_sheet: bool
    fingerprint: str  # sha256 over what determines its answers: model, prompt templates, settings

    def propose(self, evidence: Evidence) -> Proposed:
        """Hypotheses about one unit; failures are returned, not raised, except `PausedError`."""
        ...


class Scorer(Protocol):
    """Scores words for a unit's facets without a language model, best first."""

    def __call__(self, evidence: Evidence) -> Sequence[Scored]:
        """The best words of each facet."""
        ...


class CallLedger(Protocol):
    """Model answers by the sha256 of the whole request, and a row for every attempt; for any thread."""

    def answer(self, key: str) -> str | None:
        """The stored answer to a request, or None."""
        ...

    def book(self, bookings: Sequence[Booking]) -> None:
        """Store all of it durably, in one transaction."""
        ...

    def spent(self) -> Spent:
        """What all calls so far took."""
        ...

    def note(self, key: str) -> str | None:
        """What was noted about an endpoint, or None."""
        ...

    def put_note(self, key: str, value: str | None) -> None:
        """Note something about an endpoint durably; None takes the note away."""
        ...


Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs independent pieces of work, in this process or on other machines.

    Doing an item twice must do no harm: an executor does it again when a machine is lost. Where it runs
    elsewhere, functions, items and results travel: functions are those of a module, results are arrays.
    """

    pieces: int
    """Into how many items a long stage is cut at most; 1: into none."""
    here: bool
    """Whether `map` works in this process: then a stage is cut only to keep what is done, and coarsely."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterable[Result]:
        """`function` of every item, in order. The first exception is raised here."""
        ...

    def as_finished(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterable[tuple[int, Result]]:
        """The place of each item and `function` of it, as they come. The first exception is raised here."""
        ...


class Progress(Protocol):
    """Where a stage reports how far it is (stderr, or nowhere)."""

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` items are finished."""
        ...
