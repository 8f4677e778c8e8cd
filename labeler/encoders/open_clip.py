"""Image-text models of open_clip: by tag, from a local file, or the small ones that know rendered scenes."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.encoders.memo import TextMemo, unit_norm
from labeler.errors import EncoderError, UnknownNameError
from labeler.storage import fingerprint
from labeler.weight_files import read_weights

if TYPE_CHECKING:
    from PIL.Image import Image

TEMPLATES = ("{}", "a photo of {}", "a photo of a {}", "a picture of {}")
"""A text's embedding is the mean over these (Radford et al. 2021, sec. 3.1.4: prompt ensembling)."""
BLOCK = 16
"""Prompts per forward pass of the text tower; always full, so that company changes no embedding."""
FILES = (".safetensors", ".pt", ".pth", ".bin")


class OpenClipEncoder:
    """Implements `labeler.seams.Encoder` with an open_clip model.

    Args:
        name: what the catalogue calls it.
        model: an open_clip model with `encode_image` and `encode_text`.
        prepare_image: its preprocessing, image to float32 ``(3, h, w)``.
        tokenizer: texts to token ids ``(t, context)``.
        device: a torch device.
        vocabulary: words that it is known to know, when they are few.
        phrases: when given, a text is covered only if it contains one of them as whole words.
    """

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        prepare_image: Callable[[Image], torch.Tensor],
        tokenizer: Callable[[list[str]], torch.Tensor],
        device: str = "cpu",
        *,
        vocabulary: tuple[str, ...] = (),
        phrases: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.vocabulary = vocabulary
        self._phrases = None if phrases is None else {_words(phrase) for phrase in phrases}
        self._model: Any = model.eval().requires_grad_(False).to(device)
        self._prepare_image = prepare_image
        self._tokenizer = tokenizer
        self._device = device
        self.dim = int(self._encode(["a"]).shape[1])
        self._memo = TextMemo(self._embed, self.dim)
        self.fingerprint = fingerprint(
            "open_clip", name, weights_sha256(model), repr(prepare_image), list(TEMPLATES)
        )

    def prepare(self, image: Image) -> torch.Tensor:
        """The model's own preprocessing of an RGB image: float32 ``(3, h, w)``."""
        return self._prepare_image(image)

    @torch.inference_mode()
    def embed_images(self, images_bchw: torch.Tensor) -> NDArray[np.float32]:
        """Unit-norm embeddings ``(b, dim)`` of prepared images."""
        return unit_norm(self._model.encode_image(images_bchw.to(self._device)).float().cpu().numpy())

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit-norm embeddings ``(t, dim)``, each the mean over `TEMPLATES`."""
        return self._memo(texts)

    def covers(self, text: str) -> bool:
        """Whether the model can know `text`: always, unless it was trained on a few words only."""
        if self._phrases is None:
            return True
        words = _words(text)
        return any(
            words[start : start + len(phrase)] == phrase
            for phrase in self._phrases
            for start in range(len(words) - len(phrase) + 1)
        )

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        prompts = [template.format(text) for text in texts for template in TEMPLATES]
        rows_pd = np.concatenate(
            [self._encode(prompts[start : start + BLOCK]) for start in range(0, len(prompts), BLOCK)]
        )
        means_td = unit_norm(rows_pd).reshape(len(texts), len(TEMPLATES), -1).mean(axis=1)
        return unit_norm(means_td)

    @torch.inference_mode()
    def _encode(self, prompts: list[str]) -> NDArray[np.float32]:
        padded = prompts + [""] * (BLOCK - len(prompts))
        rows = self._model.encode_text(self._tokenizer(padded).to(self._device))
        return np.asarray(rows[: len(prompts)].float().cpu().numpy())


def load_open_clip(spec: str, device: str = "cpu") -> OpenClipEncoder:
    """The encoder of ``NAME@TAG`` (from open_clip's hub or its cache) or ``NAME@FILE``.

    A file is read as plain tensors. Its preprocessing is that of the published weights of NAME where they all
    agree, else open_clip's default. OpenAI's own weights need the NAME that ends in ``-quickgelu``.

    Raises:
        UnknownNameError: for a NAME or TAG that open_clip does not have.
        EncoderError: when the weights cannot be downloaded, read, or do not fit.
    """
    import open_clip

    name, at, weights = spec.partition("@")
    if name not in open_clip.list_models():
        raise UnknownNameError("open_clip model", name, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights.endswith(FILES):
        model, prepare = _from_file(name, Path(weights).expanduser(), tags)
    elif not at or weights not in tags:
        raise UnknownNameError(f"weights tag of {name}", weights, tags)
    else:
        model, prepare = _from_hub(name, weights)
    shown = weights if weights in tags else Path(weights).name
    return OpenClipEncoder(f"open_clip:{name}@{shown}", model, prepare, _tokenizer(name), device)


def load_scenes_clip(name: str, device: str = "cpu") -> OpenClipEncoder:
    """A small model that knows the concepts of ``builtin:scenes`` and no others.

    Args:
        name: ``scenes-clip`` or ``scenes-clip-judge``.
        device: a torch device.
    """
    import open_clip

    from labeler.builtin.scenes import CONCEPTS
    from labeler.builtin.weights import SCENES_CLIP_WORDS, scenes_clip_files

    config, weights = scenes_clip_files(name)
    if name not in open_clip.list_models():
        open_clip.add_model_config(config)
    model, prepare = _from_file(name, weights, [])
    vocabulary = tuple(concept.name for concept in CONCEPTS)
    return OpenClipEncoder(
        f"builtin:{name}", model, prepare, _tokenizer(name), device,
        vocabulary=vocabulary, phrases=tuple(SCENES_CLIP_WORDS),
    )  # fmt: skip


def weights_sha256(model: torch.nn.Module) -> str:
    """sha256 over names, shapes and bytes of a model's tensors, in order."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _from_file(name: str, path: Path, tags: Sequence[str]) -> tuple[torch.nn.Module, Any]:
    import open_clip
    from open_clip.convert import convert_state_dict

    tensors = read_weights(path, EncoderError)
    logging.disable(logging.WARNING)  # open_clip warns of the random weights that are replaced below
    try:
        model, _, prepare = open_clip.create_model_and_transforms(
            name, load_weights=False, pretrained_text=False, **_published_preprocessing(name, tags)
        )
    finally:
        logging.disable(logging.NOTSET)
    try:
        model.load_state_dict(convert_state_dict(model, tensors))
    except (RuntimeError, KeyError):
        raise EncoderError(
            f"{path} does not fit open_clip's {name}; name the model that it was saved from."
        ) from None
    return model, prepare


def _published_preprocessing(name: str, tags: Sequence[str]) -> dict[str, Any]:
    import open_clip

    keys = {
        "mean": "image_mean",
        "std": "image_std",
        "interpolation": "image_interpolation",
        "resize_mode": "image_resize_mode",
    }
    published = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    same = {key: {str(entry.get(key)) for entry in published} for key in keys}
    if not published or any(len(values) > 1 for values in same.values()):
        return {}
    return {keys[key]: published[0][key] for key in keys if published[0].get(key) is not None}


def _from_hub(name: str, tag: str) -> tuple[torch.nn.Module, Any]:
    import open_clip

    try:
        model, _, prepare = open_clip.create_model_and_transforms(name, pretrained=tag)
    except (OSError, RuntimeError):  # open_clip folds every download error into RuntimeError
        raise EncoderError(
            f"The weights {tag} of {name} could not be downloaded; "
            f"give a local file instead: open_clip:{name}@FILE.safetensors."
        ) from None
    return model, prepare


def _tokenizer(name: str) -> Callable[[list[str]], torch.Tensor]:
    import open_clip

    try:
        return open_clip.get_tokenizer(name)  # type: ignore[no-any-return]
    except (OSError, RuntimeError):
        raise EncoderError(
            f"The tokenizer of {name} could not be downloaded; choose another model, like ViT-B-32."
        ) from None


def _words(text: str) -> tuple[str, ...]:
    words = re.findall(r"[^\W_]+", text.lower())
    return tuple(re.sub(r"(?<=\w{3})(?<!s)s$", "", word) for word in words)  # plurals count
