"""README's Python examples, run as they stand on a small run in place of the demo's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import labeler as package
from labeler import Catalogue
from tests.e2e.conftest import ToyRun

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
INSTEAD = {
    "blocks.4": "edges",
    "* 111": "* 15",
    '"runs/demo"': "RUN",
    '"share/': 'SHARE + "/',
    "texture": "colour",
}
"""What stands for the demo's run and layers: a run of another network, and places of its own."""


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_the_python_examples_work(toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    asked = []

    def run(config: str, out: Path) -> Catalogue:
        asked.append((config, out))
        return Catalogue.open(toy_run.run)

    monkeypatch.setattr(package, "run", run, raising=False)
    names: dict[str, Any] = {"RUN": toy_run.run, "SHARE": str(tmp_path)}
    for example in examples():
        for word, other in INSTEAD.items():
            example = example.replace(word, other)
        exec(example, names)
    assert asked == [("configs/demo.yaml", toy_run.run)]
    assert (tmp_path / "labels.csv").is_file()
    names["cat"].close()


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
