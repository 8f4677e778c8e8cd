"""Trains the small open_clip models that know the words of the rendered scenes.

A contrastive loss learns slowly here: a caption is often true of other images of the batch too. What the
renderer knows is used instead. Every position of three feature maps is trained, by a sigmoid loss, to be near
the anchors of exactly the concepts painted there; so is the pooled embedding, for those anywhere in the view.
The anchors, one vector for each concept, start orthogonal; the text tower learns to send every phrase for a
concept to its anchor. (Without anchors the texts of concepts not learnt yet coincide, and keep each other
from being learnt.) Anchors and the maps' projections are thrown away; the shipped model is plain open_clip.

    python -m labeler.builtin.training.scenes_clip --name scenes-clip

The shipped weights were trained in several legs, each `--start-from` the last; their quality files list them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, normalize

from labeler.builtin.scenes import CONCEPTS, MINIMUM_AREA
from labeler.builtin.training.muon import Muon
from labeler.builtin.training.scene_quality import draw_exam, measure
from labeler.builtin.training.scene_store import CELLS, SceneStore, draw_box

logger = logging.getLogger("scenes_clip")

TEMPLATES = (
    "{}",
    "{}",
    "a photo of {}",
    "a photo of a {}",
    "a {}",
    "something {}",
    "a picture of {}",
    "{} pattern",
)
CONTEXT_LENGTH = 16
MOST_SCENES = 12000
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


MATTER = torch.tensor([{"shape": 3.0, "texture": 1.5, "colour": 0.7}.get(c.category, 1.0) for c in CONCEPTS])
"""Weight of each concept in the losses: shapes are learnt last."""


@dataclass(frozen=True)
class Recipe:
    """One shipped model: its image tower and how it was trained. Seeds 0..99 are never trained on."""

    trunk: str
    seed: int
    steps: int
    first_scenes: int = 600
    new_scenes: int = 5  # rendered at every step, up to 12,000 in all
    batch: int = 48
    image_size: int = 112
    text_width: int = 64
    embed_dim: int = 128
    learning_rate: float = 3e-3
    muon_rate: float = 0.03
    text_every: int = 2
    weight_decay: float = 0.03


RECIPES = {
    "scenes-clip": Recipe("test_resnet", seed=1001, steps=2800),
    "scenes-clip-judge": Recipe("test_byobnet", seed=2002, steps=4200, text_every=1),
}


def model_config(recipe: Recipe) -> dict[str, object]:
    """The open_clip model config. Preprocessing is open_clip's default, which a config cannot change."""
    return {
        "embed_dim": recipe.embed_dim,
        "vision_cfg": {
            "timm_model_name": recipe.trunk,
            "timm_model_pretrained": False,
            "timm_pool": "catavgmax",
            "timm_proj": "",
            "image_size": recipe.image_size,
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": 49408,
            "width": recipe.text_width,
            "heads": 4,
            "layers": 2,
        },
        "custom_text": True,
    }


class Dense(nn.Module):
    """The training-time wrapper: pooled and per-position embeddings of a view."""

    def __init__(self, model: Any, embed_dim: int) -> None:
        super().__init__()
        self.model: Any = model
        reductions = [info["reduction"] for info in model.visual.trunk.feature_info]
        self.stages = [len(reductions) - 1 - reductions[::-1].index(r) for r in (8, 16)]
        channels = [model.visual.trunk.feature_info[stage]["num_chs"] for stage in self.stages]
        self.projections = nn.ModuleList(nn.Conv2d(c, embed_dim, 1) for c in channels)
        self.anchors = nn.Parameter(nn.init.orthogonal_(torch.empty(len(CONCEPTS), embed_dim)))
        # With a dozen concepts in a view each cosine is about 0.3: the scale must reach well over the bias.
        self.scales = nn.Parameter(torch.full((4,), np.log(30.0)))
        self.biases = nn.Parameter(torch.full((4, len(CONCEPTS)), -4.0))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Logits of the concepts: pooled (b, concepts), then of each position (b, concepts, h, w)."""
        visual = self.model.visual
        last, maps = visual.trunk.forward_intermediates(image, indices=self.stages)
        pooled = visual.head(visual.trunk.forward_head(last))
        dense = [projection(m) for projection, m in zip(self.projections, maps, strict=True)]
        # The same head on single positions: what is pooled must mean the same as what is seen in one place.
        b, _, h, w = last.shape
        positions = last.permute(0, 2, 3, 1).reshape(b * h * w, -1, 1, 1)
        coarse = visual.head(visual.trunk.forward_head(positions)).reshape(b, h, w, -1).permute(0, 3, 1, 2)
        embeddings = [pooled, *dense, coarse]
        concepts = normalize(self.anchors, dim=-1)
        logits = []
        for level, embedding in enumerate(embeddings):
            similarity = torch.einsum("bd...,cd->bc...", normalize(embedding, dim=1), concepts)
            shape = (1, -1) + (1,) * (similarity.ndim - 2)
            logits.append(self.scales[level].exp() * similarity + self.biases[level].view(shape))
        return logits


def text_loss(dense: Dense, text: Tensor) -> Tensor:
    """Mean distance of the texts, one per concept in order, from the concepts' anchors (cosine)."""
    anchors = normalize(dense.anchors.detach(), dim=-1)
    return (1 - (normalize(dense.model.encode_text(text), dim=-1) * anchors).sum(dim=-1)).mean()


def make_optimisers(dense: Dense, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the trunk's convolutions, AdamW for all else."""
    convolutions = [p for p in dense.model.visual.trunk.parameters() if p.ndim == 4]
    chosen = {id(p) for p in convolutions}
    others = [p for p in dense.parameters() if id(p) not in chosen]
    return [
        Muon(convolutions, lr=recipe.muon_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.learning_rate, weight_decay=recipe.weight_decay),
    ]


def sample_texts(rng: np.random.Generator) -> list[str]:
    """One phrase for each concept, in order."""
    return [
        TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(
            concept.words[int(rng.integers(len(concept.words)))]
        )
        for concept in CONCEPTS
    ]


def sample_batch(store: SceneStore, recipe: Recipe, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Views (b, 3, h, w) normalised, and concept labels (b, concepts, CELLS, CELLS)."""
    images, labels = [], []
    for index in rng.integers(0, store.count, recipe.batch):
        box = draw_box(store, int(index), rng)
        image, label = store.view(int(index), box, bool(rng.random() < 0.5), recipe.image_size)
        images.append(image)
        labels.append(torch.from_numpy(label))
    batch = torch.stack(images).float().div_(255)
    batch = (batch - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return batch.contiguous(memory_format=torch.channels_last), torch.stack(labels).float()


def dense_loss(logits: list[Tensor], labels: Tensor, weight_c: Tensor) -> list[Tensor]:
    """Sigmoid losses of the pooled embedding and of each map, positives weighted by concept."""
    losses = []
    share = labels.mean(dim=(2, 3))
    sure = (share >= MINIMUM_AREA) | (share == 0)
    losses.append(_balanced(logits[0], (share >= MINIMUM_AREA).float(), sure.float(), weight_c))
    for logit in logits[1:]:
        cell = CELLS // logit.shape[-1]
        inside = avg_pool2d(labels, cell)
        target = (inside * 6).clamp(max=1)
        losses.append(_balanced(logit, target, torch.ones_like(target), weight_c.view(-1, 1, 1)))
    return losses


def _balanced(logit: Tensor, target: Tensor, sure: Tensor, weight: Tensor) -> Tensor:
    loss = binary_cross_entropy_with_logits(logit, target, reduction="none", pos_weight=weight)
    matter = MATTER.view(weight.shape)
    return (loss * sure * matter).sum() / (sure * matter).sum()


def train(
    name: str, recipe: Recipe, store: SceneStore, out: Path, every: int, start_from: Path | None
) -> None:
    """Trains, from weights if given; a checkpoint and its quality are written to `out` at each evaluation."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng([recipe.seed, 7])
    open_clip.add_model_config(write_config(name, recipe, out))
    model = open_clip.create_model(name, pretrained=None if start_from is None else str(start_from))
    tokenizer = open_clip.get_tokenizer(name)
    dense = Dense(model, recipe.embed_dim).to(memory_format=torch.channels_last).train()
    if start_from is not None:
        with torch.no_grad():
            dense.anchors.copy_(model.encode_text(tokenizer([c.name for c in CONCEPTS]), normalize=True))
    optimisers = make_optimisers(dense, recipe)
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            optimiser.defaults["lr"],
            total_steps=recipe.steps,
            pct_start=0.08,
            cycle_momentum=False,
        )
        for optimiser in optimisers
    ]
    frequency_c = torch.full((len(CONCEPTS),), 0.1)
    running = np.zeros(5)
    start = time.monotonic()
    for step in range(1, recipe.steps + 1):
        store.extend(recipe.new_scenes)
        images, labels = sample_batch(store, recipe, rng)
        frequency_c = 0.98 * frequency_c + 0.02 * (labels.amax(dim=(2, 3)) > 0).float().mean(dim=0)
        weight_c = ((1 - frequency_c) / frequency_c.clamp(min=0.02)).clamp(min=1).sqrt()
        losses = dense_loss(dense(images), labels, weight_c)
        # The texts are learnt sooner than the images: every `text_every` steps are enough.
        texts = tokenizer(sample_texts(rng)) if step % recipe.text_every == 0 else None
        losses.append(torch.zeros(()) if texts is None else text_loss(dense, texts))
        dense.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(losses).sum())
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
        running += [float(loss.detach()) for loss in losses]
        if step % 50 == 0:
            logger.info(
                "step %d  %.0f s  losses %s", step, time.monotonic() - start, np.round(running / 50, 4)
            )
            running[:] = 0
        if step % every == 0 or step == recipe.steps:
            write_weights(name, recipe, model, out, step, count=1000 if step == recipe.steps else 150)
            model.train()


def write_config(name: str, recipe: Recipe, out: Path) -> Path:
    """Writes and returns the open_clip config."""
    path = out / f"{name}.json"
    path.write_text(json.dumps(model_config(recipe), indent=2) + "\n", encoding="utf-8")
    return path


def write_weights(name: str, recipe: Recipe, model: Any, out: Path, step: int, count: int) -> None:
    """Writes fp16 weights and their quality on scenes of seed 0, which training never sees."""
    model.eval()
    exam = draw_exam(seed=0, count=count, image_size=recipe.image_size)
    quality = measure(model, open_clip.get_tokenizer(name), MEAN, STD, exam)
    state = {
        key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()
    }
    partial = out / f".{name}.safetensors.partial"
    save_file({key: value.contiguous() for key, value in state.items()}, str(partial))
    partial.chmod(0o644)
    partial.replace(out / f"{name}.safetensors")
    command = "python -m labeler.builtin.training.scenes_clip " + " ".join(sys.argv[1:])
    record = {"name": name, "recipe": asdict(recipe), "command": command, "step": step, **quality}
    (out / f"{name}.quality.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    logger.info(
        "step %d  whole: mean %.4f min %.4f  regions: mean %.4f min %.4f  worst %s",
        step,
        *(quality[part][key] for part in ("whole", "regions") for key in ("mean", "min")),
        sorted(quality["whole"]["auroc"].items(), key=lambda item: item[1])[:10],
    )


def main() -> None:
    """Command line; the defaults train from scratch for about as many steps as the shipped weights took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", choices=sorted(RECIPES), required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=400, help="steps between evaluations")
    for field in ("seed", "steps", "batch", "first_scenes", "new_scenes", "image_size"):
        parser.add_argument(f"--{field.replace('_', '-')}", type=int)
    parser.add_argument("--start-from", type=Path, help="weights of an earlier run of the same name")
    parser.add_argument("--trunk")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--muon-rate", type=float)
    given = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given["threads"])
    recipe = RECIPES[given["name"]]
    changed = {key: given[key] for key in asdict(recipe) if given.get(key) is not None}
    recipe = Recipe(**{**asdict(recipe), **changed})
    store = SceneStore(recipe.seed, MOST_SCENES)
    store.extend(recipe.first_scenes)
    logger.info("%d scenes rendered", store.count)
    train(given["name"], recipe, store, given["out"], given["every"], given["start_from"])


if __name__ == "__main__":
    main()
