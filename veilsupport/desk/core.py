"""What the three parts of the desk share: store, keys, admins, listeners, and the checks of a text."""

from __future__ import annotations

import asyncio
import re
import secrets
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from veilsupport import crypto
from veilsupport.crypto import ApplianceKey, ArchiveSetting, Passwords
from veilsupport.desk import requests
from veilsupport.desk.listener import Listeners
from veilsupport.desk.requests import Repeats, Tallies
from veilsupport.errors import AdminError, SealError, VisitorError
from veilsupport.model import (
    BODY_MAX_CHARACTERS,
    Admin,
    AttendanceChanged,
    Author,
    Changed,
    Conversation,
    DeliveryKind,
    DeliveryStep,
    Ended,
    Intake,
    Message,
    Private,
    Progressed,
    Role,
    Room,
    Said,
    SignedOut,
    Site,
    StandingChanged,
)
from veilsupport.store import NOBODY, ROOM, Kept, Moved, NewDelivery, Store, StoredDelivery, Taken

NEW_MESSAGE: Final = "New message. !show brings it."
ARCHIVE_SETTING: Final = "archive"

# Control characters but for line feed and tab; and the marks that reorder or hide text around them (bidirectional
# embeddings, overrides and isolates, Unicode UAX #9 §2), with which a line can be made to read as another one. The
# last ones are no characters; XML forbids them, and a server hangs up on whoever sends them.
_UNWANTED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def clean(text: str) -> str:
    """The same text without what can harm a page or a phone; line ends become line feeds."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNWANTED.sub("", unicodedata.normalize("NFC", text)).strip()


def accept(text: str) -> str:
    """A message's text, cleaned. VisitorError when nothing is left or it is too long."""
    if len(text) > 4 * BODY_MAX_CHARACTERS:  # normalising takes time that grows with the square of the length
        raise too_long()
    body = clean(text)
    if not body:
        raise VisitorError("There is nothing in your message yet. Please write something.", code="empty")
    if len(body) > BODY_MAX_CHARACTERS:
        raise too_long()
    return body


def too_long() -> VisitorError:
    return VisitorError(
        f"Your message is too long: at most {BODY_MAX_CHARACTERS:,} characters. Please shorten it or send it in parts.",
        code="too_long",
    )


def minute_of(now: float) -> int:
    return int(now // 60)


class Core:
    """What every part of the desk holds. `status` gives the lines that other parts add to `!status`.

    The XMPP edge says by `uses_rooms` whether conversations go into rooms, and hears by `on_typing`, `on_read` and
    `on_changed` what it may show to the admins.
    """

    def __init__(
        self,
        store: Store,
        key: ApplianceKey,
        admins: Sequence[Admin],
        *,
        sites: Mapping[str, Site] | None = None,
        uses_rooms: bool = False,
        status: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.store = store
        self.key = key
        self.admins: tuple[Admin, ...] = tuple(admins)
        self.sites: Mapping[str, Site] = sites or {"": Site("", "", "")}
        self.uses_rooms = uses_rooms
        self.status = status
        self.wake = asyncio.Event()
        self.on_typing: Callable[[Conversation], None] = lambda conversation: None  # their visitor is writing just now
        self.on_read: Callable[[bytes, int], None] = lambda conversation, seq: None  # the visitor has looked so far
        self.on_changed: Callable[[bytes], None] = lambda conversation: None  # its standing, owner or wait may differ
        # For those who count: a message was kept; a delivery (by its stanza id) has come so far.
        self.on_said: Callable[[Author], None] = lambda author: None
        self.on_delivery: Callable[[str, DeliveryStep, DeliveryKind | None], None] = lambda stanza_id, step, kind: None
        self.listeners = Listeners()
        self._passwords = Passwords(key.pepper)
        self._repeats = Repeats()
        self._tallies = Tallies()
        self._line_is_up = False
        self._directly: set[bytes] = set()  # conversations that their room was refused for
        self._admin_of = {self.admin_id(admin): admin for admin in self.admins}
        self._archive_key = self._trusted_archive_key()

    def close(self) -> None:
        """End every open page's view; nothing is written after this."""
        self.listeners.tell_all(Ended(burned=False))
        self._passwords.close()

    @property
    def line_is_up(self) -> bool:
        """Whether the admins' server can be reached at this moment."""
        return self._line_is_up

    def line_changed(self, up: bool) -> None:
        if up != self._line_is_up:
            self._line_is_up = up
            self.listeners.tell_all(AttendanceChanged())

    @property
    def keeps_copies(self) -> bool:
        """Whether what is said is kept a second time, for the operator's archive."""
        return self._archive_key is not None

    def site(self, name: str) -> Site:
        """That site; one that is no more has the manners of the desk's own page."""
        return self.sites.get(name, self.sites[""])

    def change_sites(self, sites: Mapping[str, Site]) -> None:
        """Other manners from now on; open pages ask anew what visitors are told while nobody is there."""
        if sites != self.sites:
            self.sites = sites
            self.listeners.tell_all(AttendanceChanged())

    def admins_of(self, site: str, role: Role = Role.READS) -> list[Admin]:
        """Who may do that much there."""
        return [admin for admin in self.admins if admin.role_at(site) >= role]

    def name_of(self, admin: bytes | None) -> str:
        """The public name behind an owner; "" when it is nobody's, or of somebody who is no more."""
        found = self._admin_of.get(admin or b"")
        return found.name if found else ""

    def has_room(self, conversation: bytes) -> bool:
        """Whether what concerns that conversation goes into its room."""
        return self.uses_rooms and conversation not in self._directly

    def room_of(self, conversation: bytes) -> Room | None:
        """Its room; None when none was ever wanted for it."""
        return next((room for row in self.store.rooms(conversation) if (room := self._room(*row))), None)

    def rooms(self) -> list[Room]:
        """Every room there is, the one with the newest message first."""
        return [room for row in self.store.rooms() if (room := self._room(*row))]

    def admin_id(self, admin: Admin) -> bytes:
        """How the store names an admin: a keyed hash, because a JID names a person."""
        return crypto.derive(self.key.pepper, "veil-admin", admin.address.reveal().casefold().encode())

    def _present(self, admin: Admin) -> Admin:
        """The same one with today's roles. AdminError: the line to them is still there, but they are no more."""
        found = self._admin_of.get(self.admin_id(admin))
        if found is None:
            raise AdminError("You do not answer here any more.")
        return found

    def _deliveries(self, kind: DeliveryKind, admins: Iterable[Admin], text: str) -> list[NewDelivery]:
        """One for each; none for those who do not answer here any more."""
        ids = [self.admin_id(admin) for admin in admins]
        return [self._delivery(kind, each, text) for each in ids if each in self._admin_of]

    def _delivery(self, kind: DeliveryKind, admin: bytes, text: str) -> NewDelivery:
        stanza_id = secrets.token_hex(16)
        self.on_delivery(stanza_id, DeliveryStep.MADE, kind)
        return NewDelivery(stanza_id, admin, kind, crypto.wrap_text(self.key.outbox, text, stanza_id.encode()))

    def _to_place(
        self, conversation: bytes, site: str, kind: DeliveryKind, text: str, *, but_for: Admin | None = None
    ) -> list[NewDelivery]:
        """What the conversation's admins shall see: once in its room, or each in the chat with the desk."""
        readers = [admin for admin in self.admins_of(site) if not admin.notify_only]
        if readers and self.has_room(conversation):
            return [self._delivery(kind, ROOM, text)]
        return self._deliveries(kind, [admin for admin in readers if admin != but_for], text)

    def _to_staff(self, text: str, *, but_for: Admin | None = None) -> list[NewDelivery]:
        """News for everyone who answers: in the staff room, or each in the chat with the desk."""
        if self.uses_rooms:
            return [replace(self._delivery(DeliveryKind.NOTICE, ROOM, text), apart=True)]
        return self._deliveries(DeliveryKind.NOTICE, [admin for admin in self.admins if admin != but_for], text)

    def _news_of(
        self, conversation: Conversation, text: str, *, but_for: Collection[Admin | None] = ()
    ) -> list[NewDelivery]:
        """In the staff room, or each in the chat with the desk; not to those for whom its site is none of theirs."""
        if self.uses_rooms:
            return self._to_staff(text)
        those = [each for each in self.admins_of(conversation.site) if each not in but_for]
        return self._deliveries(DeliveryKind.NOTICE, those, text)

    def _of_visitor(self, conversation: bytes, site: str, text: str) -> list[NewDelivery]:
        """A visitor's words; while nobody is there to read them, kept until somebody is configured.

        Who only wants to be told that there are any gets them when they ask. Whoever sees them is told when a word of
        the operator's list stands in them.
        """
        readers = self.admins_of(site)
        if not readers:
            return [self._delivery(DeliveryKind.MESSAGE, NOBODY, text)]
        quiet = [admin for admin in readers if admin.notify_only]
        held = [replace(each, held=True) for each in self._deliveries(DeliveryKind.MESSAGE, quiet, text)]
        for each in held:
            self.on_delivery(each.stanza_id, DeliveryStep.HELD, None)
        is_marked = requests.is_marked(self.site(site), text)
        news = f"{requests.MARK}. {NEW_MESSAGE}" if is_marked else NEW_MESSAGE
        told = self._deliveries(DeliveryKind.NEWS, quiet, news)
        mark = self._to_place(conversation, site, DeliveryKind.NOTICE, requests.MARK) if is_marked else []
        return [*self._to_place(conversation, site, DeliveryKind.MESSAGE, text), *mark, *held, *told]

    def _folded(self, text: str) -> NewDelivery:
        """A visitor's words that are held for nobody, until their conversation is opened."""
        held = replace(self._delivery(DeliveryKind.MESSAGE, NOBODY, text), held=True)
        self.on_delivery(held.stanza_id, DeliveryStep.HELD, None)
        return held

    def _unfolded(self, stored: StoredDelivery) -> list[NewDelivery]:
        """What is due in the place of such a one now."""
        assert stored.conversation is not None
        return self._of_visitor(stored.conversation, stored.site, self._text(stored))

    def _text(self, stored: StoredDelivery) -> str:
        """A damaged body is delivered as such, so that one bad block does not stop the line."""
        try:
            return crypto.unwrap_text(self.key.outbox, stored.sealed, stored.stanza_id.encode())
        except SealError:
            return "(This was damaged on the desk's disk and cannot be shown.)"

    def _room(self, conversation: Conversation, sealed: bytes) -> Room | None:
        """A damaged address is as good as none: another room is made, and nothing stands in the way of burning."""
        try:
            address = crypto.unwrap_text(self.key.settings, sealed, b"room" + conversation.id)
        except SealError:
            return None
        return Room(conversation, Private(address))

    def _archive_setting(self) -> ArchiveSetting | None:
        """None: there is no archive. SealError: somebody else has written what stands there."""
        raw = self.store.setting(ARCHIVE_SETTING)
        return None if raw is None else ArchiveSetting.from_bytes(raw, self.key.settings)

    def _trusted_archive_key(self) -> bytes | None:
        """To which copies are sealed. Not to a stranger's: then there are none, and `archive_state` says why."""
        try:
            found = self._archive_setting()
        except SealError:
            return None
        return found.public_key if found and found.on else None

    def _copy(self, conversation: bytes, author: Author, name: str, body: str) -> Callable[[int], bytes] | None:
        """Seals a message's copy for the archive, given its sequence number; None while the archive is not on."""
        public_key = self._archive_key
        if public_key is None:
            return None
        return lambda seq: crypto.seal(public_key, conversation, author, seq, name, body)

    def _what_stays(self, conversation: bytes) -> str:
        """Said to the admins when a conversation is burned: what no desk can take back from other people's machines."""
        if self.has_room(conversation):
            return "Its room is destroyed, with the archive; what your devices still have of it is yours to delete."
        return (
            "Your apps are asked to remove it; what they, your other devices and your server's archive still have of it"
            " is yours to delete."
        )

    async def _burn(
        self,
        visitor: bytes,
        notices: Sequence[NewDelivery],
        *,
        now: float,
        taken: Taken | None = None,
        idle_before: int | None = None,
    ) -> bool:
        """Erase everything of that visitor, destroy their room, and have the admins' clients remove what they got.

        `idle_before`: only if nothing was said since that minute; whether it was so.
        """
        conversation = self.store.conversation(visitor)
        alias = conversation.alias if conversation else ""

        def retract(stanza_id: str, admin: bytes) -> NewDelivery | None:
            if admin not in self._admin_of:
                return None  # They are not written to any more.
            return self._delivery(DeliveryKind.RETRACT, admin, f"{stanza_id} {alias}")

        room = self.room_of(visitor)
        gone = [self._delivery(DeliveryKind.DESTROY, ROOM, room.address.reveal())] if room else []
        burned = await self.store.burn(
            visitor,
            minute=minute_of(now),
            retract=retract,
            archive=self._hashed(room.address.reveal()) if room else None,
            notices=[*gone, *notices],
            taken=taken,
            idle_before=idle_before,
        )
        if not burned:
            return False
        self._directly.discard(visitor)
        self._tallies.forget(visitor)
        self.listeners.tell(visitor, Ended(burned=True))
        self.on_changed(visitor)
        self.wake.set()
        return True

    def _tell_signed_out(self, visitor: bytes, token_hash: bytes) -> None:
        self.listeners.tell_session(visitor, token_hash, SignedOut())

    def _taken(self, intake: Intake) -> Taken:
        key = self._hashed(intake.key)
        if intake.archive is None or intake.position is None:
            return Taken(key, None, None)
        archive = self._hashed(intake.archive)
        return Taken(key, archive, self._sealed_position(archive, intake.position))

    def _handles(self, intake: Intake) -> list[bytes]:
        return [self._hashed(handle) for handle in intake.handles]

    def _sealed_position(self, archive: bytes, position: str) -> bytes:
        return crypto.wrap_text(self.key.settings, position, b"position" + archive)

    def _hashed(self, text: str) -> bytes:
        return crypto.derive(self.key.pepper, "veil-intake", text.encode())

    def _tell_said(self, kept: Kept, message: Message) -> None:
        """After a commit: the open pages first, then the XMPP edge."""
        if kept.again:
            return
        self.on_said(message.author)
        if kept.reopened:
            self.listeners.tell(message.conversation, StandingChanged(kept.conversation.standing))
        self.listeners.tell(message.conversation, Said(message))
        self.on_changed(message.conversation)
        self.wake.set()

    def _tell_changed(self, message: Message) -> None:
        self.listeners.tell(message.conversation, Changed(message))
        self.wake.set()

    def _tell_moved(self, moved: Iterable[Moved]) -> None:
        for step in moved:
            self.listeners.tell(step.conversation, Progressed(step.seq, step.progress))
