"""What a model's own preprocessing does to a picture: which part it keeps, and its mean and deviation.

Read from the transform object itself, so that no mean or crop is ever copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL.Image import Image

from labeler.errors import TargetError

Transform = Callable[[Image], Any]

# Steps that change neither the place of a pixel nor, beyond scaling to [0, 1], its value.
_PIXEL_STEPS = frozenset(
    {"ToTensor", "MaybeToTensor", "PILToTensor", "ToImage", "ToDtype", "ConvertImageDtype", "RGB"}
    | {"MaybeConvertMode", "_convert_to_rgb", "Identity"}
)


@dataclass(frozen=True)
class Step:
    """One geometric step. `size` is (h, w), for ``shorter`` the one length twice.

    ``shorter``: the shorter side to a length (torchvision Resize with one number). ``exact``: both sides.
    ``keep_ratio``: the mixture of shorter and longer side that timm calls ResizeKeepRatio, `longest` in
    [0, 1]. ``crop``: the centre, padded where the picture is smaller.
    """

    kind: Literal["shorter", "exact", "keep_ratio", "crop"]
    size: tuple[int, int]
    longest: float = 0.0


@dataclass(frozen=True)
class Preprocessing:
    """The geometry and the normalisation of a transform; `mean` and `std` are per channel, in [0, 1]."""

    steps: tuple[Step, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def view_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part (left, top, right, bottom), in pixels, of a width × height picture that is kept.

        It goes beyond the picture where the transform pads.
        """
        current_h, current_w = height, width
        left, top, right, bottom = 0.0, 0.0, float(width), float(height)
        for step in self.steps:
            if step.kind == "crop":
                scale_x, scale_y = (right - left) / current_w, (bottom - top) / current_h
                left += _crop_start(current_w, step.size[1]) * scale_x
                top += _crop_start(current_h, step.size[0]) * scale_y
                right, bottom = left + step.size[1] * scale_x, top + step.size[0] * scale_y
            current_h, current_w = _size_after(step, current_h, current_w)
        return left, top, right, bottom


def read_transform(transform: Transform, name: str) -> Preprocessing:
    """Understand a torchvision, timm or open_clip evaluation transform.

    Args:
        transform: a Compose, or torchvision's ImageClassification preset.
        name: of the target, for messages.

    Raises:
        TargetError: when it has a step that labeler does not know, or does not end in one fixed size.
    """
    steps: list[Step] = []
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    for part in _parts(transform):
        kind = getattr(part, "__name__", type(part).__name__)
        if kind == "Normalize":
            mean, std = _numbers(part.mean), _numbers(part.std)
        elif kind == "ImageClassification":
            steps += [_resize(part.resize_size), Step("crop", _pair(part.crop_size))]
            mean, std = _numbers(part.mean), _numbers(part.std)
        elif kind == "Resize" and getattr(part, "max_size", None) is None:
            steps.append(_resize(part.size))
        elif kind == "ResizeKeepRatio":
            steps.append(Step("keep_ratio", _pair(part.size), float(part.longest)))
        elif kind in ("CenterCrop", "CenterCropOrPad"):
            steps.append(Step("crop", _pair(part.size)))
        elif kind not in _PIXEL_STEPS:
            raise TargetError(
                f"The preprocessing of {name} has a step {kind} that labeler cannot follow; "
                "use Resize, CenterCrop, ToTensor and Normalize."
            )
    if not steps or steps[-1].kind not in ("exact", "crop"):
        raise TargetError(
            f"The preprocessing of {name} does not bring every image to one size; end it with CenterCrop."
        )
    return Preprocessing(tuple(steps), mean, std)


def _parts(transform: Any) -> Iterator[Any]:
    nested = getattr(transform, "transforms", None)
    if nested is None:
        yield transform
        return
    for part in nested:
        yield from _parts(part)


def _resize(size: int | Sequence[int]) -> Step:
    exact = not isinstance(size, int) and len(size) == 2
    return Step("exact" if exact else "shorter", _pair(size))


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    values = [size] if isinstance(size, int) else list(size)
    return int(values[0]), int(values[-1])


def _numbers(values: Any) -> tuple[float, ...]:
    # Floats from a float32 tensor are rounded back, so that 0.485 stays 0.485 in fingerprints.
    numbers = tuple(round(float(value), 7) for value in values)
    return numbers if len(numbers) == 3 else numbers * 3


def _size_after(step: Step, height: int, width: int) -> tuple[int, int]:
    if step.kind == "shorter":  # torchvision truncates the longer side
        length = step.size[0]
        if width <= height:
            return int(length * height / width), length
        return length, int(length * width / height)
    if step.kind == "keep_ratio":
        ratios = height / step.size[0], width / step.size[1]
        ratio = max(ratios) * step.longest + min(ratios) * (1.0 - step.longest)
        return round(height / ratio), round(width / ratio)
    return step.size


def _crop_start(length: int, crop: int) -> int:
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)
