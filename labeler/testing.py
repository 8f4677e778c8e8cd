"""Test doubles for the seams: tiny, deterministic, with known answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labeler.errors import UnreadableImageError
from labeler.seams import Annotation, Booking, Call, Concept, Evidence, ProbeImage, Proposed, Spent
from labeler.storage import fingerprint

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

    from labeler.targets import ModuleTarget


def toy_target(seed: int = 0) -> ModuleTarget:
    """A two-layer convolutional network on 32 × 32 pictures, on the CPU.

    ``conv1`` has 4 units at 32 × 32: unit 0 is the red channel, 1 the green, 2 the blue (each in [-1, 1]),
    3 is dead (0 everywhere). ``conv2`` has 6 units at 16 × 16: units 0 to 2 are drawn from `seed`, 3 is the
    negative of the mean of red over 2 × 2 pixels, minus 2, hence only negative, 4 is dead, 5 is drawn.
    """
    import torch
    from torch import nn
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    from labeler.targets import ModuleTarget

    class Toy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 1)
            self.conv2 = nn.Conv2d(4, 6, 2, stride=2)

        def forward(self, images_bchw: torch.Tensor) -> torch.Tensor:
            return self.conv2(self.conv1(images_bchw))  # type: ignore[no-any-return]

    network = Toy()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        network.conv1.weight.zero_()
        network.conv1.weight[:3, :, 0, 0] = torch.eye(3)
        network.conv1.bias.zero_()  # type: ignore[union-attr]
        network.conv2.weight.copy_(torch.randn(6, 4, 2, 2, generator=generator))
        network.conv2.weight[3:5] = 0
        network.conv2.weight[3, 0] = -0.25
        network.conv2.bias.copy_(torch.tensor([0.0, 0.0, 0.0, -2.0, 0.0, 0.0]))  # type: ignore[union-attr]
    transform = Compose([Resize(32), CenterCrop(32), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    return ModuleTarget("toy", "toy", network, transform, ("conv1", "conv2"), torch.device("cpu"))


class FakeProbe:
    """A probe dataset in memory.

    Args:
        pictures: uint8 ``(h, w, 3)`` each; None is an image that cannot be decoded.
        concepts: of the annotations.
        annotations: one for each picture, or None where it has none; empty for none at all.
    """

    def __init__(
        self,
        pictures: Sequence[NDArray[np.uint8] | None],
        concepts: Sequence[Concept] = (),
        annotations: Sequence[Annotation | None] = (),
        name: str = "fake",
    ) -> None:
        self.name = name
        self.concepts = tuple(concepts)
        self._pictures = tuple(pictures)
        self._annotations = tuple(annotations) or (None,) * len(self._pictures)
        hashes = [
            fingerprint(index, None if picture is None else picture.tobytes().hex())
            for index, picture in enumerate(self._pictures)
        ]
        self.images = tuple(ProbeImage(i, f"{name}/{i:04d}.png", sha, sha) for i, sha in enumerate(hashes))
        masks = [a and (a.concepts.tolist(), a.masks.tobytes().hex()) for a in self._annotations]
        self.fingerprint = fingerprint("fake", name, [c.name for c in self.concepts], hashes, masks)

    def image(self, image_id: int) -> Image:
        """The picture as an image."""
        from PIL import Image

        picture = self._pictures[image_id]
        if picture is None:
            raise UnreadableImageError(f"{self.images[image_id].path} is not a readable image: it is None.")
        return Image.fromarray(picture)

    def annotation(self, image_id: int, image: Image) -> Annotation | None:
        """The masks that were given."""
        return self._annotations[image_id]


def fake_probe(count: int = 24, seed: int = 0) -> FakeProbe:
    """Grey 48 × 48 pictures, each with a red, green or blue rectangle (image id modulo 3) and its mask."""
    import numpy as np

    concepts = [Concept(name, "colour") for name in ("red", "green", "blue")]
    pictures, annotations = [], []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        top, left = rng.integers(0, 24, 2)
        height, width = rng.integers(12, 24, 2)
        picture_hwc = rng.integers(110, 140, (48, 48, 3)).astype(np.uint8)
        mask_hw = np.zeros((48, 48), dtype=np.bool_)
        mask_hw[top : top + height, left : left + width] = True
        picture_hwc[mask_hw] = np.eye(3, dtype=np.uint8)[index % 3] * 230
        pictures.append(picture_hwc)
        annotations.append(Annotation(np.array([index % 3]), mask_hw[None], frozenset({"colour"})))
    return FakeProbe(pictures, concepts, annotations)


class ScriptedProposer:
    """A proposer that reads its answers from a script, and keeps the evidence that it was shown in `seen`.

    Args:
        answers: by unit (``"layer:3"``), what it returns in rounds 1, 2, …; after these it abstains.
    """

    name = "scripted"
    needs_sheet = False

    def __init__(self, answers: Mapping[str, Sequence[Proposed]]) -> None:
        self._answers = {unit: tuple(script) for unit, script in answers.items()}
        self.seen: list[Evidence] = []
        script = [(unit, [repr(answer) for answer in self._answers[unit]]) for unit in sorted(self._answers)]
        self.fingerprint = fingerprint(self.name, script)

    def propose(self, evidence: Evidence) -> Proposed:
        """The scripted answer for this unit and round."""
        self.seen.append(evidence)
        script = self._answers.get(str(evidence.unit), ())
        return script[evidence.round - 1] if evidence.round <= len(script) else Proposed()


class MemoryLedger:
    """A `CallLedger` in memory; rows are in `calls`, answers in `answers`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: dict[str, str] = {}
        self.notes: dict[str, str] = {}

    def answer(self, key: str) -> str | None:
        """The stored answer."""
        return self.answers.get(key)

    def book(self, bookings: Sequence[Booking]) -> None:
        """Keep all of it."""
        for booking in bookings:
            self.answers.update(booking.answers)
            for key in booking.forget:
                self.answers.pop(key, None)
            self.calls += booking.calls

    def spent(self) -> Spent:
        """Sums over the rows."""
        maybe = [call for call in self.calls if call.billing == "maybe"]
        reported = [call for call in self.calls if call.billing == "reported"]
        ratios = [(call.input_tokens or 0) / call.expected_input for call in reported if call.expected_input]
        return Spent(
            sum(call.input_tokens or 0 for call in reported) + sum(call.expected_input for call in maybe),
            sum(call.output_tokens or 0 for call in reported) + sum(call.expected_output for call in maybe),
            len(maybe),
            max(ratios, default=None),
        )

    def note(self, key: str) -> str | None:
        """The note."""
        return self.notes.get(key)

    def put_note(self, key: str, value: str | None) -> None:
        """Keep the note, or take it away."""
        self.notes.pop(key, None)
        if value is not None:
            self.notes[key] = value


class FakeEncoder:
    """An image-text model that knows the eleven basic colour names, from the pixels.

    An image's embedding is the share of its pixels nearest to each colour; a text's, equal parts of the
    colours that it names. A text without one is not covered, and lies equally far from all.
    """

    colours: Mapping[str, tuple[int, int, int]] = {
        "black": (0, 0, 0), "blue": (0, 0, 255), "brown": (120, 70, 20), "gray": (128, 128, 128),
        "green": (0, 160, 0), "orange": (255, 140, 0), "pink": (255, 160, 190), "purple": (130, 0, 150),
        "red": (230, 0, 0), "white": (255, 255, 255), "yellow": (250, 240, 0),
    }  # fmt: skip

    name = "fake"
    dim = 11
    vocabulary = tuple(colours)
    fingerprint = fingerprint("fake-encoder", 1)

    def prepare(self, image: Image) -> torch.Tensor:
        """The image at 32 × 32 pixels, float32 ``(3, 32, 32)`` in [0, 1]."""
        import numpy as np
        import torch

        pixels_hwc = np.asarray(image.convert("RGB").resize((32, 32)), dtype=np.float32) / 255
        return torch.from_numpy(pixels_hwc).permute(2, 0, 1).contiguous()

    def embed_images(self, images_bchw: torch.Tensor) -> NDArray[np.float32]:
        """Unit-norm embeddings ``(b, 11)`` of prepared images."""
        import numpy as np
        import torch

        colours_kc = torch.tensor(list(self.colours.values()), dtype=torch.float32) / 255
        pixels_bpc = images_bchw.float().flatten(2).transpose(1, 2)
        nearest_bp = torch.cdist(pixels_bpc, colours_kc).argmin(dim=2)
        shares_bk = torch.nn.functional.one_hot(nearest_bp, self.dim).float().mean(dim=1)
        return np.asarray(torch.nn.functional.normalize(shares_bk, dim=1).numpy())

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit-norm embeddings ``(t, 11)``."""
        import numpy as np

        named_tk = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            named_tk[row] = [name in text.lower().split() for name in self.colours]
        named_tk[~named_tk.any(axis=1)] = 1
        return np.asarray(named_tk / np.linalg.norm(named_tk, axis=1, keepdims=True), dtype=np.float32)

    def covers(self, text: str) -> bool:
        """Whether `text` names a colour."""
        return any(name in text.lower().split() for name in self.colours)
