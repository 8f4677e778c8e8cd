"""Turns: halved on refusals, back up on good answers, never more out than allowed."""

from __future__ import annotations

import asyncio
import email.utils
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.propose.endpoint.http import retry_after
from labeler.propose.endpoint.pace import Pace, backoff


async def crowd(pace: Pace, count: int, hold: float = 0.001) -> int:
    """`count` calls at once; the most that were out together."""
    most = 0

    async def call() -> None:
        nonlocal most
        async with pace.turn():
            most = max(most, pace.out)
            await asyncio.sleep(hold)
            pace.good()

    await asyncio.gather(*(call() for _ in range(count)))
    assert pace.out == 0
    return most


def test_refusals_of_calls_that_were_out_together_count_once() -> None:
    pace = Pace(16)
    began = time.monotonic()
    for _ in range(16):
        pace.too_many(began, None)
    assert pace.limit == 8
    pace.too_many(time.monotonic() + 1, None)
    assert pace.limit == 4


def test_it_halves_down_to_one_and_recovers_to_what_was_asked_for() -> None:
    pace = Pace(8)
    for second in range(10):
        pace.too_many(time.monotonic() + second, None)
    assert pace.limit == 1
    assert asyncio.run(crowd(pace, 200)) <= 8
    assert pace.limit == 8


def test_a_wait_that_the_server_names_holds_everybody() -> None:
    pace = Pace(4)
    pace.too_many(time.monotonic(), 0.2)
    start = time.monotonic()
    asyncio.run(crowd(pace, 3))
    assert 0.2 <= time.monotonic() - start < 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 30), st.sets(st.integers(0, 29)))
def test_whoever_gives_up_blocks_nobody(most: int, count: int, gone: set[int]) -> None:
    async def scene() -> int:
        pace = Pace(most)
        done = 0

        async def call() -> None:
            nonlocal done
            async with pace.turn():
                assert pace.out <= most
                await asyncio.sleep(0)
                done += 1

        tasks = [asyncio.create_task(call()) for _ in range(count)]
        await asyncio.sleep(0)
        for number in gone:
            if number < count:
                tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return done

    assert asyncio.run(scene()) >= count - len(gone)


def test_waits_grow_unless_the_server_names_one() -> None:
    waits = [backoff(attempt, None) for attempt in range(12)]
    assert waits == sorted(waits)
    assert waits[1] == 2 * waits[0]
    assert waits[-1] <= 30
    assert backoff(5, 0.25) == 0.25


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_the_forms_of_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    found = retry_after(headers)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=2))


def test_retry_after_may_be_a_date() -> None:
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert retry_after({"retry-after": date}) == pytest.approx(60, abs=2)
