"""What a run may spend: a call is made only when it cannot take the run over its budget.

Input tokens of a picture are the model's secret. They are expected by a common rule, and then by the greatest
ratio of reported to expected tokens so far; until the first report one call is out at a time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil

from labeler.config import PricesConfig
from labeler.errors import PausedError, UsageError
from labeler.propose.endpoint.wire import Question
from labeler.seams import Call, Spent

CHARACTERS = 3.0
"""Characters of text per token, at least: English prose has about four."""
PIXELS = 784.0
"""Pixels of a picture per token, 28 × 28 (Qwen2-VL). Other models take fewer or up to ten times as many;
the first report says."""
MARGIN = 1.05
"""The expected input of a call is so many times what the greatest ratio so far gives."""
_WRITTEN = re.compile(r"^\s*(\d+(?:[.,]\d+)?)\s*([A-Za-z]*)\s*$")


@dataclass(frozen=True)
class Limit:
    """A budget: tokens, or money in the currency of the config's prices. One of them is None."""

    tokens: int | None = None
    money: float | None = None
    currency: str = ""

    def __str__(self) -> str:
        return f"{self.tokens:,} tokens" if self.tokens is not None else f"{self.money:g} {self.currency}"


def parse_limit(text: str, prices: PricesConfig | None) -> Limit:
    """Read ``200000``, ``200000 tokens`` or ``2.50 USD``.

    Raises:
        UsageError: when it is neither, or is money and the config has no prices in that currency.
    """
    match = _WRITTEN.match(text)
    if match is None:
        raise UsageError(f"--budget takes tokens or money, 200000 or 2.50USD, not {text!r}.")
    amount, unit = float(match[1].replace(",", ".")), match[2].upper()
    if unit in ("", "TOKENS"):
        if amount != int(amount):
            raise UsageError(f"--budget in tokens is a whole number, not {text!r}; money needs its currency.")
        return Limit(tokens=int(amount))
    if prices is None:
        raise UsageError(
            "--budget in money needs propose.prices in the config: input and output, per million tokens, and"
            " currency."
        )
    if unit != prices.currency.upper():
        raise UsageError(f"--budget is in {unit}, but propose.prices are in {prices.currency}.")
    return Limit(money=amount, currency=prices.currency)


def cost(input_tokens: float, output_tokens: float, prices: PricesConfig) -> float:
    """What so many tokens cost, in the prices' currency."""
    return (input_tokens * prices.input + output_tokens * prices.output) / 1e6


def expected_input(question: Question, side: int) -> int:
    """Input tokens by the common rule: text by its length, a picture as `side` × `side` pixels."""
    return ceil(question.words / CHARACTERS + (side**2 / PIXELS if question.picture else 0))


@dataclass(eq=False)
class _Out:
    """A call that is out, and what it may take at most."""

    input_tokens: float
    output_tokens: float


class Budget:
    """What is spent, and what the calls that are out may take at most. For one event loop at a time.

    Args:
        limit: None: whatever it takes.
        prices: per million tokens; needed by a limit in money.
        spent: what the run took before.
    """

    def __init__(self, limit: Limit | None, prices: PricesConfig | None, spent: Spent) -> None:
        self._limit, self._prices = limit, prices
        self._input, self._output = float(spent.input_tokens), float(spent.output_tokens)
        self._ratio = spent.input_ratio
        self._answered = spent.input_tokens > 0
        self._out: list[_Out] = []
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def call(self, expected: int, most_output: int) -> AsyncIterator[Callable[[Call], None]]:
        """Wait until a call fits beside those that are out. What this gives is told the call's row, where it
        took anything.

        Raises:
            PausedError: when it does not fit and none is out.
        """
        while not self._fits(out := _Out(self._expect(expected), most_output)):
            if not self._out:
                raise PausedError(
                    f"Paused before a call that could exceed the budget of {self._limit}"
                    f" ({self._said()}); run again with a larger --budget to go on."
                )
            await self._one_back()
        self._out.append(out)
        try:
            yield self._took
        finally:
            self._out.remove(out)
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def _took(self, row: Call) -> None:
        reported = row.billing == "reported"
        self._input += (row.input_tokens or 0) if reported else row.expected_input
        self._output += (row.output_tokens or 0) if reported else row.expected_output
        self._answered = True
        if reported and row.expected_input:
            self._ratio = max(self._ratio or 0.0, (row.input_tokens or 0) / row.expected_input)

    def _expect(self, expected: int) -> float:
        return expected if self._ratio is None else expected * self._ratio * MARGIN

    def _fits(self, call: _Out) -> bool:
        if self._limit is None:
            return True
        if not self._answered and self._out:
            return False  # the first answer tells what the others may take
        given = self._input + call.input_tokens + sum(out.input_tokens for out in self._out)
        taken = self._output + call.output_tokens + sum(out.output_tokens for out in self._out)
        if self._limit.tokens is not None:
            return given + taken <= self._limit.tokens
        assert self._limit.money is not None
        assert self._prices is not None  # `parse_limit` saw to it
        return cost(given, taken, self._prices) <= self._limit.money

    def _said(self) -> str:
        tokens = f"{round(self._input + self._output):,} tokens spent"
        if self._prices is None:
            return tokens
        return f"{cost(self._input, self._output, self._prices):.4g} {self._prices.currency}, {tokens}"

    async def _one_back(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future
