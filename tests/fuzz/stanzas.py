"""Stanzas from admins, from strangers and from rooms: through the real line's gate, into intake and rooms."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError, SubElement, fromstring, tostring

from slixmpp.stanza import Iq, Message, Presence

from tests.desks import ADA, BERT, desk_in, start
from tests.fuzz.chance import MARK, Chance
from tests.fuzz.run import Take
from tests.roomhouse import House, Server
from tests.test_line import line
from tests.xmppedge import OWN, Edge, StubLine, answers
from veilsupport.desk import Desk
from veilsupport.model import Session
from veilsupport.xmpp import signals
from veilsupport.xmpp.signals import Heard, Signal
from veilsupport.xmpp.stanzas import _NOT_XML

ROOM: Final = "{{room}}"
_STRANGER: Final = "STRANGERqx"  # what nobody may hear
_KINDS: Final[dict[str, type[Any]]] = {"message": Message, "presence": Presence, "iq": Iq}
_ADMINS: Final = ("ada@chat.example/phone", "ADA@chat.example/x", "bert@chat.example", ROOM + "/ada", ROOM, OWN)
_OTHERS: Final = (
    "mallory@chat.example/x",
    "chat.example",
    "ada@chat.example.evil",
    "",
    "@",
    "x" * 3000,
    "heron@rooms.example/ada",
)
_CHILDREN: Final = (
    *("{urn:xmpp:receipts}received", "{urn:xmpp:receipts}request", "{urn:xmpp:chat-markers:0}displayed"),
    *("{urn:xmpp:reply:0}reply", "{urn:xmpp:message-correct:0}replace", "{urn:xmpp:message-retract:1}retract"),
    *("{urn:xmpp:sid:0}stanza-id", "{urn:xmpp:sid:0}origin-id", "{urn:xmpp:eme:0}encryption", "{urn:xmpp:delay}delay"),
    *("{eu.siacs.conversations.axolotl}encrypted", "{urn:xmpp:fasten:0}apply-to", "{jabber:x:conference}x"),
    *("{http://jabber.org/protocol/muc#user}x", "{http://jabber.org/protocol/chatstates}composing"),
    *("{jabber:client}error", "{jabber:client}subject", "{jabber:client}thread", "{urn:xmpp:mam:2}result"),
    *("{jabber:iq:roster}query", "{http://jabber.org/protocol/disco#info}query", "{urn:xmpp:ping}ping"),
    *("{http://jabber.org/protocol/pubsub#event}event", "{jabber:x:oob}x", "{http://jabber.org/protocol/nick}nick"),
)


def make(chance: Chance) -> bytes:
    if chance.happens(0.75):
        made = _message(chance)
    else:
        made = Element(f"{{jabber:client}}{chance.one_of('presence', 'iq')}", _attributes(chance))
        made.extend(_child(chance) for _ in range(chance.random.randrange(3)))
    return chance.bent(tostring(made), share=0.1)


def _message(chance: Chance) -> Element:
    message = Element("{jabber:client}message", _attributes(chance, "chat", "groupchat", "normal", "error"))
    stranger = message.get("from", "") in _OTHERS or MARK in message.get("from", "")
    if chance.happens(0.9):
        said = chance.one_of("", "!", "@heron-42 ", "> ", "!say heron-42 ") + _text(chance)
        SubElement(message, "{jabber:client}body").text = (_STRANGER if stranger else "") + said
    message.extend(_child(chance) for _ in range(chance.random.choice((0, 0, 1, 1, 2, 5))))
    if chance.happens(0.5):
        by = chance.word(OWN, ROOM)
        SubElement(message, "{urn:xmpp:sid:0}stanza-id", by=_clean(by), id=_clean(chance.word(chance.mark)))
    return _wrapped(chance, message) if chance.happens(0.15) else message


def _wrapped(chance: Chance, message: Element) -> Element:
    """As a carbon copy or out of an archive, whoever sends it."""
    outer = Element("{jabber:client}message", _attributes(chance))
    name = chance.one_of("{urn:xmpp:carbons:2}received", "{urn:xmpp:carbons:2}sent", "{urn:xmpp:mam:2}result")
    SubElement(SubElement(outer, name, id=chance.mark), "{urn:xmpp:forward:0}forwarded").append(message)
    for body in message.iter("{jabber:client}body"):  # what a stranger carries to us is a stranger's
        if outer.get("from", "") not in _ADMINS:
            body.text = _STRANGER
    return outer


def _attributes(chance: Chance, *kinds: str) -> dict[str, str]:
    sender = chance.pick(_ADMINS) if chance.happens(0.8) else chance.word(*_OTHERS)
    found = {
        "from": sender,
        "to": OWN,
        "type": chance.word(*kinds, "get", "set", "result", "unavailable"),
        "id": chance.mark,
    }
    for name in list(found):
        if chance.happens(0.05):
            del found[name]
    return {name: _clean(value) for name, value in found.items()}


def _child(chance: Chance, depth: int = 0) -> Element:
    child = Element(chance.pick(_CHILDREN) if not chance.happens(0.05) else "{urn:unknown}x")
    for name in ("id", "by", "for", "start", "end", "jid", "code", "node", "name"):
        if chance.happens(0.3):
            child.set(name, _clean(chance.word(chance.mark, OWN, ROOM, "0", "3", "urn:xmpp:reply:0")))
    if chance.happens(0.3):
        child.text = _text(chance)
    if depth < 3:
        child.extend(_child(chance, depth + 1) for _ in range(chance.random.choice((0, 0, 1, 2))))
    return child


def _text(chance: Chance) -> str:
    return _clean(chance.text())


def _clean(text: str) -> str:
    """Without what no XML can hold: a server would have ended the stream."""
    return _NOT_XML.sub("", text)


class Target:
    """One desk whose admins have one chat, and one whose admins have rooms, behind one line."""

    def __init__(self, direct: Desk, edge: Edge, house: House, session: Session, room: str) -> None:
        self._desk, self._edge, self._house, self._session, self._room = direct, edge, house, session, room
        self._heard: list[Signal] = []
        self._line = line(self._heard.append)
        self._line._rooms.add(room)
        self._line.occupants = house.server.occupants

    async def take(self, case: bytes) -> None:
        try:
            element = fromstring(case.replace(ROOM.encode(), self._room.encode()))  # noqa: S314 - as slixmpp would
        except (ParseError, ValueError):
            return
        kind = _KINDS.get(element.tag.removeprefix("{jabber:client}"))
        if kind is None:
            return
        self._line.recv_stanza(kind(self._line, xml=element, recv=True))
        await asyncio.sleep(0)
        assert not self._line.bug.done(), repr(self._line.bug.exception())
        heard = self._heard.copy()
        self._heard.clear()
        for signal in heard:
            await self._hear(signal)
        await self._edge.pump()
        assert not any(_STRANGER in each for each in answers(self._desk, self._session)), "a stranger was heard"

    async def _hear(self, signal: Signal) -> None:
        if isinstance(signal, Heard) and signal.message.get("from", "").partition("/")[0] == self._room:
            await self._house.rooms.hear(signal.message, signal.speaker)
        elif self._edge.stub.up.is_set():
            await self._edge.hear(signal)
        self._edge.stub.posted.clear()
        self._house.server.posted.clear()

    def close(self) -> None:
        self._line.drop()


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Take]:
    (directory / "direct").mkdir()
    (directory / "rooms").mkdir()
    async with (
        desk_in(directory / "direct", (ADA, BERT)) as direct,
        desk_in(directory / "rooms", (ADA, BERT), uses_rooms=True) as in_rooms,
    ):
        stub, server = StubLine(), Server()
        stub.archive = []
        edge, house = Edge(direct, stub), House(in_rooms, server)
        session = await start(direct)
        await edge.hear(signals.Started(1))
        working = asyncio.create_task(house.rooms.run())
        async with _in_room(house, in_rooms) as room:
            target = Target(direct, edge, house, session, room)
            try:
                yield target.take
            finally:
                target.close()
                working.cancel()
        assert working.cancelled() or not working.done() or working.exception() is None


@contextlib.asynccontextmanager
async def _in_room(house: House, desk: Desk) -> AsyncIterator[str]:
    """A visitor's room that stands."""
    session = await start(desk)
    await house.begin()
    yield await house.room_of(session)
