"""A language model as a proposer, with or without eyes: evidence to question, answer to proposals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from labeler.config import ProposeConfig
from labeler.errors import PausedError
from labeler.propose.endpoint.asking import ask_all
from labeler.propose.endpoint.budget import Budget, Limit
from labeler.propose.endpoint.caller import Caller
from labeler.propose.endpoint.exchange import Exchange
from labeler.propose.endpoint.ladder import Outcome, Unusable, climb
from labeler.propose.endpoint.wire import Answer, Question
from labeler.propose.schema import InvalidAnswer, parse_answer
from labeler.propose.templates import Template, templates_sha256
from labeler.seams import CallLedger, Evidence, Proposal, Proposed, Scorer
from labeler.storage import fingerprint

PATIENCE = 20
"""Identical failures in a row after which the run pauses: the endpoint, not the unit, is the cause."""
_AHEAD = 2
"""Units whose evidence is made before they can be asked about, as a multiple of the calls at once."""

Proposals = tuple[Proposal, ...]


class EndpointProposer:
    """Implements `labeler.seams.Proposer` for a language model behind an endpoint.

    The model has no tools, and its words are hypotheses.

    Args:
        settings: the config's `propose` section.
        exchange: where questions go.
        ledger: known answers, and the rows of all attempts; a known request makes no call.
        limit: what the run may spend.
        scorer: scores words for a model without eyes; None for one that is shown contact sheets.
    """

    def __init__(
        self,
        settings: ProposeConfig,
        exchange: Exchange,
        ledger: CallLedger,
        limit: Limit | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        self.name = "vlm" if scorer is None else "llm"
        self.needs_sheet = scorer is None
        self.base_url = exchange.base_url
        budget = Budget(limit, settings.prices, ledger.spent())
        self._caller = Caller(settings, exchange, ledger, budget, sees=scorer is None)
        self._settings, self._scorer = settings, scorer
        self._failures, self._last_cause = 0, ""
        self._waiting: list[str] = []
        self.fingerprint = fingerprint(
            self.name, 2, self.base_url, settings.model, settings.temperature, settings.max_tokens,
            settings.candidates, templates_sha256(),
        )  # fmt: skip

    def propose(self, evidence: Evidence) -> Proposed:
        """Hypotheses about one unit, or a `failure` with its cause; raises as `propose_all` does."""
        (proposed,) = self.propose_all([evidence])
        return proposed

    def propose_all(self, evidences: Iterable[Evidence]) -> Iterator[Proposed]:
        """The same for many units, `propose.concurrency` at once and in their order.

        Evidence is taken from the iterable as it is needed, in another thread. Closing the iterator ends the
        calls that are out.

        Raises:
            EndpointError: when no unit can succeed: wrong key, model or address.
            PausedError: after 20 identical failures in a row, or when the budget or the account is used up.
        """
        items = (self._question(evidence) for evidence in evidences)
        if self._caller.together:
            return self._together(list(items))
        return ask_all(items, self._ask, self._caller.open, _AHEAD * self._settings.concurrency)

    def _together(self, items: Sequence[tuple[Evidence, Question]]) -> Iterator[Proposed]:
        """Nothing before everything is there."""
        self._waiting = []
        found = list(ask_all(items, self._ask, self._caller.open, None))
        if self._waiting:
            raise PausedError(f"Paused for {len(self._waiting)} answers. {self._waiting[0]}")
        yield from found

    def question(self, evidence: Evidence) -> Question:
        """What the model is asked about a unit."""
        words = () if self._scorer is None else tuple(self._scorer(evidence))
        template = Template.of(evidence, sees=self._scorer is None)
        return Question(
            template.render(evidence, self._settings.candidates, words),
            evidence.sheet if self.needs_sheet else b"",
            self._settings.max_tokens,
            template.sha256,
            about=f"{evidence.unit} round {evidence.round}",
        )

    def _question(self, evidence: Evidence) -> tuple[Evidence, Question]:
        return evidence, self.question(evidence)

    async def _ask(self, item: tuple[Evidence, Question]) -> Proposed:
        evidence, question = item
        facets = tuple(facet.index for facet in evidence.facets) or (0,)

        def read(answer: Answer) -> Proposals:
            try:
                return parse_answer(answer.text, facets, self._settings.candidates * len(facets)).proposals
            except InvalidAnswer as problem:
                raise Unusable(str(problem)) from None

        found: Outcome[Proposals] = await climb(
            self._caller, question, str(evidence.unit), evidence.round, read
        )
        if found.waits:
            self._waiting.append(found.failure)
        else:
            self._count(found.failure)
        if found.failure:
            return Proposed(failure=found.failure, unanswered=found.unanswered)
        return Proposed(found.value or ())

    def _count(self, failure: str) -> None:
        """Tasks of one event loop call this, so no two at once."""
        # Request numbers and times in a server's words make no other failure of it.
        cause = re.sub(r"\S*\d\S*", "#", failure)
        self._failures = self._failures + 1 if cause == self._last_cause else 1
        self._failures = 0 if not cause else self._failures
        self._last_cause = cause
        if self._failures >= PATIENCE:
            self._failures = 0
            raise PausedError(
                f"Paused after {PATIENCE} identical failures in a row ({failure.rstrip('.')});"
                " run again to resume."
            )
