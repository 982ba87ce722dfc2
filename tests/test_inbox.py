"""What waits for one reader: it comes in order, wakes who waits, and is lost by nothing; and the same of a listener."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilsupport.desk.listener import WAITING_MAX, Listener, Listeners
from veilsupport.inbox import Inbox
from veilsupport.model import Ended, Event, Typing

HERE, ELSEWHERE = b"heron", b"fox"


def in_loop(story: Callable[[], Awaitable[None]]) -> None:
    async def tell() -> None:
        async with asyncio.timeout(5):
            await story()

    asyncio.run(tell())


async def turn() -> None:
    """Everybody who can go on does so, and whatever that brings about."""
    for _ in range(5):
        await asyncio.sleep(0)


def typing(number: int) -> Event:
    return Typing(str(number))


# ---- the inbox ---------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), max_size=30))
def test_everything_comes_out_once_and_in_the_order_in_which_it_was_put(bursts: list[int]) -> None:
    async def story() -> None:
        inbox: Inbox[int] = Inbox()
        put = 0
        for burst in bursts:
            taken = [asyncio.ensure_future(inbox.get()) for _ in range(min(burst, 1))]  # waits already, or not
            await turn()
            first = put
            for _ in range(burst):
                inbox.put_nowait(put)
                put += 1
            assert inbox.qsize() == burst
            assert inbox.empty() is (burst == 0)
            rest = [await each for each in taken] + [await inbox.get() for _ in range(burst - len(taken))]
            assert rest == list(range(first, put))
        assert inbox.empty()

    in_loop(story)


def test_who_asks_before_there_is_anything_waits_and_gets_the_first() -> None:
    async def story() -> None:
        inbox: Inbox[str] = Inbox()
        getting = asyncio.ensure_future(inbox.get())
        await turn()
        assert not getting.done()
        inbox.put_nowait("one")
        inbox.put_nowait("two")
        assert await getting == "one"
        assert await inbox.get() == "two"

    in_loop(story)


def test_a_wake_without_an_item_brings_none_and_what_comes_later_is_still_waited_for() -> None:
    async def story() -> None:
        inbox: Inbox[str] = Inbox()
        getting, rounds = asyncio.ensure_future(inbox.get()), 3
        for _ in range(rounds):
            await turn()
            inbox.wake()
            inbox.wake()  # twice before anybody has looked: no harm
        await turn()
        assert not getting.done()
        inbox.put_nowait("one")
        assert await getting == "one"

    in_loop(story)


def test_who_waits_for_anything_to_happen_is_woken_by_an_item_and_by_a_mere_wake() -> None:
    async def story() -> None:
        inbox: Inbox[str] = Inbox()
        for happens in (inbox.wake, lambda: inbox.put_nowait("one")):
            stirring = asyncio.ensure_future(inbox.stir())
            await turn()
            assert not stirring.done()
            happens()
            await stirring
        assert inbox.qsize() == 1  # looking took nothing

    in_loop(story)


@pytest.mark.parametrize("turns", range(4))
def test_an_item_goes_to_who_waited_for_it_or_to_the_next_whenever_the_one_is_cancelled(turns: int) -> None:
    """Not to nobody: not even when it was on the way, so many turns of the loop long."""

    async def story() -> None:
        inbox: Inbox[str] = Inbox()
        getting = asyncio.ensure_future(inbox.get())
        await turn()
        inbox.put_nowait("one")
        for _ in range(turns):
            await asyncio.sleep(0)
        getting.cancel()
        (found,) = await asyncio.gather(getting, return_exceptions=True)
        assert found == "one" or await inbox.get() == "one"
        assert inbox.empty()

    in_loop(story)


@pytest.mark.parametrize("is_put_first", [True, False])
def test_whoever_is_cancelled_while_waiting_loses_nothing_for_the_next(is_put_first: bool) -> None:
    """Also when the item comes in the same turn of the loop, before or after the cancellation."""

    async def story() -> None:
        inbox: Inbox[str] = Inbox()
        getting = asyncio.ensure_future(inbox.get())
        await turn()
        for act in (inbox.put_nowait, lambda _: getting.cancel())[:: 1 if is_put_first else -1]:
            act("one")
        await asyncio.gather(getting, return_exceptions=True)
        assert getting.cancelled()
        assert await inbox.get() == "one"
        getting = asyncio.ensure_future(inbox.get())
        await turn()
        inbox.put_nowait("two")
        assert await getting == "two"

    in_loop(story)


def test_what_was_cleared_does_not_come() -> None:
    async def story() -> None:
        inbox: Inbox[str] = Inbox()
        getting = asyncio.ensure_future(inbox.get())
        await turn()
        inbox.put_nowait("old")
        inbox.clear()  # before who was woken by it has looked
        await turn()
        assert not getting.done()
        inbox.put_nowait("new")
        assert await getting == "new"

    in_loop(story)


# ---- a listener --------------------------------------------------------------------------------------------------


def listening() -> tuple[Listeners, Listener]:
    listeners = Listeners()
    return listeners, listeners.add(HERE, b"session")


def test_the_next_event_is_waited_for_without_a_limit() -> None:
    async def story() -> None:
        listeners, page = listening()
        waiting = asyncio.ensure_future(page.next())
        await turn()
        listeners.tell(ELSEWHERE, typing(0))
        await turn()
        assert not waiting.done()
        listeners.tell(HERE, typing(1))
        listeners.tell(HERE, typing(2))
        assert [await waiting, await page.next()] == [typing(1), typing(2)]

    in_loop(story)


@pytest.mark.parametrize("limit", [None, 60.0])
def test_a_wake_lets_whoever_waits_look_at_something_else(limit: float | None) -> None:
    async def story() -> None:
        listeners, page = listening()
        waiting = asyncio.ensure_future(page.next(limit))
        await turn()
        page.wake()
        assert await waiting is None
        listeners.tell(HERE, typing(1))
        page.wake()
        assert await page.next(limit) == typing(1)  # what has come is not passed over for it

    in_loop(story)


def test_nothing_within_the_time_is_none_and_loses_no_later_event() -> None:
    async def story() -> None:
        listeners, page = listening()
        assert await page.next(0) is None
        listeners.tell(HERE, typing(1))
        assert await page.next(0) == typing(1)

    in_loop(story)


def test_an_event_that_comes_as_its_reader_is_cancelled_waits_for_the_next_one() -> None:
    async def story() -> None:
        listeners, page = listening()
        waiting = asyncio.ensure_future(page.next())
        await turn()
        listeners.tell(HERE, typing(1))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await page.next() == typing(1)

    in_loop(story)


def test_whoever_falls_too_far_behind_gets_an_end_in_place_of_it_all_and_is_told_no_more() -> None:
    async def story() -> None:
        listeners, page = listening()
        for number in range(WAITING_MAX):
            listeners.tell(HERE, typing(number))
        assert len(listeners) == 1  # as many as that may wait
        listeners.tell(HERE, typing(WAITING_MAX))
        assert len(listeners) == 0
        listeners.tell(HERE, typing(WAITING_MAX + 1))
        assert await page.next() == Ended(burned=False)
        assert await page.next(0) is None

    in_loop(story)


def test_a_closed_page_is_forgotten_and_its_siblings_hear_on() -> None:
    async def story() -> None:
        listeners, page = listening()
        sibling = listeners.add(HERE, b"other session")
        page.close()
        page.close()
        listeners.tell(HERE, typing(1))
        assert await sibling.next() == typing(1)
        assert await page.next(0) is None
        sibling.close()
        assert not listeners._of

    in_loop(story)
