"""An admin's phone: plain slixmpp, none of our code, on a server on loopback.

It answers receipts by itself, as apps do, lets the desk (and nobody else) subscribe to its presence and subscribes
back, and shows what it got in `inbox`; its rooms are in phonerooms.py. Also used by packaging/tryout.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from xml.etree.ElementTree import Element, SubElement

import slixmpp

from tests.live.phonerooms import (
    COMPOSING,
    DISPLAYED,
    REPLACE,
    RETRACT,
    ROOM_PLUGINS,
    PhoneRooms,
    marked_id,
    replacement,
    retraction,
)

_PLUGINS: Final = (
    *("xep_0030", "xep_0085", "xep_0115", "xep_0184", "xep_0198", "xep_0199", "xep_0280", "xep_0308", "xep_0333"),
    *("xep_0424", "xep_0461"),
    *ROOM_PLUGINS,
)


@dataclass(frozen=True, slots=True)
class Got:
    """One message that arrived."""

    id: str
    body: str
    replaces: str  # id of the message that this one corrects
    retracts: str
    element: Element = field(repr=False)


class Phone(PhoneRooms):
    """Signed in for the length of the `async with` block. `receipts` are those that came back for our own ids."""

    def __init__(
        self,
        jid: str,
        password: str,
        *,
        desk: str,
        port: int,
        resource: str = "phone",
        receipts: bool = True,
        joins: bool = True,
        nick: str = "",
    ):
        super().__init__(nick=nick or slixmpp.JID(jid).local, joins=joins)
        logging.getLogger("slixmpp").setLevel(logging.CRITICAL)
        self.inbox: list[Got] = []
        self.receipts: list[str] = []
        self.errors: list[str] = []  # ids of our own lines that came back
        self.composing = 0  # how often it was told that somebody is writing
        self.displayed: list[str] = []  # ids of our own lines that the desk says were read
        self.desk_presence = ""  # "available", "unavailable", or away, chat, dnd, xa; "" while nothing is known
        self.desk_status = ""  # the text beside it
        self.on_got: Callable[[Got], None] | None = None
        self._news = asyncio.Condition()
        self._desk = slixmpp.JID(desk)
        self._port = port
        self._client = self._made(jid, password, resource, receipts)

    def _made(self, jid: str, password: str, resource: str, receipts: bool) -> Any:
        settings = {"xep_0184": {"auto_ack": receipts, "auto_request": True}}
        client = slixmpp.ClientXMPP(f"{jid}/{resource}", password, plugin_config=settings)
        client.enable_direct_tls = False
        client.ssl_context = ssl.create_default_context()
        client.ssl_context.check_hostname = False
        client.ssl_context.verify_mode = ssl.CERT_NONE
        for plugin in _PLUGINS:
            client.register_plugin(plugin)
        client.auto_authorize, client.auto_subscribe = None, False
        for kind, handler in (("message", self._hear), ("presence", self._see_presence)):
            matcher = slixmpp.xmlstream.matcher.MatchXPath(f"{{jabber:client}}{kind}")
            client.register_handler(slixmpp.xmlstream.handler.Callback(f"phone {kind}", matcher, handler))
        client.add_event_handler("receipt_received", lambda message: self.receipts.append(message["receipt"]))
        return client

    async def __aenter__(self) -> Self:
        started = asyncio.ensure_future(self._client.wait_until("session_start", 20))
        self._client.connect("127.0.0.1", self._port)
        await started
        self._client.send_presence()
        with contextlib.suppress(slixmpp.exceptions.IqError):  # a server without carbons
            await self._client.plugin["xep_0280"].enable()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._client.disconnect(wait=1)
        self.drop()

    def drop(self) -> None:
        """Gone without a word."""
        for task in self._tasks:
            task.cancel()
        self._client.cancel_connection_attempt()
        self._client.abort()
        for name in list(self._client.scheduled_events):
            self._client.cancel_schedule(name)
        if self._client._run_out_filters is not None:
            self._client._run_out_filters.cancel()

    # ---- what it does ----------------------------------------------------------------------------------------

    def say(self, text: str, *extra: Element) -> str:
        """A line to the desk, with further elements; its stanza id."""
        message = self._message(text)
        for element in extra:
            message.append(element)
        message.send()
        return str(message["id"])

    def correct(self, id: str, text: str) -> str:
        """XEP-0308: `text` instead of our line of that stanza id."""
        return self.say(text, replacement(id))

    def retract(self, id: str) -> str:
        """XEP-0424: our line of that stanza id is taken back."""
        return self.say(*retraction(id))

    def reply(self, to: Got, text: str) -> str:
        """XEP-0461 with its fallback, as Dino and Gajim send it."""
        quoted = "".join(f"> {line}\n" for line in to.body.split("\n"))
        fallback = Element("{urn:xmpp:fallback:0}fallback", {"for": "urn:xmpp:reply:0"})
        SubElement(fallback, "{urn:xmpp:fallback:0}body", start="0", end=str(len(quoted)))
        reference = Element("{urn:xmpp:reply:0}reply", to=str(self._desk), id=to.id)
        return self.say(quoted + text, reference, fallback)

    def quote(self, of: Got, text: str) -> str:
        """As Conversations and Profanity do it: in the text only."""
        return self.say("".join(f"> {line}\n" for line in of.body.split("\n")) + text)

    def look_at(self, got: Got) -> None:
        """XEP-0333: everything up to here has been displayed."""
        message = self._message(None)
        message.append(Element(DISPLAYED, id=got.id))
        message.send()

    def types(self) -> None:
        """XEP-0085: Ada is writing."""
        message = self._message(None)
        message.append(Element(COMPOSING))
        message.send()

    def subscribe(self) -> None:
        self._client.send_presence(pto=self._desk, ptype="subscribe")

    def send_xml(self, text: str) -> None:
        """Anything at all."""
        self._client.send(text)

    async def iq(self, kind: str, to: str, payload: Element) -> Element:
        """The whole answer to any question. Raises IqError where it is refused, IqTimeout where none comes."""
        iq = self._client.make_iq(itype=kind, ito=to)
        iq.append(payload)
        answer: Element = (await iq.send(timeout=20)).xml
        return answer

    # ---- what it sees ----------------------------------------------------------------------------------------

    async def until(self, wanted: Callable[[Got], bool], *, seconds: float = 10) -> Got:
        """The first message like that, already here or still to come."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: any(map(wanted, self.inbox)))
            return next(filter(wanted, self.inbox))

    async def text(self, part: str, *, seconds: float = 10) -> Got:
        """The first message with that text in it."""
        try:
            return await self.until(lambda got: part in got.body, seconds=seconds)
        except TimeoutError:
            raise AssertionError(f"{part!r} did not come; there is {[got.body for got in self.inbox]}") from None

    async def stream(self) -> AsyncIterator[Got]:
        """Every message, for as long as the caller listens."""
        shown = 0
        while True:
            async with self._news:
                await self._news.wait_for(lambda: len(self.inbox) > shown)  # noqa: B023
            while shown < len(self.inbox):
                yield self.inbox[shown]
                shown += 1

    def _message(self, text: str | None) -> Any:
        return self._client.make_message(self._desk, text, mtype="chat")

    def _hear(self, stanza: Any) -> None:
        if stanza["type"] == "error":
            self.errors.append(stanza["id"])
        elif stanza["type"] == "groupchat":
            self._hear_room(stanza)
        elif not self._hear_invitation(stanza) and stanza["from"].bare == self._desk.bare:
            self._hear_desk(stanza)
        self._go(self._tell())

    def _hear_desk(self, stanza: Any) -> None:
        body = stanza.xml.findtext("{jabber:client}body") or ""
        self.composing += stanza.xml.find(COMPOSING) is not None
        if displayed := marked_id(stanza.xml, DISPLAYED):
            self.displayed.append(displayed)
        got = Got(stanza["id"], body, marked_id(stanza.xml, REPLACE), marked_id(stanza.xml, RETRACT), stanza.xml)
        if body or got.retracts:
            self.inbox.append(got)

    def _see_presence(self, presence: Any) -> None:
        self._see_room_presence(presence)
        if presence["from"].bare == self._desk.bare:
            match presence["type"]:
                case "subscribe":
                    self._client.send_presence(pto=self._desk, ptype="subscribed")
                    self.subscribe()
                case "subscribed" | "unsubscribe" | "unsubscribed" | "error" | "probe":
                    pass
                case standing:  # slixmpp: "available", or what <show/> says
                    self.desk_presence, self.desk_status = standing, presence["status"]
        self._go(self._tell())
