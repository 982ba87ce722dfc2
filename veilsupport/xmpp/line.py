"""Our account's line: nobody but the admins gets in or is written to, and what happens becomes signals.

What stock slixmpp would do and this does not:

- answer strangers: all that is not from our server, our own account or an admin ends at the gate, behind the
  counter of XEP-0198 and before every handler;
- send error stanzas to whoever's message made a handler fail ("Slixmpp got into trouble."): messages leave for admins
  only, and none of type error;
- answer `<r/>` at once: the answer follows what was asked about through the intake, so that it says "on disk".

This module knows no desk. It gives signals (signals.py), and takes elements.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element

from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.stanza import Iq, Message, Presence
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from veilsupport.errors import Unavailable
from veilsupport.xmpp import signals
from veilsupport.xmpp.account import Account
from veilsupport.xmpp.signals import Acknowledged, Asked, Heard, Lost, Resumed, Signal, Started
from veilsupport.xmpp.transport import Transport

_RESULT: Final = "{urn:xmpp:mam:2}result"
_REQUEST: Final = "<r xmlns='urn:xmpp:sm:3'/>"


@dataclass(frozen=True, slots=True)
class Declined:
    """The server answered an IQ with an error; `condition` is RFC 6120's word for it."""

    condition: str


class Line(Transport):
    """One account's session. `up` is set while there is one; `hear` gets the signals, in order, and must not block."""

    def __init__(
        self,
        account: Account,
        *,
        admins: Collection[str],
        credentials: tuple[str, str],
        dial_seconds: float,
        hear: Callable[[Signal], None],
    ) -> None:
        super().__init__(account, credentials=credentials, dial_seconds=dial_seconds)
        self.own = account.jid.reveal()
        self.up = asyncio.Event()
        self.strangers_ignored = 0
        self._admins = frozenset(admins)
        self._known = self._admins | {"", self.own, account.domain}
        self._hear = hear
        self._results: dict[str, list[Element]] = {}
        self._set_up_handlers()

    def forget_session(self) -> None:
        """The next session shall be a fresh one."""
        self.event("session_end")

    async def close(self, timeout_seconds: float) -> None:
        """End the session in order, so that the server keeps no ghost of it, then let everything go."""
        if self.up.is_set():
            self.send_presence(ptype="unavailable")
            self.send("</stream:stream>")
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self.gone.wait()
            except TimeoutError:
                pass  # The server takes its time; our side is closed all the same.
        self.drop()

    def drop(self) -> None:
        """Let everything go at once, tasks and timers too; nothing is heard after this."""
        self._hear = lambda signal: None
        self.cut(signals.HUNG_UP)
        for name in list(self.scheduled_events):
            self.cancel_schedule(name)
        if self._run_out_filters is not None:
            self._run_out_filters.cancel()
        if not self.bug.done():
            self.bug.cancel()

    # ---- sending ---------------------------------------------------------------------------------------------

    @property
    def acknowledges(self) -> bool:
        """Whether the server speaks XEP-0198 in this session."""
        return bool(self.plugin["xep_0198"].enabled_in)

    def post(self, message: Element) -> None:
        """Queue a message stanza of ours; only while `up`."""
        Message(self, xml=message).send()

    def ask_for_acknowledgement(self) -> None:
        """XEP-0198 `<r/>`, behind all that was posted; also the cheapest ping."""
        if self.acknowledges:
            self.send(_REQUEST)
        else:
            ping = self.make_iq_get(ito=self._account.domain)
            ping.append(Element("{urn:xmpp:ping}ping"))
            ping.send(callback=lambda _: None, timeout=10**6)  # whatever comes back is a sign of life

    def acknowledge(self, asked: Asked) -> None:
        """Answer `<r/>`. An older connection's question must not be answered: the count would go backwards."""
        if asked.connection == self.connection and self.up.is_set():
            self.send(f"<a xmlns='urn:xmpp:sm:3' h='{asked.handled}'/>")

    async def ask(self, kind: str, payload: Element, *, timeout_seconds: float = 30) -> Element | Declined:
        """An IQ to our own account (`kind` get or set), and its answer. Unavailable: none came."""
        iq: Iq = self.make_iq_get() if kind == "get" else self.make_iq_set()
        iq.append(payload)
        answer: asyncio.Future[Any] = iq.send(timeout=timeout_seconds)
        gone: asyncio.Future[Any] = asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise Unavailable("the connection broke while a question was open")
            reply: Element = answer.result().xml
            return reply
        except IqError as error:
            return Declined(str(error.condition))
        except IqTimeout:
            raise Unavailable("the server left a question unanswered") from None
        finally:
            gone.cancel()
            answer.cancel()

    async def ask_archive(self, query: Element, query_id: str) -> tuple[list[Element], Element] | Declined:
        """A question to our own archive: its results (XEP-0313 `<result>`) and its last word."""
        results: list[Element] = []
        self._results[query_id] = results
        try:
            answer = await self.ask("set", query, timeout_seconds=60)
        finally:
            del self._results[query_id]
        return answer if isinstance(answer, Declined) else (results, answer)

    # ---- within ----------------------------------------------------------------------------------------------

    def _set_up_handlers(self) -> None:
        self.roster.auto_authorize = None  # type: ignore[assignment]  # slixmpp: "None: do not answer"
        self.roster.auto_subscribe = False
        for plugin in ("xep_0030", "xep_0199", "xep_0198"):
            self.register_plugin(plugin)
        for feature in ("urn:xmpp:receipts", "urn:xmpp:chat-markers:0", "http://jabber.org/protocol/chatstates"):
            self.plugin["xep_0030"].add_feature(feature)
        self.add_filter("in", self._gate)  # behind the counter of XEP-0198, which must see every stanza
        self.add_filter("out", self._only_to_admins)
        self.remove_handler("Stream Management Request Ack")
        for name, tag, handler in (
            ("VeilSupport message", "{jabber:client}message", self._on_message),
            ("VeilSupport asked", "{urn:xmpp:sm:3}r", self._on_asked),
        ):
            self.register_handler(Callback(name, MatchXPath(tag), self._guarded(handler)))
        for event, react in (
            ("stream_negotiated", self._on_negotiated),
            ("session_resumed", self._on_resumed),
            ("stanza_acked", self._on_acked),
            ("presence_subscribe", self._on_subscribe),
        ):
            self.add_event_handler(event, self._guarded(react))

    def _lost(self) -> None:
        if not self.gone.is_set():
            super()._lost()
            self.up.clear()
            self._hear(Lost())

    def _gate(self, stanza: Any) -> Any:
        """None for what comes from a stranger."""
        if not isinstance(stanza, Message | Presence | Iq):
            return stanza
        sender = stanza.xml.get("from", "").partition("/")[0].casefold()
        if self.authenticated and sender in self._known:
            return stanza
        if isinstance(stanza, Message) and len(stanza.xml):
            self.strangers_ignored += 1
        if isinstance(stanza, Iq) and stanza.xml.get("type") in ("get", "set"):
            self._turn_away(stanza)
        return None

    def _turn_away(self, iq: Any) -> None:
        """What a server says of a resource that is not there (RFC 6121 §8.5.3.2.3)."""
        reply = iq.reply()
        reply["type"] = "error"
        reply["error"]["condition"] = "service-unavailable"
        reply["error"]["type"] = "cancel"
        reply.send()

    def _only_to_admins(self, stanza: Any) -> Any:
        """None for a message to anyone else, and for every error message."""
        if isinstance(stanza, Message):
            to = stanza.xml.get("to", "").partition("/")[0].casefold()
            return stanza if to in self._admins and stanza.xml.get("type") == "chat" else None
        return stanza

    # ---- signals ---------------------------------------------------------------------------------------------

    def _on_negotiated(self, _: Any) -> None:
        """All features are done: with a bound resource, and XEP-0198 already on where there is any."""
        if self.bound:
            self.up.set()
            self._hear(Started(self.connection))

    def _on_resumed(self, _: Any) -> None:
        kept = frozenset(stanza["id"] for _, stanza in self.plugin["xep_0198"].unacked_queue)
        self.up.set()
        self._hear(Resumed(self.connection, kept))

    def _on_acked(self, stanza: Any) -> None:
        if isinstance(stanza, Message):
            self._hear(Acknowledged(stanza["id"]))

    def _on_asked(self, _: Any) -> None:
        self._hear(Asked(self.connection, self.plugin["xep_0198"].handled))

    def _on_message(self, stanza: Any) -> None:
        result = stanza.xml.find(_RESULT)
        if result is None:
            self._hear(Heard(stanza.xml))
        elif stanza.xml.get("from", self.own) == self.own and result.get("queryid") in self._results:
            self._results[result.get("queryid")].append(result)

    def _on_subscribe(self, presence: Any) -> None:
        """An admin asks to see us: yes. Our own request was made when the session was set up."""
        if presence["from"].bare in self._admins:
            self.send_presence(pto=presence["from"].bare, ptype="subscribed")
