"""What an endpoint can do, in plain words, found by asking it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2

from labeler.config import ProposeConfig
from labeler.errors import LabelerError
from labeler.propose.endpoint.address import key_of, safe_url
from labeler.propose.endpoint.budget import Budget
from labeler.propose.endpoint.caller import Caller
from labeler.propose.endpoint.http import HttpExchange, clean
from labeler.propose.endpoint.probe import Understood
from labeler.propose.endpoint.wire import Failed
from labeler.seams import CallLedger

_FORMS = {
    "json_schema": "keeps the answer's form by schema",
    "json_object": "gives JSON, but keeps to no schema: the form is asked for in words",
    "text": "keeps no form: JSON is asked for in words and read out of the text",
}
_NAMED = 5  # models that are named where the right one is not among them


@dataclass(frozen=True)
class Heard:
    """One thing that was asked: whether it is well, and one sentence."""

    what: str
    works: bool
    says: str


def examine_endpoint(settings: ProposeConfig, ledger: CallLedger) -> list[Heard]:
    """Ask an endpoint for its models, and what it understands of a question with a picture.

    Args:
        settings: address, model and key of the endpoint; with ``llm`` no picture is sent.
        ledger: gets a row for every question.
    """
    try:
        address = safe_url(settings.base_url)
        key = key_of(settings.api_key_env, address)
    except LabelerError as error:
        return [Heard("endpoint", False, str(error))]
    exchange = HttpExchange(
        address, key, settings.api_key_env, settings.model, settings.temperature, settings.timeout
    )
    sees = "llm" not in settings.kind
    caller = Caller(settings, exchange, ledger, Budget(None, None, ledger.spent()), sees)
    return asyncio.run(_examine(exchange, caller, settings))


async def _examine(exchange: HttpExchange, caller: Caller, settings: ProposeConfig) -> list[Heard]:
    async with caller.open():
        heard = [await _models(exchange, settings)]
        try:
            understood = await caller.understand()
        except LabelerError as error:
            return [*heard, Heard("endpoint answers", False, str(error))]
    if isinstance(understood, Failed):
        return [*heard, Heard("endpoint answers", False, understood.cause)]
    return [*heard, *_dialect(understood)]


async def _models(exchange: HttpExchange, settings: ProposeConfig) -> Heard:
    found = await exchange.call(lambda c: c.get("/models", cast_to=httpx2.Response), settings.timeout)
    if isinstance(found, Failed):
        known = found.status in (404, 405, 501)
        says = "It lists no models; the question itself will tell." if known else found.cause
        return Heard("endpoint", known, f"{exchange.base_url}: {says}" if known else says)
    try:
        rows = json.loads(found.content)["data"]
        names = [clean(str(row["id"]), exchange.key) for row in rows]
        owners = {clean(str(row.get("owned_by") or ""), exchange.key) for row in rows} - {""}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Heard(
            "endpoint", False, f"{exchange.base_url} has no list of models: is that where the API begins?"
        )
    owner = f", says it is {', '.join(sorted(owners)[:3])}" if owners else ""
    if settings.model in names or not names:
        return Heard("endpoint", True, f"{exchange.base_url} has {settings.model}{owner}.")
    others = ", ".join(names[:_NAMED]) + (" and others" if len(names) > _NAMED else "")
    return Heard("endpoint", False, f"{exchange.base_url} has no {settings.model}, but {others}{owner}.")


def _dialect(found: Understood) -> Iterator[Heard]:
    dialect = found.dialect
    yield Heard("endpoint form", dialect.structured == "json_schema", f"It {_FORMS[dialect.structured]}.")
    if found.sees is not None:
        saw = "names" if found.sees else "does not name"
        form = {"webp": "WebP", "jpeg": "JPEG, not WebP"}[dialect.picture]
        yield Heard(
            "endpoint pictures", found.sees, f"It takes {form}, and {saw} the colours of a picture rightly."
        )
    left = [] if dialect.tokens == "max_tokens" else ["wants max_completion_tokens"]
    left += [] if dialect.temperature else ["takes no temperature"]
    if left:
        yield Heard("endpoint options", True, f"It {' and '.join(left)}; labeler asks accordingly.")
    if found.reported:
        yield Heard("endpoint usage", True, "It reports the tokens of every answer.")
    else:
        yield Heard("endpoint usage", False, "It reports no tokens: a budget counts every call at its most.")
