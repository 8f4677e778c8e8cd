"""A vision-language model as a proposer: one contact sheet, one question, a short ladder when it fails."""

from __future__ import annotations

import base64
import dataclasses
import re
import threading
from typing import Any

from labeler.config import ProposeConfig
from labeler.errors import EndpointError, PausedError
from labeler.propose.client import Answer, ChatClient, Failed
from labeler.propose.schema import InvalidAnswer, Parsed, parse_answer
from labeler.propose.templates import prompt, templates_sha256
from labeler.seams import Call, Evidence, Proposed, ResponseCache
from labeler.storage import fingerprint

PATIENCE = 20
"""Identical failures in a row after which the run pauses: the endpoint, not the unit, is the cause."""


class VlmProposer:
    """Implements `labeler.seams.Proposer` for any OpenAI-compatible endpoint.

    An answer that cannot be used is asked for once more, with what is wrong with it; one that ran out of
    tokens, once more with twice as many. The model has no tools, and its words are hypotheses.

    Args:
        settings: the config's `propose` section; the key is read from the environment here, once.
        cache: answers by request; a known request makes no call.

    Raises:
        EndpointError: when the key is missing or the address is none.
    """

    name = "vlm"
    needs_sheet = True

    def __init__(self, settings: ProposeConfig, cache: ResponseCache | None = None) -> None:
        self._client = ChatClient(settings, cache)
        self.base_url = self._client.base_url
        self._settings = settings
        self._lock = threading.Lock()
        self._last_cause: str | None = None
        self._failures = 0
        self.fingerprint = fingerprint(
            "vlm", 1, self.base_url, settings.model, settings.temperature, settings.max_tokens,
            settings.candidates, templates_sha256(),
        )  # fmt: skip

    def propose(self, evidence: Evidence) -> Proposed:
        """Hypotheses about one unit, or a `failure` with its cause.

        Raises:
            EndpointError: when no unit can succeed: wrong key, model or address.
            PausedError: after 20 identical failures in a row.
        """
        proposed = self._ladder(evidence)
        if not all(call.cached for call in proposed.calls):  # a replayed failure says nothing of the endpoint
            self._count(proposed.failure)
        return proposed

    def _ladder(self, evidence: Evidence) -> Proposed:
        messages = [_message(evidence, self._settings.candidates)]
        tokens = self._settings.max_tokens
        asked_again = doubled = False
        calls: list[Call] = []
        while True:
            answer, call = self._client.ask(messages, tokens, templates_sha256())
            if isinstance(answer, Failed):
                if answer.stop:
                    raise EndpointError(answer.cause)
                return Proposed(failure=answer.cause, calls=(*calls, call))
            if answer.refused:
                return Proposed(
                    failure="refused", calls=(*calls, dataclasses.replace(call, outcome="refused"))
                )
            parsed = self._parse(answer, evidence)
            if isinstance(parsed, Parsed):
                note = f"{parsed.dropped} candidates dropped" if parsed.dropped else ""
                return Proposed(parsed.proposals, calls=(*calls, dataclasses.replace(call, detail=note)))
            calls.append(dataclasses.replace(call, outcome="invalid", detail=parsed))
            if answer.cut and not doubled:
                tokens, doubled = 2 * tokens, True
            elif not asked_again:
                messages, asked_again = [*messages, *_correction(answer, parsed)], True
            else:
                return Proposed(failure=f"The answer could not be used: {parsed}.", calls=tuple(calls))

    def _parse(self, answer: Answer, evidence: Evidence) -> Parsed | str:
        facets = tuple(facet.index for facet in evidence.facets) or (0,)
        try:
            return parse_answer(answer.text, facets, self._settings.candidates * len(facets))
        except InvalidAnswer as problem:
            return "the answer was cut off" if answer.cut else str(problem)

    def _count(self, failure: str | None) -> None:
        with self._lock:
            # Request numbers and times in a server's words make no other failure of it.
            cause = None if failure is None else re.sub(r"\S*\d\S*", "#", failure)
            self._failures = self._failures + 1 if cause == self._last_cause else 1
            self._failures = 0 if cause is None else self._failures
            self._last_cause = cause
            if self._failures >= PATIENCE:
                self._failures = 0
                said = str(failure).rstrip(".")
                raise PausedError(
                    f"Paused after {PATIENCE} identical failures in a row ({said}); run again to resume."
                )


def _message(evidence: Evidence, candidates: int) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": prompt(evidence, candidates)}]
    if evidence.sheet:
        kind = "png" if evidence.sheet.startswith(b"\x89PNG") else "webp"
        url = f"data:image/{kind};base64,{base64.b64encode(evidence.sheet).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": "user", "content": content}


def _correction(answer: Answer, problem: str) -> list[dict[str, Any]]:
    said = answer.text[:4000] or "(nothing)"
    ask = f"That answer cannot be used: {problem}. Answer again, with the JSON object only."
    return [{"role": "assistant", "content": said}, {"role": "user", "content": ask}]
