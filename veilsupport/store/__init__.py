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
from veilsupport.model import MessageState, Standing
from veilsupport.store import rows
from veilsupport.store.archived import Archived, CopyReader, copies_in
from veilsupport.store.deliveries import Deliveries
from veilsupport.store.expiry import Aged, AgedSession, Expiry
from veilsupport.store.reads import SEQ_MAX
from veilsupport.store.residue import Residue
from veilsupport.store.rows import NOBODY, ROOM
from veilsupport.store.values import (
    Handled,
    Kept,
    Moved,
    NewCredential,
    NewDelivery,
    NewMessage,
    NewSession,
    NewVisitor,
    StoredCopy,
    StoredCredential,
    StoredDelivery,
    StoredMessage,
    StoredSession,
    Taken,
    Unfold,
)
from veilsupport.store.writer import SCHEMA_VERSION, SCRUB_NOW, SCRUB_SOON, Db, Writer

__all__ = [
    "NOBODY",
    "ROOM",
    "SCHEMA_VERSION",
    "SQLITE_VERSION",
    "Aged",
    "AgedSession",
    "CopyReader",
    "Handled",
    "Kept",
    "Moved",
    "NewCredential",
    "NewDelivery",
    "NewMessage",
    "NewSession",
    "NewVisitor",
    "Store",
    "StoredCopy",
    "StoredCredential",
    "StoredDelivery",
    "StoredMessage",
    "StoredSession",
    "Taken",
    "Unfold",
    "copies_in",
]

T = TypeVar("T")

SQLITE_VERSION: Final = sqlite3.sqlite_version


class Store(Deliveries, Expiry, Archived):
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

    # ---- its own health --------------------------------------------------------------------------------------

    @property
    def keeps(self) -> bool:
        """Whether the disk took the latest transaction."""
        return self._writer.keeps

    async def try_disk(self) -> None:
        """A transaction that changes nothing but is written all the same. StoreError: the disk does not take it."""
        await self._write(lambda db: db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}"))

    def tell_commits(self, told: Callable[[int, float, bool], None]) -> None:
        """Of every transaction: how many writes, how many seconds, whether it was kept. Called on a thread of ours."""
        self._writer.on_commit = told

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
        retract: Callable[[str, bytes], NewDelivery | None],
        archive: bytes | None = None,
        notices: Sequence[NewDelivery] = (),
        taken: Taken | None = None,
        idle_before: int | None = None,
    ) -> bool:
        """Erase a visitor and all that hangs on them, and how far `archive`, their room's, has been read.

        Queued is what `retract` makes (inside the transaction) of each stanza that left us to an admin. `idle_before`:
        only if nothing was said in their conversation since that minute; whether it was so.
        """

        def work(db: Db) -> bool:
            rows.take(db, taken, minute)
            if idle_before is not None and not rows.is_idle(db, visitor, idle_before):
                return False
            sql = (
                "SELECT stanza_id, admin FROM delivery"
                " WHERE conversation = ? AND admin <> ? AND (state NOT IN ('held', 'due') OR sent_minute IS NOT NULL)"
                " ORDER BY n"
            )
            out = db.execute(sql, (visitor, ROOM)).fetchall()
            db.execute("DELETE FROM visitor WHERE id = ?", (visitor,))
            db.execute("DELETE FROM cursor WHERE archive = ?", (archive,))
            retractions = [made for row in out if (made := retract(*row))]
            rows.insert_notices(db, [*retractions, *notices], minute)
            self._residue.begin()
            return True

        return await self._write(work, scrub_within=SCRUB_NOW)

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
        """Only an open one waits for an answer, and only its words are held until somebody asks for them; but what is
        folded nobody has seen, so it stays until it is opened or burned.

        Duplicate: `taken` took effect before. NotFound: it is gone.
        """

        def work(db: Db) -> None:
            rows.take(db, taken, minute)
            sql = (
                "UPDATE conversation SET standing = ?1,"  # noqa: S608 - a constant of ours
                f" waiting_minute = CASE ?1 WHEN 'open' THEN ({rows.WAITING}) END WHERE id = ?2"
            )
            if not db.execute(sql, (standing, conversation)).rowcount:
                raise NotFound("That conversation is gone.")
            if standing is not Standing.OPEN:
                sql = f"DELETE FROM delivery AS d WHERE conversation = ? AND state = 'held' AND NOT ({rows.FOLDED})"  # noqa: S608
                db.execute(sql, (conversation,))
            rows.insert_notices(db, notices, minute, conversation)

        await self._write(work, scrub_within=SCRUB_SOON)

    async def set_owner(
        self,
        conversation: bytes,
        owner: bytes | None,
        *,
        minute: int,
        notices: Sequence[NewDelivery] = (),
        taken: Taken | None = None,
        unfold: Unfold | None = None,
    ) -> None:
        """Whose it is from now on; it is no request any more. `unfold` as in NewMessage.

        Duplicate: `taken` took effect before. NotFound: it is gone.
        """

        def work(db: Db) -> None:
            rows.take(db, taken, minute)
            sql = "UPDATE conversation SET owner = ?, request = 0, alike = NULL WHERE id = ?"
            if not db.execute(sql, (owner, conversation)).rowcount:
                raise NotFound("That conversation is gone.")
            rows.unfold(db, conversation, unfold, minute)
            rows.insert_notices(db, notices, minute, conversation)

        await self._write(work)

    async def change_message(
        self,
        conversation: bytes,
        seq: int,
        sealed: bytes,
        state: MessageState,
        *,
        minute: int,
        notices: Sequence[NewDelivery] = (),
        handles: Collection[bytes] = (),
        taken: Taken | None = None,
        copy: bytes | None = None,
    ) -> None:
        """Other words in the place of a message's; what was there is erased. Duplicate, NotFound as above.

        `copy`: for the archive, in the place of the copy there; None: it keeps none of this message.
        """

        def work(db: Db) -> None:
            rows.take(db, taken, minute)
            sql = "UPDATE message SET sealed = ?, state = ? WHERE conversation = ? AND seq = ?"
            if not db.execute(sql, (sealed, state, conversation, seq)).rowcount:
                raise NotFound("That message is gone.")
            rows.keep_copy(db, conversation, seq, copy)
            self._residue.begin()
            db.executemany(
                "INSERT OR IGNORE INTO handle VALUES (?, ?, ?)", [(key, conversation, seq) for key in handles]
            )
            rows.insert_notices(db, notices, minute, conversation)

        await self._write(work, scrub_within=SCRUB_NOW)

    async def set_room(self, conversation: bytes, address: bytes) -> None:
        """The sealed address of its room. NotFound: the conversation is gone."""

        def work(db: Db) -> None:
            rows.must_be_there(db, conversation)
            db.execute("INSERT OR REPLACE INTO room VALUES (?, ?)", (conversation, address))

        await self._write(work)

    async def mark_read_by_visitor(self, conversation: bytes, seq: int) -> bool:
        """Whether that is further than before."""
        sql = "UPDATE conversation SET read_seq = ?1 WHERE id = ?2 AND read_seq < ?1 AND last_seq >= ?1"
        return await self._write(lambda db: db.execute(sql, (min(seq, SEQ_MAX), conversation)).rowcount > 0)

    # ---- what else is kept -----------------------------------------------------------------------------------

    async def move_position(self, archive: bytes, position: bytes, *, minute: int) -> None:
        await self._write(lambda db: rows.move_cursor(db, archive, position, minute))

    async def set_setting(
        self,
        name: str,
        value: bytes,
        *,
        minute: int = 0,
        notices: Sequence[NewDelivery] = (),
        taken: Taken | None = None,
        place: bytes | None = None,
    ) -> None:
        """`place`: the conversation to which `notices` belong. `minute` is theirs, and that of `taken`.

        Duplicate: `taken` took effect before. NotFound: `place` is gone.
        """

        def work(db: Db) -> None:
            rows.take(db, taken, minute)
            rows.must_be_there(db, place)
            db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))
            rows.insert_notices(db, notices, minute, place)

        await self._write(work, scrub_within=SCRUB_NOW)

    async def set_canned(
        self,
        name: str,
        sealed: bytes | None,
        *,
        minute: int,
        notices: Sequence[NewDelivery] = (),
        taken: Taken | None = None,
        place: bytes | None = None,
    ) -> bool:
        """Keep an answer for use again; None forgets it. Whether there was one before. `place` and errors as above."""

        def work(db: Db) -> bool:
            rows.take(db, taken, minute)
            rows.must_be_there(db, place)
            there = db.execute("DELETE FROM canned WHERE name = ?", (name,)).rowcount > 0
            if sealed is not None:
                db.execute("INSERT INTO canned VALUES (?, ?)", (name, sealed))
            rows.insert_notices(db, notices, minute, place)
            return there

        return await self._write(work, scrub_within=SCRUB_SOON)

    async def keep_omemo(self, changes: Collection[tuple[bytes, bytes | None]]) -> None:
        """(name, sealed entry; None forgets it), all of them or none."""

        def work(db: Db) -> None:
            for name, sealed in changes:
                if sealed is None:
                    db.execute("DELETE FROM omemo WHERE name = ?", (name,))
                else:
                    db.execute("INSERT OR REPLACE INTO omemo VALUES (?, ?)", (name, sealed))

        await self._write(work, scrub_within=SCRUB_SOON)

    @property
    def _residue(self) -> Residue:
        return self._writer.residue

    async def _write(self, work: Callable[[Db], T], *, scrub_within: float | None = None) -> T:
        return await self._writer.write(work, scrub_within=scrub_within)
