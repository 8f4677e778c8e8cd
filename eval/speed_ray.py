"""How fast the pass is with two workers of a Ray cluster, against the same with one, and in one process."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from labeler.config import Config
from labeler.executors import LOCAL
from labeler.executors.cluster import RayExecutor
from labeler.pipeline.inputs import Inputs, load_inputs
from labeler.pipeline.pass_stage import activations_stage

from .comparison import EFFICIENTNET, Plan, Row, ratio_row
from .timing import Times, say

LAYERS = ("blocks.2", "blocks.4", "blocks.6")
BLOCKS = {"small": 2, "full": 16}
"""Of 32 images; each is a piece of its own."""
WORKERS = 2
SIDES = {"ours": WORKERS, "worker": 1, "one": 0}
"""Workers of a core each; none: this process, with one thread of torch."""


def ray_pass(plan: Plan) -> list[Row]:
    """The activations stage, written to disk, from rendering to the manifest; one thread of torch each.

    Workers are there and have loaded their networks, as in all of a run but its first piece.
    """
    if find_spec("ray") is None:
        say('speed: ray is left out: pip install "labeler[ray]"')
        return []
    config = _config(BLOCKS["full" if plan.sizes.steps > 4 else "small"])
    inputs = load_inputs(config)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for turn in range(plan.watch.repeats):
        for side in list(SIDES)[:: 1 if turn % 2 == 0 else -1]:
            seconds[side].append(_stage(config, inputs, SIDES[side], plan))
    torch.set_num_threads(before)
    work = f"{config.probe.images} scenes, batch 32, {EFFICIENTNET}; {WORKERS} workers of a core"
    return [
        ratio_row("ray", Times(seconds), "worker", f"{work}, one worker"),
        ratio_row("ray_process", Times(seconds), "one", f"{work}, one process without Ray"),
    ]


def _stage(config: Config, inputs: Inputs, workers: int, plan: Plan) -> float:
    """Seconds of one stage by so many workers, who have done it once before."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        executor = stack.enter_context(_cluster(config, workers)) if workers else LOCAL
        activations_stage(folder / "before", inputs, _quiet, executor=executor)
        return plan.watch.time(lambda: activations_stage(folder / "timed", inputs, _quiet, executor=executor))


@contextmanager
def _cluster(config: Config, workers: int) -> Iterator[RayExecutor]:
    import ray

    ray.init(
        address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False,
        logging_level=logging.ERROR,
    )  # fmt: skip
    try:
        with RayExecutor(config.executor, note=say) as executor:
            yield executor
    finally:
        ray.shutdown()


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
