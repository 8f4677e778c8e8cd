"""How fast the pass is with two workers of a Ray cluster, against the same pass in one process."""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import torch

from labeler.config import Config
from labeler.executors import LOCAL
from labeler.executors.cluster import RayExecutor
from labeler.pipeline.inputs import load_inputs
from labeler.pipeline.pass_stage import activations_stage
from labeler.seams import Executor

from .comparison import EFFICIENTNET, Plan, Row, ratio_row
from .timing import say

LAYERS = ("blocks.2", "blocks.4", "blocks.6")
BLOCKS = {"small": 2, "full": 16}
"""Of 32 images; each is a piece of its own."""
WORKERS = 2


def ray_pass(plan: Plan) -> list[Row]:
    """The activations stage, written to disk, from rendering to the manifest; one thread of torch each.

    Workers are there and have loaded their networks, as in all of a run but its first piece.
    """
    if find_spec("ray") is None:
        say('speed: ray is left out: pip install "labeler[ray]"')
        return []
    import ray

    config = _config(BLOCKS["full" if plan.sizes.steps > 4 else "small"])
    inputs = load_inputs(config)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ray.init(
            address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False,
            logging_level=logging.ERROR,
        )  # fmt: skip
        stack.callback(ray.shutdown)
        cluster = stack.enter_context(RayExecutor(config.executor, note=say))
        turns = iter(range(1000))

        def run_on(executor: Executor) -> None:
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            activations_stage(folder / f"{next(turns)}", inputs, _quiet, executor=executor)
            torch.set_num_threads(before)

        times = plan.watch.interleave({"ours": lambda: run_on(cluster), "one": lambda: run_on(LOCAL)})
    work = f"{config.probe.images} scenes, batch 32, {EFFICIENTNET}; {WORKERS} workers of a core, one process"
    return [ratio_row("ray", times, "one", work)]


def _config(blocks: int) -> Config:
    return Config.model_validate(
        {
            "target": {"model": EFFICIENTNET, "layers": LAYERS, "weights": "random"},
            "probe": {"source": "builtin:scenes", "images": 32 * blocks},
            "encoder": {"judge": "annotations"},
            "executor": {
                "kind": "ray", "shards": blocks, "cpus": 1, "gpus": 0, "workers": 0, "device": "cpu",
            },
        }
    )  # fmt: skip


def _quiet(done: int, total: int) -> None:
    """Progress is not shown: the clock runs."""
