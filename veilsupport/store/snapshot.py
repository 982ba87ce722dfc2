"""A copy of the database as it is at one moment, while others write to it; and whether a database is whole.

The copy lies beside the database, 0600, is locked while somebody uses it, and goes with zeros over it. One that a
killed process left behind goes when the next store is opened or the next copy is made. It stands alone, without a log.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from veilsupport.errors import SetupError

_WAIT_SECONDS: Final = 10.0
_BLOCK: Final = 1 << 20
# Bytes 18 and 19 of the file say whether a log belongs to it (fileformat2 §1.3.3): 2 does, 1 does not.
_LOG_MARK_AT: Final = 18
_IN_USE: Final = SetupError(
    "Another copy of the database is being made just now.", hint="Try it again when that is done."
)
_DAMAGED: Final = SetupError("The database is damaged.", hint="Restore a backup into a new data directory.")


def copy_path(database: Path) -> Path:
    return database.with_name(database.name + ".copy")


@contextlib.contextmanager
def copied(database: Path) -> Iterator[Path]:
    """A copy, whole at one moment: all that was committed before this is called, and nothing by halves.

    Taken in one step by SQLite's backup through a connection that can only read. Meanwhile the others' writes go on,
    and their log is emptied a moment later than else. Free pages come along, but secure_delete has left zeros there.
    SetupError: it cannot be read, somebody else makes a copy just now, or the disk has too little room.
    """
    path = copy_path(database)
    clear_leftover(database)
    require_room(path.parent, size_of(database))
    handle = _made(path)
    try:
        _copy(database, path)
        os.pwrite(handle, b"\x01\x01", _LOG_MARK_AT)
        yield path
    finally:
        erase(path, handle)


def clear_leftover(database: Path) -> None:
    """Erase a copy that nobody uses any more."""
    try:
        handle = os.open(copy_path(database), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
    else:
        erase(copy_path(database), handle)


def size_of(database: Path) -> int:
    """In bytes, with what still stands in its log alone. SetupError: there is none."""
    log = database.with_name(database.name + "-wal")
    try:
        return database.stat().st_size + (log.stat().st_size if log.exists() else 0)
    except OSError:
        raise SetupError("There is no database to read.", hint="Look at the data directory.") from None


def require_room(directory: Path, count: int) -> None:
    """SetupError: fewer bytes are free on that disk, and how many are needed."""
    if shutil.disk_usage(directory).free < count:
        raise SetupError(
            "The disk has too little room for a copy of the database; nothing was changed.",
            hint=f"Free at least {-(-count // 1_000_000)} MB on the disk that holds the data directory.",
        )


def check(path: Path) -> int:
    """The version of the schema of a copy that is whole. SetupError: it is damaged."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    with contextlib.closing(db):
        return _checked(db)


def check_in_memory(content: bytes) -> int:
    """As `check`, without a file."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.deserialize(content)
        return _checked(db)


def _checked(db: sqlite3.Connection) -> int:
    try:
        whole = db.execute("PRAGMA integrity_check(1)").fetchall() == [("ok",)]
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        whole = whole and version > 0 and not db.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error:
        raise _DAMAGED.anew() from None
    if not whole:
        raise _DAMAGED.anew()
    return version


def _made(path: Path) -> int:
    """The empty copy, locked; its file descriptor."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise _IN_USE.anew() from None
    except OSError:
        raise SetupError(
            "The data directory cannot be written.", hint="Look at its owner, its permissions and its disk."
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_nlink == 0:  # taken for a leftover before it was locked
            raise BlockingIOError
    except BlockingIOError:
        os.close(handle)
        raise _IN_USE.anew() from None
    return handle


def _copy(database: Path, path: Path) -> None:
    try:
        source = sqlite3.connect(
            f"{database.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=_WAIT_SECONDS
        )
        target = sqlite3.connect(path, isolation_level=None)
        with contextlib.closing(source), contextlib.closing(target):
            target.execute("PRAGMA journal_mode = OFF")  # nothing of it may lie anywhere else
            target.execute("PRAGMA synchronous = OFF")  # a copy that a crash cuts off is of no use anyway
            source.backup(target)  # in one step, or every write in between would make it begin anew
    except sqlite3.DatabaseError as error:
        if "full" in str(error):
            raise SetupError(
                "The disk is full: the database could not be copied.", hint="Free some room on it; nothing was changed."
            ) from None
        raise SetupError(
            "The database cannot be read.",
            hint="Look at the data directory and its disk. After a crash, start the desk once; nothing was changed.",
        ) from None


def erase(path: Path, handle: int) -> None:
    """Zeros over the file of that descriptor, then away. Disks that write elsewhere keep it (SSDs, snapshots)."""
    try:
        left = os.fstat(handle).st_size
        os.lseek(handle, 0, os.SEEK_SET)
        while left > 0:
            left -= os.write(handle, bytes(min(left, _BLOCK)))
        os.fsync(handle)
    except OSError:
        pass  # A disk that fails at this must not keep the file from going.
    path.unlink(missing_ok=True)
    os.close(handle)
