"""Intake and pump over a real desk and a stub of a line, for the tests of the XMPP edge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast
from xml.etree.ElementTree import Element, SubElement

from tests.desks import NOON
from veilsupport.desk import Desk
from veilsupport.errors import Unavailable
from veilsupport.model import Author, Session
from veilsupport.xmpp.direct import Direct
from veilsupport.xmpp.intake import Incoming
from veilsupport.xmpp.line import Declined, Line
from veilsupport.xmpp.outgoing import Outgoing
from veilsupport.xmpp.rooms import Rooms
from veilsupport.xmpp.roomtalk import RoomTalk
from veilsupport.xmpp.sealing import Sealing
from veilsupport.xmpp.signals import Asked, Signal, Trouble

OWN = "desk@chat.example"


def in_loop(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 20))


def words(text: str, *extra: Element, sender: str = "ada@chat.example/phone", key: str = "m1") -> Element:
    element = Element("{jabber:client}message", {"from": sender, "to": OWN, "type": "chat", "id": key})
    SubElement(element, "{jabber:client}body").text = text
    element.extend(extra)
    return element


def stanza_id(value: str, by: str = OWN) -> Element:
    return Element("{urn:xmpp:sid:0}stanza-id", by=by, id=value)


def answers(desk: Desk, session: Session) -> list[str]:
    return [each.body for each in desk.history(session) if each.author is Author.ADMIN]


class StubLine:
    """What the intake and the pump need of a line; answers questions from a script."""

    def __init__(self) -> None:
        self.own = OWN
        self.connection = 1
        self.up = asyncio.Event()
        self.up.set()
        self.acknowledges = True
        self.posted: list[Element] = []
        self.acknowledged: list[int] = []
        self.requests = 0
        self.cuts: list[Trouble] = []
        self.forgotten = 0
        self.archive: list[tuple[str, Element]] | Declined | None = []  # None: the connection breaks

    def post(self, message: Element) -> None:
        self.posted.append(message)

    def ask_for_acknowledgement(self) -> None:
        self.requests += 1

    async def settled(self) -> None:
        """The server has had all that was posted."""

    def acknowledge(self, asked: Asked) -> None:
        self.acknowledged.append(asked.handled)

    def cut(self, trouble: Trouble) -> None:
        self.cuts.append(trouble)
        self.up.clear()

    def forget_session(self) -> None:
        self.forgotten += 1

    def send_presence(self, **attributes: str) -> None:
        pass

    async def ask(
        self, kind: str, payload: Element, *, to: str = "", timeout_seconds: float = 30
    ) -> Element | Declined:
        return Declined("service-unavailable")

    async def ask_archive(
        self, query: Element, query_id: str, *, of: str = ""
    ) -> tuple[list[Element], Element] | Declined:
        if self.archive is None:
            self.up.clear()
            raise Unavailable("gone")
        if isinstance(self.archive, Declined):
            return self.archive
        after = query.findtext("{http://jabber.org/protocol/rsm}set/{http://jabber.org/protocol/rsm}after")
        ids = [archive_id for archive_id, _ in self.archive]
        if after and after not in ids:
            return Declined("item-not-found")
        part = self.archive[ids.index(after) + 1 if after else 0 :]
        fin = Element("{urn:xmpp:mam:2}fin", complete="true")
        answer = Element("{jabber:client}iq")
        answer.append(fin)
        return [_result(archive_id, message) for archive_id, message in part], answer


def _result(archive_id: str, message: Element) -> Element:
    result = Element("{urn:xmpp:mam:2}result", id=archive_id)
    SubElement(result, "{urn:xmpp:forward:0}forwarded").append(message)
    return result


class Edge:
    """Intake and pump over a real desk and a stub of a line."""

    def __init__(self, desk: Desk, stub: StubLine) -> None:
        self.stub = stub
        self.ready = 0
        line = cast("Line", stub)
        self.desk = desk
        self.direct = direct = Direct(desk, clock=lambda: NOON)
        self.outgoing = Outgoing(desk, line, spoke=direct.spoke, clock=lambda: NOON)
        sealing = Sealing(desk, None, keeps_archive=True, clock=lambda: NOON)
        talk = RoomTalk(desk, self.outgoing, sealing, own=OWN, clock=lambda: NOON)
        self.rooms = Rooms(desk, line, self.outgoing, talk, wanted=False, language=lambda site: "", clock=lambda: NOON)
        self.outgoing.rooms = self.rooms
        self.incoming = Incoming(
            desk,
            line,
            self.outgoing,
            direct,
            self.rooms,
            sealing,
            set_up_seconds=5,
            on_ready=self._is_ready,
            clock=lambda: NOON,
        )

    def _is_ready(self) -> None:
        self.ready += 1

    async def hear(self, *heard: Signal) -> None:
        """Let the worker take these, one after the other, from admins who have seen every visitor's words."""
        for admin in self.desk.admins:
            for alias in self.desk.open_aliases(admin):
                if admin not in self.direct._possible:
                    self.direct.spoke(admin, alias)
        for signal in heard:
            self.incoming.hear(signal)
        while self.incoming._queue:
            await self.incoming._handle(self.incoming._next())

    async def pump(self) -> list[str]:
        """Send what is due; the ids."""
        before = len(self.stub.posted)
        while await self.outgoing._send_batch():
            pass
        return [message.get("id", "") for message in self.stub.posted[before:]]
