"""From a config to a proposer: which exchange carries the questions."""

from __future__ import annotations

from labeler.config import ProposeConfig
from labeler.propose.endpoint.address import CASSETTE, key_of, safe_url
from labeler.propose.endpoint.cassette import CassetteExchange
from labeler.propose.endpoint.exchange import Exchange
from labeler.seams import CallLedger

ENDPOINT_KINDS = ("vlm", "llm")
"""Those of ``propose.kind`` that ask a model."""


def make_exchange(settings: ProposeConfig, ledger: CallLedger) -> Exchange:
    """What carries the questions of a run; the key is read from the environment here, once.

    Raises:
        EndpointError: when the key is missing, or the address is none.
    """
    base_url = safe_url(settings.base_url)
    if base_url.startswith(CASSETTE):
        return CassetteExchange(base_url)
    # Not before it is needed: the client takes half a second to import.
    from labeler.propose.endpoint.http import HttpExchange

    key = key_of(settings.api_key_env, base_url)
    live = HttpExchange(
        base_url, key, settings.api_key_env, settings.model, settings.temperature, settings.timeout
    )
    if not settings.batch:
        return live
    from labeler.propose.endpoint.batch import BatchExchange

    return BatchExchange(live, ledger, settings.timeout)
