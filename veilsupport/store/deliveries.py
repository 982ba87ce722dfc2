"""What is due to the admins, and how far it has come: the writing half of the outbox's table."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from veilsupport.model import DeliveryKind, Progress
from veilsupport.store import rows
from veilsupport.store.rows import ROOM
from veilsupport.store.values import Moved, NewDelivery, StoredDelivery, Taken, Unfold
from veilsupport.store.writer import SCRUB_SOON, Db

T = TypeVar("T")


class Deliveries:
    """Each method is one transaction."""

    @abstractmethod
    async def _write(self, work: Callable[[Db], T], *, scrub_within: float | None = None) -> T:
        """Run it in the group commit."""

    async def queue(
        self,
        notices: Sequence[NewDelivery],
        *,
        minute: int,
        conversation: bytes | None = None,
        taken: Taken | None = None,
    ) -> None:
        """Deliveries that carry no message; or nothing but the fact that `taken` was taken.

        NotFound: the conversation that they belong to is gone.
        """

        def work(db: Db) -> None:
            rows.take(db, taken, minute)
            rows.must_be_there(db, conversation)
            rows.insert_notices(db, notices, minute, conversation)

        await self._write(work)

    async def release(
        self,
        conversation: bytes,
        admin: bytes,
        *,
        minute: int,
        notices: Sequence[NewDelivery] = (),
        taken: Taken | None = None,
        place: bytes | None = None,
    ) -> int:
        """What was held for that admin is due now; how many. `place`: to which conversation `notices` belong.

        Duplicate: `taken` took effect before. NotFound: `place` is gone.
        """

        def work(db: Db) -> int:
            rows.take(db, taken, minute)
            rows.must_be_there(db, place)
            sql = (
                "UPDATE delivery SET state = 'due', due_minute = ?"
                " WHERE conversation = ? AND admin = ? AND state = 'held'"
            )
            released = db.execute(sql, (minute, conversation, admin)).rowcount
            rows.insert_notices(db, notices, minute, place)
            return released

        return await self._write(work)

    async def unfold(
        self,
        conversation: bytes,
        place: Unfold,
        *,
        minute: int,
        notices: Sequence[NewDelivery] = (),
        taken: Taken | None = None,
    ) -> None:
        """It is a request like any other from now on. `place` as NewMessage's `unfold`. Duplicate: `taken` took
        effect before. NotFound: it is gone.
        """

        def work(db: Db) -> None:
            rows.take(db, taken, minute)
            rows.must_be_there(db, conversation)
            rows.unfold(db, conversation, place, minute)
            sql = "UPDATE conversation SET request = 1, alike = NULL WHERE id = ? AND request = 2"
            db.execute(sql, (conversation,))
            rows.insert_notices(db, notices, minute, conversation)

        await self._write(work, scrub_within=SCRUB_SOON)

    async def hold_for(
        self, quiet: Collection[bytes], others: Collection[bytes], tell: Callable[[bytes], NewDelivery], *, minute: int
    ) -> None:
        """Of those who have become quiet, hold what waits to leave, and tell them once for each conversation.

        What was asked for (that has a minute before which it is not due) still comes. The others get what was held.
        """

        def work(db: Db) -> None:
            for admin in others:
                db.execute("UPDATE delivery SET state = 'due' WHERE admin = ? AND state = 'held'", (admin,))
            for admin in quiet:
                sql = (
                    "UPDATE delivery SET state = 'held' WHERE admin = ? AND kind = 'message' AND state = 'due'"
                    " AND sent_minute IS NULL AND due_minute = 0 RETURNING conversation"
                )
                for (conversation,) in dict.fromkeys(db.execute(sql, (admin,)).fetchall()):
                    rows.insert_delivery(db, tell(admin), conversation, None, minute)

        await self._write(work)

    async def mark_sent(self, stanza_ids: Collection[str], *, minute: int) -> set[str]:
        """Those of them that are still due: the others were burned, or arrived after all."""

        def work(db: Db) -> set[str]:
            sql = (
                "UPDATE delivery SET state = 'sent', sent_minute = ?,"
                " sent_n = (SELECT coalesce(max(sent_n), 0) + 1 FROM delivery) WHERE stanza_id = ? AND state = 'due'"
            )
            return {stanza_id for stanza_id in stanza_ids if db.execute(sql, (minute, stanza_id)).rowcount}

        return await self._write(work)

    async def mark_acked(self, stanza_ids: Collection[str]) -> list[Moved]:
        """The server has them: their sealed bodies go, and so do whole notices and retractions."""
        return await self.mark_come(acked=stanza_ids)

    async def mark_arrived(self, stanza_id: str, admin: bytes) -> list[Moved]:
        """That admin's device has it."""
        return await self.mark_come(arrived=[(stanza_id, admin)])

    async def mark_come(
        self,
        *,
        acked: Collection[str] = (),
        archived: Mapping[str, bytes] = MappingProxyType({}),
        arrived: Collection[tuple[str, bytes]] = (),
    ) -> list[Moved]:
        """`mark_acked` and `mark_arrived` (each by its admin) for many.

        `archived`: rooms have these, under that (hashed) id of their archives; otherwise as acknowledged.
        """

        def work(db: Db) -> list[Moved]:
            sql = "UPDATE delivery SET archived_as = ? WHERE stanza_id = ?"
            db.executemany(sql, [(archived_as, stanza_id) for stanza_id, archived_as in archived.items()])
            moved = rows.advance(db, rows.to_advance(db, [*acked, *archived]), Progress.HANDED_OVER)
            for stanza_id, admin in arrived:
                moved += rows.advance(db, rows.to_advance(db, [stanza_id], admin), Progress.ON_DEVICE)
            return moved

        return await self._write(work, scrub_within=SCRUB_SOON)

    async def mark_read(self, stanza_id: str, admin: bytes, *, apart: bool = False) -> list[Moved]:
        """That one and all that the same admin, or the same room, got before it (XEP-0333 §5).

        `apart`: of the same conversation only, for the admin as well.
        """

        def work(db: Db) -> list[Moved]:
            found = rows.to_advance(db, [stanza_id], admin)
            if not found:
                return []
            sql = (
                "SELECT n, conversation, seq FROM delivery WHERE admin = ?1 AND state IN ('acked', 'arrived')"
                " AND sent_n < (SELECT sent_n FROM delivery WHERE n = ?2) AND (NOT ?3 OR conversation = ?4)"
                " ORDER BY n"
            )
            earlier = db.execute(sql, (admin, found[0][0], apart or admin == ROOM, found[0][1])).fetchall()
            return rows.advance(db, [*earlier, *found], Progress.READ)

        return await self._write(work, scrub_within=SCRUB_SOON)

    async def mark_refused(self, stanza_id: str, *, minute: int) -> None:
        """Due again after a pause that grows with each refusal. Without effect once its body is erased."""

        def work(db: Db) -> None:
            sql = "SELECT refusals FROM delivery WHERE stanza_id = ? AND sealed IS NOT NULL"
            row = db.execute(sql, (stanza_id,)).fetchone()
            if row:
                pause = rows.REFUSAL_PAUSE_MINUTES[min(row[0], len(rows.REFUSAL_PAUSE_MINUTES) - 1)]
                sql = "UPDATE delivery SET state = 'due', due_minute = ?, refusals = refusals + 1 WHERE stanza_id = ?"
                db.execute(sql, (minute + pause, stanza_id))

        await self._write(work)

    async def requeue(self, stanza_ids: Collection[str]) -> int:
        """Those of them that were sent and not acknowledged are due again; how many."""

        def work(db: Db) -> int:
            sql = "UPDATE delivery SET state = 'due' WHERE stanza_id = ? AND state = 'sent'"
            return sum(db.execute(sql, (stanza_id,)).rowcount for stanza_id in stanza_ids)

        return await self._write(work)

    async def empty_rooms(
        self,
        conversation: bytes | None,
        place: Callable[[StoredDelivery], Sequence[NewDelivery]],
        *,
        minute: int,
    ) -> None:
        """What is not acknowledged and due to that conversation's room goes where `place` says; None: to any room.

        `place` is called inside the transaction: what was queued just before goes along with it, and what was burned or
        taken just before does not.
        """

        def work(db: Db) -> None:
            for row in db.execute(rows.TO_ROOMS, (ROOM, conversation)).fetchall():
                stored = rows.as_delivery(row)
                db.execute("DELETE FROM delivery WHERE stanza_id = ?", (stored.stanza_id,))
                for delivery in place(stored):
                    rows.insert_delivery(db, delivery, stored.conversation, stored.seq, minute)

        await self._write(work, scrub_within=SCRUB_SOON)

    async def replace_deliveries(
        self, gone: Collection[str], made: Sequence[tuple[NewDelivery, bytes | None, int | None]], *, minute: int
    ) -> None:
        """Put (delivery, conversation, sequence number) each in the place of those that are gone."""

        def work(db: Db) -> None:
            db.executemany("DELETE FROM delivery WHERE stanza_id = ?", [(stanza_id,) for stanza_id in gone])
            for delivery, conversation, seq in made:
                carried = seq if delivery.kind is DeliveryKind.MESSAGE else None
                rows.insert_delivery(db, delivery, conversation, carried, minute)

        await self._write(work, scrub_within=SCRUB_SOON)
