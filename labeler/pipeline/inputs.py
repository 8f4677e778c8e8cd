"""What a run starts from: the target, the probe, the encoder and the judges, and the run directory itself."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from labeler.config import Config
from labeler.encoders import load_encoder
from labeler.errors import ConfigError, RunError
from labeler.pipeline.foreign_labels import ForeignLabels, read_foreign_labels
from labeler.probes import load_probe
from labeler.records import UnitId
from labeler.run_directory import read_run
from labeler.seams import Encoder, ProbeDataset, Target
from labeler.storage import file_sha256, fingerprint, write_atomic
from labeler.targets import chosen_units, load_target, unit_names
from labeler.visualise.precision import resolved

ANNOTATIONS = "annotations"
LABELS = "labels."  # how the name of imported labels begins in a run directory
_LISTED = {"folder": "", "coco_panoptic": "images", "masks": "images"}
"""Where sources look for whatever images there are; in hidden directories they do not."""
_PACKAGES = ("labeler", "torch", "torchvision", "open_clip_torch", "timm", "faiss-cpu", "numpy", "pillow")


@dataclass(frozen=True)
class Inputs:
    """Everything that the stages need.

    `judges` are the image-text judges, in the config's order; `names` the names of named units; `labels`
    those of ``propose.labels``; `trust_code` the file whose code the target was allowed to run.
    """

    config: Config
    target: Target
    probe: ProbeDataset
    encoder: Encoder
    judges: tuple[Encoder, ...]
    units: tuple[UnitId, ...]
    warnings: tuple[str, ...] = ()
    names: Mapping[UnitId, str] = field(default_factory=dict)
    labels: ForeignLabels = field(default_factory=ForeignLabels)
    trust_code: Path | None = None

    @property
    def encoders(self) -> dict[str, Encoder]:
        """The encoder and the image-text judges by name."""
        return {model.name: model for model in (self.encoder, *self.judges)}

    @property
    def key(self) -> str:
        """sha256 over target, probe and image-text models."""
        models = {name: model.fingerprint for name, model in self.encoders.items()}
        return fingerprint(self.target.fingerprint, self.probe.fingerprint, models)


def load_inputs(config: Config, *, trust_code: Path | None = None) -> Inputs:
    """Load everything that `config` names.

    Raises:
        LabelerError: one sentence about the first thing that cannot be had.
    """
    vocabulary = config.propose.vocabulary
    if vocabulary != "auto" and not Path(vocabulary).is_file():  # found now, not after the pass
        raise ConfigError(f"propose.vocabulary: there is no file {vocabulary}.")
    probe = load_probe(config.probe, seed=config.seed)
    target = load_target(
        config.target, seed=config.seed, device=config.executor.device, trust_code=trust_code
    )
    config = _with_precision(config, target)
    device = str(target.device)
    encoder = load_encoder(config.encoder.model, device=device)
    named = [name for name in config.encoder.judge if name != ANNOTATIONS]
    judges = tuple(
        encoder if name == config.encoder.model else load_encoder(name, device=device) for name in named
    )
    warnings = []
    if config.encoder.model in named:
        warnings.append(f"{encoder.name} both proposes and judges: its own errors cannot be seen.")
    if config.activations.precision != "float32":
        warnings.append("Extraction in bfloat16 makes ties: exemplars may be ordered otherwise in float32.")
    units = tuple(
        UnitId.of_side(side, index)
        for side in target.layers
        for index in chosen_units(target, config.target.units_by_side, side)
    )
    named_units = unit_names(config.target)
    names = {unit: named_units[unit.layer][unit.index] for unit in units if unit.layer in named_units}
    labels = ForeignLabels()
    if "imported" in config.propose.kind:
        labels = read_foreign_labels(Path(config.propose.labels), units)
        left_out = labels.warning(Path(config.propose.labels).name)
        warnings += [left_out] if left_out else []
    return Inputs(config, target, probe, encoder, judges, units, tuple(warnings), names, labels, trust_code)


def _with_precision(config: Config, target: Target) -> Config:
    """The config with the precision that its pictures have here: what is stored says what was done."""
    precision = resolved(config.visualise.precision, target.device)
    settings = config.visualise.model_copy(update={"precision": precision})
    return config.model_copy(update={"visualise": settings})


def restrict_units(config: Config, units: tuple[str, ...]) -> Config:
    """The config with units chosen on the command line, written as ``layer:0-63,80`` or ``layer:3-``.

    Raises:
        ConfigError: when a layer is not among the config's layers.
    """
    chosen: dict[bool, dict[str, str]] = {False: {}, True: {}}  # by whether it is the negative side
    for text in units:
        layer, colon, indices = text.rpartition(":")
        if not colon or layer not in config.target.every_layer:
            known = ", ".join(config.target.every_layer)
            raise ConfigError(
                f"--units takes layer:0-63,80 with a layer of the config ({known}), not {text!r}."
            )
        for part in indices.split(","):
            side = chosen[part.strip().endswith("-")]
            side[layer] = ",".join(filter(None, (side.get(layer), part.strip().removesuffix("-"))))
    if not units:
        return config
    return config.model_copy(update={"target": config.target.restricted(chosen[False], chosen[True])})


def check_apart(out: Path, config: Config) -> None:
    """Refuse a run directory among the probe's images: its own pictures would be some of them next time.

    Raises:
        RunError: when `out` lies below a directory whose images are listed.
    """
    place = Path(os.path.realpath(out))  # Path.resolve raises where links go round
    for source in config.probe.source:
        kind, _, path = source.partition(":")
        root = Path(os.path.realpath(Path(path, _LISTED.get(kind, ""))))
        if kind not in _LISTED or not place.is_relative_to(root):
            continue
        if not any(part.startswith(".") for part in place.relative_to(root).parts):
            raise RunError(f"{out} lies among the images of {source}; give an --out that does not.")


def claim_run(out: Path, inputs: Inputs) -> None:
    """Write run.json, or check that the directory belongs to the same run.

    Raises:
        RunError: when the directory was made by another config or from other inputs.
    """
    claim_directory(out, describe_run(inputs))


def claim_directory(out: Path, description: dict[str, Any]) -> None:
    """Write `description` as run.json, or check that the directory belongs to the run that it describes.

    Raises:
        RunError: when the directory belongs to another run, or is something else.
    """
    path = out / "run.json"
    if path.exists():
        if read_run(out).get("fingerprint") != description["fingerprint"]:
            raise RunError(
                f"{out} belongs to another config or other inputs; give another --out or delete it."
            )
        return
    # Labels to judge may be there, and hidden files: the lock, and what a kill left of a torn run.json.
    if out.exists() and any(not item.name.startswith((".", LABELS)) for item in out.iterdir()):
        raise RunError(f"{out} is not empty and is not a run directory; give another --out.")
    write_atomic(path, json.dumps(description, indent=1, sort_keys=True).encode())


def describe_run(inputs: Inputs) -> dict[str, Any]:
    """What run.json says: the config, what it named when the run began, and the versions of the packages."""
    # How an endpoint is asked changes no question, so a run may go on at another pace.
    asking = {"concurrency", "timeout", "retries", "batch", "prices", "api_key_env"}
    config = inputs.config.model_dump(mode="json", exclude={"executor": True, "propose": asking})
    labels = config["propose"].pop("labels")  # by their bytes, wherever they lie
    parts = [file_sha256(Path(labels))] if labels else []
    return {
        "fingerprint": fingerprint(config, inputs.key, *parts),
        "config": inputs.config.model_dump(mode="json"),
        "target": {"name": inputs.target.name, "fingerprint": inputs.target.fingerprint},
        "probe": {
            "name": inputs.probe.name,
            "fingerprint": inputs.probe.fingerprint,
            "images": len(inputs.probe.images),
        },
        "encoders": {name: model.fingerprint for name, model in inputs.encoders.items()},
        "units": len(inputs.units),
        "warnings": list(inputs.warnings),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
