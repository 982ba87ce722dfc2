"""What can be asked of the store. A read runs at once, on the caller's thread, and sees all that was answered for."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any, Final

from veilsupport.errors import StoreError
from veilsupport.model import Conversation, DeliveryKind, Standing
from veilsupport.store import rows
from veilsupport.store.values import StoredCredential, StoredDelivery, StoredMessage, StoredSession
from veilsupport.store.writer import Db

SEQ_MAX: Final = 2**62  # what a sequence number from outside may be at most: SQLite's integers end at 2**63


class Reads:
    """The reading half of the store, over a read-only connection."""

    _db: Db

    def session(self, token_hash: bytes) -> StoredSession | None:
        sql = (
            "SELECT v.id, v.public_key, s.wrapped_key, s.sealed_code"
            " FROM session s JOIN visitor v ON v.id = s.visitor WHERE s.token_hash = ?"
        )
        row = self._one(sql, token_hash)
        return StoredSession(*row) if row else None

    def sessions(self, visitor: bytes) -> list[tuple[bytes, int]]:
        """(token hash, minute of signing in) of each, oldest first."""
        sql = "SELECT token_hash, made_minute FROM session WHERE visitor = ? ORDER BY made_minute, token_hash"
        return self._all(sql, visitor)

    def credential(self, lookup: bytes) -> StoredCredential | None:
        sql = (
            "SELECT v.id, v.public_key, c.salt, c.wrapped_key"
            " FROM credential c JOIN visitor v ON v.id = c.visitor WHERE c.lookup = ?"
        )
        row = self._one(sql, lookup)
        return StoredCredential(*row) if row else None

    def conversation(self, visitor: bytes) -> Conversation | None:
        sql = f"SELECT {rows.CONVERSATION} FROM conversation c WHERE id = ?"  # noqa: S608 - a constant of ours
        row = self._one(sql, visitor)
        return rows.as_conversation(row) if row else None

    def conversation_called(self, alias: str) -> tuple[Conversation, bytes] | None:
        """The conversation, and the public key of its visitor."""
        sql = (
            f"SELECT {rows.CONVERSATION}, v.public_key"  # noqa: S608 - a constant of ours
            " FROM conversation c JOIN visitor v ON v.id = c.id WHERE c.alias = ?"
        )
        row = self._one(sql, alias)
        return (rows.as_conversation(row), row[-1]) if row else None

    def conversations(self, standing: Standing, *, limit: int) -> list[Conversation]:
        """Those of one standing, newest first."""
        sql = (
            f"SELECT {rows.CONVERSATION} FROM conversation c"  # noqa: S608 - a constant of ours
            " WHERE standing = ? ORDER BY last_minute DESC, id LIMIT ?"
        )
        return [rows.as_conversation(row) for row in self._all(sql, standing, limit)]

    def count_conversations(self, standing: Standing) -> int:
        return int(self._one("SELECT count(*) FROM conversation WHERE standing = ?", standing)[0])

    def answer_minutes(self, *, last: int) -> list[int]:
        """How long visitors waited for each of the newest `last` first answers, in minutes."""
        sql = (
            "SELECT a.minute - v.minute FROM message a"
            " JOIN message v ON v.conversation = a.conversation AND v.seq = a.seq - 1"
            " WHERE a.author = 'admin' AND v.author = 'visitor' AND a.conversation IN"
            " (SELECT id FROM conversation WHERE standing = 'open' ORDER BY last_minute DESC LIMIT ?) LIMIT ?"
        )
        return [minutes for (minutes,) in self._all(sql, last, last)]

    def was_posted(self, conversation: bytes, once: bytes) -> bool:
        return self._one("SELECT 1 FROM posted WHERE conversation = ? AND once = ?", conversation, once) is not None

    def messages_after(self, conversation: bytes, seq: int, *, limit: int) -> list[StoredMessage]:
        """The oldest `limit` after sequence number `seq`, oldest first."""
        sql = (
            "SELECT seq, author, progress, minute, sealed FROM message"
            " WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?"
        )
        return [rows.as_message(row) for row in self._all(sql, conversation, min(seq, SEQ_MAX), limit)]

    def messages(self, conversation: bytes, *, before: int | None, limit: int) -> list[StoredMessage]:
        """The newest `limit` before sequence number `before`, oldest first."""
        sql = (
            "SELECT seq, author, progress, minute, sealed FROM message"
            " WHERE conversation = ? AND seq < ? ORDER BY seq DESC LIMIT ?"
        )
        found = self._all(sql, conversation, min(before or SEQ_MAX, SEQ_MAX), limit)
        return [rows.as_message(row) for row in reversed(found)]

    def due(self, *, minute: int, limit: int) -> list[StoredDelivery]:
        """Oldest first."""
        return self._deliveries("d.state = 'due' AND d.due_minute <= ? ORDER BY d.n LIMIT ?", minute, limit)

    def strays(self, admins: Collection[bytes]) -> list[tuple[StoredDelivery, bool]]:
        """What is not acknowledged and due to none of these; and whether one of these has the same message."""
        marks = ", ".join("?" * len(admins))
        has = f"SELECT 1 FROM delivery WHERE conversation = ? AND seq = ? AND admin IN ({marks})"  # noqa: S608 - only ?
        strays = self._deliveries(f"d.state IN ('due', 'sent') AND d.admin NOT IN ({marks}) ORDER BY d.n", *admins)
        return [(each, self._one(has, each.conversation, each.seq, *admins) is not None) for each in strays]

    def unacknowledged(self) -> list[tuple[str, int]]:
        """(stanza id, minute of its last attempt), oldest first."""
        return self._all("SELECT stanza_id, sent_minute FROM delivery WHERE state = 'sent' ORDER BY n")

    def backlog(self) -> int:
        """How many deliveries the XMPP server has not acknowledged yet."""
        return int(self._one("SELECT count(*) FROM delivery WHERE state IN ('due', 'sent')")[0])

    def alias_of_stanza(self, stanza_id: str) -> str | None:
        sql = "SELECT c.alias FROM delivery d JOIN conversation c ON c.id = d.conversation WHERE d.stanza_id = ?"
        row = self._one(sql, stanza_id)
        return row[0] if row else None

    def position(self, archive: bytes) -> tuple[str, int] | None:
        """(the archive's id of the last stanza taken, in which minute)."""
        row = self._one("SELECT position, minute FROM cursor WHERE archive = ?", archive)
        return (row[0], row[1]) if row else None

    def setting(self, name: str) -> bytes | None:
        row = self._one("SELECT value FROM setting WHERE name = ?", name)
        return row[0] if row else None

    def _one(self, sql: str, *values: object) -> Any:
        try:
            return self._db.execute(sql, values).fetchone()
        except sqlite3.Error:
            raise StoreError("The disk did not give it.") from None

    def _all(self, sql: str, *values: object) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error:
            raise StoreError("The disk did not give it.") from None

    def _deliveries(self, where: str, *values: object) -> list[StoredDelivery]:
        sql = (
            "SELECT d.stanza_id, d.admin, d.kind, coalesce(c.alias, ''), coalesce(c.site, ''), d.conversation,"  # noqa: S608
            " d.seq, d.made_minute, d.sealed"
            f" FROM delivery d LEFT JOIN conversation c ON c.id = d.conversation WHERE {where}"
        )
        return [StoredDelivery(row[0], row[1], DeliveryKind(row[2]), *row[3:]) for row in self._all(sql, *values)]
