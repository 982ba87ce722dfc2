"""The component form: each visitor is a contact of their own, `heron-42@support.example.onion`.

The rules:

1. A contact's address is on our disk, as its conversation's place, before anything leaves from it: whatever happens
   then, burning takes it off.
2. While a conversation is open, each admin who may see it is asked for leave once in each session, until they refuse;
   to accept is theirs, and changes nothing but what they see. Presence tells how it stands; a closed or blocked one is
   shown as offline. Servers keep no presence for a component, so everything is told anew in each session, and whenever
   one asks.
3. Whoever may not see a conversation learns from presence and subscriptions no more than of an address that is none.
4. Burned: the retractions go from the address that the words came from, the contact is shown as offline, and all
   subscriptions are ended. These are deliveries like any other, and stay due until the server has taken them. It is
   the most that XMPP allows: the entry itself is the admin's to remove.
5. What the desk itself says comes from `desk@`; in a visitor's chat it carries a mark in front.

What is taken from the admins stands in contacttalk.py.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from veilsupport.desk import Desk
from veilsupport.errors import NotFound, StoreError, Unavailable
from veilsupport.model import Admin, Conversation, Delivery, Private, Request, Role, Standing
from veilsupport.xmpp import profiles, signals, stanzas, titles
from veilsupport.xmpp.attending import Attending
from veilsupport.xmpp.component import Component
from veilsupport.xmpp.outgoing import Outgoing

_RESOURCE: Final = "desk"
_AT_ONCE: Final = 20  # contacts that are told of before the server is asked whether it keeps up
_CLOSED_SHOWN: Final = 200  # closed ones that are shown as such to whoever may remember them as open
_ANSWERS_MAX: Final = 50
_TYPING_SECONDS: Final = 5.0
_NEWS_SECONDS: Final = 0.3  # what changes several times in a moment is said once
_DISK_PAUSE_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Contact:
    """One visitor as the present session knows them. Nothing of it rests on disk but the address."""

    conversation: Conversation  # as it was last told
    address: str = field(repr=False)
    is_introduced: bool = False  # in this session, to all who may see it
    known_to: set[str] = field(default_factory=set, repr=False)  # bare JIDs
    refused_by: set[str] = field(default_factory=set, repr=False)
    shown: str | None = field(default=None, repr=False)  # the status text last sent to all; "" is offline
    typed_at: float = float("-inf")
    answers: deque[tuple[int, str, str]] = field(default_factory=lambda: deque(maxlen=_ANSWERS_MAX), repr=False)
    marked: dict[str, str] = field(default_factory=dict, repr=False)  # admin's JID → up to which line of theirs


class Contacts:
    """How visitors appear. For the pump it stands in the place of rooms, of which there are none."""

    def __init__(
        self,
        desk: Desk,
        line: Component,
        outgoing: Outgoing,
        attending: Attending,
        *,
        keeps_archive: bool,
        clock: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._line = line
        self._outgoing = outgoing
        self._attending = attending
        self._keeps_archive = keeps_archive
        self._clock = clock
        self._admins = {_jid(admin): admin for admin in desk.admins}
        self._contacts: dict[bytes, _Contact] = {}
        self._stale: dict[bytes, None] = {}  # to be told of, the longest waiting first
        self._leaving: deque[tuple[str, str]] = deque()  # stanza id and address of burned ones
        self._news = asyncio.Event()

    # ---- a session -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A fresh one: nobody has been told anything in it."""
        self._leaving.clear()  # They are due again.
        for contact in self._contacts.values():
            contact.is_introduced, contact.shown = False, None
        self._attending.in_staff_room(None)
        for jid in self._admins:
            self._introduce_desk(jid)
        closed = [each.conversation for each in self._desk.rooms() if each.conversation.standing is not Standing.OPEN]
        for each in (*self._desk.open_conversations(), *closed[:_CLOSED_SHOWN]):
            self.look_at(each.id)

    def farewell(self) -> None:
        """Nobody keeps our presence, so nobody else would take it back. Who may not see one any more, keeps none."""
        for contact in self._contacts.values():
            if contact.shown != "":
                self._show(contact, "")
            for jid in contact.known_to - {_jid(admin) for admin in self._readers(contact.conversation)}:
                self._end(contact.address, jid)
        still = {_jid(admin) for admin in self._desk.admins}
        for jid in self._admins:
            if jid in still:
                self._line.post(self._presence(self._line.own, jid, ""))
            else:
                self._end(self._line.own, jid)

    async def run(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(_NEWS_SECONDS)
            await self._outgoing.ready.wait()
            self._news.clear()
            try:
                await self._work_off()
            except Unavailable:
                self._line.cut(signals.SILENT)  # if it is not gone already; the next session begins all of it anew
            except StoreError:
                await asyncio.sleep(_DISK_PAUSE_SECONDS)
                self._news.set()

    async def _work_off(self) -> None:
        """Unavailable: the server does not keep up, or is gone."""
        while self._leaving:
            stanza_id, address = self._leaving.popleft()
            is_ours = address.endswith(f"@{self._line.domain}")  # else it is a room, of the time before this form
            if is_ours:
                self._take_off(address)
                await self._line.settled()
            await self._outgoing.destroyed(stanza_id, gone=is_ours)
        while self._stale:
            for conversation in list(self._stale)[:_AT_ONCE]:
                await self._bring_up_to_date(conversation)
            await self._line.settled()

    # ---- for the pump ----------------------------------------------------------------------------------------

    def address(self, conversation: bytes | None) -> str | None:
        return None

    def not_ready(self) -> Collection[bytes]:
        return ()

    def is_bringing_up(self) -> bool:
        return False

    def lost_us(self, conversation: bytes | None) -> None:
        pass

    def destroy(self, stanza_id: str, address: str) -> None:
        self._leaving.append((stanza_id, address))
        self._news.set()

    def written(self, delivery: Delivery, to: str) -> Element:
        """The visitor's words as they are, from their own address; the desk's with a mark, or from its own."""
        plain = replace(delivery, alias="", body=stanzas.said_in_room(delivery) if delivery.alias else delivery.body)
        message = stanzas.write(plain, to)
        message.set("from", f"{self._address_of(delivery.alias) if delivery.alias else self._line.own}/{_RESOURCE}")
        if delivery.alias:
            SubElement(message, profiles.NICK).text = delivery.alias
        return message

    async def introduced(self, message: Element, delivery: Delivery) -> Element | None:
        """The message, once whom it comes from has been introduced; None: they are gone."""
        if delivery.conversation is not None:
            contact = await self._contact(delivery.conversation)
            if contact is None:
                return None
            if contact.conversation.standing is Standing.OPEN:
                self._introduce(contact)
        return message if self._keeps_archive else stanzas.unarchived(message)

    # ---- for the desk's news ---------------------------------------------------------------------------------

    def look_at(self, conversation: bytes) -> None:
        """Its standing, owner or wait may differ."""
        self._stale[conversation] = None
        self._news.set()

    def typing(self, conversation: Conversation) -> None:
        """Their visitor is writing: to those who are there."""
        contact, now = self._contacts.get(conversation.id), self._clock()
        if contact is None or not self._outgoing.ready.is_set():
            return
        if 0 <= now - contact.typed_at < _TYPING_SECONDS:
            return
        contact.typed_at = now
        for admin in self._readers(conversation):
            if self._attending.devices(admin):
                self._say(contact.address, stanzas.composing(_jid(admin), secrets.token_hex(8)))

    def read_up_to(self, conversation: bytes, seq: int) -> None:
        """The visitor has looked at everything up to message `seq`: to each admin, as far as it is theirs."""
        contact = self._contacts.get(conversation)
        if contact is None or not self._outgoing.ready.is_set():
            return
        for jid, stanza_id in {jid: stanza_id for at, jid, stanza_id in contact.answers if at <= seq}.items():
            if contact.marked.get(jid) != stanza_id:
                contact.marked[jid] = stanza_id
                self._say(contact.address, stanzas.displayed(jid, secrets.token_hex(8), stanza_id))

    def said(self, conversation: bytes, seq: int, admin: Admin, stanza_id: str) -> None:
        """Message `seq` came as that stanza of theirs."""
        if stanza_id and (contact := self._contacts.get(conversation)):
            contact.answers.append((seq, _jid(admin), stanza_id))

    # ---- what admins' servers and apps ask -------------------------------------------------------------------

    def presence(self, presence: Element) -> None:
        """From an admin: of their device, or about who may see whom."""
        sender, to, kind = presence.get("from", ""), _bare(presence.get("to", "")), presence.get("type")
        match kind:
            case None:
                self._attending.presence(sender, True)
            case "unavailable" if "/" in sender:  # without a resource it may be that we are not let see them (Prosody)
                self._attending.presence(sender, False)
            case "subscribed":  # from now on, or still: if they are there, that follows
                self._attending.presence(sender, False)
            case "subscribe" | "probe":
                self._let_see(to, self._admins[_bare(sender)], asked=kind == "subscribe")
            case "unsubscribe":
                self._line.post(profiles.presence(to, _bare(sender), "unsubscribed"))
            case "unsubscribed":
                self._refused(to, _bare(sender))

    def answer(self, question: Element) -> Element | None:
        """To an admin's app that wants to know whom it sees (XEP-0030, XEP-0054, XEP-0199)."""
        admin = self._admins[_bare(question.get("from", ""))]
        name = self._name(_bare(question.get("to", "")), admin)
        return profiles.about(question, name) if name else None

    def _let_see(self, address: str, admin: Admin, *, asked: bool) -> None:
        """Rules 2 and 3. `asked`: for leave; else how it stands."""
        jid = _jid(admin)
        found = self._seen_by(address, admin)
        if found is None and address != self._line.own:
            self._line.post(profiles.presence(address, jid, "unsubscribed"))
            return
        if asked:
            self._line.post(profiles.presence(address, jid, "subscribed"))
        if found is None:
            self._line.post(self._desk_presence(jid))
        else:
            status = self._status(found)
            self._line.post(self._presence(address, jid, status))
            contact = self._contacts.get(found.id)
            if contact is not None and contact.shown != status:
                contact.shown = None

    def _refused(self, address: str, jid: str) -> None:
        """They do not want that contact, or have removed it: they are not asked at each new connection."""
        for contact in self._contacts.values():
            if contact.address == address:
                contact.refused_by.add(jid)

    def _name(self, address: str, admin: Admin) -> str:
        """As that admin may know it; "" when they may not."""
        found = self._seen_by(address, admin)
        if found is None:
            return self._own_name if address == self._line.own else ""
        return found.alias

    @property
    def _own_name(self) -> str:
        return self._desk.site("").title or "Support desk"

    def _seen_by(self, address: str, admin: Admin) -> Conversation | None:
        found = self._desk.conversation_called(address.partition("@")[0])
        return found if found and admin.role_at(found.site) >= Role.READS else None

    # ---- showing them ----------------------------------------------------------------------------------------

    async def _bring_up_to_date(self, conversation: bytes) -> None:
        del self._stale[conversation]
        try:
            found = self._desk.conversation_of(conversation)
            if found and found.request is Request.FOLDED and conversation not in self._contacts:
                return  # nobody is asked for leave before it is opened
            contact = await self._contact(conversation)
        except StoreError:
            self._stale[conversation] = None
            raise
        if contact is None:
            return
        status = self._status(contact.conversation)
        if status:
            self._introduce(contact)
        else:
            contact.is_introduced = False  # whoever removed it is asked again when it is opened again
            contact.refused_by.clear()
        if status != contact.shown:
            self._show(contact, status)

    async def _contact(self, conversation: bytes) -> _Contact | None:
        """As it stands now, and with its address on disk; None: it is gone."""
        found = self._desk.conversation_of(conversation)
        if found is None:
            self._contacts.pop(conversation, None)
            return None
        contact = self._contacts.get(conversation)
        if contact is None:
            contact = _Contact(found, self._address_of(found.alias))
            try:
                await self._place(found, contact.address)
            except NotFound:
                return None
            contact = self._contacts.setdefault(conversation, contact)
        contact.conversation = found
        return contact

    async def _place(self, conversation: Conversation, address: str) -> None:
        """Rule 1."""
        room = self._desk.room_of(conversation.id)
        if room is None or room.address.reveal() != address:
            await self._desk.place_room(conversation.id, Private(address))

    def _introduce(self, contact: _Contact) -> None:
        """Rule 2's request."""
        if contact.is_introduced:
            return
        contact.is_introduced = True
        for jid in map(_jid, self._readers(contact.conversation)):
            contact.known_to.add(jid)
            if jid not in contact.refused_by:
                self._line.post(profiles.request(contact.address, jid, contact.conversation.alias))

    def _introduce_desk(self, jid: str) -> None:
        """Also ask whether they are there (RFC 6121 §4.3.1)."""
        self._line.post(profiles.request(self._line.own, jid, self._own_name))
        self._line.post(self._desk_presence(jid))
        self._line.post(profiles.presence(self._line.own, jid, "probe"))

    def _show(self, contact: _Contact, status: str) -> None:
        contact.shown = status
        for jid in map(_jid, self._readers(contact.conversation)):
            self._line.post(self._presence(contact.address, jid, status))

    def _take_off(self, address: str) -> None:
        """Rule 4. Who could see it is forgotten together with it, and all are told anyway that it is burned."""
        self._contacts = {key: each for key, each in self._contacts.items() if each.address != address}
        for jid in self._admins:
            self._end(address, jid)

    def _end(self, address: str, jid: str) -> None:
        for presence in profiles.ending(address, _RESOURCE, jid):
            self._line.post(presence)

    def _status(self, conversation: Conversation) -> str:
        owner = self._desk.name_of(conversation.owner)
        return titles.status(conversation, self._desk.site(conversation.site), owner=owner)

    def _presence(self, address: str, to: str, status: str) -> Element:
        if not status:
            return profiles.presence(f"{address}/{_RESOURCE}", to, "unavailable")
        return profiles.presence(f"{address}/{_RESOURCE}", to, show="chat", status=status)

    def _desk_presence(self, jid: str) -> Element:
        return profiles.presence(f"{self._line.own}/{_RESOURCE}", jid, status="!help lists the commands")

    def _readers(self, conversation: Conversation) -> list[Admin]:
        return self._desk.admins_of(conversation.site)

    def _address_of(self, alias: str) -> str:
        return f"{alias}@{self._line.domain}"

    def _say(self, address: str, message: Element) -> None:
        message.set("from", f"{address}/{_RESOURCE}")
        self._line.post(message)


def _jid(admin: Admin) -> str:
    """Bare, in lower case."""
    return admin.address.reveal().casefold()


def _bare(jid: str) -> str:
    return jid.partition("/")[0].casefold()
