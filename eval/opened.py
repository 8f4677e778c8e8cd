"""A run directory opened for questions that its catalogue alone cannot answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

import labeler
from labeler.activations import Activations
from labeler.checks import LayerData
from labeler.config import Config
from labeler.errors import RunError, UsageError
from labeler.pipeline.bench import Bench
from labeler.pipeline.evidence import evidence_stage
from labeler.pipeline.inputs import claim_run, describe_run, load_inputs
from labeler.pipeline.pass_stage import activations_key, activations_stage
from labeler.records import Label, SplitName, UnitId, UnitRecord
from labeler.run_directory import read_run
from labeler.storage import MANIFEST
from labeler.terminal import TerminalReporter

ACCEPTED = ("accepted", "polysemantic")


@dataclass(frozen=True)
class OpenedRun:
    """A finished run: what every check looks at, and the catalogue's records by layer and index."""

    bench: Bench
    records: tuple[UnitRecord, ...]
    _data: dict[tuple[str, SplitName], LayerData] = field(default_factory=dict, repr=False, compare=False)

    def layer_data(self, layer: str, split: SplitName) -> LayerData:
        """`Bench.layer_data`, made once: it looks up the exemplars of every live unit."""
        if (layer, split) not in self._data:
            self._data[layer, split] = self.bench.layer_data(layer, split)
        return self._data[layer, split]

    @property
    def units(self) -> list[UnitId]:
        """The live units of the run."""
        return [record.id for record in self.records if record.verdict != "dead"]

    @property
    def accepted(self) -> dict[UnitId, tuple[Label, ...]]:
        """The labels, best first, of the units that have any accepted."""
        return {record.id: record.labels for record in self.records if record.verdict in ACCEPTED}

    @property
    def took_part(self) -> frozenset[str]:
        """The image-text models and ``annotations``, as far as the run proposed or judged with them."""
        config = self.bench.inputs.config
        proposed = {"annotations"} & set(config.propose.kind)
        return frozenset(
            {config.encoder.model, *config.encoder.judge, *self.bench.inputs.encoders, *proposed}
        )

    def describe(self) -> str:
        """What the run is of, for the head of a table."""
        inputs = self.bench.inputs
        layers = ", ".join(inputs.target.layers)
        return (
            f"{inputs.target.name} ({layers}), {len(self.records)} units, on {inputs.probe.name},"
            f" {len(inputs.probe.images)} images; encoder {inputs.encoder.name}, judges"
            f" {', '.join(inputs.config.encoder.judge)}"
        )


def open_run(run: Path | None, suite: str, trusted: Sequence[Path] = ()) -> OpenedRun:
    """Open a finished run.

    Args:
        run: its directory.
        suite: who asks, for the error.
        trusted: Python files that may be executed, should the target be one of them.

    Raises:
        UsageError: when no run is given.
        RunError: when it is not finished, or the network, images or models are no longer what they were.
    """
    if run is None:
        raise UsageError(f"The suite {suite} needs a finished run: labeler eval {suite} --run RUN.")
    stored = read_run(run)
    try:
        config = Config.model_validate(stored["config"])
    except ValidationError:
        raise RunError(f"{run} was made by another version of labeler; run again.") from None
    inputs = load_inputs(config, trust_code=trusted_file(config.target.model, trusted))
    if describe_run(inputs)["fingerprint"] != stored["fingerprint"]:
        raise RunError(
            f"The network, the images or the models of {run} are no longer what they were; run again."
        )
    key = activations_key(inputs)
    directory = run / "stages" / f"activations-{key[:12]}"
    if not (directory / MANIFEST).is_file():
        raise RunError(f"{run} has no finished activations; go on with: labeler run CONFIG --out {run}.")
    activations = Activations.load(directory)
    with labeler.Catalogue.open(run) as catalogue:
        records = tuple(catalogue)
    if not records:
        raise RunError(f"{run} has no verdicts yet; go on with: labeler run CONFIG --out {run}.")
    return OpenedRun(Bench(inputs, activations, evidence_stage(run, inputs, activations, key, None)), records)


def make_bench(config: Config, out: Path, trusted: Sequence[Path] = ()) -> Bench:
    """The pass and the exemplars of `config` in `out`, built or found there: all that a check needs."""
    with TerminalReporter() as reporter:
        inputs = load_inputs(config, trust_code=trusted_file(config.target.model, trusted))
        claim_run(out, inputs)
        activations, key = activations_stage(out, inputs, reporter.stage("activations"))
        evidence = evidence_stage(out, inputs, activations, key, reporter.stage("exemplars"))
    return Bench(inputs, activations, evidence)


def trusted_file(model: str, trusted: Sequence[Path]) -> Path | None:
    """That of the trusted files which a ``file:PATH.py:FUNCTION`` target would execute."""
    path = Path(model.removeprefix("file:").rpartition(":")[0]).resolve()
    return next((file for file in trusted if file.resolve() == path), None)
