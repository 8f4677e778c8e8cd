"""What happens before anything is loaded: importing, help, and the commands that the README names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.toy_run import labeler

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
HEAVY = {"torch", "torchvision", "faiss", "open_clip", "timm", "pandas", "PIL", "openai", "sklearn"}


def readme_commands() -> list[str]:
    """The lines in README's code blocks that start with ``labeler``."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    return [
        line.split("#")[0].strip()
        for block in blocks
        for line in block.splitlines()
        if line[:8] == "labeler "
    ]


def commands() -> dict[str, Any]:
    import typer

    from labeler.cli import app

    return dict(typer.main.get_command(app).commands)


def in_child(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_importing_labeler_takes_under_0_3_seconds() -> None:
    code = "import time; start = time.process_time(); import labeler; print(time.process_time() - start)"
    assert min(float(in_child(code)) for _ in range(2)) < 0.3


@pytest.mark.parametrize(
    "use",
    [
        "import labeler",
        "import labeler; labeler.load_config, labeler.Config, labeler.UnitRecord, labeler.Catalogue",
        "import labeler.cli, sys; sys.argv = ['labeler', '--help']\n"
        "try: labeler.cli.main()\nexcept SystemExit: pass",
    ],
    ids=["import", "names", "help"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(use: str) -> None:
    loaded = in_child(
        f"{use}\nimport sys; print('loaded', *{{name.partition('.')[0] for name in sys.modules}})"
    )
    assert not HEAVY & set(loaded.splitlines()[-1].split())


def test_public_names_are_sorted_and_importable() -> None:
    import labeler as package

    assert package.__all__ == sorted(package.__all__)
    assert dir(package) == package.__all__
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="frobnicate"):
        package.frobnicate  # noqa: B018


def test_help_lists_every_command_with_a_sentence() -> None:
    outcome = labeler("--help")
    assert outcome.code == 0
    for name, command in commands().items():
        assert re.search(rf"^\s+{name}\s+\S", outcome.out, flags=re.MULTILINE), name
        assert command.help


@pytest.mark.parametrize("name", sorted(commands()))
def test_help_of_a_command_explains_every_option(name: str) -> None:
    outcome = labeler(name, "--help")
    assert outcome.code == 0
    for parameter in commands()[name].params:
        shown = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
        assert shown in outcome.out
        assert getattr(parameter, "help", ""), f"{name} {parameter.name} has no help"


def test_every_command_line_in_the_readme_is_one_that_exists() -> None:
    lines = readme_commands()
    assert {line.split()[1] for line in lines} <= set(commands())
    for line in lines:
        _, name, *rest = line.split(" -- ")[0].split()  # what follows is a suite's own
        known = {option for parameter in commands()[name].params for option in parameter.opts}
        assert {word for word in rest if re.fullmatch(r"--?[a-z][a-z-]*", word)} <= known, line


def test_every_command_is_in_the_readme() -> None:
    assert {line.split()[1] for line in readme_commands()} >= set(commands())


def test_options_that_the_readme_speaks_of_exist() -> None:
    known = {
        option for command in commands().values() for parameter in command.params for option in parameter.opts
    }
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose)) <= known


def test_every_reading_command_takes_json() -> None:
    for name in ("status", "list", "show", "search", "top", "report", "doctor"):
        assert "--json" in {option for parameter in commands()[name].params for option in parameter.opts}, (
            name
        )


def test_doctor_says_what_works_in_sentences() -> None:
    outcome = labeler("doctor", "--json")
    assert outcome.code == 0
    for finding in outcome.json:
        assert finding.keys() == {"what", "works", "says"}
        assert finding["says"].endswith(".")
    assert {"device", "disk", "endpoint key"} <= {finding["what"] for finding in outcome.json}
    for finding in outcome.json:
        assert finding["what"] in labeler("doctor").out


def test_without_a_command_the_help_is_shown() -> None:
    outcome = labeler()
    assert "labeler" in outcome.out + outcome.err
    assert "Commands" in outcome.out + outcome.err


@pytest.mark.parametrize(
    "arguments", [("frobnicate",), ("list",), ("top", "RUN", "-k", "0"), ("run", "--nope")]
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    outcome = labeler(*arguments)
    assert outcome.code == 2
    assert outcome.err
    assert not outcome.out
    assert "Traceback" not in outcome.err
