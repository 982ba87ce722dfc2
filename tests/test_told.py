"""What a socket tells again, and what not; how a reader is shown how far a message has come."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.desks import NOON, desk_in, start
from veilsupport.model import Author, Message, MessageState, Progress, Site
from veilsupport.web.reading import Reading
from veilsupport.web.told import Told

DESK = {"open": True, "staffed": True, "away": None, "archived": False, "answer_minutes": None, "conversation": None}
SAID = Message(b"", 1, Author.ADMIN, "Ada", "at nin", 0, Progress.KEPT)


@pytest.mark.parametrize(
    ("change", "news"),
    [
        ({}, False),
        ({"answer_minutes": 7}, False),
        ({"conversation": "open"}, False),
        ({"conversation": "closed"}, True),
        ({"open": False}, True),
        ({"staffed": False, "away": "Back at nine."}, True),
    ],
)
def test_only_a_difference_of_the_desk_is_news_and_only_once(change: dict[str, object], news: bool) -> None:
    told = Told()
    assert told.desk(DESK)
    assert told.desk(DESK | change) is news
    assert not told.desk(DESK | change)


def test_a_state_is_news_as_far_as_it_may_be_shown_and_grows() -> None:
    told = Told()
    told.states([(1, Progress.HANDED_OVER)])
    assert not told.state(1, Progress.READ, shown=Progress.HANDED_OVER)
    assert told.state(1, Progress.READ, shown=Progress.READ)
    assert not told.state(1, Progress.ON_DEVICE, shown=Progress.ON_DEVICE)


def test_of_a_message_that_was_never_told_of_only_a_whole_state_is_news() -> None:
    told = Told()
    assert not told.state(1, Progress.READ, shown=Progress.HANDED_OVER)
    assert told.state(1, Progress.HANDED_OVER, shown=Progress.HANDED_OVER)
    assert not told.state(1, Progress.READ, shown=Progress.HANDED_OVER)


def test_a_message_is_news_in_each_of_its_forms_and_tells_its_state() -> None:
    told = Told()
    corrected = replace(SAID, body="at nine", state=MessageState.CORRECTED)
    assert [told.message(each) for each in (SAID, SAID, corrected, corrected)] == [True, False, True, False]
    assert not told.state(1, Progress.KEPT, shown=Progress.KEPT)


@pytest.mark.parametrize(("marks", "furthest"), [(True, Progress.READ), (False, Progress.HANDED_OVER)])
def test_without_read_marks_a_message_is_handed_over_at_most(tmp_path: Path, marks: bool, furthest: Progress) -> None:
    async def run() -> None:
        async with desk_in(tmp_path, sites={"": Site("", "", "", read_marks=marks)}) as desk:
            session = await start(desk)
            reading = Reading(desk, session)
            shown = [min(progress, furthest) for progress in Progress]
            assert [reading.shown(progress) for progress in Progress] == shown
            await desk.visitor_burns(session, now=NOON)  # of which site it was is known no more
            assert reading.shown(Progress.READ) is Progress.HANDED_OVER

    asyncio.run(run())
