"""The configuration: frozen models, each constant with its reason and source."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from labeler.errors import ConfigError


class Section(BaseModel):
    """Base of all sections: immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TargetConfig(Section):
    """The network under study."""

    model: str
    """``builtin:NAME``, ``torchvision:NAME[@WEIGHTS]``, ``timm:NAME``, ``open_clip:NAME@TAG`` or
    ``file:PATH.py:FUNCTION`` (which needs ``--trust-code``)."""
    layers: tuple[str, ...] = ()
    """Module paths whose units are labelled; may be empty where `sae` or `directions` give layers."""
    units: dict[str, str] = Field(default_factory=dict)
    """Units by layer, as ``"0-31,40"`` or ``"none"``; all where a layer is not named."""
    negative: dict[str, str] = Field(default_factory=dict)
    """Units by layer whose negative side is a unit of its own, written like `units`; it prints ``layer:3-``.
    Its activation is minus the unit's: for layers whose outputs go below zero."""
    sae: dict[str, str] = Field(default_factory=dict)
    """Safetensors file of a sparse autoencoder, by the layer whose vectors it reads. Its latents are the
    units of one more layer, ``LAYER.sae``; LAYER itself is labelled only if `layers` names it."""
    directions: dict[str, str] = Field(default_factory=dict)
    """``.npy`` file of directions ``(d, channels)``, by the layer in whose space they lie; a ``.json`` list
    beside it may name them. They are the units of one more layer, ``LAYER.directions``. Rows are used as they
    are, normalised or not."""
    weights: str | None = None
    """None: the model's own. ``random``: the same architecture untrained (the control). Else a local
    safetensors or checkpoint file."""

    @field_validator("layers", mode="before")
    @classmethod
    def _one_layer(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("layers")
    @classmethod
    def _plain_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a layer is named twice")
        if any(layer.endswith("-") for layer in value):
            raise ValueError("a name that ends in - means a negative side; use target.negative")
        return value

    @model_validator(mode="after")
    def _some_layers(self) -> TargetConfig:
        if not self.every_layer:
            raise ValueError("name at least one layer in layers, sae or directions")
        return self

    @property
    def modules(self) -> tuple[str, ...]:
        """Those of `layers` that are modules of the network; naming a derived layer there is allowed."""
        return tuple(layer for layer in self.layers if layer not in self._derived)

    @property
    def every_layer(self) -> tuple[str, ...]:
        """All layers that are labelled: modules, then SAE latents and directions."""
        return (*self.modules, *self._derived)

    @property
    def units_by_side(self) -> dict[str, str]:
        """`units`, and `negative` under ``LAYER-``, the name of a layer's negative side (`UnitId.side`)."""
        return {**self.units, **{f"{layer}-": units for layer, units in self.negative.items()}}

    def restricted(self, units: dict[str, str], negative: dict[str, str]) -> TargetConfig:
        """The same target with these units alone; layers without any are left out."""
        kept = {*units, *negative}
        chosen: dict[str, object] = {
            "layers": tuple(layer for layer in self.modules if layer in kept),
            "sae": {layer: file for layer, file in self.sae.items() if f"{layer}.sae" in kept},
            "directions": {
                layer: file for layer, file in self.directions.items() if f"{layer}.directions" in kept
            },
            "units": {layer: units.get(layer, "none") for layer in self.every_layer if layer in kept},
            "negative": negative,
        }
        return self.model_copy(update=chosen)

    @property
    def _derived(self) -> tuple[str, ...]:
        return tuple([f"{layer}.sae" for layer in self.sae] + [f"{la}.directions" for la in self.directions])


class ProbeConfig(Section):
    """The images shown to the target."""

    source: tuple[str, ...]
    """``builtin:scenes``, ``folder:DIR``, ``coco_panoptic:DIR``, ``masks:DIR``, ``broden:DIR`` or
    ``webdataset:PATTERN``; a list is one probe."""
    images: int = Field(default=1200, ge=1, le=10_000_000)
    """How many scenes ``builtin:scenes`` renders; other sources have what they have."""
    size: int = Field(default=224, ge=32, le=4096)
    """Height and width of rendered scenes in pixels."""
    colours: bool = True
    """Annotate the 11 basic colour names from the pixels (van de Weijer et al. 2009 for the names)."""

    @field_validator("source", mode="before")
    @classmethod
    def _one_source(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class EncoderConfig(Section):
    """The image-text model that helps to propose, and the judges that check."""

    model: str = "builtin:scenes-clip"
    """``builtin:scenes-clip``, ``builtin:bridge@lite2``, ``open_clip:NAME@TAG`` or
    ``open_clip:NAME@FILE``."""
    judge: tuple[str, ...] = ("annotations", "builtin:scenes-clip-judge")
    """Tried in order; the first that knows a label judges it. The encoder itself only with a warning."""

    @field_validator("judge", mode="before")
    @classmethod
    def _one_judge(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class ActivationsConfig(Section):
    """The single pass over the probe."""

    batch_size: int = Field(default=32, ge=1, le=4096)
    """Images are processed in fixed blocks of this size by id, the last one padded, so that sharding
    changes nothing (DESIGN 4.2)."""
    top_k: int = Field(default=100, ge=1)
    """Exemplar candidates kept per unit (SoftWPMI looks at 100: Oikarinen & Weng 2023, app.)."""
    tail: float = Field(default=0.005, gt=0, lt=0.5)
    """P(a > T_u) over all positions: Network Dissection (Bau et al. 2017, sec. 2.2)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 makes ties and reorders exemplars; opt-in, and the run says so."""
    memory_gb: float = Field(default=2.0, gt=0)
    """Budget for the dense images × units matrices, 10^9 bytes; over it a hash-chosen subset of images is
    indexed, and the FAISS indexes are float16."""


class ExemplarsConfig(Section):
    """Splits, facets and the pictures shown."""

    propose: float = Field(default=0.35, gt=0, lt=1)
    feedback: float = Field(default=0.15, gt=0, lt=1)
    """Shares of the image groups; the rest is `test`."""
    shown: int = Field(default=9, ge=1, le=36)
    """Top exemplars on the contact sheet and in the report (Network Dissection shows 10, MILAN 15)."""
    considered: int = Field(default=24, ge=2, le=200)
    """Top exemplars of `propose` whose activating regions are embedded to find facets."""
    near_misses: int = Field(default=4, ge=0, le=16)
    per_band: int = Field(default=2, ge=0, le=8)
    """Images in the report from each band below top, so that a unit is seen over its whole range."""
    max_facets: int = Field(default=4, ge=1, le=8)

    @model_validator(mode="after")
    def _room_for_test(self) -> ExemplarsConfig:
        if self.propose + self.feedback >= 0.9:
            raise ValueError("propose + feedback must leave at least 0.1 of the images for test")
        return self


class VisualiseConfig(Section):
    """Feature visualisation (Olah et al. 2017)."""

    enabled: bool = True
    images: int = Field(default=2, ge=1, le=8)
    """Pictures per unit, each from its own seed."""
    size: int = Field(default=128, ge=32, le=4096)
    """Height and width of the pictures in pixels, at most the target's input size; a target that takes one
    size only (a ViT) has pictures of that."""
    steps: int = Field(default=96, ge=1)
    """Most steps; a picture that no longer rises stops earlier."""
    learning_rate: float = Field(default=0.1, gt=0)
    """Of Adam. lucid's 0.05 needs twice the steps in early layers to reach the natural 99.9th percentile."""
    parametrisation: Literal["fourier", "maco", "pixel"] = "fourier"
    """What is optimised: the spectrum (Olah et al. 2017), its phase alone under the magnitudes of photographs
    (MACO, Fel et al. 2023), or the pixels themselves."""
    second: Literal["fourier", "maco", "pixel", "none"] = "maco"
    """Another parametrisation, in which one more picture of every unit is made: a picture that may be trusted
    does not hang on how it was made. Proposers do not see it."""
    objective: Literal["channel", "neuron"] = "channel"
    """The unit's mean over all positions, or its central position. Flat layers have one position."""
    diversity: float = Field(default=0.0, ge=0)
    """Weight of the mean cosine between the channel Gram matrices of one unit's pictures (Olah et al. 2017),
    where 1 weighs as much as the activation itself; 0: pictures of a unit differ by their seeds alone."""
    facets: bool = True
    """Give every facet of a unit with several its own pictures, `images` each."""
    facet_pull: float = Field(default=1.0, ge=0)
    """Weight of the pull towards what the facet's photographs activate, on the same scale."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the network while a picture is made; the activation that is reported is taken in float32. auto:
    bfloat16 where the processor computes in it. Pictures then differ from one kind of processor to another
    by a little more than in float32."""
    batch_size: int = Field(default=16, ge=1, le=4096)
    """Pictures in one pass; always so many, so that none depends on its company."""


class PricesConfig(Section):
    """What the endpoint's owner asks for. There is no default: a price that was guessed is wrong."""

    input: float = Field(ge=0)
    """Per million tokens that are sent."""
    output: float = Field(ge=0)
    """Per million tokens that come back."""
    currency: str = Field(pattern="^[A-Za-z]{1,8}$")


class ProposeConfig(Section):
    """Who proposes labels. Nothing here decides."""

    kind: tuple[Literal["vocabulary", "annotations", "compounds", "vlm", "llm", "imported"], ...] = (
        "vocabulary",
    )
    """A list is a chain: all propose, the checks choose. ``compounds`` joins words by or, and, not;
    ``imported`` are those in the file `labels`."""
    candidates: int = Field(default=4, ge=1, le=16)
    """Candidates per facet and round."""
    vocabulary: str = "auto"
    """``auto``: the probe's annotated concepts and the words the encoder is known to know; or a text file
    with one label a line."""
    labels: str = ""
    """For ``imported``: labels made elsewhere, CSV, JSONL or Parquet (`labeler.catalogue.label_files`)."""
    model: str = ""
    """The name that the endpoint gives it, for ``vlm`` and ``llm``."""
    base_url: str = ""
    """Where the API begins, e.g. ``http://localhost:8000/v1``; empty: OpenAI's. ``cassette:DIR``: answers
    that were recorded."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is never stored."""
    temperature: float = Field(default=0.2, ge=0, le=2)
    max_tokens: int = Field(default=800, ge=16)
    """Most tokens of an answer; one that was cut off is asked for once more with four times as many."""
    sheet_side: int = Field(default=1344, ge=512, le=2048)
    """Longest side of a contact sheet in pixels: what the model takes without shrinking it. OpenAI shrinks to
    768 on the short side, Qwen2-VL takes what it gets, LLaVA 1.6 takes 1,344."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Calls at once; halved while the server says that they are too many."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds per call."""
    retries: int = Field(default=4, ge=0, le=10)
    """Further attempts where one may succeed: too many requests, the server's own errors, broken lines."""
    batch: bool = False
    """Send each round as one file to the batch API: cheaper, answered within a day."""
    prices: PricesConfig | None = None
    """What tokens cost, for `labeler cost` and for a budget in money."""

    @field_validator("kind", mode="before")
    @classmethod
    def _one_kind(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _endpoint_needs_model(self) -> ProposeConfig:
        if {"vlm", "llm"} <= set(self.kind):
            raise ValueError("kind takes one of vlm and llm: both would ask the same model")
        for kind in ("vlm", "llm"):
            if kind in self.kind and not self.model:
                raise ValueError(f"kind {kind} needs model: the name that the endpoint gives it")
        return self

    @model_validator(mode="after")
    def _imported_needs_labels(self) -> ProposeConfig:
        if "imported" in self.kind and not self.labels:
            raise ValueError("kind imported needs labels: the file that holds them")
        return self


class ChecksConfig(Section):
    """The checks of (unit, label)."""

    iou_grid: int = Field(default=56, ge=4)
    """Cells per side of the annotation grid (dissect uses 56)."""
    iou_images: int = Field(default=400, ge=1)
    """Most annotated test images over which IoU is taken, hash-chosen."""
    min_concept_images: int = Field(default=9, ge=1)
    """A concept in fewer images does not count (DESIGN 5)."""
    presence_area: float = Field(default=0.01, ge=0, lt=1)
    """Share of an image that a concept must cover to be present in it."""
    match_similarity: float = Field(default=0.8, gt=0, le=1)
    """Least text-embedding cosine at which a free label counts as an annotated concept."""
    interventions: int = Field(default=12, ge=0)
    """Test images per annotated concept that *intervention* alters, each into four images that the target is
    shown; 0: none. A sign-flip p of 12 goes down to 1/4096, and 5 are the fewest that can be significant."""
    permutations: int = Field(default=1000, ge=100)
    correlated: float = Field(default=0.7, gt=0, le=1)
    """Units correlated above this with the unit under test are left out of its specificity null."""
    null_units: int = Field(default=2048, ge=32)
    """Most live units of a layer in the specificity null, hash-chosen."""
    min_null_units: int = Field(default=32, ge=2)
    min_test_images: int = Field(default=150, ge=10)
    """Fewer: `abstained`."""


class GateConfig(Section):
    """From checks to a verdict."""

    precision: float = Field(default=0.9, gt=0.5, lt=1)
    """Requested share of right labels among the accepted ones."""
    require: tuple[
        Literal["prediction", "auprc", "real", "synthetic", "agreement", "iou", "intervention"], ...
    ] = ()
    """Checks that are necessary wherever they apply."""
    significance: float = Field(default=0.05, gt=0, lt=1)
    """Family-wise error per unit over the labels tested."""
    smallest_effect: float = Field(default=0.1, ge=0, lt=1)
    """Least *prediction*, a correlation, that says anything of a unit: a small effect after Cohen (1988,
    sec. 3.2). On a thousand images 0.07 is significant, and explains half a percent of the unit."""
    specificity: float = Field(default=3.0, ge=0)
    """Least robust z against the layer's other units."""
    decoys: int = Field(default=8, ge=1)
    """Decoy labels per unit, shuffled within the layer (target-decoy control)."""


class RefineConfig(Section):
    """Rounds of propose and check."""

    rounds: int = Field(default=3, ge=1, le=20)
    patience: int = Field(default=2, ge=1)
    """Rounds without a better label on `feedback` before stopping: a model may be wrong once."""
    show_failures: bool = True
    """Show the model where its best label failed. false is the control of `labeler eval rounds`."""


class ExecutorConfig(Section):
    """Where the work runs."""

    kind: Literal["local", "ray"] = "local"
    """``ray``: the workers of a cluster do the pieces of long stages; all else stays in this process."""
    address: str = "auto"
    """Of the cluster: ``auto`` finds the one of this machine, ``HOST:PORT`` or ``ray://HOST:PORT`` name
    another's, ``local`` starts one of this machine's cores and GPUs and ends it with the run."""
    shards: int = Field(default=64, ge=2, le=100_000)
    """Pieces of each long stage at most: a lost worker or a kill costs what was done of one. Each is kept
    until its stage is complete, so a run that goes on with other `shards` begins its stage again."""
    cpus: int = Field(default=1, ge=1)
    """Cores of a cluster's worker, and threads of its torch."""
    gpus: float | None = Field(default=None, ge=0)
    """GPUs of a worker; 0.5: two share one. ``auto`` (None): one where there are any."""
    retries: int = Field(default=3, ge=0, le=100)
    """How often a piece is done again after the worker that had it was lost."""
    device: str = "auto"
    """``auto`` takes CUDA, then MPS, then the CPU."""
    workers: int = Field(default=2, ge=0, le=64)
    """How many threads or processes decode images ahead of the pass; 0: none, the pass waits."""
    decoding: Literal["auto", "threads", "processes"] = "auto"
    """Who they are; the results are the same. Processes need a system that forks. auto: processes for a
    target on CUDA and 5,000 images or more, else threads."""

    @field_validator("gpus", mode="before")
    @classmethod
    def _auto(cls, value: object) -> object:
        return None if value == "auto" else value


class Config(Section):
    """A whole run."""

    target: TargetConfig
    probe: ProbeConfig
    encoder: EncoderConfig = EncoderConfig()
    activations: ActivationsConfig = ActivationsConfig()
    exemplars: ExemplarsConfig = ExemplarsConfig()
    visualise: VisualiseConfig = VisualiseConfig()
    propose: ProposeConfig = ProposeConfig()
    checks: ChecksConfig = ChecksConfig()
    gate: GateConfig = GateConfig()
    refine: RefineConfig = RefineConfig()
    executor: ExecutorConfig = ExecutorConfig()
    seed: int = Field(default=0, ge=0, lt=2**32)


def parse_units(text: str, count: int, layer: str) -> tuple[int, ...]:
    """Unit indices written as ``"0-31,40"``, ascending and without repeats; ``"none"`` is none.

    Raises:
        ConfigError: when the text is malformed or an index is outside 0..count-1.
    """
    if text.strip() == "none":
        return ()
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            raise ConfigError(f"Units of {layer} are written like 0-31,40, not {text!r}.")
        start, stop = int(first), int(last if dash else first)
        if not start <= stop < count:
            raise ConfigError(f"Layer {layer} has units 0 to {count - 1}; {text!r} asks for others.")
        found.update(range(start, stop + 1))
    return tuple(sorted(found))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
