"""Conversations put straight into the database of a product that is stopped: what would take hours to say.

Those of accounts are sealed as the product seals them, and open in it; what only fills the file does not open. It is
written as time would write it, a few messages of each conversation in turn, so that a conversation's rows are
scattered over the file.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from veilsupport import crypto
from veilsupport.directory import DATABASE
from veilsupport.model import Author, Private

EACH: Final = 200  # messages of one conversation
_TURN: Final = 10  # of them one after the other in the file
_SEALED_BYTES: Final = 600
_CONVERSATION: Final = (
    "INSERT INTO conversation (id, alias, standing, last_seq, last_minute)"
    " VALUES (?1, 'filled-' || hex(?1), 'open', ?2, ?3)"
)
_MESSAGE: Final = "INSERT INTO message (conversation, seq, author, progress, minute, sealed) VALUES (?, ?, ?, 1, ?, ?)"
_BLOBS: Final = (
    "WITH RECURSIVE turn (seq) AS (SELECT ?2 UNION ALL SELECT seq + 1 FROM turn WHERE seq < ?3)"  # noqa: S608
    " INSERT INTO message (conversation, seq, author, progress, minute, sealed)"
    f" SELECT ?1, seq, 'visitor', 1, ?4, randomblob({_SEALED_BYTES}) FROM turn"
)


def converse(data: Path, tokens: Sequence[str], *, each: int = EACH) -> None:
    """So many messages in the conversation of each of these accounts, which have none yet."""
    minute = int(time.time() // 60)
    with _database(data) as db:
        found = [_visitor(db, token) for token in tokens]
        db.executemany(_CONVERSATION, [(visitor, each, minute) for visitor, _ in found])
        for first in range(1, each + 1, _TURN):
            seqs = range(first, min(each + 1, first + _TURN))
            rows = (_said(visitor, key, seq, minute) for visitor, key in found for seq in seqs)
            db.executemany(_MESSAGE, rows)


def pad(data: Path, messages: int) -> None:
    """Conversations of strangers, until so many messages are stored in all."""
    minute = int(time.time() // 60)
    with _database(data) as db:
        (there,) = db.execute("SELECT count(*) FROM message").fetchone()
        many = max(0, messages - there) // EACH
        strangers = sorted(secrets.token_bytes(16) for _ in range(many))
        db.executemany("INSERT INTO visitor VALUES (?, zeroblob(32), ?)", [(each, minute) for each in strangers])
        db.executemany(_CONVERSATION, [(each, EACH, minute) for each in strangers])
        turns = itertools.product(range(1, EACH + 1, _TURN), strangers)
        db.executemany(_BLOBS, ((each, first, first + _TURN - 1, minute) for first, each in turns))


def _visitor(db: sqlite3.Connection, token: str) -> tuple[bytes, bytes]:
    sql = "SELECT v.id, v.public_key FROM session s JOIN visitor v ON v.id = s.visitor WHERE s.token_hash = ?"
    visitor, key = db.execute(sql, (crypto.token_root(Private(token)).lookup,)).fetchone()
    return visitor, key


def _said(visitor: bytes, key: bytes, seq: int, minute: int) -> tuple[bytes, int, str, int, bytes]:
    author = Author.ADMIN if seq % 2 == 0 else Author.VISITOR
    body = f"Message {seq}. " + "What people write is about so long, give or take. " * 6
    sealed = crypto.seal(key, visitor, author, seq, "Anna" if author is Author.ADMIN else "", body)
    return visitor, seq, author, minute, sealed


@contextlib.contextmanager
def _database(data: Path) -> Iterator[sqlite3.Connection]:
    """Quick and not safe: one transaction, which a crash would spoil. Left in order, and on the disk."""
    with contextlib.closing(sqlite3.connect(data / DATABASE, isolation_level=None)) as db:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "foreign_keys=OFF"):
            db.execute(f"PRAGMA {pragma}")
        db.execute("BEGIN")
        yield db
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode=WAL")
