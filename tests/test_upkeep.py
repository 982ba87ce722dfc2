"""When rooms are seen to, and who is told; how each is brought up: test_rooms.py."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from tests.desks import start
from tests.roomhouse import House, in_house
from tests.xmppedge import OWN
from veilsupport.model import Standing


def test_who_is_in_the_staff_room_is_told_as_soon_as_it_stands(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        told: list[Collection[str] | None] = []
        house.rooms.on_staff = told.append
        await house.begin()
        assert told == [{OWN}]

    in_house(tmp_path, story)


def test_members_of_a_closed_room_are_seen_to_once_in_a_process(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.begin()
        session = await start(house.desk, "hello")
        room = await house.room_of(session)
        await house.until(lambda: house.server.said(room) == ["hello"])
        await house.reflects(room)
        await house.desk.store.set_standing(session.visitor.id, Standing.CLOSED, minute=0)
        another = House(house.desk, house.server)  # the same desk in a new process
        working = asyncio.create_task(another.rooms.run())
        asked = house.server.log
        for is_first in (True, False):
            asked.clear()
            await another.begin()
            await another.room_of(await start(another.desk, "hello"))
            assert (("get query muc#admin", room) in asked) is is_first
            assert ("join", room) not in asked
        working.cancel()

    in_house(tmp_path, story)
