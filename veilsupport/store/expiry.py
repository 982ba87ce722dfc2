"""What is older than it may become: looked for in short reads, erased in small transactions, so that others go between.

Knows no spans and no clock: the minutes before which something goes are arguments.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from veilsupport.store import rows
from veilsupport.store.reads import Reads
from veilsupport.store.residue import Residue
from veilsupport.store.writer import SCRUB_NOW, SCRUB_SOON, Db

T = TypeVar("T")

BATCH: Final = 200  # rows in one transaction
_SCRUB_STEPS_MAX: Final = 10_000  # of 4 MB; fewer when a stranger prevents it, who shall not hold us up for ever
_LOOK: Final = 500  # rows in one look: some milliseconds
# All but what nobody has been handed yet. One admin whose account is gone must not keep for ever what the others have.
_MAY_GO: Final = (
    "m.conversation = ? AND m.minute < ? AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.conversation = m.conversation"
    " AND d.seq = m.seq AND d.state IN ('held', 'due', 'sent') AND m.progress = 0)"
)
# What is left of a delivery to an admin: that there was one, by which name. Burning asks for its removal.
_BLANK: Final = (
    "UPDATE delivery SET seq = NULL, made_minute = 0, due_minute = 0, sent_minute = NULL, sent_n = NULL, refusals = 0,"
    " archived_as = NULL"
)
_OUT: Final = "state IN ('acked', 'arrived', 'read')"


@dataclass(frozen=True, slots=True)
class Aged:
    """A conversation, and how old what is in it is. `oldest_minute` None: nothing in it has an age."""

    id: bytes
    site: str
    last_minute: int
    oldest_minute: int | None


@dataclass(frozen=True, slots=True)
class AgedSession:
    """`site`: of its visitor's conversation, None without one. `holds_code`: the only place where a return code is."""

    token_hash: bytes
    visitor: bytes
    made_minute: int
    holds_code: bool
    site: str | None


class Expiry(Reads):
    """Each writing method is one transaction, and each look one short read."""

    @property
    @abstractmethod
    def _residue(self) -> Residue:
        """What is left in the database's file."""

    @abstractmethod
    async def _write(self, work: Callable[[Db], T], *, scrub_within: float | None = None) -> T:
        """Run it in the group commit."""

    # ---- looking -----------------------------------------------------------------------------------------------

    def aged_conversations(self, *, minute: int) -> Iterator[list[Aged]]:
        """All of them, page by page. `minute` is the present one: what a wrong clock has dated later has no age yet."""
        sql = (
            "SELECT c.id, c.site, c.last_minute, (SELECT min(minute) FROM ("  # noqa: S608 - constants of ours
            "SELECT * FROM (SELECT m.minute AS minute FROM message m"
            " WHERE m.conversation = c.id AND m.minute <= ?2 ORDER BY m.seq LIMIT 1)"
            " UNION ALL SELECT min(d.made_minute) FROM delivery d"
            f" WHERE d.conversation = c.id AND d.seq IS NULL AND d.made_minute > 0 AND {_OUT}))"
            " FROM conversation c WHERE c.id > ?1 ORDER BY c.id LIMIT ?3"
        )
        for page in self._pages(sql, minute, _LOOK):
            yield [Aged(*row) for row in page]

    def aged_sessions(self) -> Iterator[list[AgedSession]]:
        sql = (
            "SELECT s.token_hash, s.visitor, s.made_minute, s.sealed_code IS NOT NULL, c.site"
            " FROM session s LEFT JOIN conversation c ON c.id = s.visitor"
            " WHERE s.token_hash > ? ORDER BY s.token_hash LIMIT ?"
        )
        for page in self._pages(sql, _LOOK):
            yield [AgedSession(row[0], row[1], row[2], bool(row[3]), row[4]) for row in page]

    def unused_visitors(self, before: int) -> Iterator[list[bytes]]:
        """Who has not written, and has neither come nor signed in since that minute; page by page."""
        sql = (
            "SELECT v.id, v.made_minute, (SELECT max(s.made_minute) FROM session s WHERE s.visitor = v.id),"
            " EXISTS (SELECT 1 FROM conversation c WHERE c.id = v.id) FROM visitor v"
            " WHERE v.id > ? ORDER BY v.id LIMIT ?"
        )
        for page in self._pages(sql, _LOOK):
            yield [id for id, made, signed_in, wrote in page if not wrote and max(made, signed_in or 0) < before]

    def old_inbox(self, before: int) -> Iterator[list[bytes]]:
        for page in self._pages("SELECT key, minute FROM inbox WHERE key > ? ORDER BY key LIMIT ?", _LOOK):
            yield [key for key, minute in page if minute < before]

    def oldest_position(self) -> int | None:
        """In which minute that archive was last read on which was longest ago."""
        row = self._one("SELECT min(minute) FROM cursor")
        return row[0] if row else None

    def count_expired(self, conversation: bytes, before: int) -> int:
        """How many of its messages are older than that minute and may go."""
        return int(self._one(f"SELECT count(*) FROM message m WHERE {_MAY_GO}", conversation, before)[0])  # noqa: S608

    def _pages(self, sql: str, *values: object) -> Iterator[list[Any]]:
        """By the first column, which the first `?` compares. No read stays open between two pages."""
        after = b""
        while page := self._all(sql, after, *values):
            yield page
            after = page[-1][0]

    # ---- erasing -----------------------------------------------------------------------------------------------

    async def expire_messages(self, conversation: bytes, *, before: int) -> int:
        """Erase up to BATCH of its messages from before that minute, with all that names them; how many."""

        def work(db: Db) -> int:
            sql = f"SELECT m.seq FROM message m WHERE {_MAY_GO} ORDER BY m.seq LIMIT ?"  # noqa: S608 - a constant of ours
            gone = [(conversation, seq) for (seq,) in db.execute(sql, (conversation, before, BATCH)).fetchall()]
            for each in gone:
                _forget_deliveries(db, "conversation = ? AND seq = ?", each)
            _forget_deliveries(
                db,
                "n IN (SELECT n FROM delivery WHERE conversation = ? AND seq IS NULL AND made_minute > 0"  # noqa: S608
                f" AND made_minute < ? AND {_OUT} LIMIT ?)",
                (conversation, before, BATCH),
            )
            db.executemany("DELETE FROM message WHERE conversation = ? AND seq = ?", gone)
            for table in ("handle", "posted") if gone else ():
                sql = (
                    f"DELETE FROM {table} WHERE conversation = ? AND NOT EXISTS (SELECT 1 FROM message m"  # noqa: S608
                    f" WHERE m.conversation = {table}.conversation AND m.seq = {table}.seq)"
                )
                db.execute(sql, (conversation,))
            return len(gone)

        return await self._write(work, scrub_within=SCRUB_SOON)

    async def expire_sessions(self, token_hashes: Sequence[bytes]) -> int:
        return await self._erase("DELETE FROM session WHERE token_hash = ?", token_hashes)

    async def expire_visitors(self, visitors: Sequence[bytes], *, before: int) -> int:
        """Those of them that are still unused: somebody may have come back at this very moment."""
        sql = (
            "DELETE FROM visitor WHERE id = ?"  # noqa: S608 - a number
            " AND NOT EXISTS (SELECT 1 FROM conversation c WHERE c.id = visitor.id)"
            f" AND NOT EXISTS (SELECT 1 FROM session s WHERE s.visitor = visitor.id AND s.made_minute >= {before:d})"
        )
        return await self._erase(sql, visitors)

    async def expire_inbox(self, keys: Sequence[bytes]) -> int:
        return await self._erase("DELETE FROM inbox WHERE key = ?", keys)

    async def scrub(self) -> None:
        """Nothing that was erased before is in any file when this returns, unless a stranger reads there just now."""
        await self._write(lambda db: self._residue.begin())
        for _ in range(_SCRUB_STEPS_MAX):
            await self._write(lambda db: None, scrub_within=SCRUB_NOW)  # each of them brings it a step on
            if not self._residue.is_left:
                return

    async def _erase(self, sql: str, keys: Sequence[bytes]) -> int:
        """One statement for each key, at most BATCH in a transaction; how many rows went."""

        def erasing(part: Sequence[bytes]) -> Callable[[Db], int]:
            return lambda db: db.executemany(sql, [(key,) for key in part]).rowcount

        parts = [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]
        return sum([await self._write(erasing(part), scrub_within=SCRUB_SOON) for part in parts])


def _forget_deliveries(db: Db, where: str, values: tuple[object, ...]) -> None:
    """Those to rooms go, and so does what was never sent; of those to an admin the name stays."""
    gone = f"({where}) AND (admin IN (?, ?) OR state = 'held')"
    db.execute(f"DELETE FROM delivery WHERE {gone}", (*values, rows.ROOM, rows.NOBODY))  # noqa: S608 - constants of ours
    db.execute(f"{_BLANK} WHERE {where}", values)
