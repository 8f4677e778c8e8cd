"""Hostile weight files and imported labels through what reads them: `python -m tests.fuzz.checkpoints`."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import random
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save as save_safetensors

from labeler.checks.calibration import shipped
from labeler.errors import LabelerError, TargetError
from labeler.pipeline.foreign_labels import read_foreign_labels
from labeler.pipeline.run_gate import read_run_gate
from labeler.records import UnitId
from labeler.targets.directions import read_directions, read_names
from labeler.targets.sae import read_sae
from labeler.weight_files import read_weights
from tests.fuzz.harness import GOOD, Case, Figures, fuzz, main, run_case, sentence
from tests.fuzz.mutate import TEXTS, mutated, other_data

COUNT = 10_000
LIMIT = 5.0
RAN = "ran"
"""A file that only code in a checkpoint would make."""
FINGERPRINT = "f" * 64
UNITS = [UnitId("layer", index) for index in range(4)]


class Touch:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._path}",)


class TouchByEval(Touch):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self._path)!r}, 'w').close()",)


def state() -> dict[str, torch.Tensor]:
    """A small state dict."""
    return {"conv.weight": torch.arange(24.0).reshape(4, 6), "conv.bias": torch.ones(4, dtype=torch.float16)}


def saved(value: object, **options: Any) -> bytes:
    """`torch.save` to bytes."""
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def with_pickle(data: bytes, pickled: bytes) -> bytes:
    """A checkpoint whose pickle is another."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(stream, "w") as other:
        for info in whole.infolist():
            other.writestr(info.filename, pickled if info.filename.endswith("data.pkl") else whole.read(info))
    return stream.getvalue()


class _InsidePersistentId(pickle.Pickler):
    """Puts an object where a checkpoint says which storage a tensor has."""

    def __init__(self, stream: io.BytesIO, inside: object) -> None:
        super().__init__(stream, protocol=2)
        self._inside = inside

    def persistent_id(self, value: object) -> object:
        return ("storage", self._inside, "0", "cpu", 4) if value == "here" else None


def _persistent(inside: object) -> bytes:
    stream = io.BytesIO()
    _InsidePersistentId(stream, inside).dump({"weight": "here"})
    return stream.getvalue()


def hostile_checkpoints(ran: Path) -> dict[str, bytes]:
    """Files that run code when they are loaded without care; the suffix is part of the name."""
    evil = Touch(ran)
    legacy = saved({"weight": evil}, _use_new_zipfile_serialization=False)
    found = {
        "os.system.pt": saved({"weight": evil}),
        "eval.pth": saved({"weight": TouchByEval(ran)}),
        "beside tensors.pt": saved({**state(), "evil": evil}),
        "alone.pt": saved(evil),
        "legacy.pth": legacy,
        "bare pickle.pt": pickle.dumps({"weight": evil}),
        "protocol 0.pt": pickle.dumps(evil, protocol=0),
        "in a key.pt": saved({"state_dict": {evil: 1}}),
        "persistent id.pt": with_pickle(saved(state()), _persistent(evil)),
        "raw opcodes.pt": b"cposix\nsystem\n(S'touch " + str(ran).encode() + b"'\ntR.",
        "zip.zip": saved({"weight": evil}),
        "bin.bin": saved({"weight": evil}),
    }
    return {
        **found,
        "safetensors in name only.safetensors": found["os.system.pt"],
        "tar.pt": _legacy_tar(ran),
    }


def _legacy_tar(ran: Path) -> bytes:
    """The oldest form of a checkpoint: `torch.load` used to unpack it. Its members lead elsewhere."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        link = tarfile.TarInfo("storages")
        link.type, link.linkname = tarfile.SYMTYPE, str(ran)
        tar.addfile(link)
        for name, data in (
            ("storages", b"x"),
            (f"../../../../..{ran}", b"x"),
            ("pickle", pickle.dumps(Touch(ran))),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def npy(array: np.ndarray, **options: Any) -> bytes:
    """`numpy.save` to bytes."""
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def whole_files() -> dict[str, bytes]:
    """A readable file of every kind, by its name."""
    rows = [{"layer": "layer", "unit": index, "description": "a dog"} for index in range(4)]
    full = {
        "unit": "layer:1",
        "labels": [{"text": "red or blue", "formula": {"op": "or", "terms": ["red", "blue"]}}],
    }
    table = io.StringIO()
    csv.DictWriter(table, [*rows[0], "op", "terms", "facet"]).writerows(
        [dict(zip(rows[0], rows[0], strict=True), op="op", terms="terms", facet="facet"), *rows]
    )
    parquet = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    sae = {"W_enc": torch.rand(6, 8), "b_enc": torch.rand(8), "b_dec": torch.rand(6), "k": torch.tensor(3)}
    legacy = saved(state(), _use_new_zipfile_serialization=False)
    npz = io.BytesIO()
    np.savez(npz, directions=np.ones((2, 6)))
    return {
        "w.pt": saved(state()),
        "w.pth": legacy,
        "w.safetensors": save_safetensors(state()),
        "sae.safetensors": save_safetensors(sae, {"activation": "topk", "k": "3"}),
        "d.npy": npy(np.arange(12.0).reshape(2, 6)),
        "names.json": json.dumps(["a", "b"]).encode(),
        "npz.npy": npz.getvalue(),
        "l.csv": table.getvalue().encode(),
        "l.parquet": parquet.getvalue(),
        "l.jsonl": "\n".join(json.dumps(row) for row in (*rows, full)).encode(),
        "gate.json": gate_json(),
    }


def gate_json() -> bytes:
    """A calibration as a run has it."""
    data = json.loads(shipped().model_dump_json())
    return json.dumps({**data, "domain": {**data["domain"], "run": FINGERPRINT}}).encode()


def outcome(path: Path, ran: Path) -> str:
    """What comes of reading a file of any kind; no code in it was run."""
    try:
        _read(path)
        said = GOOD
    except LabelerError as error:
        said = sentence(error)
    assert not ran.exists(), "code in a file was run"
    return said


def _read(path: Path) -> None:
    if path.name == "gate.json":
        assert read_run_gate(path.parent) is not None
    elif path.name == "names.json":
        read_names(path.with_suffix(".npy"))
    elif path.name.startswith("sae"):
        made = read_sae(path, 6, "layer")
        assert made(torch.zeros(1, 6, 2, 2)).shape == (1, made.units, 2, 2)
    elif path.suffix == ".npy":
        assert read_directions(path, 6, "layer").weights_dc.isfinite().all()
    elif path.suffix in (".csv", ".jsonl", ".parquet"):
        for proposals in read_foreign_labels(path, UNITS).by_unit.values():
            assert all(0 < len(item.text) <= 80 for item in proposals)
            "".join(item.text for item in proposals).encode()
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in read_weights(path, TargetError).values())


def drawer(folder: Path) -> Callable[[random.Random], Case]:
    """Draws a damaged file of a random kind."""
    files = whole_files()
    others = list(files.values())
    (folder / "names.npy").write_bytes(files["d.npy"])
    run = {key: {} for key in ("config", "target", "probe", "units", "warnings", "versions")}
    (folder / "run.json").write_text(json.dumps({**run, "fingerprint": FINGERPRINT}))

    def draw(rng: random.Random) -> Case:
        name = rng.choice(list(files))
        data = files[name]
        if rng.random() < 0.5 and name.endswith(("json", "jsonl", "safetensors", ".npy", ".csv")):
            data = _other_contents(rng, name, data)
        else:
            data = mutated(rng, data, others)[1]
        path = folder / name
        path.write_bytes(data)
        return name, lambda: outcome(path, folder / RAN)

    return draw


def _other_contents(rng: random.Random, name: str, data: bytes) -> bytes:
    """The file's own form, with something else in it."""
    if name == "l.csv":
        lines = [line.split(",") for line in data.decode().splitlines()]
        for _ in range(rng.randint(1, 3)):
            row = rng.choice(lines)
            row[rng.randrange(len(row))] = rng.choice(
                (*TEXTS, "9" * 5000, "layer:99", '"[1', "not", "²", "1e999")
            )
        return "\n".join(",".join(row) for row in lines).encode("utf-8", "surrogatepass")
    if name.endswith(".npy"):
        shape = rng.choice(((2, 6), (6,), (0, 6), (2, 0), (), (1, 2, 6), (1000, 6)))
        kind = rng.choice(("<f8", "<f2", "<i8", "?", "<c16", "S3", "U2", "<M8[s]", "O", "f4,i4"))
        array = np.zeros(shape, dtype=np.dtype(kind))
        raw = npy(array, allow_pickle=True)
        claimed = rng.choice(
            (b"(2, 6)", b"(9999999999999, 6)", b"(-1, 6)", b"(2, True)", b"[2, 6]", b"(" * 90)
        )
        return raw.replace(repr(array.shape).encode(), claimed, 1) if rng.random() < 0.5 else raw
    if name.endswith("safetensors"):
        size = int.from_bytes(data[:8], "little")
        header = json.dumps(other_data(rng, json.loads(data[8 : 8 + size]))).encode()
        return len(header).to_bytes(8, "little") + header + data[8 + size :]
    if name == "l.jsonl":
        lines = data.splitlines()
        place = rng.randrange(len(lines))
        lines[place] = json.dumps(other_data(rng, json.loads(lines[place]))).encode()
        if rng.random() < 0.1:
            lines[place] = b'{"a":' * 5000
        return b"\n".join(lines)
    return json.dumps(other_data(rng, json.loads(data))).encode()


def refused(path: Path, ran: Path) -> str:
    """A checkpoint with code in it is refused, in a sentence, and the code was not run."""
    try:
        read_weights(path, TargetError)
    except TargetError as error:
        said = sentence(error)
    else:
        raise AssertionError("a checkpoint with code in it was taken")
    assert not ran.exists(), "code in a checkpoint was run"
    return said


def run(numbers: range, seed: int) -> Figures:
    """The damaged files `numbers`, and, where they begin at 0, the checkpoints with code in them."""
    with tempfile.TemporaryDirectory(prefix="fuzz-checkpoints-") as name:
        folder = Path(name)
        figures = fuzz("checkpoints", drawer(folder), numbers, seed, LIMIT)
        if numbers.start == 0:
            for case, data in hostile_checkpoints(folder / RAN).items():
                path = folder / case
                path.write_bytes(data)
                run_case(figures, case, "code", lambda path=path: refused(path, folder / RAN))
    return figures


if __name__ == "__main__":
    main("checkpoints", run, COUNT)
