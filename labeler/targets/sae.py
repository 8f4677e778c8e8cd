"""Sparse autoencoders: from a safetensors file to latents that are units like any others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch.nn import functional

from labeler.errors import TargetError

Activation = Literal["relu", "topk", "jumprelu"]

# What the encoder's tensors are called: SAELens and saev | dictionary_learning and nn.Linear | OpenAI.
_WEIGHTS = ("W_enc", "encoder.weight")
_BIASES = ("b_enc", "encoder.bias", "latent_bias")
_CENTRES = ("b_dec", "bias", "pre_bias")
_DECODER = ("W_dec", "decoder.weight", "decoder.bias")  # no latent depends on these
_KNOWN = frozenset((*_WEIGHTS, *_BIASES, *_CENTRES, "threshold", "k"))
_ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    # At inference a BatchTopK SAE is a JumpReLU with its learnt threshold (Bussmann et al. 2024, sec. 3).
    "batchtopk": "jumprelu",
}


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """The encoder of a sparse autoencoder: ``activation((x - centre) · weightᵀ + bias)`` at every position.

    ``relu``: Bricken et al. 2023. ``topk``: the `k` largest positive pre-activations of a position, ties of
    the k-th with it (Gao et al. 2024). ``jumprelu``: pre-activations above `threshold_d`, and above 0
    (Rajamanoharan et al. 2024).
    """

    activation: Activation
    weight_dc: torch.Tensor
    bias_d: torch.Tensor
    centre_c: torch.Tensor
    threshold_d: torch.Tensor | None = None
    k: int | None = None

    @property
    def units(self) -> int:
        """How many latents there are."""
        return len(self.weight_dc)

    def to(self, device: torch.device) -> SparseAutoencoder:
        """The same encoder on a device."""
        threshold_d = None if self.threshold_d is None else self.threshold_d.to(device)
        tensors = (self.weight_dc.to(device), self.bias_d.to(device), self.centre_c.to(device))
        return SparseAutoencoder(self.activation, *tensors, threshold_d, self.k)

    def __call__(self, maps_buhw: torch.Tensor) -> torch.Tensor:
        """Latents ``(b, d, h, w)``, float32, differentiable, of a layer's maps."""
        vectors_bhwc = maps_buhw.permute(0, 2, 3, 1) - self.centre_c
        raw_bhwd = functional.linear(vectors_bhwc, self.weight_dc, self.bias_d).float()
        return self._activate(raw_bhwd).permute(0, 3, 1, 2)

    def _activate(self, raw_bhwd: torch.Tensor) -> torch.Tensor:
        if self.threshold_d is not None:
            return _above(raw_bhwd, self.threshold_d.clamp(min=0), strictly=True)
        if self.k is None:
            return functional.relu(raw_bhwd)
        least_bhw1 = raw_bhwd.topk(self.k, dim=3).values[..., -1:]
        return _above(raw_bhwd, least_bhw1.clamp(min=0), strictly=False)


def read_sae(path: Path, channels: int, layer: str) -> SparseAutoencoder:
    """The encoder in a safetensors file, on the CPU, float32.

    Tensors: ``W_enc (channels, latents)`` or ``encoder.weight (latents, channels)``; ``b_enc`` or
    ``encoder.bias``; ``b_dec`` (also ``bias``, ``pre_bias``); ``threshold`` of a JumpReLU; ``k`` of a TopK,
    which may stand in the metadata instead. Decoder weights are not used, other tensors are refused.

    Metadata, all optional: ``activation`` (relu, topk, jumprelu, batchtopk), needed only where the file holds
    both a threshold and k; ``apply_b_dec_to_input`` (true or false). Without it b_dec is subtracted from the
    input for ReLU and TopK and is not for JumpReLU, as in the papers.

    Args:
        path: the file.
        channels: of the layer that it reads.
        layer: that layer, for the errors.

    Raises:
        TargetError: when the file cannot be read, fits another layer, or leaves open what is meant.
    """
    tensors, metadata = _read(path)
    unknown = sorted(tensors.keys() - _KNOWN)
    if unknown:
        raise TargetError(
            f"{path} holds tensors that labeler does not know ({', '.join(unknown)}); leave them out if no "
            "latent depends on them."
        )
    weight_dc = _weight(tensors, channels, layer, path)
    latents = len(weight_dc)
    k = _whole_number(tensors, metadata, latents, path)
    activation = _activation(metadata.get("activation"), "threshold" in tensors, k is not None, path)
    bias_d = _vector(tensors, _BIASES, latents, path)
    centre_c = _vector(tensors, _CENTRES, channels, path)
    if not _is_centred(metadata.get("apply_b_dec_to_input"), activation, path):
        centre_c = torch.zeros(channels)
    threshold_d = _vector(tensors, ("threshold",), latents, path) if activation == "jumprelu" else None
    return SparseAutoencoder(
        activation, weight_dc, bias_d, centre_c, threshold_d, k if activation == "topk" else None
    )


def _above(values_bhwd: torch.Tensor, least: torch.Tensor, *, strictly: bool) -> torch.Tensor:
    """`values_bhwd` above `least`, else 0. The zeros are closed rectifiers and not constants, so that
    `visualise` can open them for a latent that is silent everywhere."""
    kept = values_bhwd > least if strictly else values_bhwd >= least
    return torch.where(kept, values_bhwd, functional.relu(values_bhwd - least))


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise TargetError(f"There is no sparse autoencoder at {path}; correct target.sae.")
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name not in _DECODER]  # noqa: SIM118
            tensors = {name: file.get_tensor(name).float() for name in names}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError):
        raise TargetError(f"{path} is not a safetensors file; target.sae takes no other.") from None
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise TargetError(f"{path} holds numbers in {name} that are not finite; save it again.")
    return tensors, metadata


def _weight(tensors: Mapping[str, torch.Tensor], channels: int, layer: str, path: Path) -> torch.Tensor:
    """Encoder weights ``(latents, channels)``."""
    name = _one_of(tensors, _WEIGHTS, path)
    if name is None:
        raise TargetError(f"{path} holds neither W_enc nor encoder.weight; it is no sparse autoencoder.")
    weight = tensors[name]
    if weight.ndim != 2 or channels not in weight.shape:
        raise TargetError(
            f"The sparse autoencoder {path} has encoder weights of shape {list(weight.shape)}, but layer "
            f"{layer} has {channels} channels; give the one that was trained on this layer."
        )
    bias = _one_of(tensors, _BIASES, path)
    latents = None if bias is None else tensors[bias].numel()
    channels_first = weight.shape[0] == channels and (name == "W_enc" or weight.shape[1] != channels)
    # A file may hold the transpose of what its name says; the bias then tells.
    if latents is not None and weight.shape[0] != weight.shape[1]:
        channels_first = weight.shape == (channels, latents)
    return (weight.T if channels_first else weight).contiguous()


def _vector(
    tensors: Mapping[str, torch.Tensor], names: tuple[str, ...], length: int, path: Path
) -> torch.Tensor:
    name = _one_of(tensors, names, path)
    if name is None:
        return torch.zeros(length)
    vector = tensors[name].reshape(-1)
    if name == "threshold" and len(vector) == 1:  # of a BatchTopK: one for all latents
        vector = vector.repeat(length)
    if len(vector) != length:
        raise TargetError(f"{path} has {len(vector)} numbers in {name}, not {length}; save it again.")
    return vector


def _one_of(tensors: Mapping[str, torch.Tensor], names: tuple[str, ...], path: Path) -> str | None:
    found = [name for name in names if name in tensors]
    if len(found) > 1:
        raise TargetError(f"{path} holds both {found[0]} and {found[1]}, which mean the same; leave one out.")
    return found[0] if found else None


def _whole_number(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], latents: int, path: Path
) -> int | None:
    if "k" not in tensors and "k" not in metadata:
        return None
    stored = tensors["k"].reshape(-1).tolist() if "k" in tensors else [0.0]
    text = str(metadata["k"]) if "k" in metadata else " ".join(f"{number:g}" for number in stored[:2])
    if not (len(stored) == 1 and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= latents):
        raise TargetError(f"k in {path} must be one whole number from 1 to {latents}; it is {text[:40]!r}.")
    return int(text)


def _activation(stated: str | None, has_threshold: bool, has_k: bool, path: Path) -> Activation:
    if stated is None:
        if has_threshold and has_k:
            raise TargetError(
                f"{path} holds both a threshold and k; say in its metadata which counts, with the key "
                "activation and the value jumprelu or topk."
            )
        return "jumprelu" if has_threshold else "topk" if has_k else "relu"
    name = stated.lower().replace("_", "").replace("-", "")
    if name not in _ACTIVATIONS:
        raise TargetError(
            f"{path} names the activation {stated!r}, which labeler does not know; it knows "
            f"{', '.join(_ACTIVATIONS)}."
        )
    activation = _ACTIVATIONS[name]
    needed = {"topk": ("k", has_k), "jumprelu": ("threshold", has_threshold), "relu": ("", True)}[activation]
    if not needed[1]:
        raise TargetError(f"{path} names the activation {stated!r} but holds no {needed[0]}; add it.")
    return activation


def _is_centred(stated: str | None, activation: Activation, path: Path) -> bool:
    if stated is None:
        return activation != "jumprelu"
    if stated.lower() not in ("true", "false"):
        raise TargetError(f"apply_b_dec_to_input in {path} must be true or false; it is {stated!r}.")
    return stated.lower() == "true"
