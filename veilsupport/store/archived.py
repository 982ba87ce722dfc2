"""The archive's second copies: erased on demand, and read by a process of their own while the desk runs."""

from __future__ import annotations

import contextlib
import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from veilsupport.errors import SetupError, StoreError
from veilsupport.model import Author, Conversation, MessageState
from veilsupport.store import rows
from veilsupport.store.reads import Reads
from veilsupport.store.values import StoredCopy
from veilsupport.store.writer import SCRUB_NOW, SCRUB_SOON, Db

T = TypeVar("T")

_BATCH: Final = 200


class Archived(Reads):
    """What the running desk does with them, beyond keeping each with its message."""

    @abstractmethod
    async def _write(self, work: Callable[[Db], T], *, scrub_within: float | None = None) -> T:
        """Run it in the group commit."""

    def count_copies(self) -> int:
        return int(self._one("SELECT count(*) FROM archived")[0])

    async def erase_copies(self) -> int:
        """At most a batch of them; how many."""
        sql = (
            "DELETE FROM archived WHERE (conversation, seq) IN"
            " (SELECT conversation, seq FROM archived ORDER BY conversation, seq LIMIT ?)"
        )
        return await self._write(lambda db: db.execute(sql, (_BATCH,)).rowcount, scrub_within=SCRUB_SOON)

    async def forget_setting(self, name: str) -> None:
        await self._write(lambda db: db.execute("DELETE FROM setting WHERE name = ?", (name,)), scrub_within=SCRUB_NOW)


class CopyReader(Reads):
    """The copies of a database that another process may be writing. Each read is short, so that nothing of what is
    erased meanwhile has to wait for us; what is erased meanwhile is not read."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def conversations_by_alias(self) -> Iterator[Conversation]:
        sql = f"SELECT {rows.CONVERSATION} FROM conversation c WHERE c.alias > ? ORDER BY c.alias LIMIT ?"  # noqa: S608
        after = ""
        while page := [rows.as_conversation(row) for row in self._all(sql, after, _BATCH)]:
            yield from page
            after = page[-1].alias

    def copies(self, conversation: bytes, *, since: int) -> Iterator[StoredCopy]:
        """From that minute on, oldest first."""
        sql = (
            "SELECT a.seq, m.author, m.minute, m.state, a.sealed FROM archived a"
            " JOIN message m ON m.conversation = a.conversation AND m.seq = a.seq"
            " WHERE a.conversation = ? AND a.seq > ? ORDER BY a.seq LIMIT ?"
        )
        after = 0
        while page := [_as_copy(row) for row in self._all(sql, conversation, after, _BATCH)]:
            yield from (copy for copy in page if copy.minute >= since)
            after = page[-1].seq


@contextlib.contextmanager
def copies_in(path: Path) -> Iterator[CopyReader]:
    """SetupError: there is no database, or it cannot be read."""
    db = None
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        reader = CopyReader(db)
        reader.setting("")  # opens the file: before, nothing is known of it
        yield reader
    except (sqlite3.Error, StoreError):
        raise SetupError(
            "The database cannot be read.", hint="Look at --data: it must be the desk's own, of this version."
        ) from None
    finally:
        if db is not None:
            db.close()


def _as_copy(row: Any) -> StoredCopy:
    return StoredCopy(row[0], Author(row[1]), row[2], MessageState(row[3]), row[4])
