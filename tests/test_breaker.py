"""The breaker: trips when there is too much of something, stays while it lasts, and relaxes by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilsupport import pressure
from veilsupport.breaker import BACKLOG, CALM_SECONDS, LAG_SECONDS, STARTS, Breaker, Cause
from veilsupport.errors import StoreError


def rush(breaker: Breaker, count: float, *, since: float = 0.0, seconds: float = 60.0) -> float:
    """So many want to start, evenly; the time after it."""
    for number in range(int(count)):
        breaker.knocked(now=since + seconds * number / count)
    breaker.look(now=since + seconds)
    return since + seconds


def test_an_ordinary_day_does_not_trip_it() -> None:
    breaker = Breaker()
    for second in range(3600):
        if second % 5 == 0:
            breaker.knocked(now=second)
        breaker.lagged(0.01)
        breaker.waiting(100)
        breaker.look(now=second)
        assert not breaker.is_tripped


def test_a_hundred_who_start_at_once_do_not_trip_it_and_two_hundred_do() -> None:
    breaker = Breaker()
    rush(breaker, 100, seconds=1)
    assert not breaker.is_tripped
    rush(breaker, 100, since=1, seconds=1)
    assert breaker.cause is Cause.STARTS


def test_too_much_that_waits_to_be_delivered_trips_it() -> None:
    breaker = Breaker()
    breaker.waiting(BACKLOG[0])
    breaker.look(now=0)
    assert breaker.cause is Cause.BACKLOG


def test_a_loop_that_is_late_for_seconds_trips_it_and_one_hiccup_does_not() -> None:
    breaker = Breaker()
    breaker.lagged(3600)  # a machine that slept
    breaker.look(now=0)
    assert not breaker.is_tripped
    for second in range(10):
        breaker.lagged(1.0)
        breaker.look(now=second)
    assert breaker.cause is Cause.LAG


def test_it_relaxes_after_all_has_been_low_for_a_while() -> None:
    breaker = Breaker()
    breaker.waiting(BACKLOG[0])
    breaker.look(now=0)
    breaker.waiting(BACKLOG[1])  # below what trips it, but not low yet
    breaker.look(now=10 * CALM_SECONDS)
    assert breaker.is_tripped
    breaker.waiting(BACKLOG[1] - 1)
    breaker.look(now=20 * CALM_SECONDS)
    breaker.look(now=21 * CALM_SECONDS - 1)
    assert breaker.is_tripped
    breaker.look(now=21 * CALM_SECONDS)
    assert (breaker.is_tripped, breaker.trips) == (False, 1)


def test_a_flood_that_pauses_for_a_minute_is_not_over() -> None:
    breaker = Breaker()
    breaker.waiting(BACKLOG[0])
    breaker.look(now=0)
    for minute in range(1, 20):
        breaker.waiting(BACKLOG[0] if minute % 2 else 0)
        breaker.look(now=minute * 60)
        assert breaker.is_tripped


def test_whoever_knocks_on_while_it_is_tripped_keeps_it_so() -> None:
    breaker = Breaker()
    now = rush(breaker, 2 * STARTS[0])
    for _ in range(10):
        now = rush(breaker, STARTS[1] + 20, since=now)
        assert breaker.is_tripped


def test_a_clock_that_is_set_back_does_not_hold_it() -> None:
    breaker = Breaker()
    now = rush(breaker, 2 * STARTS[0], since=1e9)
    assert breaker.is_tripped
    for second in range(10):
        breaker.look(now=now + 300 + second)  # calm begins
    for second in range(600):  # not the thirty years until the old time is back
        breaker.look(now=1000.0 + second)
    assert not breaker.is_tripped


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 10_000), st.floats(0, 3)), max_size=100))
def test_it_is_tripped_only_for_a_cause_and_never_for_ever(events: list[tuple[float, int, float]]) -> None:
    breaker, now = Breaker(), 0.0
    for passed, backlog, lag in events:
        now += passed
        breaker.knocked(now=now)
        breaker.waiting(backlog)
        breaker.lagged(lag)
        breaker.look(now=now)
    if not any(backlog >= BACKLOG[0] for _, backlog, _ in events) and not any(lag >= 0.5 for _, _, lag in events):
        assert not breaker.is_tripped
    breaker.waiting(0)
    for _ in range(600):
        now += 1
        breaker.lagged(0)
        breaker.look(now=now)
    assert not breaker.is_tripped


def test_the_watch_says_when_it_trips_and_when_it_relaxes_also_on_a_disk_that_gives_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pressure, "_LOOK_SECONDS", 0.001)

    async def run() -> list[bool]:
        said: list[bool] = []
        stop = asyncio.Event()
        looks: Iterator[int | None] = iter([*[0] * 3, *[BACKLOG[0]] * 3, None, *[0] * 500])

        def backlog() -> int:
            look = next(looks)
            if look is None:
                raise StoreError("no")
            return look

        def changed(pressed: bool) -> None:
            said.append(pressed)
            if not pressed:
                stop.set()

        ticks = iter(range(0, 1_000_000, 30))
        breaker = Breaker()
        async with asyncio.timeout(20):
            await pressure.watch(breaker, backlog=backlog, clock=lambda: next(ticks), on_change=changed, stop=stop)
        return said

    assert asyncio.run(run()) == [True, False]


def test_the_numbers_leave_room_between_tripping_and_relaxing() -> None:
    for high, low in (LAG_SECONDS, BACKLOG, STARTS):
        assert 0 < 2 * low <= high
