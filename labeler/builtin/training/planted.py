"""Trains the planted networks and measures on unseen scenes that their units do what their truth says.

    python -m labeler.builtin.training.planted            all of them, some two hours on one core
    python -m labeler.builtin.training.planted --only plain-3001

Writes, beside `labeler.builtin.planted`, ``NAME.safetensors`` (float16) and ``NAME.json`` (the truth, and
what was measured). Seeds 0..99 of the scenes are never trained on: probes use them, and the exam does.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from labeler.builtin import planted
from labeler.builtin.planted import HELD_OUT_CONCEPTS, LAYER
from labeler.builtin.planted.network import TRUNKS, PlantedNetwork
from labeler.builtin.scenes import CONCEPTS
from labeler.builtin.training.planted_head import train_head
from labeler.builtin.training.planted_measure import (
    LEAST,
    compare,
    concept_correlations,
    concept_ious,
    decoy_auroc,
)
from labeler.builtin.training.planted_scenes import Scenes, normalised, render
from labeler.builtin.training.planted_trunk import PRESENT, concept_auroc, train_trunk
from labeler.builtin.training.planted_truth import Wanted, draw_truth, holds
from labeler.builtin.training.scene_quality import auroc

logger = logging.getLogger("planted")

COMPANION = 0.05
"""A concept whose correlation is no lower than by this is in the same scenes: where it lies has to tell."""
LOCATED = 1000
"""Scenes of the exam on which it is measured where the units fire."""
EXAM = (91, 6000)  # seed and number of the scenes that the truth is measured on


@dataclass(frozen=True)
class Family:
    """Networks over one trunk."""

    architecture: str
    seed: int
    names: tuple[str, ...]
    held_out: bool


FAMILIES = (
    Family("plain", 3001, planted.FITTED[:4], held_out=False),
    Family("plain", 3006, planted.FITTED[4:], held_out=False),
    Family("plain", 3002, planted.LOOKED_AT[:2], held_out=True),
    Family("mixer", 3003, planted.LOOKED_AT[2:], held_out=True),
    Family("plain", 3004, planted.HELD_OUT[:3], held_out=True),
    Family("mixer", 3005, planted.HELD_OUT[3:], held_out=True),
)


@dataclass(frozen=True)
class Effort:
    """How long everything is trained."""

    scenes: int = 7000
    head_scenes: int = 6000
    steps: int = 1800
    epochs: int = 10
    decoy_steps: int = 500


def make_family(family: Family, effort: Effort, out: Path) -> None:
    """Train, measure and write the networks of one family."""
    scenes = render(family.seed, effort.scenes)
    network = train_trunk(family.architecture, scenes, family.seed, effort.steps)
    exam = render(*EXAM)
    auroc_c = concept_auroc(network, exam)
    logger.info("%s %d: concepts %.3f on average", family.architecture, family.seed, np.nanmean(auroc_c))
    assert isinstance(network, nn.Sequential)
    scenes = render(family.seed + 50, effort.head_scenes)  # the trunk fits its own scenes too well
    for number, name in enumerate(family.names):
        seed = 10 * family.seed + number
        wanted = draw_truth(
            scenes.areas >= PRESENT, auroc_c,
            allowed=lambda concept: family.held_out or concept not in HELD_OUT_CONCEPTS,
            preferred=lambda concept: family.held_out and concept in HELD_OUT_CONCEPTS,
            rng=np.random.default_rng(seed),
        )  # fmt: skip
        trained = train_head(network[0], wanted, scenes, seed, effort.epochs, effort.decoy_steps)
        write(name, family, effort, trained, wanted, exam, out)


def write(
    name: str, family: Family, effort: Effort, network: PlantedNetwork, wanted: Sequence[Wanted],
    exam: Scenes, out: Path,
) -> None:  # fmt: skip
    """Write one network and its truth, measured on the exam with the weights as stored."""
    state = {
        key: value.half().contiguous()
        for key, value in network.state_dict().items()
        if value.is_floating_point()
    }
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
    save_file(state, str(out / f"{name}.safetensors"))
    head = {"name": name, "layer": LAYER, **asdict(family), "effort": asdict(effort)}
    write_truth(out / f"{name}.json", head, network, wanted, exam)


def measure_family(family: Family, out: Path) -> None:
    """Measure the stored networks of one family again."""
    exam = render(*EXAM)
    place = {concept.name: c for c, concept in enumerate(CONCEPTS)}
    for name in family.names:
        path = out / f"{name}.json"
        stored = json.loads(path.read_text(encoding="utf-8"))
        network = PlantedNetwork(TRUNKS[family.architecture]())
        state = {key: value.float() for key, value in load_file(out / f"{name}.safetensors").items()}
        network.load_state_dict(state, strict=False)
        wanted = [Wanted(u["kind"], tuple(place[term] for term in u["terms"])) for u in stored["units"]]
        write_truth(
            path,
            {key: stored[key] for key in stored if key not in ("exam", "units")},
            network.eval(),
            wanted,
            exam,
        )


def write_truth(
    path: Path, head: dict[str, object], network: PlantedNetwork, wanted: Sequence[Wanted], exam: Scenes
) -> None:
    """Write the truth of one network, measured on the exam, and log it."""
    pooled_nu = _pooled(network, exam)
    units = [_measured(u, unit, pooled_nu[:, u], exam.areas >= PRESENT) for u, unit in enumerate(wanted)]
    iou_uc = concept_ious(_maps(network, exam.images[:LOCATED]), exam.cells[:LOCATED].numpy())
    for u, unit in enumerate(wanted):
        if unit.kind in ("single", "duplicate"):
            told_c = concept_correlations(pooled_nu[:, u], exam.areas >= PRESENT)
            alike_c = told_c >= told_c[unit.terms[0]] - COMPANION
            best = int(np.where(alike_c, iou_uc[u], -1.0).argmax())
            where = {"iou": iou_uc[u, unit.terms[0]], "where_iou": iou_uc[u, best]}
            units[u] |= {name: round(float(value), 4) for name, value in where.items()}
            units[u]["where"] = CONCEPTS[best].name
    record = {**head, "exam": {"seed": EXAM[0], "scenes": EXAM[1]}, "units": units}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for kind in sorted({unit.kind for unit in wanted}):
        found = [u["auroc"] for u, unit in zip(units, wanted, strict=True) if unit.kind == kind]
        logger.info("%s: %d %s, AUROC %s", path.stem, len(found), kind, found)


@torch.inference_mode()
def _maps(network: PlantedNetwork, images: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = torch.cat([network(normalised(i)) for i in torch.split(images, 100)]).numpy()
    return found


@torch.inference_mode()
def _pooled(network: PlantedNetwork, exam: Scenes) -> NDArray[np.float32]:
    parts = [network(normalised(part)).amax(dim=(2, 3)) for part in torch.split(exam.images, 100)]
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def _measured(
    index: int, unit: Wanted, pooled_n: NDArray[np.float32], present_nc: NDArray[np.bool_]
) -> dict[str, object]:
    """One unit of the truth, as `labeler.builtin.planted.truth` reads it."""
    terms = [CONCEPTS[c].name for c in unit.terms]
    described: dict[str, object] = {"index": index, "kind": unit.kind, "terms": terms, "auroc": None}
    if unit.kind == "dead":
        assert not pooled_n.any()
        return described
    if unit.kind == "decoy":
        return {**described, "auroc": round(decoy_auroc(pooled_n, present_nc, LEAST), 4)}
    told = compare(pooled_n, present_nc, unit)
    found = {
        "auroc": auroc(pooled_n, holds(unit, present_nc)),
        "correlation": told.own,
        "part_correlation": told.part,
        "rival_correlation": told.rival,
    }
    return {**described, **{name: round(value, 4) for name, value in found.items()}, "rival": told.words}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [f"{family.architecture}-{family.seed}" for family in FAMILIES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these families alone")
    parser.add_argument("--out", type=Path, default=Path(planted.__file__).parent)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", action="store_true", help="measure the stored networks, train nothing")
    for field, value in asdict(Effort()).items():
        parser.add_argument(f"--{field.replace('_', '-')}", type=int, default=value)
    given = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given["threads"])
    effort = Effort(**{field: given[field] for field in asdict(Effort())})
    for family, name in zip(FAMILIES, names, strict=True):
        if name in given["only"] and given["measure"]:
            measure_family(family, given["out"])
        elif name in given["only"]:
            make_family(family, effort, given["out"])


if __name__ == "__main__":
    main()
