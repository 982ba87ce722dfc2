"""An admin's phone: plain slixmpp, none of our code, on a server on loopback.

It answers receipts by itself, as apps do, and shows what it got in `inbox`. Also used by packaging/tryout.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

import slixmpp

_PLUGINS: Final = ("xep_0030", "xep_0184", "xep_0198", "xep_0199", "xep_0280", "xep_0308", "xep_0333", "xep_0461")


@dataclass(frozen=True, slots=True)
class Got:
    """One message that arrived."""

    id: str
    body: str
    retracts: str
    element: Element = field(repr=False)


class Phone:
    """Signed in for the length of the `async with` block. `said` are the receipts that came back for our own ids."""

    def __init__(
        self, jid: str, password: str, *, desk: str, port: int, resource: str = "phone", receipts: bool = True
    ):
        logging.getLogger("slixmpp").setLevel(logging.CRITICAL)
        self.inbox: list[Got] = []
        self.receipts: list[str] = []
        self.errors: list[str] = []
        self.composing = 0  # how often it was told that somebody is writing
        self.on_got: Callable[[Got], None] | None = None
        self._news = asyncio.Condition()
        self._desk = slixmpp.JID(desk)
        self._port = port
        self._client = self._made(jid, password, resource, receipts)
        self._tasks: set[asyncio.Task[None]] = set()

    def _made(self, jid: str, password: str, resource: str, receipts: bool) -> Any:
        settings = {"xep_0184": {"auto_ack": receipts, "auto_request": True}}
        client = slixmpp.ClientXMPP(f"{jid}/{resource}", password, plugin_config=settings)
        client.enable_direct_tls = False
        client.ssl_context = ssl.create_default_context()
        client.ssl_context.check_hostname = False
        client.ssl_context.verify_mode = ssl.CERT_NONE
        for plugin in _PLUGINS:
            client.register_plugin(plugin)
        client.register_handler(
            slixmpp.xmlstream.handler.Callback(
                "phone", slixmpp.xmlstream.matcher.MatchXPath("{jabber:client}message"), self._hear
            )
        )
        client.add_event_handler("receipt_received", lambda message: self.receipts.append(message["receipt"]))
        client.add_event_handler("message_error", lambda message: self.errors.append(message["id"]))
        return client

    async def __aenter__(self) -> Phone:
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
        message.append(Element("{urn:xmpp:chat-markers:0}displayed", id=got.id))
        message.send()

    def types(self) -> None:
        """XEP-0085: Ada is writing."""
        message = self._message(None)
        message.append(Element("{http://jabber.org/protocol/chatstates}composing"))
        message.send()

    def subscribe(self) -> None:
        self._client.send_presence(pto=self._desk, ptype="subscribe")

    def send_xml(self, text: str) -> None:
        """Anything at all."""
        self._client.send(text)

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
        body = stanza.xml.findtext("{jabber:client}body") or ""
        retract = stanza.xml.find("{urn:xmpp:message-retract:1}retract")
        self.composing += stanza.xml.find("{http://jabber.org/protocol/chatstates}composing") is not None
        if stanza["from"].bare != self._desk.bare or stanza["type"] == "error" or not (body or retract is not None):
            return
        self.inbox.append(Got(stanza["id"], body, "" if retract is None else retract.get("id", ""), stanza.xml))
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()
