"""Images decoded ahead of the forward pass, in order, by processes: torch's `DataLoader` over pieces of work.

Workers are forked, so that nothing they need is pickled: networks stay where they are, and a worker touches
none of them, nor the accelerator. What it sends back is one block of shared memory and a short message, so
that a worker that dies cannot leave half a message in the pipe.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labeler.errors import ActivationError, ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")
Decoding = Literal["auto", "threads", "processes"]

PROCESSES_FROM: Final = 5000
"""Least number of images for which ``auto`` takes processes. Measured on a CPU: starting and ending one costs
0.08 s, an image (640 × 480 JPEG to 224 px) 9.2 ms against 8.1 ms in a thread. So seven workers spend under a
tenth of such a pass on coming and going."""
_LOOK: Final = 1.0  # seconds between a worker's looks at whether its parent lives
_PIECE: Final = 8  # images a message: passing one block of memory costs as much as copying a few images
_ALIGNED: Final = 64  # bytes; tensors that are views of the block lie as torch would have laid them


def by_processes(decoding: Decoding, device: torch.device, images: int) -> bool:
    """Whether `images` are decoded by processes: ``auto`` does so for a target on CUDA and many images.

    Threads share one interpreter lock, which the thread that drives a GPU needs all the time. Beside a
    forward pass on the CPU processes gain nothing.

    Raises:
        ConfigError: when processes are asked for where they cannot be forked.
    """
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    if decoding == "processes" and not can_fork:
        raise ConfigError("This system cannot fork processes; set executor.decoding to threads.")
    if decoding == "auto":
        return can_fork and device.type == "cuda" and images >= PROCESSES_FROM
    return decoding == "processes"


def in_processes(
    items: Sequence[Item], work: Callable[[Item], Result], *, workers: int, ahead: int
) -> Iterator[Result]:
    """`work` of every item, in order, computed by `workers` processes, about `ahead` items in front.

    The first exception that `work` raises is raised here, at its item's turn, with the worker's traceback as
    a note. When the iterator ends or is closed the processes are gone. Each uses one thread of torch
    (`DataLoader` sees to that) and leaves an interrupt to its parent.

    Raises:
        ActivationError: when a worker dies.
    """
    # Read from a thread of its own: when a worker dies, a DataLoader of the main thread raises an error
    # wherever the program happens to be, in the middle of a forward pass for example.
    with ThreadPoolExecutor(1, thread_name_prefix="labeler-decode") as reader:
        stream: Any = reader.submit(_start, _Pieces(items, work), workers, ahead).result()
        try:
            while (message := reader.submit(_next, stream).result()) is not None:
                for result in message.unpack():
                    if isinstance(result, _Raised):
                        raise result.error
                    yield result
        finally:
            # Dropping the last reference does the same, but a traceback may hold one.
            reader.submit(stream._shutdown_workers).result()


def _start(pieces: _Pieces[Any, Any], workers: int, ahead: int) -> Iterator[_Message]:
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork beside threads, torch of fewer cores than workers; both are meant.
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
        warnings.filterwarnings("ignore", category=UserWarning, message=".*worker processes.*")
        loader = DataLoader(
            pieces,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=max(1, -(-ahead // (workers * _PIECE))),
            multiprocessing_context="fork",
            worker_init_fn=partial(_begin, os.getpid()),
            generator=torch.Generator(),  # else it draws from the program's own
        )
        return iter(loader)


def _next(stream: Iterator[_Message]) -> _Message | None:
    try:
        return next(stream, None)
    except RuntimeError as error:
        raise ActivationError(
            f"A process that decodes images ended too early ({_first_line(error)}), as a rule for want of "
            "memory; lower executor.workers, or set executor.decoding to threads."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")


def _begin(parent: int, worker: int) -> None:
    """A worker leaves interrupts to its parent and ends with it.

    torch's own watch over the parent begins after this: a worker whose parent is killed before would live on.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


@dataclass(frozen=True)
class _Raised:
    """An exception on its way from a worker, in place of a result."""

    error: Exception

    @classmethod
    def of(cls, error: Exception) -> _Raised:
        """`error`, or what can be said of it where it does not survive pickling."""
        error.add_note("".join(traceback.format_exception(error)).rstrip())
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # whatever the __reduce__ or __init__ of a foreign exception does
            return cls(RuntimeError(f"{type(error).__name__}: {error}"))
        return cls(error)


@dataclass(frozen=True)
class _Message:
    """Results of a few items: pickled, with the contents of arrays beside them in one block of memory."""

    pickled: bytes
    block: Tensor  # (bytes,) uint8, in shared memory once it was sent
    sizes: tuple[int, ...]

    @classmethod
    def pack(cls, results: Sequence[object]) -> _Message:
        buffers: list[pickle.PickleBuffer] = []
        pickled = _dumps(results, buffers)
        sizes = tuple(buffer.raw().nbytes for buffer in buffers)
        block = torch.empty(sum(map(_aligned, sizes)), dtype=torch.uint8)
        for buffer, place in zip(buffers, _places(block.numpy(), sizes), strict=True):
            place[:] = np.frombuffer(buffer.raw(), dtype=np.uint8)
        return cls(pickled, block, sizes)

    def unpack(self) -> list[Any]:
        """The results; their arrays are views of the block."""
        found: list[Any] = pickle.loads(self.pickled, buffers=_places(self.block.numpy(), self.sizes))
        return found


class _Pieces(Dataset[_Message], Generic[Item, Result]):
    """Piece i is the work of a few consecutive items, as far as the first that raises."""

    def __init__(self, items: Sequence[Item], work: Callable[[Item], Result]) -> None:
        self._items, self._work = items, work

    def __len__(self) -> int:
        return -(-len(self._items) // _PIECE)

    def __getitem__(self, piece: int) -> _Message:
        results: list[object] = []
        try:
            for item in self._items[piece * _PIECE : (piece + 1) * _PIECE]:
                results.append(self._work(item))  # noqa: PERF401 - what was made before an error counts
        except Exception as error:
            results.append(_Raised.of(error))
        return _Message.pack(results)


class _Pickler(pickle.Pickler):
    """Leaves the contents of tensors and images, like those of arrays, out of the stream."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, Tensor):
            return torch.from_numpy, (value.numpy(),)
        if isinstance(value, Image.Image):
            return _image, (np.asarray(value), value.info)
        return NotImplemented


def _image(pixels_hwc: NDArray[np.uint8], info: dict[str, Any]) -> Image.Image:
    image = Image.fromarray(pixels_hwc)
    image.info.update(info)
    return image


def _dumps(results: Sequence[object], buffers: list[pickle.PickleBuffer]) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(results)
    return stream.getvalue()


def _places(block: NDArray[np.uint8], sizes: Sequence[int]) -> list[NDArray[np.uint8]]:
    """The part of `block` for each buffer, one after the other."""
    starts = np.cumsum([0, *map(_aligned, sizes)]).tolist()
    return [block[start : start + size] for start, size in zip(starts, sizes, strict=False)]


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
