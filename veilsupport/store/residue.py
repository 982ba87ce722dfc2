"""What SQLite leaves of erased rows between the rows of a page, and how it goes.

`secure_delete` puts zeros over a row that is deleted, and over a page that is freed. But when rows move from a full
page to its neighbour, the old copies stay in the gap between the page's pointers and its rows, and no later deletion
finds them there: of a thousand deleted rows a few stay readable in part. No statement reaches them. So the gaps of the
file itself are overwritten here, page by page (https://www.sqlite.org/fileformat2.html §1.6).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from pathlib import Path
from typing import Final

_STEP_PAGES: Final = 1024  # some milliseconds
_FILE_HEAD: Final = struct.Struct(">16sH34xI")  # magic, page size, root of a file that vacuums itself (we make none)
_FILE_HEAD_BYTES: Final = 100
_PAGE_HEAD: Final = struct.Struct(">BHHH")  # kind, first free block, number of rows, where the rows begin
_HEAD_BYTES: Final = {2: 12, 5: 12, 10: 8, 13: 8}  # by kind of page; all others begin with 0 or are no tree's
_LARGEST_BYTES: Final = 1 << 37  # from there on a number that begins an overflow page could look like a kind


class Residue:
    """Of one database. Used on the writer's thread, whose log has just been emptied."""

    def __init__(self, path: Path) -> None:
        """The file stays open until the end: closing it would take SQLite's own locks away (fcntl(2))."""
        self._log = path.with_name(path.name + "-wal")
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._next: int | None = None  # the page where the pass goes on; None: there is none under way
        self._again = False

    def begin(self) -> None:
        """Once over the whole file; once more after that when a pass was under way already."""
        if self._next is None:
            self._next = 0
        else:
            self._again = True

    @property
    def is_left(self) -> bool:
        return self._next is not None

    def step(self, db: sqlite3.Connection) -> None:
        """Some pages on. Nothing may change the file meanwhile: the database is locked, and its log must be empty.

        The pages that SQLite holds in memory go, lest they come back as they were.
        """
        if self._next is None:
            return
        with contextlib.suppress(sqlite3.Error, OSError):  # locked by a stranger, or a failing disk: at the next step
            db.execute("BEGIN IMMEDIATE")
            try:
                if not self._log.exists() or self._log.stat().st_size == 0:
                    self._clear(self._next)
            finally:
                db.execute("ROLLBACK")
                db.execute("PRAGMA shrink_memory")

    def close(self) -> None:
        os.close(self._file)

    def _clear(self, first: int) -> None:
        magic, page_bytes, vacuums = _FILE_HEAD.unpack(os.pread(self._file, _FILE_HEAD.size, 0))
        page_bytes = 65_536 if page_bytes == 1 else page_bytes
        known = magic == b"SQLite format 3\0" and not vacuums and os.fstat(self._file).st_size < _LARGEST_BYTES
        pages = os.pread(self._file, _STEP_PAGES * page_bytes, first * page_bytes) if known else b""
        for number in range(len(pages) // page_bytes):
            page = pages[number * page_bytes : (number + 1) * page_bytes]
            start, end = _gap(page, _FILE_HEAD_BYTES if first + number == 0 else 0)
            if page[start:end].strip(b"\0"):
                os.pwrite(self._file, bytes(end - start), (first + number) * page_bytes + start)
        os.fdatasync(self._file)
        self._next = first + _STEP_PAGES if len(pages) == _STEP_PAGES * page_bytes else None
        if self._next is None and self._again:
            self._next, self._again = 0, False


def _gap(page: bytes, head: int) -> tuple[int, int]:
    """Where on a page nothing is; an empty range when it is no page of a tree. `head`: where its own begins."""
    kind, _, rows, rows_begin = _PAGE_HEAD.unpack_from(page, head)
    if kind not in _HEAD_BYTES:
        return 0, 0
    start, end = head + _HEAD_BYTES[kind] + 2 * rows, rows_begin or 65_536
    return (start, end) if start <= end <= len(page) else (0, 0)
