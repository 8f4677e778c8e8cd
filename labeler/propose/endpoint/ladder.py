"""What is done about an answer that cannot be used: one re-ask with the error, one with more tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from labeler.propose.endpoint.caller import Caller, Place
from labeler.propose.endpoint.wire import Answer, Failed, Question

LONGER = 4
"""How many times as long an answer may be that was cut off: models that think first need far more."""

Value = TypeVar("Value")


class Unusable(Exception):  # noqa: N818 - never reaches a user
    """An answer that cannot be used, and why in our own words."""


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """What a question led to: a value, or a `failure` with its cause.

    `unanswered`: the last attempt brought no answer at all; `waits`: there will be one another time.
    """

    value: Value | None
    failure: str = ""
    unanswered: bool = False
    waits: bool = False


async def climb(
    caller: Caller, question: Question, unit: str, number: int, read: Callable[[Answer], Value]
) -> Outcome[Value]:
    """Ask until there is an answer that `read` can use, at most three times.

    Its answers are kept, so that whoever climbs it again, or goes on after a kill, pays for none twice. Only
    when all that the model says is unusable they are dropped: asking again is then asking anew.

    Args:
        caller: asks and keeps account.
        question: the first question.
        unit: what it is about, for the ledger.
        number: of the round.
        read: the value of an answer; raises `Unusable`.
    """

    def problem(answer: Answer) -> str:
        try:
            read(answer)
        except Unusable as error:
            return "the answer was cut off" if answer.cut else str(error)
        return ""

    place = Place(unit, number)
    used: tuple[str, ...] = ()
    again = longer = False
    while True:
        found = await caller.ask(question, place, problem)
        if isinstance(found, Failed):
            return Outcome(None, found.cause, unanswered=True, waits=found.waits)
        used = (*used, caller.key(question))
        said = "" if found.refused else problem(found)
        if not found.refused and not said:
            return Outcome(read(found))
        if found.refused:
            failure = "The model refused to answer."
        elif found.cut and not longer:
            longer, question, place = True, question.longer(LONGER), replace(place, step="longer")
            continue
        elif not again:
            again, question, place = True, question.again(found.text, said), replace(place, step="again")
            continue
        else:
            failure = f"The answer could not be used: {said}."
        await caller.forget(used)
        return Outcome(None, failure)
