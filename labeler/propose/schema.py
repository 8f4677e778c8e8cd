"""The form of a model's answer: what is asked on the wire, and what is believed after receipt.

The wire schema has plain types, enums and required keys only, which every server's grammar understands. All
limits are checked here, on whatever text came back.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from labeler.records import KINDS, Formula, Kind
from labeler.seams import Proposal

LONGEST = 80
MOST_TERMS = 4
MOST_TRIES = 200
"""Places in a text at which a JSON object is looked for."""
MOST_READ = 4_000_000
"""Characters that are read in vain before the search ends: every unclosed brace is read to the end."""

_MARKUP = set("<>`{}[]")
_URL = re.compile(
    r"://|\bwww\.|\b(?:https?|javascript|data|file|mailto):|\w\.(?:com|org|net|io|dev|ai)\b", re.I
)
_BLANK = {
    0x034F,
    0x115F,
    0x1160,
    0x17B4,
    0x17B5,
    0x2800,
    0x3164,
    0xFFA0,
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
}
"""Code points that draw nothing yet are no format characters (Default_Ignorable, and the Braille blank)."""

WIRE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "candidates": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "label": {"type": "string"},
                    "kind": {"type": "string", "enum": list(KINDS)},
                    "facet": {"type": "integer"},
                    "formula": {
                        "type": "object",
                        "properties": {
                            "op": {"type": "string", "enum": ["none", "or", "and", "not"]},
                            "terms": {"type": "array", "items": {"type": "string"}},
                        },
                        "required": ["op", "terms"],
                        "additionalProperties": False,
                    },
                },
                "required": ["label", "kind", "facet", "formula"],
                "additionalProperties": False,
            },
        },
        "abstain": {"type": "boolean"},
    },
    "required": ["candidates", "abstain"],
    "additionalProperties": False,
}


class InvalidAnswer(Exception):  # noqa: N818 - never reaches a user; `failure` of a `Proposed` does
    """An answer that cannot be used. The message is in our own words and quotes nothing of the answer."""


@dataclass(frozen=True)
class Parsed:
    """The usable part of an answer: `proposals` (none: the model abstains), and how many were `dropped`."""

    proposals: tuple[Proposal, ...]
    dropped: int = 0


def clean_label(text: str) -> str:
    """A label as it may enter the catalogue: NFC, trimmed, single spaces.

    Raises:
        ValueError: when it is empty, over 80 characters, or holds control, invisible or markup characters, or
            an address.
    """
    text = text.strip()
    # Four characters may compose to one. 80,000 accents take seconds to compose, so they are not.
    if len(text) > 4 * LONGEST or len(text := unicodedata.normalize("NFC", text)) > LONGEST:
        raise ValueError(f"a label is longer than {LONGEST} characters")
    if any(unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp") for c in text):
        raise ValueError("a label has control or invisible characters")
    if any(ord(c) in _BLANK for c in text):
        raise ValueError("a label has control or invisible characters")
    if _MARKUP & set(text):
        raise ValueError("a label has markup characters")
    if _URL.search(text):
        raise ValueError("a label has an address in it")
    if not any(c.isalnum() for c in text):
        raise ValueError("a label has no letters")
    return " ".join(text.split())


LabelText = Annotated[str, AfterValidator(clean_label)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Formula(_Wire):
    op: Literal["or", "and", "not"]
    terms: list[LabelText] = Field(max_length=MOST_TERMS)

    @field_validator("terms")
    @classmethod
    def _different(cls, terms: list[str]) -> list[str]:
        if len({term.casefold() for term in terms}) < len(terms):
            raise ValueError("a formula repeats a term")
        return terms


class _Candidate(_Wire):
    label: LabelText
    kind: Kind = "other"
    facet: int = 0
    formula: _Formula | None = None

    @field_validator("kind", mode="before")
    @classmethod
    def _known_kind(cls, kind: object) -> object:
        return kind if kind in KINDS else "other"

    @field_validator("formula", mode="before")
    @classmethod
    def _no_formula(cls, formula: object) -> object:
        return None if isinstance(formula, dict) and formula.get("op") == "none" else formula

    @field_validator("formula")
    @classmethod
    def _enough_terms(cls, formula: _Formula | None) -> _Formula | None:
        if formula is not None and (len(formula.terms) == 1) != (formula.op == "not"):
            raise ValueError("a formula has one term for not, and two or more for or and and")
        return formula


def parse_answer(text: str, facets: tuple[int, ...], most: int) -> Parsed:
    """Read a model's answer: a JSON object, alone, in a code fence, or somewhere in the text.

    Candidates that break the rules are dropped, duplicates are folded.

    Args:
        text: all that the model said.
        facets: the facets that exist.
        most: candidates kept, the first ones.

    Raises:
        InvalidAnswer: when there is no such object, or it has candidates and none of them can be used.
    """
    answer = _find_object(text)
    if answer.get("abstain") is True:
        return Parsed(())
    entries = answer.get("candidates")
    if not isinstance(entries, list) or not entries:
        raise InvalidAnswer("there are no candidates, and abstain is not true")
    kept: dict[tuple[object, ...], Proposal] = {}
    problems = []
    for entry in entries[: 4 * most]:
        try:
            proposal = _proposal(_Candidate.model_validate(entry), facets)
        except ValidationError as error:
            problems.append(_sentence(error))
        except InvalidAnswer as problem:
            problems.append(str(problem))
        else:
            formula = proposal.formula.model_dump_json() if proposal.formula else ""
            kept.setdefault((proposal.text.casefold(), proposal.facet, formula.casefold()), proposal)
    if not kept:
        raise InvalidAnswer(problems[0])
    return Parsed(tuple(kept.values())[:most], len(problems))


def _proposal(candidate: _Candidate, facets: tuple[int, ...]) -> Proposal:
    if candidate.facet not in facets:
        raise InvalidAnswer("a candidate names a facet that does not exist")
    if candidate.formula is None:
        return Proposal(candidate.label, candidate.kind, candidate.facet)
    formula = Formula(op=candidate.formula.op, terms=tuple(candidate.formula.terms))
    return Proposal(candidate.label, candidate.kind, candidate.facet, formula)


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"


def _find_object(text: str) -> dict[str, Any]:
    found = [value for value in _objects(text) if "candidates" in value or "abstain" in value]
    if not found:
        raise InvalidAnswer("there is no JSON object with the keys candidates and abstain")
    return found[-1]  # a model that thinks aloud gives its answer last


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    place = read = 0
    for _ in range(MOST_TRIES):
        place = text.find("{", place)
        if place < 0 or read > MOST_READ:
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            read += getattr(error, "pos", len(text)) - place
            place += 1
            continue
        yield value
