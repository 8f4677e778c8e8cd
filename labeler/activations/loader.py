"""Images decoded ahead of the forward pass, in order, by a few threads or processes, and stacked for it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, TypeVar

import torch
from torch import Tensor

from labeler.activations.processes import in_processes
from labeler.seams import Target

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    items: Sequence[Item],
    work: Callable[[Item], Result],
    *,
    workers: int,
    ahead: int,
    processes: bool = False,
) -> Iterator[Result]:
    """`work` of every item, in order, computed by `workers` threads at most `ahead` items in front.

    The first exception that `work` raises is raised here, at its item's turn. Closing the iterator, or an
    interrupt, drops what has not started. With ``workers=0`` everything happens in the caller's thread.
    `processes`: the workers are forked processes, see `in_processes`.
    """
    if workers == 0:
        yield from map(work, items)
        return
    if processes:
        yield from in_processes(items, work, workers=workers, ahead=ahead)
        return
    source = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="labeler-decode")
    try:
        queue: deque[Future[Result]] = deque(
            pool.submit(work, item) for item in itertools.islice(source, max(1, ahead))
        )
        while queue:
            result = queue.popleft().result()
            queue.extend(pool.submit(work, item) for item in itertools.islice(source, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` consecutive items; the last may be shorter."""
    source = iter(items)
    while batch := list(itertools.islice(source, size)):
        yield batch


def stack_padded(
    images: Sequence[Tensor | None], size: int, shape: Sequence[int], *, pinned: bool = False
) -> Tensor:
    """A block ``(size, *shape)``: zeros where an image is None and past the end.

    A block always has the same size, so that a kernel chosen by size, and with it the last bit of an
    activation, cannot depend on how many images a shard or the dataset has. `pinned` memory is what a GPU
    fetches by itself while the program goes on; torch keeps it for the next block.
    """
    block = torch.empty(size, *shape, pin_memory=pinned)
    for slot in range(size):
        image = images[slot] if slot < len(images) else None
        if image is None:
            block[slot].zero_()
        else:
            block[slot].copy_(image)
    return block


@torch.inference_mode()
def forward(
    target: Target,
    images_bchw: Tensor,
    layers: Sequence[str],
    precision: Literal["float32", "bfloat16"] = "float32",
) -> dict[str, Tensor]:
    """Activation maps ``(b, u, h, w)`` of `layers`, float32 whatever the precision of the pass."""
    images_bchw = images_bchw.to(target.device, non_blocking=True)
    enabled = precision == "bfloat16"
    with torch.autocast(target.device.type, dtype=torch.bfloat16, enabled=enabled):
        maps = target.maps(images_bchw, layers)
    return {layer: maps[layer].to(torch.float32) for layer in layers}
