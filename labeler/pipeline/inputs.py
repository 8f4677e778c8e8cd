"""What a run starts from: the target, the probe, the encoder and the judges, and the run directory itself."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from labeler.config import Config
from labeler.encoders import load_encoder
from labeler.errors import ConfigError, RunError
from labeler.probes import load_probe
from labeler.records import UnitId
from labeler.seams import Encoder, ProbeDataset, Target
from labeler.storage import fingerprint, write_atomic
from labeler.targets import chosen_units, load_target

ANNOTATIONS = "annotations"
_PACKAGES = ("labeler", "torch", "torchvision", "open_clip_torch", "timm", "faiss-cpu", "numpy", "pillow")


@dataclass(frozen=True)
class Inputs:
    """Everything that the stages need. `judges` are the image-text judges, in the config's order."""

    config: Config
    target: Target
    probe: ProbeDataset
    encoder: Encoder
    judges: tuple[Encoder, ...]
    units: tuple[UnitId, ...]
    warnings: tuple[str, ...] = ()

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
    probe = load_probe(config.probe, seed=config.seed)
    target = load_target(
        config.target, seed=config.seed, device=config.executor.device, trust_code=trust_code
    )
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
        UnitId(layer, index)
        for layer in target.layers
        for index in chosen_units(target, config.target.units, layer)
    )
    return Inputs(config, target, probe, encoder, judges, units, tuple(warnings))


def restrict_units(config: Config, units: tuple[str, ...]) -> Config:
    """The config with units chosen on the command line, written as ``layer:0-63,80``.

    Raises:
        ConfigError: when a layer is not among the config's layers.
    """
    chosen: dict[str, str] = {}
    for text in units:
        layer, colon, indices = text.rpartition(":")
        if not colon or layer not in config.target.layers:
            known = ", ".join(config.target.layers)
            raise ConfigError(
                f"--units takes layer:0-63,80 with a layer of the config ({known}), not {text!r}."
            )
        chosen[layer] = f"{chosen[layer]},{indices}" if layer in chosen else indices
    if not chosen:
        return config
    target = config.target.model_copy(
        update={"layers": tuple(layer for layer in config.target.layers if layer in chosen), "units": chosen}
    )
    return config.model_copy(update={"target": target})


def claim_run(out: Path, inputs: Inputs) -> None:
    """Write run.json, or check that the directory belongs to the same run.

    Raises:
        RunError: when the directory was made by another config or from other inputs.
    """
    path = out / "run.json"
    config = inputs.config.model_dump(mode="json", exclude={"executor"})
    key = fingerprint(config, inputs.key)
    if path.exists():
        if read_run(out).get("fingerprint") != key:
            raise RunError(
                f"{out} belongs to another config or other inputs; give another --out or delete it."
            )
        return
    if out.exists() and any(item.name != ".lock" for item in out.iterdir()):
        raise RunError(f"{out} is not empty and is not a run directory; give another --out.")
    data = {
        "fingerprint": key,
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
    write_atomic(path, json.dumps(data, indent=1, sort_keys=True).encode())


def read_run(out: Path) -> dict[str, Any]:
    """run.json of a run directory.

    Raises:
        RunError: when it is missing or broken.
    """
    path = out / "run.json"
    if not path.is_file():
        raise RunError(
            f"{out} is not a run directory (no run.json); make one with: labeler run CONFIG --out {out}."
        )
    try:
        data = json.loads(path.read_text())
    except ValueError:
        raise RunError(f"{path} is torn; delete {out} and run again.") from None
    if not isinstance(data, dict):
        raise RunError(f"{path} is not a run description; delete {out} and run again.")
    return data


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
