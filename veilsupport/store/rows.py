"""The statements that more than one transaction needs. Each runs inside the caller's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from veilsupport.errors import Duplicate, NotFound
from veilsupport.model import Author, Conversation, DeliveryKind, MessageState, Progress, Request, Standing
from veilsupport.store.values import (
    Kept,
    Moved,
    NewDelivery,
    NewMessage,
    NewSession,
    NewVisitor,
    StoredDelivery,
    StoredMessage,
    Taken,
    Unfold,
)
from veilsupport.store.writer import Db

ROOM: Final = b"\x01" * 32  # recipient of what goes to a conversation's room, or to the staff room
NOBODY: Final = b"\0" * 32  # recipient of what is due while nobody is configured to get it
REFUSAL_PAUSE_MINUTES: Final = (1, 2, 4, 8, 16, 32, 60)  # of a delivery, after each refusal
MESSAGE: Final = "seq, author, progress, minute, sealed, state"
CONVERSATION: Final = (
    "c.id, c.alias, c.standing, c.last_seq, c.last_minute, c.site, c.read_seq, c.owner, c.waiting_minute, c.request,"
    " c.alike"
)
DELIVERY: Final = (
    "SELECT d.stanza_id, d.admin, d.kind, coalesce(c.alias, ''), coalesce(c.site, ''), d.conversation, d.seq, d.sealed"
    " FROM delivery d LEFT JOIN conversation c ON c.id = d.conversation"
)
# Held for nobody, until somebody opens the conversation.
FOLDED: Final = "d.state = 'held' AND d.admin = zeroblob(32)"
TO_ROOMS: Final = (
    f"{DELIVERY} WHERE d.admin = ?1 AND d.state IN ('due', 'sent') AND d.kind <> 'destroy'"
    " AND (?2 IS NULL OR d.conversation = ?2) ORDER BY d.n"
)
# Since when a visitor waits whose conversation is opened again.
WAITING: Final = (
    "SELECT min(m.minute) FROM message m WHERE m.conversation = conversation.id AND m.author = 'visitor' AND m.seq >"
    " coalesce((SELECT max(a.seq) FROM message a WHERE a.conversation = conversation.id AND a.author = 'admin'), 0)"
)
_RANK: Final = "CASE state WHEN 'acked' THEN 1 WHEN 'arrived' THEN 2 WHEN 'read' THEN 3 ELSE 0 END"
# Looked up for every row: four times as quick as asking the enumeration.
_STANDINGS: Final = {each.value: each for each in Standing}
_REQUESTS: Final = {each.value: each for each in Request}
_AUTHORS: Final = {each.value: each for each in Author}
_PROGRESS: Final = {each.value: each for each in Progress}
_STATES: Final = {each.value: each for each in MessageState}
_STATE_OF: Final = {Progress.HANDED_OVER: "acked", Progress.ON_DEVICE: "arrived", Progress.READ: "read"}


def as_conversation(row: Any) -> Conversation:
    id, alias, standing, last_seq, last_minute, site, read_seq, owner, waiting, request, alike = row[:11]
    return Conversation(
        *(id, alias, _STANDINGS[standing], last_seq, last_minute, site, read_seq, owner, waiting),
        *(_REQUESTS[request], alike),
    )


def as_message(row: Any) -> StoredMessage:
    return StoredMessage(row[0], _AUTHORS[row[1]], _PROGRESS[row[2]], row[3], row[4], _STATES[row[5]])


def as_delivery(row: Any) -> StoredDelivery:
    return StoredDelivery(row[0], row[1], DeliveryKind(row[2]), *row[3:])


def conversation(db: Db, visitor: bytes) -> Conversation | None:
    sql = f"SELECT {CONVERSATION} FROM conversation c WHERE id = ?"  # noqa: S608 - a constant of ours
    row = db.execute(sql, (visitor,)).fetchone()
    return as_conversation(row) if row else None


def must_be_there(db: Db, conversation: bytes | None) -> None:
    """NotFound: that conversation is gone."""
    if conversation and not db.execute("SELECT 1 FROM conversation WHERE id = ?", (conversation,)).fetchone():
        raise NotFound("That conversation is gone.")


def is_idle(db: Db, conversation: bytes, before: int) -> bool:
    """Whether it is there, and nothing was said in it since that minute."""
    sql = "SELECT 1 FROM conversation WHERE id = ? AND last_minute < ?"
    return db.execute(sql, (conversation, before)).fetchone() is not None


def insert_visitor(db: Db, new: NewVisitor, minute: int) -> None:
    """Duplicate: the session or the credential is there already."""
    if db.execute("SELECT 1 FROM session WHERE token_hash = ?", (new.session.token_hash,)).fetchone():
        raise Duplicate("That session exists.")
    db.execute("INSERT INTO visitor VALUES (?, ?, ?)", (new.id, new.public_key, minute))
    way = new.credential
    values = (way.lookup, way.kind, new.id, way.salt, way.wrapped_key)
    if not db.execute("INSERT OR IGNORE INTO credential VALUES (?, ?, ?, ?, ?)", values).rowcount:
        raise Duplicate("That credential exists.")
    insert_session(db, new.session, new.id, minute)


def insert_session(db: Db, session: NewSession, visitor: bytes, minute: int) -> None:
    """NotFound: the visitor is gone."""
    if not db.execute("SELECT 1 FROM visitor WHERE id = ?", (visitor,)).fetchone():
        raise NotFound("That visitor is gone.")
    values = (session.token_hash, visitor, session.wrapped_key, session.sealed_code, minute)
    db.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?)", values)


def insert_delivery(db: Db, new: NewDelivery, conversation: bytes | None, seq: int | None, minute: int) -> None:
    place = None if new.apart else conversation
    db.execute(
        "INSERT INTO delivery (stanza_id, admin, kind, conversation, seq, state,"
        " made_minute, due_minute, refusals, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?)",
        (new.stanza_id, new.admin, new.kind.value, place, seq, "held" if new.held else "due", minute, new.sealed),
    )


def insert_notices(db: Db, notices: Iterable[NewDelivery], minute: int, conversation: bytes | None = None) -> None:
    """Deliveries that carry no message; without a conversation, that belong to none."""
    for delivery in notices:
        insert_delivery(db, delivery, conversation, None, minute)


def take(db: Db, taken: Taken | None, minute: int) -> None:
    """Note that an incoming stanza takes effect in this transaction. Duplicate: it did before."""
    if taken is None:
        return
    if not db.execute("INSERT OR IGNORE INTO inbox VALUES (?, ?)", (taken.key, minute)).rowcount:
        raise Duplicate("That stanza was taken before.")
    if taken.archive is not None and taken.position is not None:
        move_cursor(db, taken.archive, taken.position, minute)


def move_cursor(db: Db, archive: bytes, position: bytes, minute: int) -> None:
    db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", (archive, position, minute))


def add_message(db: Db, visitor: bytes, new: NewMessage, minute: int, aliases: Iterable[str]) -> Kept:
    """Append to a conversation, making it with the first free alias when it is not there yet."""
    before = conversation(db, visitor) or _new_conversation(db, visitor, new, minute, aliases)
    if new.once is not None:
        values = (visitor, new.once, before.last_seq + 1)
        if not db.execute("INSERT OR IGNORE INTO posted VALUES (?, ?, ?)", values).rowcount:
            sql = "SELECT seq FROM posted WHERE conversation = ? AND once = ?"
            return Kept(before, db.execute(sql, (visitor, new.once)).fetchone()[0], again=True)
    seq = before.last_seq + 1
    standing = Standing.OPEN if before.standing is Standing.CLOSED else before.standing
    waiting = _waiting(before, new.author, minute)
    claimed = before.owner is None and new.claimed_by is not None
    request = _request(before, new)
    alike = before.alike if request is before.request else None
    after = Conversation(
        *(before.id, before.alias, standing, seq, minute, before.site, before.read_seq),
        *(before.owner or new.claimed_by, waiting, request, alike),
    )
    _update(db, before, after)
    # The plain values: sqlite3 asks all its adapters about whatever is not exactly a str or an int.
    row = (visitor, seq, new.author.value, Progress.KEPT.value, minute, new.seal(seq), MessageState.SAID.value)
    db.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    if new.copy is not None:
        keep_copy(db, visitor, seq, new.copy(seq))
    if new.handles:
        db.executemany("INSERT OR IGNORE INTO handle VALUES (?, ?, ?)", [(key, visitor, seq) for key in new.handles])
    if before.request is Request.FOLDED and request is not Request.FOLDED and not new.folds:
        unfold(db, visitor, new.unfold, minute)  # what was said before goes before
    for delivery in [*new.deliveries, *(new.if_claimed if claimed else ())]:
        insert_delivery(db, delivery, visitor, seq if delivery.kind is DeliveryKind.MESSAGE else None, minute)
    if request is not Request.FOLDED and new.folds:
        unfold(db, visitor, new.unfold, minute)  # it was opened at this very moment
    return Kept(after, seq, reopened=standing is not before.standing, claimed=claimed)


def _update(db: Db, before: Conversation, after: Conversation) -> None:
    changing = _changing(after)
    if changing == _changing(before):  # as most: then no index has to be touched
        db.execute("UPDATE conversation SET last_seq = ? WHERE id = ?", (after.last_seq, after.id))
        return
    db.execute(
        "UPDATE conversation SET last_seq = ?, last_minute = ?, standing = ?, owner = ?, waiting_minute = ?,"
        " request = ?, alike = ? WHERE id = ?",
        (after.last_seq, *changing, after.id),
    )


def _changing(one: Conversation) -> tuple[int, str, bytes | None, int | None, int, bytes | None]:
    """What a message can change of a conversation, besides its number."""
    return one.last_minute, one.standing, one.owner, one.waiting_minute, one.request, one.alike


def keep_copy(db: Db, conversation: bytes, seq: int, copy: bytes | None) -> None:
    """The archive has this copy of the message from now on; None: it has none."""
    if copy is None:
        db.execute("DELETE FROM archived WHERE conversation = ? AND seq = ?", (conversation, seq))
    else:
        db.execute("INSERT OR REPLACE INTO archived VALUES (?, ?, ?)", (conversation, seq, copy))


def unfold(db: Db, conversation: bytes, place: Unfold | None, minute: int) -> bool:
    """What is held for nobody becomes what `place` makes of it; whether there was any."""
    if place is None:
        return False
    found = db.execute(f"{DELIVERY} WHERE d.conversation = ? AND {FOLDED} ORDER BY d.n", (conversation,)).fetchall()
    for stored in map(as_delivery, found):
        db.execute("DELETE FROM delivery WHERE stanza_id = ?", (stored.stanza_id,))
        for delivery in place(stored):
            carried = stored.seq if delivery.kind is DeliveryKind.MESSAGE else None
            insert_delivery(db, delivery, conversation, carried, minute)
    return bool(found)


def _request(before: Conversation, new: NewMessage) -> Request:
    """What it is after that message."""
    match new.author:
        case Author.ADMIN:
            return Request.ACCEPTED
        case Author.VISITOR if before.request is Request.FOLDED and not new.folds:
            return Request.NEW
    return before.request


def _waiting(before: Conversation, author: Author, minute: int) -> int | None:
    """Since when the visitor waits, after another message of that author."""
    match author:
        case Author.VISITOR:
            return minute if before.waiting_minute is None else before.waiting_minute
        case Author.ADMIN:
            return None
        case Author.DESK:  # what the appliance says by itself is no answer
            return before.waiting_minute


def _new_conversation(db: Db, visitor: bytes, new: NewMessage, minute: int, aliases: Iterable[str]) -> Conversation:
    if not db.execute("SELECT 1 FROM visitor WHERE id = ?", (visitor,)).fetchone():
        raise NotFound("That visitor is gone.")
    request = Request.FOLDED if new.folds else Request.NEW
    for alias in aliases:
        made = Conversation(visitor, alias, Standing.OPEN, 0, minute, new.site, request=request, alike=new.alike)
        values = (visitor, alias, Standing.OPEN, 0, minute, new.site, 0, None, None, request, new.alike)
        if db.execute("INSERT OR IGNORE INTO conversation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values).rowcount:
            return made
    raise NotFound("No alias is free.")


def to_advance(db: Db, stanza_ids: Iterable[str], admin: bytes | None = None) -> list[Any]:
    """(n, conversation, seq) of each that exists and, if an admin is named, is theirs."""
    sql = "SELECT n, conversation, seq FROM delivery WHERE stanza_id = ?1 AND (?2 IS NULL OR admin = ?2)"
    rows = (db.execute(sql, (stanza_id, admin)).fetchone() for stanza_id in stanza_ids)
    return [row for row in rows if row]


def advance(db: Db, rows: Iterable[Any], progress: Progress) -> list[Moved]:
    """Deliveries have come so far: erase their bodies, and tell which messages came further by it.

    What belongs to no conversation has nobody waiting for its progress, and no burning will ask for it: it goes.
    """
    moved = []
    state = _STATE_OF[progress]
    for n, conversation_id, seq in rows:
        if conversation_id is None:
            db.execute("DELETE FROM delivery WHERE n = ?", (n,))
            continue
        sql = f"UPDATE delivery SET state = ?, sealed = NULL WHERE n = ? AND {_RANK} <= ?"  # noqa: S608 - a constant of ours
        db.execute(sql, (state, n, progress))
        sql = "UPDATE message SET progress = ?3 WHERE conversation = ?1 AND seq = ?2 AND progress < ?3"
        if db.execute(sql, (conversation_id, seq, progress)).rowcount:
            moved.append(Moved(conversation_id, seq, progress))
    return moved
