"""README's examples, run as they stand on a small run in place of the demo's."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import labeler as package
from labeler import Catalogue
from labeler.config import Config
from tests.e2e.conftest import ToyRun
from tests.e2e.toy_run import NETWORK, labeler

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
INSTEAD = {
    "blocks.4": "edges",
    "* 111": "* 15",
    '"runs/demo"': "RUN",
    '"share/': 'SHARE + "/',
    "texture": "colour",
}
"""What stands for the demo's run and layers: a run of another network, and places of its own."""

ELSEWHERE = {"demo", "activations", "merge", "serve", "judge", "eval"}
"""Commands that take long, or go on until they are stopped; they have tests of their own."""
OWN_CODE = {"run", "import"}
"""Commands that load the network, which is here the code of a file."""


def examples(language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in blocks if name == language]


def command_lines() -> list[list[str]]:
    """The commands in README's blocks, split as a shell does."""
    lines = "\n".join(examples("")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("labeler ")]


def test_the_python_examples_work(toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    asked = []

    def run(config: str, out: Path) -> Catalogue:
        asked.append((config, out))
        return Catalogue.open(toy_run.run)

    monkeypatch.setattr(package, "run", run, raising=False)
    names: dict[str, Any] = {"RUN": toy_run.run, "SHARE": str(tmp_path)}
    for example in examples("python"):
        for word, other in INSTEAD.items():
            example = example.replace(word, other)
        exec(example, names)
    assert asked == [("configs/demo.yaml", toy_run.run)]
    assert (tmp_path / "labels.csv").is_file()
    names["cat"].close()


def test_the_commands_work(toy_run: ToyRun, tmp_path: Path) -> None:
    run = shutil.copytree(toy_run.run, tmp_path / "run")
    (tmp_path / "labels.csv").write_text("layer,unit,description\nedges,1,red\n")
    instead = {
        "runs/mine": run, "runs/other": toy_run.run, "my.yaml": toy_run.config, "layer4:17": "edges:1",
        "share/labels.parquet": tmp_path / "labels.parquet", "milan.csv": tmp_path / "labels.csv",
        "dog": "red", "photographs/cat.jpg": "scene-000017", "texture": "colour",
    }  # fmt: skip
    asked = set()
    for _, name, *words in command_lines():
        mine = not any(re.match(r"(runs|configs)/", word) and word not in instead for word in words)
        if name not in ELSEWHERE and mine:
            code = ("--trust-code", NETWORK) if name in OWN_CODE else ()
            outcome = labeler(name, *(instead.get(word, word) for word in words), *code)
            assert outcome.code == 0, (name, words, outcome.err)
            asked.add(name)
    assert asked >= {
        "run", "cost", "status", "doctor", "report", "list", "show", "search", "top", "export", "import",
        "compare",
    }  # fmt: skip


def test_the_configs_are_configs() -> None:
    whole, *parts = [yaml.safe_load(block) for block in examples("yaml")]
    assert parts
    for part in ({}, *parts):
        Config.model_validate({**whole, **part})


def test_names_that_the_readme_takes_from_the_package_exist() -> None:
    named = set(re.findall(r"\blabeler\.([A-Za-z_]+)\b(?=[`(.])", README)) - {"yaml"}
    assert named
    modules = {"builtin", "catalogue"}
    assert named - modules <= set(package.__all__)


def test_files_that_the_readme_links_to_exist() -> None:
    root = Path(__file__).parents[2]
    linked = re.findall(r"!?\[[^\]]*\]\(([^)#]+)\)", README)
    assert all(name.startswith("http") or (root / name).exists() for name in linked)
    configs = re.findall(r"configs/[a-z0-9_]+\.yaml", README)
    assert configs
    assert all((root / name).is_file() for name in configs)
