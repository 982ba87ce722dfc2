"""Our account's line: nobody but the admins and our rooms gets in or is written to, and what happens becomes signals.

What stock slixmpp would do and this does not:

- answer strangers: all that is not from our server, our own account, an admin or a room of ours ends at the gate,
  behind the counter of XEP-0198 and before every handler; an invitation is never followed;
- send error stanzas to whoever's message made a handler fail ("Slixmpp got into trouble."): messages leave for admins
  and our rooms only, and none of type error;
- answer `<r/>` at once: the answer follows what was asked about through the intake, so that it says "on disk".

Who speaks in a room is looked up when the line comes, because its nick may be someone else's a moment later.

This module knows no desk. It gives signals (signals.py), and takes elements.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element

from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.stanza import Iq, Message, Presence
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from veilsupport.errors import Unavailable
from veilsupport.xmpp import muc
from veilsupport.xmpp.account import Account
from veilsupport.xmpp.muc import Joined, Occupants
from veilsupport.xmpp.signals import Acknowledged, Asked, Expelled, Heard, Lost, Resumed, Signal, Started
from veilsupport.xmpp.transport import Transport

_RESULT: Final = "{urn:xmpp:mam:2}result"
_REQUEST: Final = "<r xmlns='urn:xmpp:sm:3'/>"
_FEATURES: Final = ("urn:xmpp:receipts", "urn:xmpp:chat-markers:0", "http://jabber.org/protocol/chatstates")
_CAPS: Final = "{http://jabber.org/protocol/caps}c"
_CAPS_NODE: Final = "urn:veilsupport"


@dataclass(frozen=True, slots=True)
class Declined:
    """The server answered an IQ with an error; `condition` is RFC 6120's word for it."""

    condition: str


@dataclass(frozen=True, slots=True)
class _Knocking:
    """We have asked to be let into a room."""

    nick: str
    answer: asyncio.Future[Joined | Declined]


class Line(Transport):
    """One account's session. `hear` gets the signals, in order, and must not block."""

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
        self.domain = account.domain
        self.farewell = lambda: self.send_presence(ptype="unavailable")
        self.strangers_ignored = 0
        self.occupants = Occupants()
        self.on_occupants: Callable[[str], None] = lambda room: None  # somebody came into that room or left it
        self.on_presence: Callable[[str, bool], None] = lambda jid, there: None  # an admin's device came or went
        self._admins = frozenset(admins)
        self._known = self._admins | {"", self.own, account.domain}
        self._hear = hear
        self._results: dict[tuple[str, str], list[Element]] = {}  # (whose archive, query id)
        self._asked: list[str] = []  # whose answer to an IQ is still open
        self._rooms: set[str] = set()  # ours: what comes from them passes the gate
        self._joining: dict[str, _Knocking] = {}
        self._capabilities: Element | None = None
        self._set_up_handlers()

    def is_admin(self, jid: str) -> bool:
        """Whether that bare JID, in lower case, is an admin's."""
        return jid in self._admins

    def want_news_of(self, node: str) -> None:
        """What admins publish under that node is heard from our next presence on (XEP-0163 §4.3). For one node."""
        features = sorted((*_FEATURES, "http://jabber.org/protocol/disco#info", "urn:xmpp:ping", f"{node}+notify"))
        text = "<".join(("client/bot//", *features, ""))  # XEP-0115 §5.1, which has SHA-1 by definition
        version = base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()
        disco = self.plugin["xep_0030"]
        for caps_node in (None, f"{_CAPS_NODE}#{version}"):
            disco.add_identity("client", "bot", node=caps_node)
            for feature in features:
                disco.add_feature(feature, node=caps_node)
        self._capabilities = Element(_CAPS, {"hash": "sha-1", "node": _CAPS_NODE, "ver": version})

    def forget_session(self) -> None:
        """The next session shall be a fresh one."""
        self.event("session_end")

    def drop(self) -> None:
        """As above; and nothing is heard after this."""
        self._hear = lambda signal: None
        super().drop()

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

    async def settled(self) -> None:
        """Until the server has taken all that was posted: it works in order. Unavailable: the connection is gone."""
        await self.ask("get", Element("{urn:xmpp:ping}ping"))

    def acknowledge(self, asked: Asked) -> None:
        """Answer `<r/>`. An older connection's question must not be answered: the count would go backwards."""
        if asked.connection == self.connection and self.up.is_set():
            self.send(f"<a xmlns='urn:xmpp:sm:3' h='{asked.handled}'/>")

    async def ask(
        self, kind: str, payload: Element, *, to: str = "", timeout_seconds: float = 30
    ) -> Element | Declined:
        """An IQ (`kind` get or set) to our own account, a room or a service, and its answer. Unavailable: none came."""
        iq: Iq = self.make_iq_get() if kind == "get" else self.make_iq_set()
        if to:
            iq.xml.set("to", to)
        iq.append(payload)
        self._asked.append(to.casefold())
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
            self._asked.remove(to.casefold())
            gone.cancel()
            answer.cancel()

    async def ask_archive(
        self, query: Element, query_id: str, *, of: str = ""
    ) -> tuple[list[Element], Element] | Declined:
        """A question to our own archive, or a room's: its results (XEP-0313 `<result>`) and its last word."""
        results: list[Element] = []
        self._results[of or self.own, query_id] = results
        try:
            answer = await self.ask("set", query, to=of, timeout_seconds=60)
        finally:
            del self._results[of or self.own, query_id]
        return answer if isinstance(answer, Declined) else (results, answer)

    # ---- rooms -----------------------------------------------------------------------------------------------

    async def join(self, room: str, nick: str, *, timeout_seconds: float = 60) -> Joined | Declined:
        """Enter a room of ours, making it if it is not there; what it sends is heard from now on."""
        if nick_now := self.occupants.own_nick(room):
            return Joined(nick_now, created=False)
        self._rooms.add(room)
        answer: asyncio.Future[Joined | Declined] = self.loop.create_future()
        knocking = self._joining[room] = _Knocking(nick, answer)
        gone: asyncio.Future[Any] = asyncio.ensure_future(self.gone.wait())
        try:
            self.occupants.forget(room)
            Presence(self, xml=muc.enter(room, nick)).send()
            await asyncio.wait({answer, gone}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            if self.gone.is_set() and not answer.done():
                raise Unavailable("the connection broke at a room's door")
            if not answer.done():
                self.leave(room)
            return answer.result()
        finally:
            gone.cancel()
            if self._joining.get(room) is knocking:
                del self._joining[room]

    def leave(self, room: str) -> None:
        """Nothing more is heard from it; whoever waits to be let in is told so (Unavailable)."""
        nick = self.occupants.own_nick(room)
        knocking = self._joining.get(room)
        if knocking and not knocking.answer.done():
            nick = nick or knocking.nick  # a room that takes us for an occupant does not say again who is there
            knocking.answer.set_exception(Unavailable("a room was left before it answered"))
        self._rooms.discard(room)
        self.occupants.forget(room)
        if nick and self.up.is_set():
            Presence(self, xml=muc.leave(room, nick)).send()

    # ---- within ----------------------------------------------------------------------------------------------

    def _set_up_handlers(self) -> None:
        self.roster.auto_authorize = None  # type: ignore[assignment]  # slixmpp: "None: do not answer"
        self.roster.auto_subscribe = False
        for plugin in ("xep_0030", "xep_0199", "xep_0198"):
            self.register_plugin(plugin)
        for feature in _FEATURES:
            self.plugin["xep_0030"].add_feature(feature)
        self.add_filter("in", self._gate)  # behind the counter of XEP-0198, which must see every stanza
        self.add_filter("out", self._only_to_ours)
        self.add_filter("out", self._with_capabilities)
        self.remove_handler("Stream Management Request Ack")
        for name, tag, handler in (
            ("VeilSupport message", "{jabber:client}message", self._on_message),
            ("VeilSupport presence", "{jabber:client}presence", self._on_presence),
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
            self._hear(Lost())

    def _gate(self, stanza: Any) -> Any:
        """None for what comes from a stranger."""
        if not isinstance(stanza, Message | Presence | Iq):
            return stanza
        sender = stanza.xml.get("from", "").partition("/")[0].casefold()
        if self.authenticated and (sender in self._known or (sender in self._rooms and not isinstance(stanza, Iq))):
            return stanza
        if isinstance(stanza, Iq) and sender in self._asked and stanza.xml.get("type") in ("result", "error"):
            return stanza
        if isinstance(stanza, Message) and self._archived(stanza.xml) is not None:
            return stanza  # of a room that was left meanwhile: what it answers must be whole all the same
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

    def _only_to_ours(self, stanza: Any) -> Any:
        """None for a message to anyone but admins and our rooms, and for every error message."""
        if not isinstance(stanza, Message):
            return stanza
        to = stanza.xml.get("to", "").partition("/")[0].casefold()
        kinds = {None, "chat", "normal"} if to in self._admins else {None, "groupchat"} if to in self._rooms else set()
        return stanza if stanza.xml.get("type") in kinds else None

    def _with_capabilities(self, stanza: Any) -> Any:
        """Our own presence tells what we want to hear of."""
        if self._capabilities is not None and isinstance(stanza, Presence):
            presence: Element = stanza.xml
            if not presence.get("to") and not presence.get("type") and presence.find(_CAPS) is None:
                presence.append(copy.copy(self._capabilities))
        return stanza

    # ---- signals ---------------------------------------------------------------------------------------------

    def _on_negotiated(self, _: Any) -> None:
        """All features are done: with a bound resource, and XEP-0198 already on where there is any."""
        if self.bound:
            self.occupants.clear()
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
        if (results := self._archived(stanza.xml)) is not None:
            results.append(stanza.xml.find(_RESULT))
        elif stanza.xml.find(_RESULT) is None:
            sender, _, nick = stanza.xml.get("from", self.own).partition("/")
            room = sender.casefold()
            speaker = self.occupants.speaker(room, nick) if room in self._rooms else ""
            self._hear(Heard(stanza.xml, speaker))

    def _archived(self, message: Element) -> list[Element] | None:
        """The results that it belongs to, of a question that is open (XEP-0313 §4.2); an archive has no nick."""
        result = message.find(_RESULT)
        return None if result is None else self._results.get((message.get("from", self.own), result.get("queryid", "")))

    def _on_presence(self, stanza: Any) -> None:
        presence: Element = stanza.xml
        sender = presence.get("from", "").partition("/")[0].casefold()
        kind = presence.get("type")
        if sender in self._admins and kind in (None, "unavailable"):
            self.on_presence(presence.get("from", ""), kind is None)
        if sender in self._rooms:
            self._hear_of_room(sender, presence, kind)

    def _hear_of_room(self, room: str, presence: Element, kind: str | None) -> None:
        knocking = self._joining.get(room)
        waiting = knocking.answer if knocking else None
        was_in = room in self.occupants
        if kind == "error":
            condition = presence.find("{jabber:client}error/*")
            name = "undefined-condition" if condition is None else condition.tag.partition("}")[2]
            if waiting and not waiting.done():
                waiting.set_result(Declined(name))
            return
        joined = self.occupants.take(presence)
        if joined and waiting and not waiting.done():
            waiting.set_result(joined)
        if was_in and room not in self.occupants:
            self._hear(Expelled(room))
        self.on_occupants(room)

    def _on_subscribe(self, presence: Any) -> None:
        """An admin asks to see us: yes. Our own request was made when the session was set up."""
        if presence["from"].bare in self._admins:
            self.send_presence(pto=presence["from"].bare, ptype="subscribed")
