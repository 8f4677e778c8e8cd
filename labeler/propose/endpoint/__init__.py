"""Language models behind OpenAI-compatible endpoints, as proposers.

The way of a question: `proposer` makes it of a unit's evidence, `ladder` asks again where an answer cannot be
used, `caller` looks into the cache and keeps account of every attempt within `pace` and `budget`, and an
exchange carries it: `exchange` over HTTP, `batch` through the batch API, `cassette` from recorded answers.
"""

from __future__ import annotations

from labeler.propose.endpoint.address import CASSETTE, key_of, safe_url
from labeler.propose.endpoint.budget import Limit, cost, expected_input, parse_limit
from labeler.propose.endpoint.proposer import PATIENCE, EndpointProposer
from labeler.propose.endpoint.wire import Question
from labeler.propose.templates import Template

__all__ = [
    "CASSETTE", "PATIENCE", "EndpointProposer", "Limit", "Question", "Template", "cost", "expected_input",
    "key_of", "parse_limit", "safe_url",
]  # fmt: skip
