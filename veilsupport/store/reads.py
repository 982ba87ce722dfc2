"""What can be asked of the store. A read runs at once, on the caller's thread, and sees all that was answered for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Final

from veilsupport.errors import StoreError
from veilsupport.model import Conversation, Standing
from veilsupport.store import rows, turns
from veilsupport.store.values import Handled, StoredCredential, StoredDelivery, StoredMessage, StoredSession
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

    def conversations(self, standing: Standing, *, limit: int, folded: bool = True) -> list[Conversation]:
        """Those of one standing, newest first; the folded ones too, or without them."""
        sql = (
            f"SELECT {rows.CONVERSATION} FROM conversation c"  # noqa: S608 - a constant of ours
            " WHERE standing = ? AND (? OR request <> 2) ORDER BY last_minute DESC, id LIMIT ?"
        )
        return [rows.as_conversation(row) for row in self._all(sql, standing, folded, limit)]

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
            f"SELECT {rows.MESSAGE} FROM message"  # noqa: S608 - a constant of ours
            " WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?"
        )
        return [rows.as_message(row) for row in self._all(sql, conversation, min(seq, SEQ_MAX), limit)]

    def messages(self, conversation: bytes, *, before: int | None, limit: int) -> list[StoredMessage]:
        """The newest `limit` before sequence number `before`, oldest first."""
        sql = (
            f"SELECT {rows.MESSAGE} FROM message"  # noqa: S608 - a constant of ours
            " WHERE conversation = ? AND seq < ? ORDER BY seq DESC LIMIT ?"
        )
        found = self._all(sql, conversation, min(before or SEQ_MAX, SEQ_MAX), limit)
        return [rows.as_message(row) for row in reversed(found)]

    def handled(self, key: bytes) -> Handled | None:
        """The message that a handle names."""
        sql = (
            f"SELECT {rows.CONVERSATION}, v.public_key, m.seq, m.author, m.progress, m.minute, m.sealed, m.state"  # noqa: S608
            " FROM handle h JOIN message m ON m.conversation = h.conversation AND m.seq = h.seq"
            " JOIN conversation c ON c.id = h.conversation JOIN visitor v ON v.id = c.id WHERE h.key = ?"
        )
        row = self._one(sql, key)
        return Handled(rows.as_conversation(row), row[11], rows.as_message(row[12:])) if row else None

    def rooms(self, conversation: bytes | None = None) -> list[tuple[Conversation, bytes]]:
        """(conversation, sealed address) of every room, or of that one conversation's, newest first."""
        sql = (
            f"SELECT {rows.CONVERSATION}, r.address FROM room r JOIN conversation c ON c.id = r.conversation"  # noqa: S608
            f" {'WHERE r.conversation = ?' if conversation else ''} ORDER BY c.last_minute DESC, c.id"
        )
        found = self._all(sql, conversation) if conversation else self._all(sql)
        return [(rows.as_conversation(row), row[-1]) for row in found]

    def count_rooms(self) -> int:
        return int(self._one("SELECT count(*) FROM room")[0])

    def waiting(self, *, limit: int) -> list[Conversation]:
        """Open conversations whose visitor waits for an answer, the longest first; none that is folded."""
        sql = (
            f"SELECT {rows.CONVERSATION} FROM conversation c"  # noqa: S608 - a constant of ours
            " WHERE standing = 'open' AND waiting_minute IS NOT NULL AND request <> 2"
            " ORDER BY waiting_minute, id LIMIT ?"
        )
        return [rows.as_conversation(row) for row in self._all(sql, limit)]

    def folds(self, *, limit: int) -> list[tuple[Conversation, int]]:
        """Of the folded open ones that began with the same words: the one that waits longest, and how many there are.

        The longest first.
        """
        sql = (
            f"SELECT {rows.CONVERSATION}, count(*), min(c.waiting_minute) AS since FROM conversation c"  # noqa: S608 - as above
            " WHERE c.request = 2 AND c.standing = 'open' GROUP BY c.alike ORDER BY since LIMIT ?"
        )
        return [(rows.as_conversation(row), row[-2]) for row in self._all(sql, limit)]

    def folded(self, alike: bytes, *, limit: int) -> list[Conversation]:
        """Those of one such fold, the longest waiting first."""
        sql = (
            f"SELECT {rows.CONVERSATION} FROM conversation c"  # noqa: S608 - a constant of ours
            " WHERE request = 2 AND standing = 'open' AND alike = ? ORDER BY waiting_minute, id LIMIT ?"
        )
        return [rows.as_conversation(row) for row in self._all(sql, alike, limit)]

    def due(
        self, *, minute: int, limit: int, without: Collection[bytes] = (), to: Collection[bytes] | None = None
    ) -> list[StoredDelivery]:
        """The oldest of every conversation first, then the second of each, so that none waits for another's flood.

        `without`: conversations whose room cannot take anything at this moment. `to`: what is for others than these
        and the rooms takes nobody's turn; None: for nobody.
        """
        found = turns.find(self._all, turns.Wanted.of(minute, without, to), limit)
        if not found:
            return []
        return self._deliveries(f"d.n IN ({', '.join('?' * len(found))}) AND d.state = 'due' ORDER BY d.n", *found)

    def strays(self, is_for: Callable[[StoredDelivery], bool]) -> list[tuple[StoredDelivery, bool]]:
        """What is not acknowledged and not for whom it is due to; and whether one whom it is for has the same message.

        What belongs to no conversation and is due to a room never strays, and neither does what is folded.
        """
        where = (
            f"d.state IN ('held', 'due', 'sent') AND NOT ({rows.FOLDED})"
            " AND (d.admin <> ? OR d.conversation IS NOT NULL) ORDER BY d.n"
        )
        strays = [each for each in self._deliveries(where, rows.ROOM) if not is_for(each)]
        return [(each, self._is_with_others(each, is_for)) for each in strays]

    def _is_with_others(self, stray: StoredDelivery, is_for: Callable[[StoredDelivery], bool]) -> bool:
        sql = "SELECT DISTINCT admin FROM delivery WHERE conversation = ? AND seq = ?"
        admins = [admin for (admin,) in self._all(sql, stray.conversation, stray.seq)]
        if stray.admin != rows.ROOM and rows.ROOM in admins:
            return True
        return any(is_for(replace(stray, admin=admin)) for admin in admins)

    def unacknowledged(self) -> list[tuple[str, int, bytes, bytes | None]]:
        """(stanza id, minute of its last attempt, recipient, conversation), oldest first."""
        return self._all(
            "SELECT stanza_id, sent_minute, admin, conversation FROM delivery WHERE state = 'sent' ORDER BY n"
        )

    def stanza_archived_as(self, conversation: bytes, archived_as: bytes, stanza_id: str) -> str | None:
        """Which stanza of ours a room's archive knows under that (hashed) id; or the one of that id of our own."""
        sql = "SELECT stanza_id FROM delivery WHERE conversation = ? AND (archived_as = ? OR stanza_id = ?)"
        row = self._one(sql, conversation, archived_as, stanza_id)
        return row[0] if row else None

    def oldest_backlog(self) -> int | None:
        """In which minute the oldest delivery became due that the XMPP server has not acknowledged yet."""
        row = self._one("SELECT made_minute FROM delivery WHERE state IN ('due', 'sent') ORDER BY n LIMIT 1")
        return row[0] if row else None

    def canned(self) -> list[tuple[str, bytes]]:
        return self._all("SELECT name, sealed FROM canned ORDER BY name")

    def omemo(self) -> list[tuple[bytes, bytes]]:
        return self._all("SELECT name, sealed FROM omemo")

    def is_due_in_room(self, conversation: bytes) -> bool:
        """Whether its room has not got everything yet."""
        sql = "SELECT 1 FROM delivery WHERE conversation = ? AND admin = ? AND state IN ('due', 'sent')"
        return self._one(sql, conversation, rows.ROOM) is not None

    def backlog(self) -> int:
        """How many deliveries the XMPP server has not acknowledged yet."""
        return int(self._one("SELECT count(*) FROM delivery WHERE state IN ('due', 'sent')")[0])

    def alias_of_stanza(self, stanza_id: str) -> str | None:
        sql = "SELECT c.alias FROM delivery d JOIN conversation c ON c.id = d.conversation WHERE d.stanza_id = ?"
        row = self._one(sql, stanza_id)
        return row[0] if row else None

    def position(self, archive: bytes) -> tuple[bytes, int] | None:
        """(the archive's id of the last stanza taken, sealed; in which minute)."""
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
        return [rows.as_delivery(row) for row in self._all(f"{rows.DELIVERY} WHERE {where}", *values)]
