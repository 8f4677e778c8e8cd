"""Image-text models behind `labeler.seams.Encoder`: open_clip's, the small built-in ones, and the bridge."""

from __future__ import annotations

from labeler.errors import EncoderError, UnknownNameError
from labeler.seams import Encoder

BUILTIN = ("scenes-clip", "scenes-clip-judge", "bridge@lite2", "bridge@lite1")


def load_encoder(spec: str, device: str = "cpu") -> Encoder:
    """The encoder that a config names.

    Args:
        spec: ``builtin:scenes-clip``, ``builtin:scenes-clip-judge``, ``builtin:bridge@lite2``,
            ``builtin:bridge@lite1``, ``open_clip:NAME@TAG`` or ``open_clip:NAME@FILE.safetensors``.
        device: a torch device.

    Raises:
        UnknownNameError: for a name that does not exist.
        EncoderError: for another form, or weights that cannot be had or read.
        MissingExtraError: when the bridge's weight packages are not installed.
    """
    scheme, _, rest = spec.partition(":")
    if scheme == "open_clip":
        from labeler.encoders.open_clip import load_open_clip

        return load_open_clip(rest, device)
    if scheme != "builtin":
        raise EncoderError(f"{spec!r} is not an encoder: write open_clip:NAME@TAG or builtin:{BUILTIN[0]}.")
    if rest not in BUILTIN and rest != "bridge":
        raise UnknownNameError("built-in encoder", spec, [f"builtin:{name}" for name in BUILTIN])
    if rest.startswith("bridge"):
        from labeler.encoders.bridge import BridgeEncoder

        return BridgeEncoder(rest.partition("@")[2] or "lite2", device)
    from labeler.encoders.open_clip import load_scenes_clip

    return load_scenes_clip(rest, device)


__all__ = ["BUILTIN", "load_encoder"]
