"""Copies the write-ahead log into the database's file, on a thread of its own, beside the writer.

SQLite would do so within every commit that makes the log longer than a thousand pages, and whoever waits for that
commit waits for it as well: with thousands of messages a second it was two thirds of the writer's time.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Final

WORTH_BYTES: Final = 4 << 20  # of the log: a shorter one can wait
LOG_MAX_BYTES: Final = 64 << 20  # nonstop writes keep a passive checkpoint from coming to the log's end
_PAUSE_SECONDS: Final = 0.5  # a page that was written a hundred times meanwhile is copied once


class Checkpoints(threading.Thread):
    """`look` after every commit."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="store-checkpoints", daemon=True)
        self._log = path.with_name(path.name + "-wal")
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        self._db.execute("PRAGMA synchronous=FULL")
        # Whoever empties the log holds it: SQLite does not wait for another checkpoint, but gives up at once.
        self.turn = threading.Lock()
        self._wanted = threading.Event()
        self._is_closing = threading.Event()

    def look(self) -> bool:
        """Whether the log has become so long that nobody may write before it is emptied."""
        try:
            length = self._log.stat().st_size
        except OSError:  # gone by somebody's hand, or a failing disk: SQLite will say so where it matters
            return False
        if length > WORTH_BYTES:
            self._wanted.set()
        return length > LOG_MAX_BYTES

    def close(self) -> None:
        self._is_closing.set()
        self._wanted.set()
        if self.is_alive():
            self.join()
        self._db.close()

    def run(self) -> None:
        while not self._is_closing.wait(_PAUSE_SECONDS):
            self._wanted.wait()
            self._wanted.clear()
            # A full or failing disk: the log stays, and the next one tries.
            with self.turn, contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
