"""The random-weight control: the same architecture untrained, labelled by the same config.

A labeller that accepts units of an untrained network as readily as those of the trained one measures its
judges, not the network. Printed by layer, since untrained first layers do respond to colour; the figures are
shares over the layers from the middle on, decoys those of all runs. Intervals are Wilson's, 95 %. Network
Dissection's own control stands beside it: the mean best IoU of the units, and the share that has one above
0.04 (Bau et al. 2017), which units of an untrained network reach too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import labeler
from labeler.baselines import DETECTOR_IOU
from labeler.checks.person import Share
from labeler.config import Config
from labeler.config_file import load_config
from labeler.report.text import table
from labeler.report.words import number
from labeler.resources import resource_directory
from labeler.suites import Result
from labeler.terminal import TerminalReporter

from .arguments import SuiteParser
from .opened import ACCEPTED
from .planted_runs import place_of
from .timing import say


@dataclass(frozen=True)
class LayerCounts:
    """One layer of one run."""

    units: int = 0
    accepted: int = 0
    decoys: int = 0
    decoys_accepted: int = 0
    dissected: int = 0
    """Units with an IoU; dead ones have none, nor has any unit of a probe without annotations."""
    iou: float = 0.0
    """The sum of their best IoUs."""
    detectors: int = 0
    """Those above Network Dissection's 0.04."""

    def __add__(self, other: LayerCounts) -> LayerCounts:
        return LayerCounts(
            self.units + other.units, self.accepted + other.accepted,
            self.decoys + other.decoys, self.decoys_accepted + other.decoys_accepted,
            self.dissected + other.dissected, self.iou + other.iou, self.detectors + other.detectors,
        )  # fmt: skip


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Label with the network's own weights and with random ones, into `run` or a temporary directory."""
    options = _parser().parse_args(list(arguments))
    loaded = load_config(config or resource_directory("configs") / "demo.yaml", tuple(options.set))
    seeds = options.seeds or [loaded.seed]
    with place_of("control", run) as place:
        own = _counts(loaded, place / "own", options.trust_code)
        untrained = [
            _counts(_untrained(loaded, seed), place / f"random-{seed}", options.trust_code) for seed in seeds
        ]
    return summarise(own, untrained, seeds)


def _parser() -> SuiteParser:
    parser = SuiteParser("control", "The same architecture with random weights.")
    parser.add_argument("--seeds", nargs="+", type=int, help="one untrained network each; the config's seed")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a config value"
    )
    parser.add_argument("--trust-code", type=Path, metavar="FILE", help="as in: labeler run")
    return parser


def _untrained(config: Config, seed: int) -> Config:
    target = config.target.model_copy(update={"weights": "random"})
    return config.model_copy(update={"target": target, "seed": seed})


def _counts(config: Config, out: Path, trust_code: Path | None) -> dict[str, LayerCounts]:
    """Label the config's units and count, by layer in the order of the config."""
    say(
        f"control: {config.target.model}, weights {config.target.weights or 'of its own'}, seed {config.seed}"
    )
    with TerminalReporter() as reporter:
        catalogue = labeler.run(config, out, trust_code=trust_code, reporter=reporter)
    with catalogue:
        verdicts = catalogue.counts()
        gate = json.loads(catalogue.note("gate") or "{}").get("layers", {})
        best = [(record.layer, record.dissection[0].iou) for record in catalogue if record.dissection]
    layers = dict.fromkeys([*config.target.layers, *(layer for layer, _ in verdicts)])
    return {
        layer: LayerCounts(
            units=sum(count for (of, _), count in verdicts.items() if of == layer),
            accepted=sum(verdicts.get((layer, verdict), 0) for verdict in ACCEPTED),
            decoys=gate.get(layer, {}).get("decoys", 0),
            decoys_accepted=gate.get(layer, {}).get("decoys_accepted", 0),
            dissected=sum(of == layer for of, _ in best),
            iou=sum(iou for of, iou in best if of == layer),
            detectors=sum(iou > DETECTOR_IOU for of, iou in best if of == layer),
        )
        for layer in layers
    }


def summarise(
    own: dict[str, LayerCounts], untrained: Sequence[dict[str, LayerCounts]], seeds: Sequence[int]
) -> Result:
    """The suite's result from the counts by layer, in the order of the forward pass."""
    late = list(own)[len(own) // 2 :]
    trained = sum((own[layer] for layer in late), LayerCounts())
    random = sum((counts[layer] for counts in untrained for layer in late), LayerCounts())
    shares = {
        "random_accepted": (random.accepted, random.units),
        "trained_accepted": (trained.accepted, trained.units),
        "decoys_accepted": (
            trained.decoys_accepted + random.decoys_accepted, trained.decoys + random.decoys
        ),
    }  # fmt: skip
    shares |= {
        "random_detectors": (random.detectors, random.dissected),
        "trained_detectors": (trained.detectors, trained.dissected),
    }
    means = {"random_iou": _mean_iou(random), "trained_iou": _mean_iou(trained)}
    both = [(layer, own[layer], sum((counts[layer] for counts in untrained), LayerCounts())) for layer in own]
    header = ("layer", "units", "accepted", "random units", "accepted", "decoys", "accepted")
    dissection = ("layer", "mean best IoU", "random", f"IoU > {DETECTOR_IOU}", "random")
    lines = [f"{name}: {_share(*part)}" for name, part in shares.items()]
    lines += [f"{name}: {number(value)}" for name, value in means.items()]
    return Result(
        suite="control",
        units=trained.units,
        figures={name: part / whole if whole else None for name, (part, whole) in shares.items()} | means,
        intervals={name: ends for name, part in shares.items() if (ends := Share(*part).interval)},
        text="\n".join(
            [
                table(header, [_cells(*row) for row in both]),
                "",
                table(dissection, [_dissection_cells(*row) for row in both]),
                "",
                f"From the middle on ({', '.join(late)}), untrained with seed {', '.join(map(str, seeds))}:",
                *lines,
            ]
        ),
    )


def _cells(layer: str, own: LayerCounts, random: LayerCounts) -> tuple[str, ...]:
    both = own + random
    numbers = (
        own.units, own.accepted, random.units, random.accepted, both.decoys, both.decoys_accepted
    )  # fmt: skip
    return (layer, *map(str, numbers))


def _dissection_cells(layer: str, own: LayerCounts, random: LayerCounts) -> tuple[str, ...]:
    detectors = [
        f"{counts.detectors} of {counts.dissected}" if counts.dissected else "–" for counts in (own, random)
    ]
    return (layer, number(_mean_iou(own)), number(_mean_iou(random)), *detectors)


def _mean_iou(counts: LayerCounts) -> float | None:
    return counts.iou / counts.dissected if counts.dissected else None


def _share(part: int, whole: int) -> str:
    if not whole:
        return "nothing to count"
    low, high = Share(part, whole).interval or (0.0, 1.0)
    return f"{part} of {whole}, {100 * part / whole:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
