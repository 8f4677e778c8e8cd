"""The prompts: versioned Jinja templates, from the installed wheel or from the checkout."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import DictLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from labeler.records import KINDS
from labeler.resources import resource_directory
from labeler.seams import Evidence, Scored

Name = Literal["propose", "facet", "refine", "text"]
NAMES: tuple[Name, ...] = ("propose", "facet", "refine", "text")
PARTS = ("rules", "answer")
"""What the templates include."""


@dataclass(frozen=True)
class Template:
    """One prompt: its name, and the sha256 over its text and all that it includes."""

    name: Name
    sha256: str

    @classmethod
    def of(cls, evidence: Evidence, *, sees: bool) -> Template:
        """The prompt for this evidence.

        ``propose`` at first; ``facet`` at first for a unit whose exemplars fall into several groups;
        ``refine`` once labels have been tried; ``text`` always, for a model without eyes.
        """
        if not sees:
            return cls("text", _sha256("text"))
        several = len(evidence.facets) > 1
        name: Name = "refine" if evidence.history else "facet" if several else "propose"
        return cls(name, _sha256(name))

    def render(self, evidence: Evidence, candidates: int, words: Sequence[Scored] = ()) -> str:
        """What is asked.

        Args:
            evidence: the unit's evidence.
            candidates: how many labels to ask for, per facet.
            words: scored words, for ``text``.
        """
        facets = [facet.index for facet in evidence.facets] or [0]
        template = _environment().get_template(self.name)
        return template.render(
            candidates=candidates,
            facets=facets,
            history=evidence.history,
            kinds=KINDS,
            round=evidence.round,
            sheet_key=evidence.sheet_key,
            words=[(facet, [word for word in words if word.facet == facet]) for facet in facets],
        ).strip()


def templates_sha256() -> str:
    """sha256 over all prompt templates: a changed word is a changed proposer."""
    return hashlib.sha256("\0".join(_sha256(name) for name in NAMES).encode()).hexdigest()


@functools.cache
def _sha256(name: str) -> str:
    joined = "\0".join(_source(part) for part in (name, *PARTS))
    return hashlib.sha256(joined.encode()).hexdigest()


@functools.cache
def _source(name: str) -> str:
    return Path(resource_directory("prompts") / f"{name}.md.j2").read_text(encoding="utf-8")


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    # Plain text for a model, not HTML: escaping would change the words.
    loader = DictLoader({name: _source(name) for name in (*NAMES, *PARTS)})
    return ImmutableSandboxedEnvironment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
