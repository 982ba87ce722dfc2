"""The card of who waits, and who is there to read it: with a real desk, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast
from xml.etree.ElementTree import Element, SubElement

import pytest

from tests.desks import ADA, BERT, NOON, desk_in, intake, start
from tests.xmppedge import StubLine
from veilsupport.desk import Desk, Waiting
from veilsupport.desk.requests import RINGS
from veilsupport.errors import StoreError, Unavailable
from veilsupport.model import Admin, Delivery, Session, Site
from veilsupport.xmpp import card
from veilsupport.xmpp.attending import Attending
from veilsupport.xmpp.card import Card
from veilsupport.xmpp.line import Declined, Line

STAFF = "desk-0123@rooms.example"
ADAS = "ada@chat.example/phone"
BERTS = "bert@chat.example/phone"
_REPLACE = "{urn:xmpp:message-correct:0}replace"


class Phones(StubLine):
    """A line to phones, of which some show corrections."""

    def __init__(self) -> None:
        super().__init__()
        self.corrects = {ADAS, BERTS}
        self.asked: list[str] = []
        self.breaks = False

    async def ask(
        self, kind: str, payload: Element, *, to: str = "", timeout_seconds: float = 30
    ) -> Element | Declined:
        if self.breaks:
            raise Unavailable("gone")
        self.asked.append(to)
        if to not in self.corrects:
            return Declined("service-unavailable")
        answer = Element("{jabber:client}iq")
        query = SubElement(answer, "{http://jabber.org/protocol/disco#info}query")
        SubElement(query, "{http://jabber.org/protocol/disco#info}feature", var="urn:xmpp:message-correct:0")
        return answer


class Office:
    """A desk with a card, Ada in the staff room if `staff`, and Bert online at home."""

    def __init__(self, desk: Desk, *, staff: bool = True) -> None:
        self.desk = desk
        self.now = NOON
        self.line = Phones()
        self.staff = staff
        self.sealed = True
        self.ready = True
        self.attending = Attending(desk)
        self.card = Card(
            desk,
            cast("Line", self.line),
            self.attending,
            seal=self._seal,
            staff_room=lambda: STAFF if self.staff else None,
            is_ready=lambda: self.ready,
            clock=lambda: self.now,
        )
        self.begin()

    def begin(self) -> None:
        self.attending.begin()
        self.card.begin()
        self.attending.in_staff_room({"ada@chat.example", "desk@chat.example"} if self.staff else None)
        self.attending.presence(ADAS, True)
        self.attending.presence(BERTS, True)

    async def _seal(self, message: Element, delivery: Delivery) -> Element | None:
        return message if self.sealed else None

    async def look(self) -> list[tuple[str, str, str]]:
        """What is posted: to whom, instead of which, and what it says below the mark."""
        before = len(self.line.posted)
        await self.card._look()
        return [_shown(message) for message in self.line.posted[before:]]

    def ids(self) -> list[str]:
        return [message.get("id", "") for message in self.line.posted]

    async def answer(self, session: Session) -> None:
        conversation = self.desk.conversation(session)
        assert conversation
        await self.desk.admin_says(ADA, conversation.alias, "hello", intake=intake(), now=self.now, in_room=True)


def _shown(message: Element) -> tuple[str, str, str]:
    replace = message.find(_REPLACE)
    body = (message.findtext("{jabber:client}body") or "").removeprefix("⚙ ")
    return message.get("to", ""), "" if replace is None else replace.get("id", ""), body


def in_office(directory: Path, story: Callable[[Office], Awaitable[None]], *, staff: bool = True) -> None:
    async def tell() -> None:
        shop = Site("shop", "The shop", "")
        async with desk_in(
            directory, (ADA, BERT), sites={"": Site("", "", ""), "shop": shop}, uses_rooms=staff
        ) as desk:
            await story(Office(desk, staff=staff))

    asyncio.run(asyncio.wait_for(tell(), 20))


def alias(office: Office, session: Session) -> str:
    found = office.desk.conversation(session)
    assert found
    return found.alias


# ---- where it stands -------------------------------------------------------------------------------------------------


def test_it_stands_in_the_staff_room_and_with_whoever_is_not_there(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        assert await office.look() == []  # nobody waits
        session = await start(office.desk, site="shop")
        [(to, instead, words), other] = await office.look()
        assert (to, instead) == (STAFF, "")
        assert other == ("bert@chat.example", "", words)
        title, line = words.split("\n")
        assert title == "Waiting for an answer: 1"
        assert line.startswith(alias(office, session))
        assert "shop" in line
        assert await office.look() == []
        office.attending.presence(BERTS, False)
        office.attending.presence(ADAS, False)
        await start(office.desk)
        assert [to for to, _, _ in await office.look()] == [STAFF]

    in_office(tmp_path, story)


def test_without_a_staff_room_everybody_who_is_online_has_one(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        await start(office.desk)
        assert [to for to, _, _ in await office.look()] == ["ada@chat.example", "bert@chat.example"]

    in_office(tmp_path, story, staff=False)


# ---- how it changes --------------------------------------------------------------------------------------------------


def test_it_is_corrected_in_place_and_posted_anew_when_somebody_waits_after_nobody_did(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        one = await start(office.desk)
        await office.look()
        first, his = office.ids()
        two = await start(office.desk)
        assert [(to, instead) for to, instead, _ in await office.look()] == [
            (STAFF, first),
            ("bert@chat.example", his),
        ]
        await office.answer(one)
        [(_, instead, words), _] = await office.look()
        assert instead == first
        assert alias(office, one) not in words
        await office.answer(two)
        assert await office.look() == [
            (STAFF, first, "Nobody waits for an answer."),
            ("bert@chat.example", his, "Nobody waits for an answer."),
        ]
        assert await office.look() == []
        await office.desk.visitor_says(one, "and", once=b"1", now=office.now)
        assert [instead for _, instead, _ in await office.look()] == ["", ""]

    in_office(tmp_path, story)


def test_the_minutes_on_it_are_brought_up_to_date_now_and_then_and_the_owner_at_once(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        session = await start(office.desk)
        office.attending.presence(BERTS, False)
        await office.look()
        office.now += 240
        assert await office.look() == []
        office.now += 60
        [(_, instead, words)] = await office.look()
        assert instead == office.ids()[0]
        assert "5 min" in words
        await office.answer(session)
        await office.look()
        await office.desk.visitor_says(session, "and", once=b"1", now=office.now)
        [(_, _, words)] = await office.look()
        assert "Ada" in words
        conversation = office.desk.conversation(session)
        assert conversation
        await office.desk.store.set_owner(conversation.id, office.desk.admin_id(BERT), minute=0)
        [(_, _, words)] = await office.look()
        assert "Bert" in words
        assert "Ada" not in words

    in_office(tmp_path, story)


def test_where_corrections_are_not_shown_it_comes_anew_for_a_new_visitor_only(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        office.staff = False
        office.line.corrects.discard(BERTS)
        office.attending.presence(ADAS, False)
        one = await start(office.desk)
        await office.look()
        two = await start(office.desk)
        assert [instead for _, instead, _ in await office.look()] == [""]
        await office.answer(one)
        assert await office.look() == []
        three = await start(office.desk)
        [(_, instead, words)] = await office.look()
        assert instead == ""
        assert words.startswith("Waiting for an answer: 2")
        await office.answer(two)
        await office.answer(three)
        assert await office.look() == []
        await start(office.desk)
        assert len(await office.look()) == 1
        assert office.line.asked == [BERTS]  # once a session
        office.begin()
        office.attending.presence(ADAS, False)
        await office.answer(one)
        await start(office.desk)
        await office.look()
        assert office.line.asked == [BERTS, BERTS]

    in_office(tmp_path, story, staff=False)


def test_every_app_of_an_admin_has_to_show_corrections(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        office.attending.presence(f"{BERTS}-2", True)
        await start(office.desk)
        await office.look()
        await start(office.desk)
        assert [instead == "" for _, instead, _ in await office.look()] == [False, True]

    in_office(tmp_path, story)


def test_more_of_the_same_are_a_number_on_a_line_that_stands(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        for number in range(RINGS):
            await start(office.desk, "buy our watches, they are very good", seed=b"%d" % number)
        await office.look()
        first, his = office.ids()
        await start(office.desk, "buy our watches, they are very good")
        await start(office.desk, "buy our watches, they are very good")
        [(_, instead, words), (_, other, _)] = await office.look()
        assert (instead, other) == (first, his)
        assert words.startswith(f"Waiting for an answer: {RINGS + 2}\n")
        assert [line.endswith(", and 2 more like this") for line in words.split("\n")[1:]].count(True) == 1
        assert len(words.split("\n")) == 1 + RINGS

    in_office(tmp_path, story)


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        for number in range(25):
            await start(office.desk, f"hello {number}")
        [(_, _, words), _] = await office.look()
        assert words.startswith("Waiting for an answer: 25\n")
        assert words.endswith("\nand 5 more: !list")
        assert len(words.split("\n")) == 22

    in_office(tmp_path, story)


# ---- what stands in the way ------------------------------------------------------------------------------------------


def test_what_could_not_be_posted_is_posted_later(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        await start(office.desk)
        office.sealed = False  # no keys yet
        assert await office.look() == []
        office.sealed, office.ready = True, False  # the line broke in the meantime
        assert await office.look() == []
        office.ready = True
        assert len(await office.look()) == 2

    in_office(tmp_path, story)


def test_in_a_rush_it_leaves_the_line_to_what_visitors_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "_NEWS_SECONDS", 0.0)
    monkeypatch.setattr(card, "_PAUSE_SECONDS", 60.0)

    async def rush(office: Office, looks: int) -> None:
        for _ in range(looks):
            await start(office.desk)
            office.card.look()

    async def story(office: Office) -> None:
        running = asyncio.create_task(office.card.run())
        await rush(office, 1)
        async with asyncio.timeout(5):
            while not office.line.posted:
                await asyncio.sleep(0)
        posted = len(office.line.posted)
        await rush(office, 20)
        assert len(office.line.posted) == posted
        assert office.card._news.is_set()
        running.cancel()

    in_office(tmp_path, story)


def test_a_broken_connection_or_disk_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "_PAUSE_SECONDS", 0.0)

    async def story(office: Office) -> None:
        running = asyncio.create_task(office.card.run())
        office.staff = False
        await start(office.desk)
        office.card.look()
        async with asyncio.timeout(5):
            while len(office.line.posted) < 1:
                await asyncio.sleep(0.01)
        office.line.breaks = True
        await start(office.desk)
        office.card.look()
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while office.card._news.is_set():
                await asyncio.sleep(0.01)
        office.desk.waiting = _no_disk  # type: ignore[method-assign]
        office.card.look()
        async with asyncio.timeout(5):
            while office.card._news.is_set():
                await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()

    in_office(tmp_path, story)


def _no_disk(admin: Admin | None, *, now: float) -> list[Waiting]:
    raise StoreError("The disk did not give it.")


# ---- who is there ----------------------------------------------------------------------------------------------------


def test_who_is_in_the_staff_room_is_there_and_else_whoever_is_online(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        def staffed() -> bool:
            return office.desk.attendance("", now=NOON).staffed

        assert staffed()
        office.attending.in_staff_room({"desk@chat.example"})
        assert not staffed()  # online as they are, nothing rings in that room
        office.attending.in_staff_room(None)
        assert staffed()
        for device in (ADAS, BERTS):
            office.attending.presence(device, False)
        assert not staffed()

    in_office(tmp_path, story)


def test_a_new_session_says_nothing_of_anybody_until_it_knows(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        told: list[object] = []
        office.desk.listeners.tell_all = told.append  # type: ignore[method-assign, assignment]
        office.attending.begin()
        office.attending.presence(BERTS, True)
        assert told == []
        office.attending.in_staff_room({"ada@chat.example"})
        assert told == []  # it is as it was
        office.attending.in_staff_room({"bert@chat.example"})
        assert len(told) == 1

    in_office(tmp_path, story)


def test_where_nobody_can_be_seen_whoever_answers_counts_as_there(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        attending = Attending(office.desk)
        attending.begin()
        attending.in_staff_room(None)
        assert office.desk.attendance("", now=NOON).staffed

    in_office(tmp_path, story, staff=False)
