"""The prompts: versioned Jinja templates, from the installed wheel or from the checkout."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from labeler.errors import RunError
from labeler.records import KINDS
from labeler.seams import Evidence

NAMES = ("propose", "refine")


def prompt(evidence: Evidence, candidates: int) -> str:
    """What a proposer is asked about a unit: ``propose`` at first, ``refine`` once labels have been tried.

    Args:
        evidence: the unit's evidence.
        candidates: how many labels to ask for, per facet.
    """
    template = _environment().from_string(_sources()["refine" if evidence.history else "propose"])
    facets = [facet.index for facet in evidence.facets] or [0]
    return template.render(
        candidates=candidates,
        facets=facets,
        history=evidence.history,
        kinds=KINDS,
        round=evidence.round,
        sheet_key=evidence.sheet_key,
    ).strip()


@functools.cache
def templates_sha256() -> str:
    """sha256 over all prompt templates: a changed word is a changed proposer."""
    joined = "\0".join(f"{name}\0{text}" for name, text in sorted(_sources().items()))
    return hashlib.sha256(joined.encode()).hexdigest()


@functools.cache
def _sources() -> dict[str, str]:
    package = Path(__file__).parents[1]
    for folder in (package / "_prompts", package.parent / "prompts"):
        if folder.is_dir():
            return {name: (folder / f"{name}.md.j2").read_text(encoding="utf-8") for name in NAMES}
    raise RunError("The prompt templates are missing; reinstall labeler.")


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    # Plain text for a model, not HTML: escaping would change the words.
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
