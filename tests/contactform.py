"""Pump, contacts and talk of the component form over a real desk and a stub of a line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast
from xml.etree.ElementTree import Element, SubElement, fromstring

from tests.desks import ADA, NOON, desk_in
from veilsupport.desk import Desk
from veilsupport.model import Admin, Private, Session
from veilsupport.xmpp import ComponentAccount
from veilsupport.xmpp.attending import Attending
from veilsupport.xmpp.component import Component
from veilsupport.xmpp.contacts import Contacts
from veilsupport.xmpp.contacttalk import ContactTalk
from veilsupport.xmpp.outgoing import Outgoing

DOMAIN = "support.chat.example"
DESK = f"desk@{DOMAIN}"
ACCOUNT = ComponentAccount(Private(DOMAIN), Private("secret"))
ADA_JID, BERT_JID = "ada@chat.example", "bert@chat.example"


def xml(text: str) -> Element:
    return fromstring(text)  # noqa: S314 - our own text


class StubComponent:
    """What the form and the pump need of a line."""

    def __init__(self) -> None:
        self.own = DESK
        self.domain = DOMAIN
        self.connection = 1
        self.up = asyncio.Event()
        self.up.set()
        self.acknowledges = True
        self.posted: list[Element] = []
        self.settled_after: list[int] = []  # how much was posted whenever it was waited for
        self.reads_on: list[bool] = []
        self.strangers_ignored = 0

    def post(self, stanza: Element) -> None:
        self.posted.append(stanza)

    def ask_for_acknowledgement(self) -> None:
        pass

    async def settled(self, *, pings: int = 1, timeout_seconds: float = 60) -> None:
        self.settled_after.append(len(self.posted))

    def read_on(self, go_on: bool) -> None:
        self.reads_on.append(go_on)

    def taken(self) -> list[Element]:
        """What was posted since the last time."""
        posted, self.posted = self.posted, []
        return posted


class Form:
    """Pump, contacts and talk over a real desk."""

    def __init__(self, desk: Desk, *, keeps_archive: bool = True) -> None:
        self.desk = desk
        self.stub = StubComponent()
        line = cast("Component", self.stub)
        self.outgoing = Outgoing(desk, line, spoke=lambda admin, alias: None, clock=lambda: NOON)
        self.attending = Attending(desk)
        self.contacts = Contacts(
            desk, line, self.outgoing, self.attending, keeps_archive=keeps_archive, clock=lambda: NOON
        )
        self.outgoing.rooms = self.contacts
        self.outgoing.write = self.contacts.written
        self.outgoing.seal = self.contacts.introduced
        self.outgoing.ready.set()
        self.talk = ContactTalk(desk, line, self.outgoing, self.contacts, clock=lambda: NOON)
        desk.on_changed = self.contacts.look_at

    async def pump(self) -> list[Element]:
        """Send what is due, let the server take it; all that was posted."""
        while await self.outgoing._send_batch():
            pass
        posted = self.stub.taken()
        await self.outgoing.acknowledged([each.get("id", "") for each in posted])
        return posted

    async def look(self) -> list[Element]:
        """Bring up to date what differs; all that was posted."""
        await self.contacts._work_off()
        return self.stub.taken()

    async def hear(self, text: str, *extra: Element, to: str = DESK, sender: str = ADA_JID, id: str = "m1") -> None:
        message = Element("{jabber:client}message", {"from": f"{sender}/phone", "to": to, "type": "chat", "id": id})
        SubElement(message, "{jabber:client}body").text = text
        message.extend(extra)
        await self.talk.take(message)

    def presence(self, kind: str | None, *, to: str, sender: str = f"{ADA_JID}/phone") -> list[Element]:
        """What is answered to it."""
        self.contacts.presence(_presence(kind, to=to, sender=sender))
        return self.stub.taken()


def _presence(kind: str | None, *, to: str, sender: str) -> Element:
    presence = Element("{jabber:client}presence", {"from": sender, "to": to})
    if kind:
        presence.set("type", kind)
    return presence


@contextlib.asynccontextmanager
async def form_in(
    directory: Path, admins: Sequence[Admin] = (ADA,), *, keeps_archive: bool = True, **more: Any
) -> AsyncIterator[Form]:
    async with desk_in(directory, admins=admins, **more) as desk:
        yield Form(desk, keeps_archive=keeps_archive)


def kinds(stanzas: Sequence[Element]) -> list[tuple[str, str, str]]:
    """What each is, from whom and to whom."""
    return [
        (each.get("type") or each.tag.partition("}")[2], each.get("from", ""), each.get("to", "")) for each in stanzas
    ]


def contact_of(desk: Desk, session: Session) -> str:
    conversation = desk.conversation(session)
    assert conversation is not None
    return f"{conversation.alias}@{DOMAIN}"


def body(message: Element) -> str:
    return message.findtext("{jabber:client}body") or ""
