"""What the database holds, in numbers, and whether it is whole: read by a process of its own, beside a running desk.

Nothing is written, not even the files that SQLite puts beside a database that it reads: another user's would keep the
desk from starting. No key is needed, so this is what anybody learns who has the file.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from veilsupport.errors import StoreError
from veilsupport.store.writer import SCHEMA_VERSION, Db

__all__ = ["SCHEMA_VERSION", "Inventory", "quick_check", "take"]

_UNREADABLE: Final = "The database cannot be read."


@dataclass(frozen=True, slots=True)
class Inventory:
    """Counts of rows. `oldest_minute`: of the oldest message, Unix minutes; None: there is none."""

    conversations: int = 0
    open_conversations: int = 0
    claimed: int = 0  # by an admin
    messages: int = 0
    oldest_minute: int | None = None
    visitors: int = 0
    by_code: int = 0  # ways to come back
    by_email: int = 0
    by_password_alone: int = 0  # those whose password can be tried without the appliance's key
    sessions: int = 0
    undelivered: int = 0  # words that the XMPP server has not acknowledged
    held: int = 0  # words that wait until an admin asks for them
    rooms: int = 0
    taken: int = 0  # stanzas of admins, by minute
    canned: int = 0
    omemo_entries: int = 0
    copies: int = 0  # in the operator's archive
    archive: bool | None = None  # whether copies are made at present; None: there never was an archive
    has_password: bool = False  # the XMPP account's

    @property
    def is_empty(self) -> bool:
        """Nobody was ever here, or nothing of it is left."""
        return not (self.visitors or self.messages or self.taken)


_COUNTS: Final = {
    "conversations": "SELECT count(*) FROM conversation",
    "open_conversations": "SELECT count(*) FROM conversation WHERE standing = 'open'",
    "claimed": "SELECT count(*) FROM conversation WHERE owner IS NOT NULL",
    "messages": "SELECT count(*) FROM message",
    "visitors": "SELECT count(*) FROM visitor",
    "by_code": "SELECT count(*) FROM credential WHERE kind = 'code'",
    "by_email": "SELECT count(*) FROM credential WHERE kind = 'email'",
    "by_password_alone": "SELECT count(*) FROM credential WHERE kind = 'email' AND length(salt) < 32",
    "sessions": "SELECT count(*) FROM session",
    "undelivered": "SELECT count(*) FROM delivery WHERE state IN ('due', 'sent') AND sealed IS NOT NULL"
    " AND kind IN ('message', 'notice')",
    "held": "SELECT count(*) FROM delivery WHERE state = 'held'",
    "rooms": "SELECT count(*) FROM room",
    "taken": "SELECT count(*) FROM inbox",
    "canned": "SELECT count(*) FROM canned",
    "omemo_entries": "SELECT count(*) FROM omemo",
    "copies": "SELECT count(*) FROM archived",
    "has_password": "SELECT count(*) FROM setting WHERE name = 'xmpp-password'",
}


def take(path: Path) -> Inventory | None:
    """None: there is no database yet, or it is of another version. StoreError: it cannot be read."""
    if not path.exists():
        return None
    with _opened(path) as db:
        if _version(db) != SCHEMA_VERSION:
            return None
        found: dict[str, Any] = {name: int(db.execute(sql).fetchone()[0]) for name, sql in _COUNTS.items()}
        found["has_password"] = found["has_password"] > 0
        (oldest,) = db.execute("SELECT min(minute) FROM message").fetchone()
        archive = db.execute("SELECT substr(value, 1, 1) FROM setting WHERE name = 'archive'").fetchone()
        return Inventory(**found, oldest_minute=oldest, archive=archive and archive[0] == b"\x01")


def quick_check(path: Path) -> tuple[int, bool]:
    """(its schema's version, whether it is whole). StoreError: it cannot be read.

    While this lasts, some seconds for a gigabyte, the running desk's log is not emptied; then it is.
    """
    with _opened(path) as db:
        return _version(db), db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"


def _version(db: Db) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Db]:
    """Without a log beside it nobody writes it, and it is read as it stands: no file is made."""
    has_log = path.with_name(path.name + "-wal").exists()
    how = "mode=ro" if has_log else "mode=ro&immutable=1"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None)
        ) as db:
            yield db
    except sqlite3.Error:
        raise StoreError(_UNREADABLE) from None
