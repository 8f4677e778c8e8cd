"""One pass over the probe: every layer's statistics and the encoders' embeddings from one decoding."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from labeler.activations.loader import batches, forward, prefetch, stack_padded
from labeler.activations.processes import Decoding, by_processes
from labeler.activations.quantiles import RunningQuantile
from labeler.activations.rows import FileRows, LateRows, MemoryRows, Rows
from labeler.activations.shards import LayerState, PassShard, merge_shards
from labeler.activations.store import Activations
from labeler.activations.topk import RunningTopK
from labeler.config import ActivationsConfig
from labeler.errors import ActivationError, UnreadableImageError
from labeler.seams import Encoder, ProbeDataset, Progress, Target
from labeler.storage import fingerprint, hash_key

Measure = Callable[[int, Image], NDArray[np.float32]]
MOST_NONFINITE = 200_000  # more pairs than this is a broken network or precision, not a few bad inputs


def run_pass(
    target: Target,
    probe: ProbeDataset,
    encoders: Mapping[str, Encoder],
    settings: ActivationsConfig,
    *,
    measure: Measure | None = None,
    workers: int = 2,
    decoding: Decoding = "auto",
    seed: int = 0,
    progress: Progress | None = None,
    directory: Path | None = None,
) -> Activations:
    """Show every image of `probe` to `target` once.

    Args:
        target: the network; all its layers are recorded.
        probe: the images. One that raises `UnreadableImageError` keeps its id and counts in nothing.
        encoders: image-text models by name; each embeds the same decoded images.
        settings: block size, k, tail, precision and memory budget.
        measure: a fixed number of floats per image, e.g. the areas of annotated concepts; called by workers.
        workers: decoding threads or processes; 0 decodes in the caller's thread.
        decoding: which of the two (`by_processes`); the result is the same.
        seed: chooses the indexed images when the dense matrices exceed the budget.
        progress: told after every block.
        directory: where the tables with a row for each image go as they come, so that memory does not grow
            with the number of images; `Activations.save` then completes this directory. None: in memory.

    Raises:
        ActivationError: when no image can be read, or more than `MOST_NONFINITE` activations are not finite.
    """
    shard = run_shard(
        target, probe, encoders, settings,
        measure=measure, workers=workers, decoding=decoding, seed=seed, progress=progress,
        directory=directory,
    )  # fmt: skip
    return merge_shards([shard])


def run_shard(
    target: Target,
    probe: ProbeDataset,
    encoders: Mapping[str, Encoder],
    settings: ActivationsConfig,
    *,
    shard: tuple[int, int] = (0, 1),
    measure: Measure | None = None,
    workers: int = 2,
    decoding: Decoding = "auto",
    seed: int = 0,
    progress: Progress | None = None,
    directory: Path | None = None,
) -> PassShard:
    """Part i of n of the pass, ``shard=(i, n)``: a run of whole blocks, so that `merge_shards` of all parts
    equals `run_pass`. Other arguments are those of `run_pass`.
    """
    number, count = shard
    if not 0 <= number < count:
        raise ActivationError(f"Shard {number} of {count} does not exist: number them from 0 to {count - 1}.")
    size, total = settings.batch_size, len(probe.images)
    blocks = -(-total // size)
    first, last = (min(total, size * (blocks * part // count)) for part in (number, number + 1))
    indexed = indexed_subset(target, total, settings.memory_gb, seed)
    to_index = indexed[(indexed >= first) & (indexed < last)]
    recorder = _Recorder.start(target, encoders, settings, to_index, last - first, directory)
    reader = _Reader(target, probe, encoders, measure)
    processes = by_processes(decoding, target.device, last - first)
    stream = prefetch(range(first, last), reader.read, workers=workers, ahead=2 * size, processes=processes)
    for done, block in enumerate(batches(stream, size)):
        recorder.record(done * size, first + done * size, block)
        if progress is not None:
            progress(min(last, first + (done + 1) * size) - first, last - first)
    plan = fingerprint(
        target.fingerprint,
        probe.fingerprint,
        settings.model_dump(),
        {name: encoder.fingerprint for name, encoder in encoders.items()},
        measure is not None,
        seed,
    )
    return recorder.finish(plan, total, first)


def indexed_subset(target: Target, images: int, memory_gb: float, seed: int) -> NDArray[np.int64]:
    """Ids of the images that the dense matrices hold, ascending: all, or as many as fit, chosen by hash.

    The budget (10^9 bytes each) covers both float32 matrices of all layers.
    """
    bytes_per_image = 2 * 4 * sum(target.unit_count(layer) for layer in target.layers)
    room = max(1, int(memory_gb * 1e9 / bytes_per_image))
    if room >= images:
        return np.arange(images)
    chosen = heapq.nsmallest(room, range(images), key=lambda image_id: hash_key(image_id, seed, "index"))
    return np.sort(np.array(chosen, dtype=np.int64))


@dataclass(frozen=True)
class _Decoded:
    """One image ready for the networks."""

    prepared: Tensor  # (3, h, w)
    encoded: dict[str, Tensor]  # by encoder, (3, h, w)
    area: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Reader:
    """Decodes in the loader's threads or processes. None stands for an unreadable image."""

    target: Target
    probe: ProbeDataset
    encoders: Mapping[str, Encoder]
    measure: Measure | None

    def read(self, image_id: int) -> _Decoded | None:
        try:
            image = self.probe.image(image_id)
        except UnreadableImageError:
            return None
        return _Decoded(
            self.target.prepare(image),
            {name: encoder.prepare(image) for name, encoder in self.encoders.items()},
            None if self.measure is None else np.asarray(self.measure(image_id, image), dtype=np.float32),
        )


@dataclass
class _Running:
    """What one layer accumulates."""

    topk: RunningTopK
    quantile: RunningQuantile
    minimum: Tensor  # (u,)
    maximum: Tensor  # (u,)
    maxima: Rows
    means: Rows

    @classmethod
    def start(cls, units: int, k: int, device: torch.device, table: Callable[[str, int], Rows]) -> _Running:
        return cls(
            topk=RunningTopK(units, k, device),
            quantile=RunningQuantile(units, device),
            minimum=torch.full((units,), torch.inf, device=device),
            maximum=torch.full((units,), -torch.inf, device=device),
            maxima=table("maxima", units),
            means=table("means", units),
        )

    def finish(self) -> LayerState:
        return LayerState(
            self.topk, self.quantile, self.maxima.finish(), self.means.finish(), self.minimum, self.maximum
        )


@dataclass
class _Recorder:
    """The state of the pass."""

    target: Target
    encoders: Mapping[str, Encoder]
    settings: ActivationsConfig
    to_index: NDArray[np.int64]
    layers: dict[str, _Running]
    embeddings: dict[str, Rows]
    areas: LateRows
    readable: NDArray[np.bool_]  # (n,)
    indexed: NDArray[np.bool_]  # (m,) of `to_index`, those that could be read
    nonfinite: list[tuple[str, int, int]] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        target: Target,
        encoders: Mapping[str, Encoder],
        settings: ActivationsConfig,
        to_index: NDArray[np.int64],
        images: int,
        directory: Path | None,
    ) -> _Recorder:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        table = partial(_table, directory)  # named as `PassShard.save` and `Activations.save` name them
        layers = {
            layer: _Running.start(
                target.unit_count(layer),
                settings.top_k,
                target.device,
                partial(table, f"layer-{number:03d}-"),
            )
            for number, layer in enumerate(target.layers)
        }
        embeddings = {
            name: table("embeddings-", f"{number:03d}", encoder.dim)
            for number, (name, encoder) in enumerate(encoders.items())
        }
        return cls(
            target, encoders, settings, to_index, layers, embeddings, LateRows(partial(table, "", "areas")),
            np.zeros(images, dtype=bool), np.zeros(len(to_index), dtype=bool),
        )  # fmt: skip

    def record(self, place: int, first_id: int, block: Sequence[_Decoded | None]) -> None:
        """Take in the images first_id, first_id + 1, ..., the first of which is number `place` here."""
        good = [slot for slot, image in enumerate(block) if image is not None]
        self.readable[[place + slot for slot in good]] = True
        self.areas.append([None if image is None else image.area for image in block])
        self._embed(block, good)
        if not good:
            return
        prepared = [None if image is None else image.prepared for image in block]
        shape = block[good[0]].prepared.shape  # type: ignore[union-attr]
        images_bchw = stack_padded(prepared, self.settings.batch_size, shape, pinned=self._pinned)
        maps = forward(self.target, images_bchw, self.target.layers, self.settings.precision)
        ids_b = torch.tensor([first_id + slot for slot in good])
        slots = self._slots_to_index(ids_b.numpy())
        for layer in self.target.layers:
            maps_buhw = maps.pop(layer)
            if len(good) < len(maps_buhw):
                maps_buhw = maps_buhw[torch.tensor(good, device=maps_buhw.device)]
            self._reduce(layer, maps_buhw, ids_b, slots)

    def _slots_to_index(self, ids_b: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions in `ids_b` whose images go into the dense matrices."""
        begin, end = np.searchsorted(self.to_index, (ids_b[0], ids_b[-1] + 1))
        wanted = self.to_index[begin:end]
        self.indexed[begin:end] = np.isin(wanted, ids_b)
        return np.flatnonzero(np.isin(ids_b, wanted))

    def _reduce(self, layer: str, maps_buhw: Tensor, ids_b: Tensor, slots: NDArray[np.int64]) -> None:
        state = self.layers[layer]
        maxima_bu, means_bu, broken_bu = pool(maps_buhw)
        if broken_bu is not None:
            maps_buhw = maps_buhw.masked_fill(broken_bu[:, :, None, None], torch.nan)
            images, units = (index.tolist() for index in broken_bu.nonzero(as_tuple=True))
            self._report(
                [(layer, unit, int(ids_b[image])) for image, unit in zip(images, units, strict=True)]
            )
        state.topk.add(maxima_bu, ids_b)
        state.quantile.add(maps_buhw)
        state.minimum.copy_(torch.minimum(state.minimum, _without_nan(maxima_bu, torch.inf).amin(0)))
        state.maximum.copy_(torch.maximum(state.maximum, _without_nan(maxima_bu, -torch.inf).amax(0)))
        state.maxima.append(maxima_bu.cpu().numpy()[slots])
        state.means.append(means_bu.cpu().numpy()[slots])

    def _report(self, pairs: list[tuple[str, int, int]]) -> None:
        self.nonfinite.extend(pairs)
        if len(self.nonfinite) > MOST_NONFINITE:
            layer, unit, image_id = pairs[0]
            raise ActivationError(
                f"More than {MOST_NONFINITE} activations are NaN or infinite, for example {layer}:{unit} on "
                f"image {image_id}: check the weights, or set activations.precision to float32."
            )

    def _embed(self, block: Sequence[_Decoded | None], good: list[int]) -> None:
        for name, encoder in self.encoders.items():
            embeddings_bd = np.zeros((len(block), encoder.dim), dtype=np.float32)
            if good:
                prepared = [None if image is None else image.encoded[name] for image in block]
                shape = block[good[0]].encoded[name].shape  # type: ignore[union-attr]
                padded = stack_padded(prepared, self.settings.batch_size, shape, pinned=self._pinned)
                embeddings_bd[good] = encoder.embed_images(padded)[good]
            self.embeddings[name].append(embeddings_bd)

    @property
    def _pinned(self) -> bool:
        return self.target.device.type == "cuda"

    def finish(self, plan: str, total: int, first: int) -> PassShard:
        layers = {name: state.finish() for name, state in self.layers.items()}
        return PassShard(
            plan=plan,
            tail=self.settings.tail,
            total=total,
            first=first,
            readable=self.readable,
            indexed_ids=self.to_index[self.indexed],
            layers=layers,
            embeddings={name: rows.finish() for name, rows in self.embeddings.items()},
            areas=self.areas.finish(),
            nonfinite=tuple(self.nonfinite),
        )


def pool(maps_buhw: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Spatial maxima and means ``(b, u)``, and which maps hold NaN or infinity ``(b, u)``, None if none does.

    The pooled values of such maps are NaN.
    """
    flat_bun = maps_buhw.flatten(2)
    maxima_bu, means_bu = flat_bun.amax(2), flat_bun.mean(2)
    # A NaN or an infinity always shows in the mean, which costs b × u tests instead of b × u × h × w.
    suspect_bu = ~means_bu.isfinite()
    if not bool(suspect_bu.any()):
        return maxima_bu, means_bu, None
    broken_bu = ~flat_bun.isfinite().all(2)
    means_bu = means_bu.where(~suspect_bu, flat_bun.mean(2, dtype=torch.float64).to(torch.float32))
    if not bool(broken_bu.any()):  # only the sum overflowed
        return maxima_bu, means_bu, None
    return maxima_bu.masked_fill(broken_bu, torch.nan), means_bu.masked_fill(broken_bu, torch.nan), broken_bu


def _without_nan(values: Tensor, instead: float) -> Tensor:
    return values.masked_fill(values.isnan(), instead)


def _table(directory: Path | None, prefix: str, name: str, width: int) -> Rows:
    return MemoryRows(width) if directory is None else FileRows(directory / f"{prefix}{name}.npy", width)
