"""What is due to the admins, and how far it has come. The XMPP edge asks and reports; it decides nothing.

A delivery is due → sent → acknowledged by the server (its body is erased here) → on a device → read. What was
sent and not acknowledged becomes due again when a session is lost; the stanza id stays the same, so that the other
side can tell a repetition from a new message.
"""

from __future__ import annotations

from collections.abc import Collection

from veilsupport import crypto
from veilsupport.desk.core import Core, minute_of
from veilsupport.errors import SealError
from veilsupport.model import Admin, Delivery, DeliveryKind
from veilsupport.store import NewDelivery, StoredDelivery


class Outbox(Core):
    """The deliveries' part of the desk."""

    def due(self, *, now: float, limit: int = 50) -> list[Delivery]:
        """What is to be sent, oldest first."""
        found = self.store.due(minute=minute_of(now), limit=limit)
        return [self._opened(stored) for stored in found if stored.admin in self._admin_of]

    async def delivery_sent(self, stanza_ids: Collection[str], *, now: float) -> set[str]:
        """About to be given to the link. Only those returned may be: the others were burned in the meantime."""
        return await self.store.mark_sent(stanza_ids, minute=minute_of(now))

    async def delivery_acknowledged(self, stanza_ids: Collection[str]) -> None:
        """The server has them (XEP-0198, or seen in its archive): their bodies are erased here."""
        self._tell_moved(await self.store.mark_acked(stanza_ids))

    async def delivery_arrived(self, stanza_id: str, admin: Admin) -> None:
        """That admin's device has it (XEP-0184). Unknown ids, and another admin's, are ignored."""
        self._tell_moved(await self.store.mark_arrived(stanza_id, self.admin_id(admin)))

    async def delivery_read(self, stanza_id: str, admin: Admin) -> None:
        """That admin has looked at it, and so at all before it (XEP-0333)."""
        self._tell_moved(await self.store.mark_read(stanza_id, self.admin_id(admin)))

    async def delivery_refused(self, stanza_id: str, *, now: float) -> None:
        """An error came back: due again after a pause that grows with each refusal, to an hour."""
        await self.store.mark_refused(stanza_id, minute=minute_of(now))

    async def deliveries_lost(self, *, kept: Collection[str]) -> int:
        """All that were sent and not acknowledged, except `kept`, are due again; returns how many."""
        count = await self.store.requeue(kept=kept)
        if count:
            self.wake.set()
        return count

    def unacknowledged(self) -> list[tuple[str, float]]:
        """(stanza id, when it was last sent: Unix seconds, rounded down to the minute), oldest first."""
        return [(stanza_id, minute * 60.0) for stanza_id, minute in self.store.unacknowledged()]

    def alias_of_stanza(self, stanza_id: str) -> str | None:
        """Which conversation a stanza that we sent belongs to."""
        return self.store.alias_of_stanza(stanza_id)

    def position(self, archive: str) -> tuple[str, float] | None:
        """(archive id of the last stanza taken, "" if there was none; when, Unix seconds).

        None before the first start.
        """
        found = self.store.position(self._archive(archive))
        return (found[0], found[1] * 60.0) if found else None

    async def move_position(self, archive: str, position: str, *, now: float) -> None:
        """Everything up to this archive id has been dealt with; at the first start, what was there before us."""
        await self.store.move_position(self._archive(archive), position, minute=minute_of(now))

    async def reassign(self, *, now: float) -> None:
        """At start: what is due to nobody, or to an admin who is no more, goes to those who are there now."""
        if not self.admins:
            return
        strays = self.store.strays(list(self._admin_of))
        made: dict[tuple[bytes | None, int | None], list[NewDelivery]] = {}
        for stored, covered in strays:
            if stored.kind is DeliveryKind.MESSAGE and not covered:
                text = self._text(stored)
                made[stored.conversation, stored.seq] = self._deliveries(DeliveryKind.MESSAGE, self.admins, text)
        await self.store.replace_deliveries(
            [stored.stanza_id for stored, _ in strays],
            [(new, *place) for place, deliveries in made.items() for new in deliveries],
            minute=minute_of(now),
        )

    # ---- within ----------------------------------------------------------------------------------------------

    def _archive(self, archive: str) -> bytes:
        return crypto.derive(self.key.pepper, "veil-intake", archive.encode())

    def _opened(self, stored: StoredDelivery) -> Delivery:
        return Delivery(
            stored.stanza_id,
            self._admin_of[stored.admin],
            stored.kind,
            stored.alias,
            self._text(stored),
            stored.made_minute,
            stored.site,
        )

    def _text(self, stored: StoredDelivery) -> str:
        """A damaged body is delivered as such, so that one bad block does not stop the line."""
        try:
            return crypto.unwrap_text(self.key.outbox, stored.sealed, stored.stanza_id.encode())
        except SealError:
            return "(This was damaged on the desk's disk and cannot be shown.)"
