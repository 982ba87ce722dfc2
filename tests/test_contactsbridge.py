"""The component form's queue and session, by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast
from xml.etree.ElementTree import Element

import pytest

from tests.contactform import ACCOUNT, StubComponent, body
from tests.desks import NOON, desk_in, start
from tests.xmppedge import in_loop
from veilsupport.desk import Desk
from veilsupport.errors import StoreError
from veilsupport.model import Progress
from veilsupport.xmpp import ContactsBridge, Pace, contactsbridge
from veilsupport.xmpp.component import Component
from veilsupport.xmpp.signals import Acknowledged, Heard, Lost, Started


@contextlib.asynccontextmanager
async def bridge_in(directory: Path) -> AsyncIterator[tuple[ContactsBridge, StubComponent]]:
    async with desk_in(directory) as desk:
        bridge = ContactsBridge(desk, ACCOUNT, on_change=lambda state: None, pace=Pace(pong=1))
        real, stub = bridge._line, StubComponent()
        for part in (bridge, bridge._outgoing, bridge._contacts, bridge._talk):
            part._line = cast("Component", stub)
        yield bridge, stub
        real.drop()


def test_reading_stops_while_more_comes_in_than_can_be_taken(tmp_path: Path) -> None:
    async def story() -> None:
        async with bridge_in(tmp_path) as (bridge, stub):
            for _ in range(contactsbridge.QUEUE_MAX):
                bridge._hear(Lost())
            assert stub.reads_on == [False]
            worker = asyncio.create_task(bridge._work())
            while bridge._queue:
                await asyncio.sleep(0)
            assert stub.reads_on[1:2] == [True]
            worker.cancel()

    in_loop(story)


def test_disk_that_refuses_is_asked_again_and_nothing_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        monkeypatch.setattr(contactsbridge, "_DISK_PAUSE_SECONDS", 0)
        async with bridge_in(tmp_path) as (bridge, _):
            tries = 0

            async def take(message: Element) -> None:
                nonlocal tries
                tries += 1
                if tries < 3:
                    raise StoreError("full")

            monkeypatch.setattr(bridge._talk, "take", take)
            await bridge._stubbornly(Heard(Element("x")))
            assert tries == 3

    in_loop(story)


def test_a_session_begins_with_what_the_last_one_left_open(tmp_path: Path) -> None:
    async def story() -> None:
        async with bridge_in(tmp_path) as (bridge, _):
            session = await start(bridge._desk, "hello")
            lost = [each.stanza_id for each in bridge._desk.due(now=NOON)]
            await bridge._desk.delivery_sent(lost, now=NOON)
            await bridge._handle(Started(7))
            assert bridge._desk.unacknowledged() != []  # that connection is gone already
            await bridge._handle(Started(1))
            assert [each.stanza_id for each in bridge._desk.due(now=NOON)] == lost
            assert bridge._desk.line_is_up
            await bridge._outgoing._send_batch()
            await bridge._handle(Acknowledged(lost[0]))
            assert bridge._desk.history(session)[0].progress is Progress.HANDED_OVER
            bridge._hear(Lost())
            assert _is_down(bridge._desk)

    in_loop(story)


def _is_down(desk: Desk) -> bool:
    return not desk.line_is_up


def test_what_waited_for_rooms_goes_to_contacts(tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_in(tmp_path, uses_rooms=True) as desk:
            await start(desk, "from before")
        async with bridge_in(tmp_path) as (bridge, stub):
            await bridge._handle(Started(1))
            await bridge._outgoing._send_batch()
            assert "from before" in {body(each) for each in stub.posted}

    in_loop(story)
