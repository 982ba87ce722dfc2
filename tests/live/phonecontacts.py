"""An admin's phone on which each visitor is a contact: it accepts their requests, as a person would, and asks back.

All that comes from the component's addresses is seen; `chat` says to which of them the next lines go. It knows nothing
of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from xml.etree.ElementTree import Element, fromstring

import slixmpp
from slixmpp.exceptions import IqError, IqTimeout

from tests.live.phone import Phone
from tests.live.phonerooms import COMPOSING

_NICK: Final = "{http://jabber.org/protocol/nick}nick"
_VCARD: Final = "{vcard-temp}"


class ContactsPhone(Phone):
    """`accepts` False: contact requests are left open. `inbox` has what any of the component's addresses wrote."""

    def __init__(self, jid: str, password: str, *, component: str, port: int, accepts: bool = True, **more: Any):
        super().__init__(jid, password, desk=f"desk@{component}", port=port, joins=False, **more)
        self.accepts = accepts
        self.requests: list[tuple[str, str]] = []  # contact, nick: who asked to see us, each time
        self.contacts: dict[str, tuple[str, str]] = {}  # contact → "chat", "unavailable", …, and the text beside it
        self.ended: list[tuple[str, str]] = []  # contact, "unsubscribe" or "unsubscribed"
        self.composed: list[str] = []  # contacts that were said to be writing, each time
        self.roster: dict[str, str] = {}  # contact → subscription, as our server pushes it
        self.bounced: list[str] = []  # ids of our lines that came back
        self._component = component
        matcher = slixmpp.xmlstream.matcher.MatchXPath("{jabber:client}iq/{jabber:iq:roster}query")
        self._client.register_handler(slixmpp.xmlstream.handler.Callback("phone roster", matcher, self._see_roster))

    async def __aenter__(self) -> ContactsPhone:
        await super().__aenter__()
        self._client.get_roster()
        return self

    # ---- what it does ----------------------------------------------------------------------------------------

    def chat(self, contact: str) -> ContactsPhone:
        """The chat with that contact is on the screen from now on."""
        self._desk = slixmpp.JID(contact)
        return self

    def say_as(self, id: str, text: str) -> None:
        """A line with that stanza id, as an app does that sends one again."""
        message = self._message(text)
        message["id"] = id
        message["request_receipt"] = True
        message.send()

    def ask_to_see(self, contact: str) -> None:
        self._client.send_presence(pto=contact, ptype="subscribe")

    async def ask(self, kind: str, to: str, payload: str, *, seconds: float = 5) -> Element | str:
        """An IQ's result; or the condition of its error, or "no answer"."""
        iq = self._client.make_iq(ito=to, itype=kind)
        iq.append(fromstring(payload))  # noqa: S314 - our own text
        try:
            answer: Element = (await iq.send(timeout=seconds)).xml
        except IqError as error:
            return str(error.condition)
        except IqTimeout:
            return "no answer"
        return answer

    async def nickname(self, of: str) -> str:
        """By its vCard (XEP-0054)."""
        answer = await self.ask("get", of, "<vCard xmlns='vcard-temp'/>")
        return answer if isinstance(answer, str) else answer.findtext(f"{_VCARD}vCard/{_VCARD}NICKNAME") or ""

    # ---- what it sees ----------------------------------------------------------------------------------------

    def lines(self, contact: str) -> list[str]:
        """What that contact wrote, once for each stanza id, as apps show it."""
        own = {got.id: got.body for got in self.inbox if sender(got.element) == contact and got.body}
        return list(own.values())

    async def contact(self, true: Callable[[str], bool] = bool, *, seconds: float = 10) -> str:
        """The first contact like that that asked to see us."""

        def found() -> list[str]:
            return [contact for contact, _ in self.requests if true(contact)]

        await self.when(lambda: bool(found()), seconds=seconds)
        return found()[0]

    def _hear(self, stanza: Any) -> None:
        if stanza["type"] == "error":
            self.bounced.append(stanza["id"])
        elif stanza["from"].domain == self._component:
            if stanza.xml.find(COMPOSING) is not None:
                self.composed.append(stanza["from"].bare)
            self._hear_desk(stanza)
        self._go(self._tell())

    def _see_presence(self, presence: Any) -> None:
        contact, kind = presence["from"].bare, presence["type"]
        if presence["from"].domain == self._component and kind != "error":
            if kind == "subscribe":
                self.requests.append((contact, presence.xml.findtext(_NICK) or ""))
                if self.accepts:
                    self._client.send_presence(pto=contact, ptype="subscribed")
                    self.ask_to_see(contact)
            elif kind in ("unsubscribe", "unsubscribed"):
                self.ended.append((contact, kind))
            elif kind not in ("subscribed", "probe"):
                self.contacts[contact] = (kind, presence["status"])
        self._go(self._tell())

    def _see_roster(self, iq: Any) -> None:
        for item in iq.xml.iterfind("{jabber:iq:roster}query/{jabber:iq:roster}item"):
            self.roster[item.get("jid", "")] = item.get("subscription", "")
        self._go(self._tell())


def sender(message: Element) -> str:
    """The bare JID."""
    return message.get("from", "").partition("/")[0]
