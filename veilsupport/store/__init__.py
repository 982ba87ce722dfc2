"""SQLite: what is kept, and nothing about what it means. The only importer of sqlite3.

Every public method is one transaction. Writes are coroutines that wait for the writer thread's group commit
(writer.py) and return when the disk has them; reads run at once on the caller's thread through a read-only
connection and see all that was answered for. `schema.sql` is the document of the tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from veilsupport.errors import NotFound, SetupError
from veilsupport.model import Progress, Standing
from veilsupport.store import rows
from veilsupport.store.reads import SEQ_MAX, Reads
from veilsupport.store.values import (
    Kept,
    Moved,
    NewCredential,
    NewDelivery,
    NewMessage,
    NewSession,
    NewVisitor,
    StoredCredential,
    StoredDelivery,
    StoredMessage,
    StoredSession,
    Taken,
)
from veilsupport.store.writer import SCRUB_NOW, SCRUB_SOON, Db, Writer

__all__ = [
    "Kept",
    "Moved",
    "NewCredential",
    "NewDelivery",
    "NewMessage",
    "NewSession",
    "NewVisitor",
    "Store",
    "StoredCredential",
    "StoredDelivery",
    "StoredMessage",
    "StoredSession",
    "Taken",
]

T = TypeVar("T")

REFUSAL_PAUSE_MINUTES: Final = (1, 2, 4, 8, 16, 32, 60)


class Store(Reads):
    """The open database. Made and closed once; reads belong to the thread that made it."""

    def __init__(self, path: Path) -> None:
        """SetupError when it cannot be opened, or was written by a newer version."""
        try:
            path.touch(mode=0o600)
            self._writer = Writer(path)
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise SetupError(
                "The database cannot be opened.",
                hint=f"Look at the data directory and its disk ({type(error).__name__}).",
            ) from None
        self._writer.start()

    def close(self) -> None:
        """Finish what waits and close. Writes after this raise StoreError."""
        self._db.close()
        self._writer.close()  # The last connection to go empties the write-ahead log and removes it.

    # ---- visitors --------------------------------------------------------------------------------------------

    async def add_visitor(
        self, new: NewVisitor, *, minute: int, first: NewMessage | None = None, aliases: Iterable[str] = ()
    ) -> Kept | None:
        """A visitor, a way back and a session, and the first message if there is one.

        Duplicate: the session is there already (the same start form), or somebody has that credential.
        """

        def work(db: Db) -> Kept | None:
            rows.insert_visitor(db, new, minute)
            return rows.add_message(db, new.id, first, minute, aliases) if first else None

        return await self._write(work)

    async def add_session(self, visitor: bytes, session: NewSession, *, minute: int) -> None:
        """NotFound: the visitor is gone."""
        await self._write(lambda db: rows.insert_session(db, session, visitor, minute))

    async def forget_code(self, token_hash: bytes) -> None:
        """The visitor has kept the return code: every session of theirs drops it."""
        sql = "UPDATE session SET sealed_code = NULL WHERE visitor = (SELECT visitor FROM session WHERE token_hash = ?)"
        await self._write(lambda db: db.execute(sql, (token_hash,)), scrub_within=SCRUB_NOW)

    async def end_session(self, token_hash: bytes) -> None:
        sql = "DELETE FROM session WHERE token_hash = ?"
        await self._write(lambda db: db.execute(sql, (token_hash,)), scrub_within=SCRUB_NOW)

    async def replace_session(self, old: bytes, visitor: bytes, session: NewSession, *, minute: int) -> None:
        """A new session in the place of the one with token hash `old`. NotFound: that one has ended already."""

        def work(db: Db) -> None:
            if not db.execute("DELETE FROM session WHERE token_hash = ?", (old,)).rowcount:
                raise NotFound("That session has ended.")
            rows.insert_session(db, session, visitor, minute)

        await self._write(work, scrub_within=SCRUB_NOW)

    async def change_credential(
        self, lookup: bytes, *, salt: bytes, wrapped_key: bytes, visitor: bytes, kept: bytes
    ) -> list[bytes]:
        """A new wrapping; every session of the visitor but `kept` ends. The token hashes of those that did."""

        def work(db: Db) -> list[bytes]:
            sql = "UPDATE credential SET salt = ?, wrapped_key = ? WHERE lookup = ?"
            db.execute(sql, (salt, wrapped_key, lookup))
            sql = "DELETE FROM session WHERE visitor = ? AND token_hash <> ? RETURNING token_hash"
            return [token_hash for (token_hash,) in db.execute(sql, (visitor, kept)).fetchall()]

        return await self._write(work, scrub_within=SCRUB_NOW)

    async def burn(
        self,
        visitor: bytes,
        *,
        minute: int,
        retract: Callable[[str, bytes], NewDelivery],
        notices: Sequence[NewDelivery] = (),
        taken: Taken | None = None,
    ) -> None:
        """Erase a visitor and all that hangs on them; queue a retraction for each stanza that left us."""

        def work(db: Db) -> None:
            rows.take(db, taken, minute)
            sql = (
                "SELECT stanza_id, admin FROM delivery"
                " WHERE conversation = ? AND (state <> 'due' OR sent_minute IS NOT NULL) ORDER BY n"
            )
            out = db.execute(sql, (visitor,)).fetchall()
            db.execute("DELETE FROM visitor WHERE id = ?", (visitor,))
            rows.insert_notices(db, [*(retract(*row) for row in out), *notices], minute)

        await self._write(work, scrub_within=SCRUB_NOW)

    # ---- messages --------------------------------------------------------------------------------------------

    async def add_message(
        self,
        conversation: bytes,
        new: NewMessage,
        *,
        minute: int,
        aliases: Iterable[str] = (),
        taken: Taken | None = None,
    ) -> Kept:
        """Message and deliveries, together. The first one makes the conversation; a closed one reopens.

        NotFound: the visitor is gone. Duplicate: `taken` took effect before.
        """

        def work(db: Db) -> Kept:
            rows.take(db, taken, minute)
            return rows.add_message(db, conversation, new, minute, aliases)

        return await self._write(work)

    async def set_standing(
        self,
        conversation: bytes,
        standing: Standing,
        *,
        minute: int,
        notices: Sequence[NewDelivery] = (),
        taken: Taken | None = None,
    ) -> None:
        """Duplicate: `taken` took effect before. NotFound: the conversation is gone."""

        def work(db: Db) -> None:
            rows.take(db, taken, minute)
            if not db.execute("UPDATE conversation SET standing = ? WHERE id = ?", (standing, conversation)).rowcount:
                raise NotFound("That conversation is gone.")
            rows.insert_notices(db, notices, minute)

        await self._write(work)

    async def mark_read_by_visitor(self, conversation: bytes, seq: int) -> bool:
        """Whether that is further than before."""
        sql = "UPDATE conversation SET read_seq = ?1 WHERE id = ?2 AND read_seq < ?1 AND last_seq >= ?1"
        return await self._write(lambda db: db.execute(sql, (min(seq, SEQ_MAX), conversation)).rowcount > 0)

    # ---- deliveries ------------------------------------------------------------------------------------------

    async def queue(self, notices: Sequence[NewDelivery], *, minute: int, taken: Taken | None = None) -> None:
        """Notices that belong to no conversation; or nothing but the fact that `taken` was taken."""

        def work(db: Db) -> None:
            rows.take(db, taken, minute)
            rows.insert_notices(db, notices, minute)

        await self._write(work)

    async def mark_sent(self, stanza_ids: Collection[str], *, minute: int) -> set[str]:
        """Those of them that are still due: the others were burned, or arrived after all."""

        def work(db: Db) -> set[str]:
            sql = "UPDATE delivery SET state = 'sent', sent_minute = ? WHERE stanza_id = ? AND state = 'due'"
            return {stanza_id for stanza_id in stanza_ids if db.execute(sql, (minute, stanza_id)).rowcount}

        return await self._write(work)

    async def mark_acked(self, stanza_ids: Collection[str]) -> list[Moved]:
        """The server has them: their sealed bodies go, and so do whole notices and retractions."""

        def work(db: Db) -> list[Moved]:
            return rows.advance(db, rows.to_advance(db, stanza_ids), Progress.HANDED_OVER)

        return await self._write(work, scrub_within=SCRUB_SOON)

    async def mark_arrived(self, stanza_id: str, admin: bytes) -> list[Moved]:
        def work(db: Db) -> list[Moved]:
            return rows.advance(db, rows.to_advance(db, [stanza_id], admin), Progress.ON_DEVICE)

        return await self._write(work, scrub_within=SCRUB_SOON)

    async def mark_read(self, stanza_id: str, admin: bytes) -> list[Moved]:
        """That one and all that the same admin's server got before it (XEP-0333 §5)."""

        def work(db: Db) -> list[Moved]:
            found = rows.to_advance(db, [stanza_id], admin)
            if not found:
                return []
            sql = (
                "SELECT n, conversation, seq FROM delivery"
                " WHERE admin = ? AND n < ? AND state IN ('acked', 'arrived') ORDER BY n"
            )
            earlier = db.execute(sql, (admin, found[0][0])).fetchall()
            return rows.advance(db, [*earlier, *found], Progress.READ)

        return await self._write(work, scrub_within=SCRUB_SOON)

    async def mark_refused(self, stanza_id: str, *, minute: int) -> None:
        """Due again after a pause that grows with each refusal. Without effect once its body is erased."""

        def work(db: Db) -> None:
            sql = "SELECT refusals FROM delivery WHERE stanza_id = ? AND sealed IS NOT NULL"
            row = db.execute(sql, (stanza_id,)).fetchone()
            if row:
                pause = REFUSAL_PAUSE_MINUTES[min(row[0], len(REFUSAL_PAUSE_MINUTES) - 1)]
                sql = "UPDATE delivery SET state = 'due', due_minute = ?, refusals = refusals + 1 WHERE stanza_id = ?"
                db.execute(sql, (minute + pause, stanza_id))

        await self._write(work)

    async def requeue(self, *, kept: Collection[str]) -> int:
        """All that were sent and not acknowledged, but for `kept`, are due again."""

        def work(db: Db) -> int:
            sent = db.execute("SELECT stanza_id FROM delivery WHERE state = 'sent'").fetchall()
            lost = [row for row in sent if row[0] not in kept]
            db.executemany("UPDATE delivery SET state = 'due' WHERE stanza_id = ?", lost)
            return len(lost)

        return await self._write(work)

    async def replace_deliveries(
        self, gone: Collection[str], made: Sequence[tuple[NewDelivery, bytes | None, int | None]], *, minute: int
    ) -> None:
        """Put (delivery, conversation, sequence number) each in the place of those that are gone."""

        def work(db: Db) -> None:
            db.executemany("DELETE FROM delivery WHERE stanza_id = ?", [(stanza_id,) for stanza_id in gone])
            for delivery, conversation, seq in made:
                rows.insert_delivery(db, delivery, conversation, seq, minute)

        await self._write(work, scrub_within=SCRUB_SOON)

    async def move_position(self, archive: bytes, position: str, *, minute: int) -> None:
        await self._write(lambda db: rows.move_cursor(db, archive, position, minute))

    async def set_setting(self, name: str, value: bytes) -> None:
        sql = "INSERT OR REPLACE INTO setting VALUES (?, ?)"
        await self._write(lambda db: db.execute(sql, (name, value)), scrub_within=SCRUB_NOW)

    async def _write(self, work: Callable[[Db], T], *, scrub_within: float | None = None) -> T:
        return await self._writer.write(work, scrub_within=scrub_within)
