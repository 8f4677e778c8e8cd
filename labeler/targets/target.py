"""`ModuleTarget`: any torch module as a `Target`."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence

import torch
from PIL import Image as PILImage
from PIL.Image import Image
from torch import nn

from labeler.errors import LabelerError, TargetError, UnknownNameError
from labeler.storage import canonical
from labeler.targets.hooks import Trace, capture, trace, weighted_before
from labeler.targets.layouts import TRACE_BATCH, Layout, find_layout, to_maps
from labeler.targets.preprocessing import Transform, read_transform


class ModuleTarget:
    """A torch network as the target under study; see `labeler.seams.Target`.

    The network is taken over: moved to `device`, made float32, put in evaluation mode, without gradients for
    its parameters. `maps` may be called from several threads; calls wait for each other.

    Args:
        name: how the run speaks of it.
        architecture: identifies the network without its weights; goes into the fingerprint.
        network: takes images ``(b, 3, h, w)``.
        transform: its own evaluation preprocessing.
        layers: module paths, in any order.
        device: where it runs.

    Raises:
        UnknownNameError: for a layer that is not a module of the network.
        TargetError: when a layer's output or the preprocessing cannot be understood.
    """

    def __init__(
        self,
        name: str,
        architecture: str,
        network: nn.Module,
        transform: Transform,
        layers: Sequence[str],
        device: torch.device,
    ) -> None:
        known = {path for path, _ in network.named_modules() if path}
        for layer in layers:
            if layer not in known:
                raise UnknownNameError("layer", layer, known)
        self.name = name
        self.device = device
        self._transform = transform
        self._preprocessing = read_transform(transform, name)
        self._network = network.float().eval().requires_grad_(False)
        self._memory_format = _memory_format(network, device)
        network.to(device).to(memory_format=self._memory_format)
        self._lock = threading.Lock()
        self._mean = torch.tensor(self._preprocessing.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(self._preprocessing.std, device=device).view(1, 3, 1, 1)
        height, width = self.prepare(PILImage.new("RGB", (256, 256))).shape[1:]
        self.input_size = (int(height), int(width))
        self._traces, self._layouts = self._examine(layers)
        self.layers = tuple(self._traces)
        self.fingerprint = self._fingerprint(architecture)

    def unit_count(self, layer: str) -> int:
        """The number of units of `layer`.

        Raises:
            UnknownNameError: when `layer` is not one of `layers`.
        """
        return self._layout(layer).units

    def prepare(self, image: Image) -> torch.Tensor:
        """The model's own preprocessing of an image: float32 ``(3, h, w)``, normalised, on the CPU."""
        prepared: torch.Tensor = self._transform(image.convert("RGB"))
        return prepared.float()

    def normalise(self, images_bchw: torch.Tensor) -> torch.Tensor:
        """Pictures in [0, 1] of any size to the model's input range, differentiable: ``(b, 3, h, w)``."""
        return (images_bchw - self._mean) / self._std

    def view_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part (left, top, right, bottom), in pixels, of a width × height image that `prepare` keeps.

        It goes beyond the image where the model's preprocessing pads.
        """
        return self._preprocessing.view_box(width, height)

    def earlier(self, layer: str, count: int) -> tuple[str, ...]:
        """The last `count` convolutions or linear maps before the one that `layer` comes from, in order.

        `maps` takes their paths as it takes layers. Those whose output is no map are left out.

        Raises:
            UnknownNameError: when `layer` is not one of `layers`.
        """
        self._layout(layer)
        blank = torch.zeros(TRACE_BATCH, 3, *self.input_size, device=self.device)
        ran = weighted_before(self._network, blank.contiguous(memory_format=self._memory_format), layer)
        found: list[str] = []
        for path in reversed(ran):
            if len(found) < count and self._readable(path):
                found.append(path)
        return tuple(reversed(found))

    def _readable(self, path: str) -> bool:
        if path not in self._layouts:
            try:
                traces, layouts = self._examine([path])
            except TargetError:
                return False
            with self._lock:
                self._traces |= traces
                self._layouts |= layouts
        return True

    def maps(self, images_bchw: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Activation maps ``(b, u, h, w)``, float32, of `layers`; the pass stops after the last of them.

        A module that runs several times counts with its last output. Maps may be views with any strides.

        Raises:
            UnknownNameError: when a layer is not one of `layers`.
            TargetError: when images of this size give no maps.
        """
        layouts = {layer: self._layout(layer) for layer in layers}
        if not layouts:
            return {}
        calls = {layer: self._traces[layer].calls for layer in layouts}
        patches = {layout.patches for layout in layouts.values() if layout.patches}
        calls.update({path: 1 for path in patches if path not in calls})
        mutated = [layer for layer in layouts if self._traces[layer].mutated]
        images_bchw = images_bchw.to(device=self.device).contiguous(memory_format=self._memory_format)
        with self._lock:
            raw = capture(self._network, images_bchw, calls, mutated)
        return {
            layer: to_maps(raw[layer], layout, layer, raw.get(layout.patches))
            for layer, layout in layouts.items()
        }

    def _layout(self, layer: str) -> Layout:
        if layer not in self._layouts:
            raise UnknownNameError("layer", layer, self.layers)
        return self._layouts[layer]

    def _examine(self, layers: Sequence[str]) -> tuple[dict[str, Trace], dict[str, Layout]]:
        """One pass over blank images: the layers in forward order, and how to read each."""
        traces = {found.path: found for found in self._trace(self.input_size, layers)}

        def wider(layer: str) -> tuple[int, ...] | None:
            height, width = self.input_size
            try:
                return self._trace((height, 2 * width), [layer])[0].shape
            except (LabelerError, RuntimeError, AssertionError, ValueError):
                return None  # the network takes one size only

        layouts = {
            layer: find_layout(found, self.input_size, lambda layer=layer: wider(layer))  # type: ignore[misc]
            for layer, found in traces.items()
        }
        return traces, layouts

    def _trace(self, size: tuple[int, int], layers: Sequence[str]) -> list[Trace]:
        blank = torch.zeros(TRACE_BATCH, 3, *size, device=self.device)
        return trace(self._network, blank.contiguous(memory_format=self._memory_format), layers)

    def _fingerprint(self, architecture: str) -> str:
        """sha256 over architecture, preprocessing, layers and the bytes of every tensor."""
        preprocessing = self._preprocessing
        steps = [[step.kind, *step.size, step.longest] for step in preprocessing.steps]
        digest = hashlib.sha256(
            canonical([architecture, self.layers, steps, preprocessing.mean, preprocessing.std])
        )
        for name, tensor in self._network.state_dict().items():
            digest.update(canonical([name, str(tensor.dtype), list(tensor.shape)]))
            # contiguous() first: the bytes must not depend on the memory format.
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().data)
        return digest.hexdigest()


def _memory_format(network: nn.Module, device: torch.device) -> torch.memory_format:
    """channels_last for convolutional networks on the CPU, where it is faster."""
    kinds = [type(module) for module in network.modules()]
    convolutional = kinds.count(nn.Conv2d) > kinds.count(nn.Linear)
    return torch.channels_last if device.type == "cpu" and convolutional else torch.contiguous_format
