"""Our line as a component of the operator's own server (XEP-0114): all that is written to any address at our domain.

It is in some ways less than an account's line, and here is what is made of that:

- It has neither TLS nor a proof of who the server is: whoever holds that port is taken for the server. So it goes to
  this machine or to an onion only (account.py); and on a shared machine the port must not fall free for others.
- It has no acknowledgements (XEP-0198). Behind each batch goes a ping to ourselves, through the server. A server works
  off in order what a component sends: when the ping comes back, it has taken all that went before, and has sent back
  what it would not take. The ping's return stands among the signals behind those errors.
- It has no archive. What an admin writes while we are not connected is sent back to them by the server, and their app
  says so; what was on its way to us when we died has no receipt (XEP-0184), and is lost.
- It answers for itself where a server would answer for an account: presence, subscriptions, disco, vCard. contacts.py
  says what.

Nobody but the admins gets in or is written to: all else ends at the gate, without an answer of any kind.

This module knows no desk. It gives signals (signals.py), and takes elements.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

from slixmpp import ComponentXMPP
from slixmpp.stanza import Iq, Message, Presence
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from veilsupport.errors import Unavailable
from veilsupport.xmpp import signals
from veilsupport.xmpp.account import ComponentAccount
from veilsupport.xmpp.dialling import Dialled
from veilsupport.xmpp.signals import Acknowledged, Heard, Lost, Signal, Started, Trouble

_CLIENT: Final = "{jabber:client}"
_ACCEPT: Final = "{jabber:component:accept}"
_STANZA_ERRORS: Final = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
_WHY: Final = {
    "not-authorized": signals.WRONG_SECRET,
    "host-unknown": signals.UNKNOWN_NAME,
    "conflict": signals.NAME_TAKEN,
}


class Component(Dialled, ComponentXMPP):
    """One component's session. `own` is the desk's own address there; `hear` gets the signals, in order, and must not
    block. `on_presence` gets what admins send, `answer` is asked for the content of an IQ: None is a refusal.
    """

    acknowledges: Final = True

    def __init__(
        self,
        account: ComponentAccount,
        *,
        admins: Collection[str],
        credentials: tuple[str, str],
        dial_seconds: float,
        hear: Callable[[Signal], None],
    ) -> None:
        ComponentXMPP.__init__(self, account.domain.reveal(), account.secret.reveal(), use_jc_ns=True)
        self.domain = account.domain.reveal().casefold()
        self.own = f"desk@{self.domain}"
        self.strangers_ignored = 0
        self.on_presence: Callable[[Element], None] = lambda presence: None
        self.answer: Callable[[Element], Element | None] = lambda question: None
        self._admins = frozenset(admins)
        self._hear = hear
        self._unasked: list[str] = []  # messages behind which no ping went yet
        self._pings: dict[str, Callable[[], object]] = {}  # what to do when it is back
        self._prepare(account, credentials=credentials, dial_seconds=dial_seconds)
        self.enable_direct_tls = False
        self._set_up_handlers()

    def drop(self) -> None:
        """As above; and nothing is heard after this."""
        self._hear = lambda signal: None
        super().drop()

    def read_on(self, go_on: bool) -> None:
        """Whether to take more from the server at this moment; what it has is not lost by that."""
        if self.transport is None:
            return
        if go_on:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    # ---- sending ---------------------------------------------------------------------------------------------

    def post(self, stanza: Element) -> None:
        """Queue a message or presence of ours, which says from whom it is. Nothing while there is no session."""
        if not self.up.is_set():
            return
        if stanza.tag == f"{_CLIENT}presence":
            Presence(self, xml=stanza).send()
            return
        self._unasked.append(stanza.get("id", ""))
        Message(self, xml=stanza).send()

    def ask_for_acknowledgement(self) -> None:
        """`Acknowledged` follows for all that was posted; also a sign of life."""
        behind, self._unasked = self._unasked, []
        self._ping(lambda: [self._hear(Acknowledged(each)) for each in behind])

    async def settled(self, *, pings: int = 1, timeout_seconds: float = 60) -> None:
        """Until the server has taken all that was posted, presence too. Unavailable: a ping does not come back."""
        if not self.up.is_set():
            raise Unavailable("there is no connection")
        all_back = asyncio.Event()
        left = pings

        def one_is_back() -> None:
            nonlocal left
            left -= 1
            if not left:
                all_back.set()

        for _ in range(pings):
            self._ping(one_is_back)
        gone = asyncio.ensure_future(self.gone.wait())
        answer = asyncio.ensure_future(all_back.wait())
        try:
            await asyncio.wait({answer, gone}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not all_back.is_set():
                raise Unavailable("the server left a question unanswered")
        finally:
            gone.cancel()
            answer.cancel()

    def _ping(self, when_back: Callable[[], object]) -> None:
        question = secrets.token_hex(8)
        self._pings[question] = when_back
        ping = Element(f"{_CLIENT}iq", {"from": self.own, "to": self.own, "type": "get", "id": question})
        SubElement(ping, "{urn:xmpp:ping}ping")
        Iq(self, xml=ping).send()

    # ---- within ----------------------------------------------------------------------------------------------

    def _set_up_handlers(self) -> None:
        for name in ("IM", "IMError", "Presence"):  # slixmpp's own, which would answer probes and subscriptions
            self.remove_handler(name)
        self.del_filter("out", self.roster._save_last_status)
        self.add_filter("in", self._gate)
        self.add_filter("out", self._only_to_ours)
        for name, handler in (
            ("message", lambda stanza: self._hear(Heard(stanza.xml))),
            ("presence", lambda stanza: self.on_presence(stanza.xml)),
            ("iq", self._on_iq),
        ):
            matcher = MatchXPath(f"{_CLIENT}{name}")
            self.register_handler(Callback(f"VeilSupport {name}", matcher, self._guarded(handler)))
        self.add_event_handler("session_start", self._guarded(self._on_accepted))

    def incoming_filter(self, xml: Element) -> Element:
        """Stanzas as an account gets them; only what is about the stream keeps its namespace."""
        if xml.tag != f"{_ACCEPT}handshake":
            for element in xml.iter():
                element.tag = element.tag.replace(_ACCEPT, _CLIENT)
        return xml

    def _why_ended(self, condition: str) -> Trouble:
        return _WHY.get(condition, signals.HUNG_UP)

    def _on_accepted(self, _: Any) -> None:
        self._unasked.clear()
        self._pings.clear()
        self.up.set()
        self._hear(Started(self.connection))

    def _lost(self) -> None:
        if not self.gone.is_set():
            super()._lost()
            self._hear(Lost())

    def _gate(self, stanza: Any) -> Any:
        """None for what comes from a stranger."""
        if not isinstance(stanza, Message | Presence | Iq):
            return stanza
        sender = _bare(stanza.xml.get("from", ""))
        if self.up.is_set() and sender in self._admins:
            return stanza
        if self.up.is_set() and sender == self.own and isinstance(stanza, Iq):
            return stanza
        if isinstance(stanza, Message) and len(stanza.xml):
            self.strangers_ignored += 1
        return None

    def _only_to_ours(self, stanza: Any) -> Any:
        """None for what is for nobody of the admins, and for every error message."""
        to = _bare(stanza.xml.get("to", ""))
        if isinstance(stanza, Message):
            return stanza if to in self._admins and stanza.xml.get("type") in ("chat", "normal") else None
        if isinstance(stanza, Presence):
            return stanza if to in self._admins else None
        return stanza if not isinstance(stanza, Iq) or to in (*self._admins, self.own) else None

    def _on_iq(self, stanza: Any) -> None:
        question: Element = stanza.xml
        if _bare(question.get("from", "")) == self.own:
            self._pings.pop(question.get("id", ""), lambda: None)()
        elif question.get("type") in ("get", "set"):
            content = self.answer(question)
            Iq(self, xml=_refusal(question) if content is None else _reply(question, "result", content)).send()


def _reply(question: Element, kind: str, content: Element) -> Element:
    ends = {"from": question.get("to", ""), "to": question.get("from", "")}
    reply = Element(f"{_CLIENT}iq", {**ends, "type": kind, "id": question.get("id", "")})
    reply.append(content)
    return reply


def _refusal(question: Element) -> Element:
    """What a server says for an account that knows no such question (RFC 6121 §8.5.3.2.3)."""
    error = Element(f"{_CLIENT}error", type="cancel")
    SubElement(error, f"{_STANZA_ERRORS}service-unavailable")
    return _reply(question, "error", error)


def _bare(jid: str) -> str:
    return jid.partition("/")[0].casefold()
