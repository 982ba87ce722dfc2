"""Group commit: one thread that takes everything that is waiting into one transaction.

With a commit for each message a disk that takes 5 ms to sync stalls everything; with one for all that waits,
the same disk carries thousands of messages a second, and the loop stays free. Each write is answered after the commit
is on disk. When one of them fails, all are done once more, each in a savepoint of its own, so that one failure spoils
no other; so a write must be fit to run twice.

An older database is brought to the present schema before the first write: rehearsed on a copy, then all steps in one
transaction, whose BEGIN and COMMIT are not the steps' own (upgrade.py says why).
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from veilsupport.errors import SetupError, StoreError
from veilsupport.store import snapshot, upgrade
from veilsupport.store.checkpoints import Checkpoints
from veilsupport.store.residue import Residue

SCHEMA_VERSION: Final = 6
BATCH_MAX: Final = 512
WAITING_MAX: Final = 20_000  # writes that may wait; beyond, new ones are refused instead of buffered

Db = sqlite3.Connection
T = TypeVar("T")


# Erased values live on in the write-ahead log until it is emptied. Burning waits for that; what is erased all the
# time (bodies that the XMPP server has acknowledged) may rest there for so long, lest every one costs a sync.
SCRUB_NOW: Final = 0.0
SCRUB_SOON: Final = 2.0
_RESIDUE_SECONDS: Final = 0.05  # between two steps over the file, so that others go between
_SCRUB_AGAIN_SECONDS: Final = 5.0  # when a reader outside this process, a backup say, holds the log
_CHECKPOINT_WAIT_MILLISECONDS: Final = 250
_BUSY_MILLISECONDS: Final = 5_000  # for a stranger who writes; whoever waits longer is refused in words


@dataclass(slots=True)
class _Write:
    work: Callable[[Db], Any]
    scrub_within: float | None  # seconds until nothing of what was erased may stay in the write-ahead log
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Writer(threading.Thread):
    """Takes waiting writes into one transaction, commits, and then resolves them in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="store-writer", daemon=True)
        self._db = connect(path)
        self._path = path
        self._checkpoints = Checkpoints(path)
        self.residue = Residue(path)
        self.residue.begin()  # what a killed process, or a version that knew nothing of this, left in the file
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()  # bounded by `write`
        self.on_commit: Callable[[int, float, bool], None] = lambda writes, seconds, kept: None  # on this thread
        self.keeps = True  # whether the disk took the latest transaction
        self._is_closing = False
        self._has_ended = False  # by an exception
        self._scrub_at: float | None = time.monotonic()  # what a killed process left in the log goes at once

    def start(self) -> None:
        self._checkpoints.start()
        super().start()

    async def write(self, work: Callable[[Db], T], *, scrub_within: float | None = None) -> T:
        loop = asyncio.get_running_loop()
        item = _Write(work, scrub_within, loop, loop.create_future())
        if self._is_closing:
            raise StoreError("The store is closed.")
        if self._queue.qsize() >= WAITING_MAX:
            raise StoreError("Too many writes are waiting.")
        self._queue.put(item)
        if self._has_ended:  # after the put, so that none is left waiting for ever
            raise RuntimeError("the store's thread has ended")  # a bug: nothing is kept any more, so the process ends
        result: T = await item.done
        return result

    def close(self) -> None:
        """Once; closing again does no harm."""
        if self._is_closing:
            return
        self._is_closing = True
        self._queue.put(None)
        self.join()
        self._checkpoints.close()
        self._db.close()
        self.residue.close()

    def run(self) -> None:
        """Until it is closed. What nobody expected goes to everybody who waits, and ends it."""
        batch: list[_Write | None] = []
        try:
            while None not in batch:
                batch = self._take()
                self._do([item for item in batch if item is not None])
        except BaseException as bug:
            self._has_ended = True
            with contextlib.suppress(queue.Empty):
                while True:
                    batch.append(self._queue.get_nowait())
            self._resolve([replace(item, error=bug) for item in batch if item is not None])
            raise

    def _do(self, work: Sequence[_Write]) -> None:
        if work:
            began = time.perf_counter()
            self.keeps = self._commit(work)
            self.on_commit(len(work), time.perf_counter() - began, self.keeps)
            if self._checkpoints.look() and self._scrub_at is None:  # else it is emptied in some seconds anyway
                self._scrub_at = time.monotonic()
        # Only who was promised that nothing is left waits for that, too: on a slow disk it takes several syncs.
        self._resolve([item for item in work if item.scrub_within != SCRUB_NOW])
        if self._scrub_at is not None and self._scrub_at <= time.monotonic():
            self._scrub()
        self._resolve([item for item in work if item.scrub_within == SCRUB_NOW])

    def _take(self) -> list[_Write | None]:
        """All that waits; nothing when it is time to scrub first."""
        batch: list[_Write | None] = []
        wait = None if self._scrub_at is None else max(0.0, self._scrub_at - time.monotonic())
        with contextlib.suppress(queue.Empty):
            batch.append(self._queue.get(timeout=wait))
            while batch[-1] is not None and len(batch) < BATCH_MAX:
                batch.append(self._queue.get_nowait())
        return batch

    def _commit(self, batch: Sequence[_Write]) -> bool:
        """Whether the disk took it."""
        try:
            self._transact(batch)
        except (sqlite3.Error, MemoryError) as error:  # SQLite says by either that something is used up
            with contextlib.suppress(sqlite3.Error, MemoryError):
                self._db.execute("ROLLBACK")
            for item in batch:  # Also who was told of a duplicate: what that was one of may have gone with the rest.
                item.error = StoreError("The disk did not take it.") if isinstance(error, sqlite3.Error) else error
            return False
        wanted = [item.scrub_within for item in batch if item.scrub_within is not None and not item.error]
        if wanted:
            at = time.monotonic() + min(wanted)
            self._scrub_at = at if self._scrub_at is None else min(at, self._scrub_at)
        return True

    def _scrub(self) -> None:
        """Empty the write-ahead log. A reader outside this process, or a full disk, can prevent it for a while.

        Then, when rows were erased, a step on over what is left of them in the file. The copy of a backup that was
        killed goes too: it still has what is erased here.
        """
        snapshot.clear_leftover(self._path)
        try:
            self._db.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT_MILLISECONDS}")
            with self._checkpoints.turn:
                busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            busy = 1
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        if busy:
            self._scrub_at = time.monotonic() + _SCRUB_AGAIN_SECONDS
            return
        self.residue.step(self._db)
        self._scrub_at = time.monotonic() + _RESIDUE_SECONDS if self.residue.is_left else None

    def _transact(self, batch: Sequence[_Write]) -> None:
        """All in one, as they hardly ever fail; when one does, once more from the beginning, each in a savepoint."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for item in batch:
                item.result = item.work(self._db)
        except Exception as error:  # kept for its waiter below
            if self._is_fatal(error):
                raise
            self._db.execute("ROLLBACK")
            self._db.execute("BEGIN IMMEDIATE")
            for item in batch:
                self._attempt(item)
        self._db.execute("COMMIT")

    def _attempt(self, item: _Write) -> None:
        """One write in its savepoint."""
        self._db.execute("SAVEPOINT one")
        try:
            item.result = item.work(self._db)
        except Exception as error:  # kept for the waiter, who raises it where it belongs
            if self._is_fatal(error):
                raise
            item.error = error
            self._db.execute("ROLLBACK TO one")
        self._db.execute("RELEASE one")

    def _is_fatal(self, error: Exception) -> bool:
        """Whether it is the batch's failure: a full disk may have rolled back everything."""
        return isinstance(error, sqlite3.OperationalError) or not self._db.in_transaction

    @staticmethod
    def _resolve(batch: Sequence[_Write]) -> None:
        def tell() -> None:
            for item in batch:
                if item.done.done():
                    continue
                if item.error is not None:
                    item.done.set_exception(item.error)
                else:
                    item.done.set_result(item.result)

        with contextlib.suppress(RuntimeError, IndexError):  # the loop has closed, or nobody waits
            batch[0].loop.call_soon_threadsafe(tell)


def connect(path: Path) -> Db:
    """The database at `path`, at SCHEMA_VERSION; an older one is upgraded, an empty one made.

    SetupError, and nothing changed, when it is of a newer one, or cannot be upgraded.
    """
    snapshot.clear_leftover(path)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MILLISECONDS / 1000)
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        db.close()
        raise SetupError(
            "The database was written by a newer VeilSupport.", hint="Run that newer version; nothing was changed."
        )
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=ON",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "trusted_schema=OFF",
        "journal_size_limit=0",
        "wal_autocheckpoint=0",  # checkpoints.py does it
        "cache_size=-16000",  # KiB: pages of one batch that do not fit would be written, and read again, within it
    ):
        db.execute(f"PRAGMA {pragma}")
    try:
        if version == 0:
            upgrade.create(db)
        elif version < SCHEMA_VERSION:
            upgrade.upgrade(db, path, before=version, after=SCHEMA_VERSION)
    except BaseException:
        db.close()
        raise
    return db
