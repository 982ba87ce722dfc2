"""Rooms over a stub of a server with rooms and a real desk, for the tests of the room form."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast
from xml.etree.ElementTree import Element, SubElement

from tests.desks import ADA, NOON, desk_in
from tests.xmppedge import OWN, StubLine, in_loop
from veilsupport.desk import Desk
from veilsupport.model import Author, Session
from veilsupport.xmpp import muc
from veilsupport.xmpp.line import Declined, Line
from veilsupport.xmpp.muc import Joined, Occupants
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.rooms import Rooms
from veilsupport.xmpp.roomtalk import RoomTalk
from veilsupport.xmpp.sealing import Sealing

SERVICE = "rooms.example"
_DISCO = "{http://jabber.org/protocol/disco#info}"
_ITEMS = "{http://jabber.org/protocol/disco#items}"
_ADMIN = "{http://jabber.org/protocol/muc#admin}"
_USER = "{http://jabber.org/protocol/muc#user}"
_MAM = "{urn:xmpp:mam:2}"


class Server(StubLine):
    """A line to a server with rooms, and what it was asked. `answer` may decline a question, or leave it open."""

    def __init__(self) -> None:
        super().__init__()
        self.domain = "chat.example"
        self.occupants = Occupants()
        self.services: list[str] = [SERVICE]
        self.rooms: dict[str, list[Element]] = {}  # what each has in its archive
        self.members: dict[str, set[str]] = {}
        self.log: list[tuple[str, str]] = []
        self.answer: Callable[[str, str], Declined | None] = lambda what, to: None
        self.hold: Callable[[str, str], Awaitable[None]] | None = None  # before it answers

    async def _asked(self, what: str, to: str) -> Declined | None:
        self.log.append((what, to))
        if self.hold:
            await self.hold(what, to)
        return self.answer(what, to)

    async def join(self, room: str, nick: str, *, timeout_seconds: float = 60) -> Joined | Declined:
        if nick_now := self.occupants.own_nick(room):
            return Joined(nick_now, created=False)
        if declined := await self._asked("join", room):
            return declined
        created = room not in self.rooms
        self.rooms.setdefault(room, [])
        self.members.setdefault(room, set())
        presence = Element("{jabber:client}presence", {"from": f"{room}/{nick}"})
        user = SubElement(presence, f"{_USER}x")
        SubElement(user, f"{_USER}item", jid=f"{OWN}/x")
        for code in ["110", *(["201"] if created else [])]:
            SubElement(user, f"{_USER}status", code=code)
        joined = self.occupants.take(presence)
        assert joined
        return joined

    def leave(self, room: str) -> None:
        self.occupants.forget(room)

    async def ask(
        self, kind: str, payload: Element, *, to: str = "", timeout_seconds: float = 30
    ) -> Element | Declined:
        what = f"{kind} {payload.tag.partition('}')[2]} {payload.tag[1:].partition('}')[0].rpartition('/')[2]}"
        if payload.find("{http://jabber.org/protocol/muc#owner}destroy") is not None:
            what = "destroy"
        if declined := await self._asked(what, to):
            return declined
        answer = Element("{jabber:client}iq")
        match what:
            case "get query disco#items":
                offered = SubElement(answer, payload.tag)
                for service in self.services:
                    SubElement(offered, f"{_ITEMS}item", jid=service)
            case "get query disco#info":
                query = SubElement(answer, payload.tag)
                SubElement(query, f"{_DISCO}identity", category="conference", type="text")
                for feature in [*muc.NEEDED, muc.MUC]:
                    SubElement(query, f"{_DISCO}feature", var=feature)
            case "get query muc#admin":
                query = SubElement(answer, payload.tag)
                for jid in self.members[to] if payload[0].get("affiliation") == "member" else ():
                    SubElement(query, f"{_ADMIN}item", jid=jid)
            case "set query muc#admin":
                self.members[to] |= {item.get("jid", "") for item in payload}
            case "destroy":
                self.rooms.pop(to, None)
        return answer

    async def ask_archive(
        self, query: Element, query_id: str, *, of: str = ""
    ) -> tuple[list[Element], Element] | Declined:
        if declined := await self._asked("archive", of):
            return declined
        results = []
        for number, message in enumerate(self.rooms.get(of, []), 1):
            results.append(Element(f"{_MAM}result", id=f"a{number}"))
            SubElement(results[-1], "{urn:xmpp:forward:0}forwarded").append(message)
        answer = Element("{jabber:client}iq")
        SubElement(answer, f"{_MAM}fin", complete="true")
        return results, answer

    def said(self, room: str) -> list[str]:
        """What we said there, and how often."""
        bodies = (each.findtext("{jabber:client}body") for each in self.posted if each.get("to") == room)
        return [body for body in bodies if body]


class House:
    """Rooms over a real desk, with Ada for all its admins, and the pump."""

    def __init__(self, desk: Desk, server: Server) -> None:
        self.desk = desk
        self.server = server
        self.now = NOON
        line = cast("Line", server)
        self.outgoing = Outgoing(desk, line, spoke=lambda admin, alias: None, clock=lambda: self.now)
        sealing = Sealing(desk, None, keeps_archive=True, clock=lambda: self.now)
        talk = RoomTalk(desk, self.outgoing, sealing, own=OWN, clock=lambda: self.now)
        self.rooms = Rooms(
            desk, line, self.outgoing, talk, wanted=True, language=lambda site: "en", clock=lambda: self.now
        )
        self.outgoing.rooms = self.rooms

    async def begin(self) -> None:
        """A fresh session."""
        self.server.occupants.clear()
        await self.rooms.begin()
        self.outgoing.ready.set()

    async def pump(self) -> None:
        while await self.outgoing._send_batch():
            pass

    async def until(self, true: Callable[[], object]) -> None:
        """Whatever the workers still have to do for it, and what a moment's passing brings about."""
        async with asyncio.timeout(10):
            while not true():
                self.now += 0.01
                await self.pump()
                await asyncio.sleep(0.01)

    async def later(self, seconds: float) -> None:
        """The clock goes on, and whatever the tending has to do then has begun."""
        self.now += seconds
        for _ in range(2):
            self.rooms._news.set()
            await self.until(lambda: not self.rooms._news.is_set())

    async def room_of(self, session: Session) -> str:
        """When it stands."""
        await self.until(lambda: self.rooms.address(session.visitor.id))
        return self.rooms.address(session.visitor.id) or ""

    async def says(self, session: Session, body: str) -> None:
        await self.desk.visitor_says(session, body, once=body.encode(), now=NOON)

    async def hears(self, room: str, body: str, *, key: str) -> None:
        """Ada says something there."""
        await self.rooms.hear(line_of(room, body, key=key), ADA.address.reveal())

    async def reflects(self, room: str) -> None:
        """All that we said there comes back, once, and the room keeps it."""
        for message in self.server.posted:
            if message.get("to") == room and message not in self.server.rooms[room]:
                self.server.rooms[room].append(message)
                await self.rooms.hear(message_from(room, message), OWN)

    def answers(self, session: Session) -> list[str]:
        return [each.body for each in self.desk.history(session) if each.author is Author.ADMIN]


def message_from(room: str, message: Element) -> Element:
    back = Element(message.tag, {**message.attrib, "from": f"{room}/heron-42"})
    back.extend(message)
    return back


def line_of(room: str, body: str, *, key: str) -> Element:
    message = Element("{jabber:client}message", {"from": f"{room}/ada", "type": "groupchat", "id": key})
    SubElement(message, "{jabber:client}body").text = body
    SubElement(message, "{urn:xmpp:sid:0}stanza-id", by=room, id=f"live-{key}")
    return message


def archived(line: Element, speaker: str) -> Element:
    """As the room keeps it."""
    kept = Element(line.tag, line.attrib)
    kept.extend([each for each in line if not each.tag.endswith("stanza-id")])
    SubElement(SubElement(kept, f"{_USER}x"), f"{_USER}item", jid=f"{speaker}/phone")
    return kept


def bounced(room: str, message: Element, condition: str = "not-acceptable") -> Element:
    error = Element(message.tag, {"from": room, "type": "error", "id": message.get("id", "")})
    why = SubElement(error, "{jabber:client}error", type="cancel")
    SubElement(why, f"{{urn:ietf:params:xml:ns:xmpp-stanzas}}{condition}")
    return error


Story = Callable[[House], Awaitable[None]]


def in_house(directory: Path, story: Story) -> None:
    async def tell() -> None:
        async with desk_in(directory, (ADA,), uses_rooms=True) as desk:
            house = House(desk, Server())
            working = asyncio.create_task(house.rooms.run())
            await story(house)
            assert not working.done()
            working.cancel()

    in_loop(tell)
