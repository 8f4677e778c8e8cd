"""How fast each part is: against a plain loop that does the same work, both measured in one run, in turns.

Extraction is a share of the bare forward pass (1 is as fast); all other figures say how often our side fits
into the reference. Intervals are the least and the greatest ratio of single turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from labeler.activations import run_pass
from labeler.activations.quantiles import RunningQuantile
from labeler.allocator import keep_freed_memory
from labeler.baselines import auroc
from labeler.checks import Dissection
from labeler.config import ActivationsConfig, ProbeConfig
from labeler.probes import annotation_on_grid, load_probe
from labeler.propose.softwpmi import concept_probabilities, log_likelihood, log_mean
from labeler.report.text import table
from labeler.seams import ProbeDataset, ProbeImage, Target
from labeler.suites import Result
from labeler.targets.load import resolve_device

from . import references
from .arguments import SuiteParser
from .comparison import EFFICIENTNET, SIZES, VIT, Plan, Row, bare_network, random_target, ratio_row
from .speed_ray import ray_pass
from .speed_visualise import visualisation
from .timing import CLOCKS, Stopwatch, say

GRID = 56  # cells per side of the annotation grid, the default of checks.iou_grid
DISSECTED = ("blocks.2", "blocks.4", "blocks.6")
TAIL = 0.005


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Measure the ratios; `config` and `run` are of no use here."""
    options = _parser().parse_args(list(arguments))
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()  # both sides of every comparison gain from it
    device = resolve_device(options.device)
    plan = Plan(SIZES[options.size], Stopwatch(options.clock, options.repeats, device), options.coco)
    rows: list[Row] = []
    for name in options.only or COMPARISONS:
        say(f"speed: {name} ...")
        rows += COMPARISONS[name](plan)
    return Result(
        suite="speed",
        units=plan.sizes.wpmi[0],
        figures={row.figure: round(row.ratio, 6) for row in rows},
        intervals={row.figure: row.interval for row in rows if row.interval is not None},
        text=_text(rows, plan),
    )


def _parser() -> SuiteParser:
    parser = SuiteParser("speed", "Ratios of speed against plain loops.")
    parser.add_argument("--coco", type=Path, metavar="DIR", help="dissect COCO panoptic masks, not scenes")
    parser.add_argument("--size", choices=list(SIZES), default="full", help="how much work")
    parser.add_argument("--only", nargs="+", choices=list(COMPARISONS), help="these comparisons alone")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: seconds of this process")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as it comes")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    return parser


def _text(rows: Sequence[Row], plan: Plan) -> str:
    def cells(row: Row) -> tuple[str, ...]:
        ends = "" if row.interval is None else f"{row.interval[0]:.3g} to {row.interval[1]:.3g}"
        seconds = ["" if value is None else f"{value:.3g} s" for value in (row.ours, row.reference)]
        return (row.figure, f"{row.ratio:.3g}", ends, *seconds, row.work)

    header = ("figure", "value", "single turns", "ours", "reference", "work")
    how = (
        f"{plan.watch.device}, {torch.get_num_threads()} thread(s), {plan.watch.clock} clock, "
        f"medians of {plan.watch.repeats} interleaved turns"
    )
    return f"{table(header, [cells(row) for row in rows])}\n{how}"


def extraction(plan: Plan) -> list[Row]:
    """The pass over the probe, without decoding, over the bare forward pass of the same model."""
    vit_layers = ("blocks.3", "blocks.7", "blocks.11")
    return [
        _extraction(
            plan, "extraction", EFFICIENTNET, DISSECTED, plan.sizes.images, references.bare_efficientnet
        ),
        _extraction(plan, "extraction_vit", VIT, vit_layers, plan.sizes.vit_images, references.bare_vit),
    ]


def _extraction(
    plan: Plan, figure: str, model: str, layers: tuple[str, ...], count: int,
    bare: Callable[[torch.nn.Module], references.Forward],
) -> Row:  # fmt: skip
    target = random_target(plan, model, layers)
    forward = bare(bare_network(plan, model))
    images_nchw = torch.randn(count, 3, *target.input_size, generator=torch.Generator().manual_seed(0))
    settings = ActivationsConfig(batch_size=min(32, count))
    probe, ready = _ReadyProbe(count), _ReadyTarget(target, images_nchw)
    layout = torch.channels_last if model == EFFICIENTNET else torch.contiguous_format

    def reference() -> None:
        for batch_bchw in images_nchw.split(settings.batch_size):
            forward(batch_bchw.to(plan.watch.device, memory_format=layout))

    times = plan.watch.interleave(
        {"ours": lambda: run_pass(ready, probe, {}, settings, workers=0), "bare": reference}
    )
    speeds = ", ".join(f"{name} {count / times.of(name):.1f}" for name in ("ours", "bare"))
    work = f"{count} images, batch {settings.batch_size}, {model}, {', '.join(layers)}; images/s: {speeds}"
    return ratio_row(figure, times, "bare", work)


def dissection(plan: Plan) -> list[Row]:
    """IoU of all units with all concepts from the same maps and masks: ours and two loops."""
    maps, masks_ncgg, known, thresholds, categories = _dissection_data(plan)
    known_nc = np.array([[category in names for category in categories] for names in known])
    found: dict[str, list[np.ndarray]] = {}

    def ours() -> None:
        found["ours"] = []
        for layer, maps_nuhw in maps.items():
            made = Dissection(
                np.arange(maps_nuhw.shape[1]), thresholds[layer].cpu().numpy(), categories, (), 1
            )
            for start in range(0, len(maps_nuhw), 32):
                rows = slice(start, start + 32)
                made.add(maps_nuhw[rows], masks_ncgg[rows], known[rows])
            found["ours"].append(made.iou())

    def plain(name: str, loop: Callable[..., np.ndarray]) -> Callable[[], None]:
        def run() -> None:
            found[name] = [
                loop(maps_nuhw.cpu(), masks_ncgg, known_nc, thresholds[layer].cpu())
                for layer, maps_nuhw in maps.items()
            ]

        return run

    sides = {
        "ours": ours,
        "sparse": plain("sparse", references.dissection_sparse),
        "loop": plain("loop", references.dissection_loop),
    }
    times = plan.watch.interleave(sides, warm=False)
    apart = {
        name: max(_apart(*pair) for pair in zip(found["ours"], found[name], strict=True))
        for name in ("loop", "sparse")
    }
    units = sum(maps_nuhw.shape[1] for maps_nuhw in maps.values())
    shown = int(masks_ncgg.flatten(2).any(2).any(0).sum())
    work = f"{units} units x {len(categories)} concepts ({shown} shown), {len(known)} images, {GRID} x {GRID}"
    return [
        ratio_row("dissection", times, "loop", f"{work}; loop over units and concepts"),
        ratio_row("dissection_sparse", times, "sparse", f"{work}; loop over units, sparse counts"),
        Row("dissection_error", apart["loop"], None, None, None, "greatest difference of IoU from the loop"),
        Row("dissection_sparse_error", apart["sparse"], None, None, None, "the same, from the sparse counts"),
    ]


def _apart(ours_uc: np.ndarray, other_uc: np.ndarray) -> float:
    """Greatest difference of IoU; a concept that ours leaves out, since no image shows it, has 0."""
    return float(np.abs(np.nan_to_num(ours_uc) - np.nan_to_num(other_uc)).max())


def _dissection_data(
    plan: Plan,
) -> tuple[dict[str, Tensor], Tensor, list[frozenset[str]], dict[str, Tensor], list[str]]:
    """Maps by layer, masks, each image's annotated categories, thresholds, and the concepts' categories."""
    target = random_target(plan, EFFICIENTNET, DISSECTED)
    source = "builtin:scenes" if plan.coco is None else f"coco_panoptic:{plan.coco}"
    count = plan.sizes.dissected
    probe: ProbeDataset = load_probe(ProbeConfig(source=(source,), images=count, colours=False), seed=0)
    categories = [concept.category for concept in probe.concepts]
    prepared, known, maps = [], [], {layer: [] for layer in DISSECTED}
    masks_ncgg = torch.zeros(min(count, len(probe.images)), len(categories), GRID, GRID, dtype=torch.bool)
    for row in range(len(masks_ncgg)):
        image = probe.image(row)
        annotation = probe.annotation(row, image)
        prepared.append(target.prepare(image))
        known.append(frozenset() if annotation is None else annotation.categories)
        if annotation is not None:
            on_grid = annotation_on_grid(annotation, target.view_box(*image.size), GRID)
            masks_ncgg[row, torch.from_numpy(annotation.concepts)] = torch.from_numpy(on_grid)
    with torch.inference_mode():
        for batch_bchw in torch.stack(prepared).split(32):
            for layer, maps_buhw in target.maps(batch_bchw, DISSECTED).items():
                maps[layer].append(maps_buhw)
    joined = {layer: torch.cat(parts) for layer, parts in maps.items()}
    thresholds = {}
    for layer, maps_nuhw in joined.items():
        running = RunningQuantile(maps_nuhw.shape[1], maps_nuhw.device)
        running.add(maps_nuhw)
        thresholds[layer] = running.quantile(torch.tensor([1 - TAIL]))[:, 0]
    return joined, masks_ncgg, known, thresholds, categories


def softwpmi(plan: Plan) -> list[Row]:
    """SoftWPMI of all units and words against a loop over units; and how far the two are apart."""
    units, concepts, images = plan.sizes.wpmi
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(images + concepts, 64, generator=generator), dim=1)
    vectors = vectors.to(plan.watch.device)
    probabilities_nl = concept_probabilities(vectors[:images], vectors[images:])
    ids_uk = torch.stack([torch.randperm(images, generator=generator)[:100] for _ in range(units)])
    ids_uk = ids_uk.to(plan.watch.device)
    apart = 0.0

    def ours() -> Tensor:
        likelihood_ul = log_likelihood(probabilities_nl, ids_uk)
        likelihood_ul.sub_(log_mean(likelihood_ul))
        return likelihood_ul

    expected_ul = references.soft_wpmi_loop(probabilities_nl, ids_uk)[1]
    apart = float(((log_likelihood(probabilities_nl, ids_uk) - expected_ul) / expected_ul).abs().max())
    del expected_ul
    times = plan.watch.interleave(
        {"ours": ours, "loop": lambda: references.soft_wpmi_loop(probabilities_nl, ids_uk)}, warm=False
    )
    work = f"{units} units x {concepts} concepts x 100 exemplars; loop over units"
    error = Row("softwpmi_error", apart, None, None, None, "greatest relative difference of log p(d | e)")
    return [ratio_row("softwpmi", times, "loop", work), error]


def invert(plan: Plan) -> list[Row]:
    """AUROC of all units and concepts against scikit-learn, pair by pair."""
    units, concepts, images = plan.sizes.auroc
    rng = np.random.default_rng(0)
    activations_nu = rng.standard_normal((images, units), dtype=np.float32).round(2)  # with ties
    presence_nc = (rng.random((images, concepts)) < 0.2).astype(np.float32)
    device = plan.watch.device
    ours_nu, ours_nc = torch.from_numpy(activations_nu).to(device), torch.from_numpy(presence_nc).to(device)
    expected_uc = references.auroc_loop(activations_nu, presence_nc)
    apart = np.abs(auroc(ours_nu, ours_nc).cpu().numpy() - expected_uc).max()
    times = plan.watch.interleave(
        {
            "ours": lambda: auroc(ours_nu, ours_nc),
            "loop": lambda: references.auroc_loop(activations_nu, presence_nc),
        },
        warm=False,
    )
    work = f"{units} units x {concepts} concepts, {images} images; roc_auc_score pair by pair"
    error = Row("invert_error", float(apart), None, None, None, "greatest difference of AUROC")
    return [ratio_row("invert", times, "loop", work), error]


COMPARISONS: dict[str, Callable[[Plan], list[Row]]] = {
    "extraction": extraction,
    "dissection": dissection,
    "softwpmi": softwpmi,
    "invert": invert,
    "visualise": visualisation,
    "ray": ray_pass,
}


class _ReadyProbe:
    """Images that are decoded already: each says its row and nothing else."""

    name, fingerprint, concepts = "ready", "ready", ()

    def __init__(self, count: int) -> None:
        self.images = tuple(ProbeImage(row, f"{row}", f"{row}", f"{row}") for row in range(count))

    def image(self, image_id: int) -> Image.Image:
        image = Image.new("RGB", (1, 1))
        image.info["row"] = image_id
        return image

    def annotation(self, image_id: int, image: Image.Image) -> None:
        return None


class _ReadyTarget:
    """A target that was prepared for its images: the pass is timed, decoding is not."""

    def __init__(self, target: Target, images_nchw: Tensor) -> None:
        self._target, self._images_nchw = target, images_nchw

    def __getattr__(self, name: str) -> object:
        return getattr(self._target, name)

    def prepare(self, image: Image.Image) -> Tensor:
        return self._images_nchw[image.info["row"]]
