"""Rooms again: what was refused, what the disk did not take, and who must not wait for it. Over a stub of a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast
from xml.etree.ElementTree import Element

import pytest

from tests.desks import ADA, NOON, start
from tests.roomhouse import SERVICE, House, Server, bounced, in_house
from tests.xmppedge import in_loop
from veilsupport.errors import StoreError, Unavailable
from veilsupport.xmpp.line import Declined, Line
from veilsupport.xmpp.pacing import SMALLEST
from veilsupport.xmpp.refusals import ASK_AGAIN_SECONDS
from veilsupport.xmpp.roomservice import Refused, RoomService

IN_ROOMS = "a room for each visitor"


def _no_visitors_room(what: str, to: str) -> Declined | None:
    return Declined("not-allowed") if what == "join" and to.startswith("v-") else None


def _no_room(what: str, to: str) -> Declined | None:
    return Declined("not-allowed") if what == "join" else None


# ---- what was refused ------------------------------------------------------------------------------------------------


def test_a_server_that_refused_all_rooms_is_asked_again_in_the_same_session(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.server.answer = _no_room
        await house.begin()
        session = await start(house.desk, "hello")
        await house.until(lambda: "hello" in str(house.server.said(ADA.address.reveal())))
        asked = len(house.server.log)
        await house.later(ASK_AGAIN_SECONDS - 10)
        assert len(house.server.log) == asked  # not yet
        house.server.answer = lambda what, to: None
        await house.later(10)
        assert house.rooms.form == IN_ROOMS
        await house.says(session, "in a room")
        await house.until(lambda: "in a room" in house.server.said(house.rooms.address(session.visitor.id) or ""))

    in_house(tmp_path, story)


def test_and_again_when_it_refused_again_or_the_connection_broke_meanwhile(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.server.answer = _no_room
        await house.begin()
        asked = house.server.log.count(("get query disco#items", "chat.example"))
        await house.later(ASK_AGAIN_SECONDS)
        assert house.server.log.count(("get query disco#items", "chat.example")) == asked + 1

        async def breaks(what: str, to: str) -> None:
            house.server.up.clear()
            raise Unavailable("gone")

        house.server.hold = breaks
        await house.later(ASK_AGAIN_SECONDS)
        assert not house.server.up.is_set()
        house.server.hold, house.server.answer = None, lambda what, to: None
        house.server.up.set()
        await house.later(ASK_AGAIN_SECONDS - 10)
        assert house.rooms.form != IN_ROOMS
        await house.later(10)
        assert house.rooms.form == IN_ROOMS

    in_house(tmp_path, story)


def test_one_room_that_was_refused_is_asked_for_again_in_the_same_session(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.server.answer = _no_visitors_room
        await house.begin()
        session = await start(house.desk, "hello")
        await house.until(lambda: "hello" in str(house.server.said(ADA.address.reveal())))
        house.server.answer = lambda what, to: None
        house.server.log.clear()
        await house.later(ASK_AGAIN_SECONDS)
        assert (await house.room_of(session)).startswith("v-")
        assert [to for what, to in house.server.log if to == house.server.domain] == []  # the others are let be

    in_house(tmp_path, story)


def test_a_refusal_that_the_disk_does_not_take_down_is_met_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(house: House) -> None:
        place_directly, refusals = house.desk.place_directly, 0

        async def full_twice(conversation: bytes | None, *, now: float) -> None:
            nonlocal refusals
            if conversation is not None and (refusals := refusals + 1) < 3:
                raise StoreError("full")
            await place_directly(conversation, now=now)

        monkeypatch.setattr(house.desk, "place_directly", full_twice)
        house.server.answer = _no_visitors_room
        await house.begin()
        await start(house.desk, "hello")
        await house.until(lambda: refusals == 2)
        assert house.server.said(ADA.address.reveal()) == []
        await house.later(60)
        await house.until(lambda: "hello" in str(house.server.said(ADA.address.reveal())))
        assert refusals == 3

    in_house(tmp_path, story)


# ---- the service -----------------------------------------------------------------------------------------------------


def _found(services: list[str], *, known: str) -> str:
    """Which of them is taken."""
    server = Server()
    server.services = services
    service = RoomService(cast("Line", server))
    in_loop(lambda: service.find(known=known))
    return service.jid


def test_the_service_that_is_known_is_kept_while_it_is_there() -> None:
    services = ["z.example", "A.example", "rooms.example"]
    assert _found(services, known="") == "a.example"
    assert _found(services, known="rooms.example") == "rooms.example"
    assert _found(services, known="gone.example") == "a.example"
    with pytest.raises(Refused):
        _found([], known="rooms.example")


def test_the_known_one_is_not_taken_when_it_has_no_rooms_any_more() -> None:
    async def story() -> None:
        server = Server()
        server.services = ["other.example", "rooms.example"]
        server.answer = lambda what, to: Declined("service-unavailable") if to == "rooms.example" else None
        service = RoomService(cast("Line", server))
        await service.find(known="rooms.example")
        assert service.jid == "other.example"

    in_loop(story)


def test_rooms_stay_where_they_are_when_the_server_gets_another_service(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "hello")
        room = await house.room_of(session)
        staff_room = house.desk.staff_room()
        house.server.services = ["another.example", SERVICE]
        await house.begin()
        assert await house.room_of(session) == room
        assert house.desk.staff_room() == staff_room

    in_house(tmp_path, story)


# ---- who must not wait -----------------------------------------------------------------------------------------------


def test_little_is_under_way_while_a_room_is_brought_up(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        waiting, go_on = asyncio.Event(), asyncio.Event()

        async def hold(what: str, to: str) -> None:
            if what == "archive" and to.startswith("v-"):
                waiting.set()
                await go_on.wait()

        house.server.hold = hold
        session = await start(house.desk, "hello")
        await house.until(waiting.is_set)
        assert house.rooms.is_bringing_up()
        for number in range(10):
            await house.desk.tell(ADA, f"notice {number}", now=NOON)
        await house.pump()
        said = house.server.said(ADA.address.reveal())
        assert len(said) == SMALLEST
        go_on.set()
        await house.until(lambda: house.rooms.address(session.visitor.id))
        assert not house.rooms.is_bringing_up()
        await house.until(lambda: len(house.server.said(ADA.address.reveal())) == 10)

    in_house(tmp_path, story)


def test_what_a_room_did_not_get_is_looked_for_while_others_are_written_to(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "hello")
        room = await house.room_of(session)
        await house.until(lambda: house.server.said(room) == ["hello"])  # and the room says nothing of it
        waiting, go_on = asyncio.Event(), asyncio.Event()

        async def hold(what: str, to: str) -> None:
            if (what, to) == ("archive", room):
                waiting.set()
                await go_on.wait()

        house.server.hold = hold
        await house.begin()
        await house.until(waiting.is_set)
        await house.desk.tell(ADA, "for Ada", now=NOON)
        await house.until(lambda: "for Ada" in str(house.server.said(ADA.address.reveal())))
        assert house.server.said(room) == ["hello"]
        go_on.set()
        await house.until(lambda: house.server.said(room) == ["hello", "hello"])

    in_house(tmp_path, story)


def test_an_error_of_a_members_app_does_not_say_that_we_are_out(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "hello")
        room = await house.room_of(session)
        await house.until(lambda: house.server.said(room) == ["hello"])
        line: Element = house.server.posted[-1]
        await house.rooms.hear(bounced(f"{room}/ada", line), "")
        assert house.rooms.address(session.visitor.id) == room
        await house.rooms.hear(bounced(room, line), "")
        assert house.rooms.address(session.visitor.id) is None

    in_house(tmp_path, story)
