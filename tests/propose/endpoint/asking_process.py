"""Asks about many units in a process of its own, which can be killed: ``URL CATALOGUE COUNT``."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from labeler.catalogue import Ledger
from labeler.config import ProposeConfig
from labeler.propose.endpoint import EndpointProposer
from labeler.propose.endpoint.connect import make_exchange
from tests.propose.endpoint.loopback import many

CONCURRENCY = 8


def main(url: str, catalogue: str, count: str) -> None:
    config = ProposeConfig(kind=("vlm",), model="toy", base_url=url, concurrency=CONCURRENCY, sheet_side=512)
    with closing(Ledger(Path(catalogue))) as ledger:
        proposer = EndpointProposer(config, make_exchange(config, ledger), ledger)
        for number, proposed in enumerate(proposer.propose_all(many(int(count)))):
            print(number, proposed.failure or proposed.proposals[0].text, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
