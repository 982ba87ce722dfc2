"""What is due to the admins, and how far it has come. The XMPP edge asks and reports; it decides nothing.

A delivery is due → sent → acknowledged by the server (its body is erased here) → on a device → read. What was
sent and not acknowledged becomes due again when a session is lost; the stanza id stays the same, so that the other
side can tell a repetition from a new message.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from veilsupport import crypto
from veilsupport.desk.core import NEW_MESSAGE, Core, minute_of
from veilsupport.errors import SealError
from veilsupport.model import Admin, Conversation, Delivery, DeliveryKind, DeliveryStep, Intake, Private, Role, Standing
from veilsupport.store import NOBODY, ROOM, NewDelivery, StoredDelivery

_STAFF_ROOM: Final = "staff-room"
_OPEN_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Unacknowledged:
    """A stanza that left us, and of which the server has said nothing yet."""

    stanza_id: str
    sent_at: float  # Unix seconds, rounded down to the minute
    to_room: bool  # the conversation's, or without one the staff room; else an admin's chat
    conversation: bytes | None


class Outbox(Core):
    """The deliveries' part of the desk."""

    def due(self, *, now: float, limit: int = 50, without: Collection[bytes] = ()) -> list[Delivery]:
        """What is to be sent, the oldest of every conversation first. `without`: whose room takes nothing yet."""
        found = self.store.due(minute=minute_of(now), limit=limit, without=without, to=self._admin_of)
        for stored in found:
            self.on_delivery(stored.stanza_id, DeliveryStep.DUE, stored.kind)
        return [self._opened(stored) for stored in found]

    async def delivery_sent(self, stanza_ids: Collection[str], *, now: float) -> set[str]:
        """About to be given to the link. Only those returned may be: the others were burned in the meantime."""
        return await self.store.mark_sent(stanza_ids, minute=minute_of(now))

    async def delivery_acknowledged(self, stanza_ids: Collection[str]) -> None:
        """The server has them (XEP-0198, or seen in its archive): their bodies are erased here."""
        self._tell_moved(await self.store.mark_acked(stanza_ids))
        self._count(stanza_ids, DeliveryStep.ACKNOWLEDGED)

    async def delivery_in_room(self, stanza_id: str, archived_as: str) -> None:
        """The room has passed it on, and keeps it under that id: as acknowledged."""
        await self.deliveries_came(in_rooms={stanza_id: archived_as})

    async def deliveries_came(
        self,
        *,
        acknowledged: Collection[str] = (),
        in_rooms: Mapping[str, str] = MappingProxyType({}),
        arrived: Collection[tuple[str, Admin]] = (),
    ) -> None:
        """`delivery_acknowledged`, `delivery_in_room` and `delivery_arrived` for many, in one transaction."""
        archived = {stanza_id: self._archived(archived_as) for stanza_id, archived_as in in_rooms.items()}
        on_devices = [(stanza_id, self.admin_id(admin)) for stanza_id, admin in arrived]
        self._tell_moved(await self.store.mark_come(acked=acknowledged, archived=archived, arrived=on_devices))
        self._count([*acknowledged, *in_rooms], DeliveryStep.ACKNOWLEDGED)

    async def delivery_read_in_room(self, conversation: bytes, archived_as: str) -> None:
        """An admin has looked at what the room keeps under that id, and so at all before it (XEP-0333).

        Some apps name it by our own id instead.
        """
        stanza_id = self.store.stanza_archived_as(conversation, self._archived(archived_as), archived_as)
        if stanza_id:
            self._tell_moved(await self.store.mark_read(stanza_id, ROOM))

    async def delivery_arrived(self, stanza_id: str, admin: Admin) -> None:
        """That admin's device has it (XEP-0184). Unknown ids, and another admin's, are ignored."""
        self._tell_moved(await self.store.mark_arrived(stanza_id, self.admin_id(admin)))

    async def delivery_read(self, stanza_id: str, admin: Admin, *, apart: bool = False) -> None:
        """That admin has looked at it, and so at all before it (XEP-0333).

        `apart`: only at what belongs to the same conversation, for each is a chat of its own.
        """
        self._tell_moved(await self.store.mark_read(stanza_id, self.admin_id(admin), apart=apart))

    async def delivery_refused(self, stanza_id: str, *, now: float) -> None:
        """An error came back: due again after a pause that grows with each refusal, to an hour."""
        await self.store.mark_refused(stanza_id, minute=minute_of(now))
        self._count([stanza_id], DeliveryStep.REFUSED)

    async def deliveries_lost(self, stanza_ids: Collection[str]) -> int:
        """Those of them that are not acknowledged are due again; returns how many."""
        count = await self.store.requeue(stanza_ids)
        if count:
            self._count(stanza_ids, DeliveryStep.AGAIN)
            self.wake.set()
        return count

    def unacknowledged(self) -> list[Unacknowledged]:
        """Oldest first."""
        found = self.store.unacknowledged()
        return [
            Unacknowledged(stanza_id, minute * 60.0, admin == ROOM, conversation)
            for stanza_id, minute, admin, conversation in found
        ]

    async def place_directly(self, conversation: bytes | None, *, now: float) -> None:
        """The server does not let us have that conversation's room, or, with None, any room at all.

        What is due there goes to each admin's chat instead, and so does all that follows, until `rooms_return`.
        """
        if conversation is None:
            self.uses_rooms = False
        else:
            self._directly.add(conversation)
        await self.store.empty_rooms(conversation, self._placed_directly, minute=minute_of(now))
        self.wake.set()

    def room_returns(self, conversation: bytes) -> None:
        """The server may let that conversation have its room (again)."""
        self._directly.discard(conversation)

    def rooms_return(self) -> None:
        """The server may let us have rooms (again): what is due from now on goes there."""
        self.uses_rooms = True
        self._directly.clear()

    async def place_room(self, conversation: bytes, address: Private) -> None:
        """Its room shall have that address. NotFound: the conversation is gone."""
        sealed = crypto.wrap_text(self.key.settings, address.reveal(), b"room" + conversation)
        await self.store.set_room(conversation, sealed)

    def staff_room(self) -> Private | None:
        """The address of the room where all admins meet; None when none was made yet, or its address is damaged."""
        sealed = self.store.setting(_STAFF_ROOM)
        try:
            address = crypto.unwrap_text(self.key.settings, sealed or b"", _STAFF_ROOM.encode())
        except SealError:
            return None
        return Private(address)

    async def place_staff_room(self, address: Private) -> None:
        sealed = crypto.wrap_text(self.key.settings, address.reveal(), _STAFF_ROOM.encode())
        await self.store.set_setting(_STAFF_ROOM, sealed)

    def omemo_entries(self) -> dict[str, str]:
        """OMEMO's state, as `keep_omemo` was given it."""
        entries: dict[str, str] = {}
        for name, sealed in self.store.omemo():
            try:
                entry, _, value = crypto.unwrap_text(self.key.settings, sealed, b"omemo" + name).partition("\0")
            except SealError:
                continue  # One damaged session is begun anew; it must not keep the desk from starting.
            entries[entry] = value
        return entries

    async def keep_omemo(self, changes: Mapping[str, str | None]) -> None:
        """All of it or none; None forgets an entry."""
        sealed = []
        for entry, value in changes.items():
            name = crypto.derive(self.key.pepper, "veil-omemo", entry.encode())
            body = None if value is None else f"{entry}\0{value}"
            sealed.append((name, None if body is None else crypto.wrap_text(self.key.settings, body, b"omemo" + name)))
        await self.store.keep_omemo(sealed)

    async def tell_room(
        self, conversation: bytes | None, text: str, *, intake: Intake | None = None, now: float
    ) -> None:
        """Queue a notice for a conversation's room, or the staff room, together with the stanza that it answers.

        Duplicate: that took effect before. NotFound: the conversation is gone.
        """
        notice = self._delivery(DeliveryKind.NOTICE, ROOM, text)
        taken = self._taken(intake) if intake else None
        await self.store.queue([notice], minute=minute_of(now), conversation=conversation, taken=taken)
        self.wake.set()

    async def announce(self, text: str, *, now: float) -> None:
        """News for everyone who answers."""
        await self.store.queue(self._to_staff(text), minute=minute_of(now))
        self.wake.set()

    def oldest_due_at(self) -> float | None:
        """Since when the oldest delivery waits that the server has not acknowledged (Unix seconds); None: none does."""
        minute = self.store.oldest_backlog()
        return None if minute is None else minute * 60.0

    def alias_of_handle(self, handle: str) -> str | None:
        """Which conversation the message belongs to that a correction or retraction names so."""
        found = self.store.handled(self._hashed(handle))
        return found.conversation.alias if found else None

    def conversation_of(self, conversation: bytes) -> Conversation | None:
        """As the admins know it; None when it is gone."""
        return self.store.conversation(conversation)

    def conversation_called(self, alias: str) -> Conversation | None:
        """The same by its name."""
        found = self.store.conversation_called(alias)
        return found[0] if found else None

    def open_conversations(self) -> list[Conversation]:
        """The one with the newest message first."""
        return self.store.conversations(Standing.OPEN, limit=_OPEN_MAX)

    def is_due_in_room(self, conversation: bytes) -> bool:
        """Whether its room has not got everything yet."""
        return self.store.is_due_in_room(conversation)

    def alias_of_stanza(self, stanza_id: str) -> str | None:
        """Which conversation a stanza that we sent belongs to."""
        return self.store.alias_of_stanza(stanza_id)

    def position(self, archive: str) -> tuple[str, float] | None:
        """(archive id of the last stanza taken, "" if there was none; when, Unix seconds).

        None before the first start.
        """
        hashed = self._hashed(archive)
        found = self.store.position(hashed)
        return (self._opened_position(hashed, found[0]), found[1] * 60.0) if found else None

    async def move_position(self, archive: str, position: str, *, now: float) -> None:
        """Everything up to this archive id has been dealt with; at the first start, what was there before us."""
        hashed = self._hashed(archive)
        sealed = self._sealed_position(hashed, position)
        await self.store.move_position(hashed, sealed, minute=minute_of(now))

    async def reassign(self, *, now: float) -> None:
        """At start, and when others answer: everything that is due goes to those who may see it now.

        That is what was due to nobody, to one who is no more, or to a room that nobody reads. Held is what is for those
        who only want to be told now, and nothing else.
        """
        if not self.admins:
            return
        strays = self.store.strays(self._is_for)
        made: dict[tuple[bytes | None, int | None], list[NewDelivery]] = {}
        for stored, covered in strays:
            if stored.kind is DeliveryKind.MESSAGE and stored.conversation and not covered:
                words = self._of_visitor(stored.conversation, stored.site, self._text(stored))
                made[stored.conversation, stored.seq] = words
        await self.store.replace_deliveries(
            [stored.stanza_id for stored, _ in strays],
            [(new, *place) for place, deliveries in made.items() for new in deliveries],
            minute=minute_of(now),
        )
        await self.store.hold_for(
            [id for id, admin in self._admin_of.items() if admin.notify_only],
            [id for id, admin in self._admin_of.items() if not admin.notify_only],
            lambda admin: self._delivery(DeliveryKind.NEWS, admin, NEW_MESSAGE),
            minute=minute_of(now),
        )

    # ---- within ----------------------------------------------------------------------------------------------

    def _count(self, stanza_ids: Collection[str], step: DeliveryStep) -> None:
        for stanza_id in stanza_ids:
            self.on_delivery(stanza_id, step, None)

    def _archived(self, archived_as: str) -> bytes:
        """A server may make these ids of the time, to the microsecond."""
        return crypto.derive(self.key.pepper, "veil-archived", archived_as.encode())

    def _opened_position(self, archive: bytes, sealed: bytes) -> str:
        """Version 2 kept it in the open. A damaged one is as good as one that the archive has forgotten."""
        try:
            return crypto.unwrap_text(self.key.settings, sealed, b"position" + archive)
        except SealError:
            text = sealed.decode(errors="replace")
            return text if text.isascii() and text.isprintable() else "damaged"

    def _is_for(self, stored: StoredDelivery) -> bool:
        """Whether its recipient is an admin, and may see what is said on that site; or a room that somebody reads."""
        if stored.admin == ROOM:
            return not all(admin.notify_only for admin in self.admins_of(stored.site))
        admin = self._admin_of.get(stored.admin)
        return admin is not None and (stored.conversation is None or admin.role_at(stored.site) >= Role.READS)

    def _placed_directly(self, stored: StoredDelivery) -> list[NewDelivery]:
        """The same for each admin's chat."""
        text = self._text(stored)
        if stored.conversation is None:
            return self._to_staff(text)
        if stored.kind is DeliveryKind.MESSAGE and not self.admins_of(stored.site):
            return [self._delivery(stored.kind, NOBODY, text)]
        return self._to_place(stored.conversation, stored.site, stored.kind, text)

    def _opened(self, stored: StoredDelivery) -> Delivery:
        body, alias = self._text(stored), stored.alias
        if stored.kind is DeliveryKind.RETRACT:
            body, _, alias = body.partition(" ")
        admin = self._admin_of.get(stored.admin)
        return Delivery(stored.stanza_id, admin, stored.kind, stored.conversation, alias, body, stored.site)
