"""How these tests run labeler: a small config, the command line in this process, a run's rows to compare."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

NETWORK = Path(__file__).with_name("toy_network.py")
UNITS = {"colours": "0-7", "edges": "0-3"}
CHECKS = {"min_test_images": 60, "min_null_units": 8, "permutations": 100, "iou_grid": 28}


def toy_config(images: int = 220, **sections: Any) -> dict[str, Any]:
    """A config of the toy network on rendered scenes, as plain data; `sections` replace whole sections."""
    return {
        "target": {"model": f"file:{NETWORK}:build", "layers": ["colours", "edges"], "units": UNITS},
        "probe": {"source": "builtin:scenes", "images": images, "size": 64},
        "visualise": {"images": 2, "size": 32, "steps": 8},
        "checks": CHECKS,
        "refine": {"rounds": 2},
        "executor": {"workers": 0, "device": "cpu"},
        **sections,
    }


def write_config(folder: Path, data: dict[str, Any], name: str = "toy.yaml") -> Path:
    """`data` as a YAML file."""
    path = folder / name
    path.write_text(yaml.safe_dump(data))
    return path


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit status, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as strict JSON: no NaN, no Infinity."""

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is not JSON")

        return json.loads(self.out, parse_constant=refuse)


def labeler(*arguments: object) -> Outcome:
    """Run ``labeler ARGUMENTS`` in this process (importing torch anew takes seconds)."""
    from labeler.cli import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["labeler", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.argv = before
    return Outcome(code, out.getvalue(), err.getvalue())


def run_toy(config: Path, out: Path, *more: object) -> Outcome:
    """``labeler run CONFIG --out OUT --trust-code toy_network.py``."""
    return labeler("run", config, "--out", out, "--trust-code", NETWORK, *more)


def rows_of(run: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in a run's catalogue, sorted; only what differs between equal runs (seconds) is left out."""
    queries = {
        "units": "SELECT unit, layer, idx, verdict, trust, record FROM units",
        "rounds": "SELECT unit, round, record FROM rounds",
        "labels": "SELECT unit, position, text FROM labels",
        "label_embeddings": "SELECT text, vector FROM label_embeddings",
        "decoys": "SELECT position, unit, labels FROM decoys",
        "meta": "SELECT key, value FROM meta",
    }
    connection = sqlite3.connect(f"file:{run / 'catalogue.db'}?mode=ro", uri=True)
    try:
        return {name: sorted(connection.execute(query).fetchall()) for name, query in queries.items()}
    finally:
        connection.close()


def files_of(folder: Path) -> dict[str, bytes]:
    """Bytes of every file below `folder` by relative path, hidden ones left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
