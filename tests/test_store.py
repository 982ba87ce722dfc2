"""store by itself: one transaction each, one failure spoils no other, and nothing stays of what was erased."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from veilsupport.errors import Duplicate, NotFound, SetupError, StoreError
from veilsupport.model import Author, DeliveryKind, Progress, Request, Standing
from veilsupport.store import (
    NewCredential,
    NewDelivery,
    NewMessage,
    NewSession,
    NewVisitor,
    Store,
    StoredMessage,
    Taken,
)

ADA = b"A" * 32
BERT = b"B" * 32


def opened(directory: Path) -> Store:
    return Store(directory / "veilsupport.sqlite")


def visitor(number: int, *, lookup: bytes | None = None, token: bytes | None = None) -> NewVisitor:
    unique = number.to_bytes(4, "big")
    credential = NewCredential(lookup or unique * 8, "code", None, b"wrapped")
    return NewVisitor(unique * 4, b"p" * 32, credential, NewSession(token or unique * 8, b"wrapped", b"code"))


def message(
    text: bytes = b"hello",
    *,
    author: Author = Author.VISITOR,
    once: bytes | None = None,
    deliveries: tuple[NewDelivery, ...] = (),
) -> NewMessage:
    return NewMessage(author, lambda seq: text + b"#%d" % seq, deliveries, once)


def delivery(stanza_id: str, admin: bytes = ADA, kind: DeliveryKind = DeliveryKind.MESSAGE) -> NewDelivery:
    return NewDelivery(stanza_id, admin, kind, b"sealed " + stanza_id.encode())


async def added(store: Store, number: int = 1, alias: str = "heron-42", *stanza_ids: str) -> bytes:
    """A visitor with a first message, due to Ada under these stanza ids."""
    new = visitor(number)
    first = message(deliveries=tuple(delivery(stanza_id) for stanza_id in stanza_ids))
    await store.add_visitor(new, minute=1, first=first, aliases=iter([alias]))
    return new.id


def sealed(messages: list[StoredMessage]) -> list[bytes]:
    return [each.sealed for each in messages]


def test_first_message_makes_visitor_conversation_and_delivery_at_once(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store, 1, "heron-42", "s1")
        conversation = store.conversation(id)
        assert conversation is not None
        assert (conversation.alias, conversation.standing, conversation.last_seq) == ("heron-42", Standing.OPEN, 1)
        assert sealed(store.messages(id, before=None, limit=9)) == [b"hello#1"]
        assert [(due.stanza_id, due.alias, due.seq) for due in store.due(minute=1, limit=9)] == [("s1", "heron-42", 1)]
        store.close()

    asyncio.run(go())


def test_a_taken_alias_is_passed_over(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        await added(store, 1, "heron-42")
        kept = await store.add_visitor(visitor(2), minute=1, first=message(), aliases=iter(["heron-42", "fox-7"]))
        assert kept is not None
        assert kept.conversation.alias == "fox-7"
        store.close()

    asyncio.run(go())


def test_one_failing_write_spoils_no_other_of_its_batch(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store)
        writes = [
            store.add_message(id, message(b"one"), minute=2),
            store.add_message(b"nobody" * 2 + b"four", message(b"lost"), minute=2),
            store.add_visitor(visitor(1), minute=2),
            store.add_message(id, message(b"two"), minute=2),
        ]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["Kept", "NotFound", "Duplicate", "Kept"]
        assert sealed(store.messages(id, before=None, limit=9)) == [b"hello#1", b"one#2", b"two#3"]
        store.close()

    asyncio.run(go())


def test_a_bug_in_one_write_reaches_its_own_waiter_only(tmp_path: Path) -> None:
    def broken(seq: int) -> bytes:
        raise ZeroDivisionError

    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store)
        bad = store.add_message(id, NewMessage(Author.VISITOR, broken, ()), minute=1)
        good = store.add_message(id, message(b"fine"), minute=1)
        results = await asyncio.gather(bad, good, return_exceptions=True)
        assert isinstance(results[0], ZeroDivisionError)
        assert sealed(store.messages(id, before=None, limit=9)) == [b"hello#1", b"fine#2"]
        store.close()

    asyncio.run(go())


def test_same_once_posts_once(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store)
        first = await store.add_message(id, message(b"x", once=b"n", deliveries=(delivery("s1"),)), minute=1)
        again = await store.add_message(id, message(b"x", once=b"n", deliveries=(delivery("s2"),)), minute=1)
        assert (first.seq, first.again) == (2, False)
        assert (again.seq, again.again) == (2, True)
        assert [due.stanza_id for due in store.due(minute=1, limit=9)] == ["s1"]
        store.close()

    asyncio.run(go())


def test_same_stanza_takes_effect_once_and_moves_the_cursor(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store)
        taken = Taken(b"key", b"archive", b"archive-id-7")
        await store.add_message(id, message(b"answer", author=Author.ADMIN), minute=5, taken=taken)
        with pytest.raises(Duplicate):
            await store.add_message(id, message(b"answer", author=Author.ADMIN), minute=6, taken=taken)
        with pytest.raises(Duplicate):
            await store.queue((), minute=6, taken=taken)
        assert len(store.messages(id, before=None, limit=9)) == 2
        assert store.position(b"archive") == (b"archive-id-7", 5)
        store.close()

    asyncio.run(go())


def test_delivery_goes_from_due_to_read_and_forgets_its_body(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store, 1, "heron-42", "s1")
        await store.mark_sent(["s1"], minute=3)
        assert store.due(minute=3, limit=9) == []
        assert store.unacknowledged() == [("s1", 3, ADA, id)]
        assert [step.progress for step in await store.mark_acked(["s1"])] == [Progress.HANDED_OVER]
        assert (store.unacknowledged(), store.backlog()) == ([], 0)
        await store.scrub()
        assert b"sealed s1" not in (tmp_path / "veilsupport.sqlite").read_bytes()
        assert await store.mark_arrived("s1", BERT) == []
        assert [step.progress for step in await store.mark_arrived("s1", ADA)] == [Progress.ON_DEVICE]
        assert [step.progress for step in await store.mark_read("s1", ADA)] == [Progress.READ]
        assert await store.mark_acked(["s1"]) == []  # never back
        assert store.messages(id, before=None, limit=1)[0].progress is Progress.READ
        store.close()

    asyncio.run(go())


def test_reading_one_reads_all_before_it_but_nothing_after(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store, 1, "heron-42", "s1")
        for number in (2, 3):
            await store.add_message(id, message(deliveries=(delivery(f"s{number}"),)), minute=1)
        await store.mark_sent(["s1", "s2", "s3"], minute=1)
        await store.mark_acked(["s1", "s2", "s3"])
        await store.mark_read("s2", ADA)
        progress = [each.progress for each in store.messages(id, before=None, limit=9)]
        assert progress == [Progress.READ, Progress.READ, Progress.HANDED_OVER]
        store.close()

    asyncio.run(go())


def test_lost_deliveries_are_due_again_in_order(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store, 1, "heron-42", "s1")
        for number in (2, 3, 4):
            await store.add_message(id, message(deliveries=(delivery(f"s{number}"),)), minute=1)
        await store.mark_sent(["s1", "s2", "s3"], minute=1)
        assert await store.requeue(["s1", "s3", "s4"]) == 2
        assert [due.stanza_id for due in store.due(minute=1, limit=9)] == ["s1", "s3", "s4"]
        store.close()

    asyncio.run(go())


def test_refused_delivery_waits_longer_each_time(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        await added(store, 1, "heron-42", "s1")
        minute, pauses = 100, []
        for _ in range(9):
            await store.mark_sent(["s1"], minute=minute)
            await store.mark_refused("s1", minute=minute)
            pause = next(wait for wait in range(100) if store.due(minute=minute + wait, limit=1))
            pauses.append(pause)
            minute += pause
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert store.due(minute=minute - 1_000_000, limit=1), "a clock that was set back holds nothing up"
        store.close()

    asyncio.run(go())


def test_burning_leaves_nothing_in_any_file(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store, 1, "zebra-977", "s1")
        await store.add_message(id, message(b"MARK" * 40, deliveries=(delivery("MARKs2"),)), minute=1)
        await store.mark_sent(["s1"], minute=1)
        await store.burn(
            id, minute=2, retract=lambda stanza, admin: delivery(f"r-{stanza}", admin, DeliveryKind.RETRACT)
        )
        assert [(due.stanza_id, due.kind) for due in store.due(minute=2, limit=9)] == [("r-s1", DeliveryKind.RETRACT)]
        assert store.session(visitor(1).session.token_hash) is None
        for file in tmp_path.iterdir():
            assert b"MARK" not in file.read_bytes(), file
            assert b"zebra-977" not in file.read_bytes(), file
        store.close()

    asyncio.run(go())


def test_burning_asks_for_what_may_have_left_before_it_was_lost(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store, 1, "heron-42", "s1")
        await store.mark_sent(["s1"], minute=1)
        await store.requeue(["s1"])
        await store.burn(id, minute=2, retract=lambda stanza, admin: delivery(f"r-{stanza}", admin))
        assert [due.stanza_id for due in store.due(minute=2, limit=9)] == ["r-s1"]
        assert await store.mark_sent(["s1", "r-s1"], minute=2) == {"r-s1"}  # the burned one must not leave any more
        store.close()

    asyncio.run(go())


def test_relayed_answers_are_asked_back_too(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store)
        answer = message(author=Author.ADMIN, deliveries=(delivery("n1", BERT, DeliveryKind.NOTICE),))
        await store.add_message(id, answer, minute=1)
        await store.mark_sent(["n1"], minute=1)
        await store.mark_acked(["n1"])
        assert store.alias_of_stanza("n1") == "heron-42"
        await store.burn(id, minute=2, retract=lambda stanza, admin: delivery(f"r-{stanza}", admin))
        assert [due.stanza_id for due in store.due(minute=2, limit=9)] == ["r-n1"]
        store.close()

    asyncio.run(go())


def until_scrubbed(store: Store) -> None:
    deadline = time.monotonic() + 20
    while store._writer._scrub_at is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_acknowledged_bodies_do_not_stay_in_the_log(tmp_path: Path) -> None:
    async def go() -> Store:
        store = opened(tmp_path)
        await added(store, 1, "heron-42", "MARKs1")
        await store.mark_sent(["MARKs1"], minute=1)
        assert b"sealed MARKs1" in (tmp_path / "veilsupport.sqlite-wal").read_bytes()
        await store.mark_acked(["MARKs1"])
        return store

    store = asyncio.run(go())
    until_scrubbed(store)
    for file in tmp_path.iterdir():
        assert b"sealed MARKs1" not in file.read_bytes(), file
    store.close()


def test_a_reader_from_outside_delays_the_scrubbing_but_nothing_else(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store, 1, "zebra-977")
        outside = sqlite3.connect(tmp_path / "veilsupport.sqlite")
        outside.execute("BEGIN")
        outside.execute("SELECT count(*) FROM message").fetchone()
        await store.burn(id, minute=2, retract=delivery)
        assert store._writer._scrub_at is not None
        assert store.conversation(id) is None
        outside.close()
        store._writer._scrub_at = 0.0  # the time has come
        await store.queue((), minute=2)
        until_scrubbed(store)
        for file in tmp_path.iterdir():
            assert b"zebra-977" not in file.read_bytes(), file
        store.close()

    asyncio.run(go())


def test_history_pages_backwards_without_gap(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store)
        await asyncio.gather(*(store.add_message(id, message(), minute=1) for _ in range(24)))
        seen: list[int] = []
        before = None
        while page := store.messages(id, before=before, limit=7):
            seen = [each.seq for each in page] + seen
            before = page[0].seq
        assert seen == list(range(1, 26))
        store.close()

    asyncio.run(go())


def test_full_disk_refuses_the_write_and_keeps_what_was(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store)
        store._writer._db.execute("PRAGMA max_page_count = 60")
        with pytest.raises(StoreError):
            await store.add_message(id, message(b"x" * 300_000), minute=1)
        store._writer._db.execute("PRAGMA max_page_count = 100000")
        assert (await store.add_message(id, message(b"later"), minute=1)).seq > 1
        assert store.messages(id, before=2, limit=1)[0].sealed == b"hello#1"
        store.close()
        db = sqlite3.connect(tmp_path / "veilsupport.sqlite")
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()
        assert [path.name for path in tmp_path.iterdir()] == ["veilsupport.sqlite"]

    asyncio.run(go())


def test_what_was_answered_for_survives_kill_9(tmp_path: Path) -> None:
    """A process that is killed in full flight: every message it was told is kept, is there."""
    program = """
import asyncio, sys
from pathlib import Path
from tests.test_store import added, message, opened
async def go():
    store = opened(Path(sys.argv[1]))
    id = await added(store)
    async def write(n):
        kept = await store.add_message(id, message(b"m%d" % n), minute=1)
        print(kept.seq, flush=True)
    await asyncio.gather(*(write(n) for n in range(15_000)))
asyncio.run(go())
"""
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    promised = {int(child.stdout.readline()) for _ in range(300)}
    child.kill()
    promised |= {int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")}
    child.wait()
    child.stdout.close()

    async def look() -> None:
        store = opened(tmp_path)
        there = {each.seq for each in store.messages(visitor(1).id, before=None, limit=20_000)}
        assert promised <= there
        assert there == set(range(1, len(there) + 1))
        store.close()

    asyncio.run(look())


@pytest.mark.parametrize("version", [1, 2])
def test_a_migrated_database_has_the_shape_of_a_fresh_one(tmp_path: Path, version: int) -> None:
    """From each version, as its schema stood when it was released."""
    fresh, old = tmp_path / "fresh.sqlite", tmp_path / "old.sqlite"
    Store(fresh).close()
    old_database(old, version)
    Store(old).close()
    assert shape(old) == shape(fresh)


@pytest.mark.parametrize("version", [1, 2])
def test_every_row_of_an_older_version_is_there_after_the_migration(tmp_path: Path, version: int) -> None:
    path = tmp_path / "veilsupport.sqlite"
    old_database(path, version)
    before = contents(path)
    assert all(before.values())
    Store(path).close()
    after = contents(path)
    for table, old_rows in before.items():
        assert after.pop(table) == [row | NEW_IN_3.get(table, dict)(row) for row in old_rows], table
    assert after == {"archived": [], "handle": [], "room": [], "canned": [], "omemo": []}


@pytest.mark.parametrize("version", [1, 2])
def test_the_work_of_an_older_version_goes_on_after_the_migration(tmp_path: Path, version: int) -> None:
    async def go() -> None:
        old_database(tmp_path / "veilsupport.sqlite", version)
        store = opened(tmp_path)
        assert [each.stanza_id for each in store.due(minute=99, limit=9)] == ["s-due", "n-due", "r-due"]
        assert store.unacknowledged() == [("s-sent", 12, ADA, OLD)]
        await store.mark_sent(["s-due"], minute=100)
        await store.mark_read("s-due", ADA)  # and all that Ada's server had before it
        progress = {each.seq: each.progress for each in store.messages(OLD, before=None, limit=9)}
        assert progress == {1: Progress.KEPT, 2: Progress.READ, 3: Progress.READ, 4: Progress.READ, 5: Progress.READ}
        await store.burn(OLD, minute=101, retract=lambda stanza, admin: delivery(f"r-{stanza}", admin))
        retracted = [each.stanza_id for each in store.due(minute=101, limit=9) if each.stanza_id.startswith("r-s-")]
        assert retracted == ["r-s-sent", "r-s-acked", "r-s-arrived", "r-s-read", "r-s-due"]
        store.close()

    asyncio.run(go())


WAITS = b"w" * 16  # whose second and third message nobody has answered
OLD = b"v" * 16
NEW_IN_3: dict[str, Callable[[dict[str, object]], dict[str, object]]] = {
    "conversation": lambda row: (
        {"site": "", "read_seq": 0, "owner": None, "waiting_minute": 23 if row["id"] == WAITS else None}
        | {"request": 0, "alike": None}  # what was there before counts as taken on
        | row
    ),
    "message": lambda row: {"state": "said"},
    "delivery": lambda row: {"sent_n": row["sent_minute"] and row["n"], "archived_as": None},
    "cursor": lambda row: {"position": str(row["position"]).encode()},
}
OLD_ROWS: list[tuple[str, dict[str, object]]] = [
    ("visitor", {"id": OLD, "public_key": b"p" * 32, "made_minute": 10}),
    ("credential", {"lookup": b"l" * 32, "kind": "email", "visitor": OLD, "salt": b"s" * 16, "wrapped_key": b"w"}),
    ("credential", {"lookup": b"m" * 32, "kind": "code", "visitor": OLD, "salt": None, "wrapped_key": b"x"}),
    (
        "session",
        {"token_hash": b"t" * 32, "visitor": OLD, "wrapped_key": b"w", "sealed_code": b"c", "made_minute": 10},
    ),
    (
        "conversation",
        {
            "id": OLD,
            "alias": "heron-42",
            "standing": "closed",
            "last_seq": 5,
            "last_minute": 15,
            "site": "shop",
            "read_seq": 3,
        },
    ),
    ("visitor", {"id": WAITS, "public_key": b"q" * 32, "made_minute": 20}),
    (
        "conversation",
        {
            "id": WAITS,
            "alias": "otter-7",
            "standing": "open",
            "last_seq": 4,
            "last_minute": 24,
            "site": "",
            "read_seq": 0,
        },
    ),
    *(
        (
            "message",
            {"conversation": WAITS, "seq": seq, "author": author, "progress": 0, "minute": 20 + seq, "sealed": b"s"},
        )
        for seq, author in enumerate(["visitor", "admin", "visitor", "visitor"], start=1)
    ),
    *(
        (
            "message",
            {
                "conversation": OLD,
                "seq": seq,
                "author": author,
                "progress": progress,
                "minute": 10 + seq,
                "sealed": b"sealed %d" % seq,
            },
        )
        for seq, (author, progress) in enumerate(
            [("visitor", 0), ("visitor", 1), ("visitor", 2), ("visitor", 3), ("visitor", 0)], start=1
        )
    ),
    ("posted", {"conversation": OLD, "once": b"once", "seq": 1}),
    *(
        (
            "delivery",
            {
                "n": n,
                "stanza_id": stanza_id,
                "admin": admin,
                "kind": kind,
                "conversation": conversation,
                "seq": seq,
                "state": state,
                "made_minute": 11,
                "due_minute": 0,
                "sent_minute": 10 + n if state != "due" else None,
                "refusals": n,
                "sealed": b"sealed" if state in ("due", "sent") else None,
            },
        )
        for n, stanza_id, admin, kind, conversation, seq, state in [
            (2, "s-sent", ADA, "message", OLD, 1, "sent"),
            (3, "s-acked", ADA, "message", OLD, 2, "acked"),
            (5, "s-arrived", ADA, "message", OLD, 3, "arrived"),
            (7, "s-read", BERT, "message", OLD, 4, "read"),
            (8, "s-due", ADA, "message", OLD, 5, "due"),
            (9, "n-due", BERT, "notice", OLD, None, "due"),
            (12, "r-due", BERT, "retract", None, None, "due"),
        ]
    ),
    ("inbox", {"key": b"k" * 32, "minute": 12}),
    ("cursor", {"archive": b"a" * 32, "position": "archive-id-7", "minute": 12}),
    ("setting", {"name": "xmpp.password", "value": b"wrapped"}),
]


def old_database(path: Path, version: int) -> None:
    """A database as that version left it, with something in every table."""
    db = sqlite3.connect(path)
    db.executescript((Path(__file__).parent / f"schema-{version}.sql").read_text())
    for table, row in OLD_ROWS:
        columns = [name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,)) if name in row]
        marks = ", ".join("?" * len(columns))
        db.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608 - names of ours
            [row[name] for name in columns],
        )
    db.commit()
    db.close()


def contents(path: Path) -> dict[str, list[dict[str, object]]]:
    """Every row of every table, by column."""
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {name: [dict(row) for row in db.execute(f"SELECT * FROM {name}")] for name in names}  # noqa: S608
    db.close()
    return found


def shape(path: Path) -> object:
    """Every table's columns, conditions and references and every index, as SQLite understands them."""
    db = sqlite3.connect(path)
    tables = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
    columns = {
        name: (
            db.execute("SELECT * FROM pragma_table_xinfo(?)", (name,)).fetchall(),
            db.execute("SELECT * FROM pragma_foreign_key_list(?)", (name,)).fetchall(),
            db.execute("SELECT wr, strict FROM pragma_table_list WHERE name = ?", (name,)).fetchall(),
            re.findall(r"CHECK \((?:[^()]|\([^()]*\))*\)", sql),
        )
        for name, sql in tables
    }
    indexes = db.execute("SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'index' ORDER BY name").fetchall()
    version = db.execute("PRAGMA user_version").fetchone()
    db.close()
    return columns, indexes, version


def test_a_newer_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "veilsupport.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(SetupError, match="newer"):
        Store(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "veilsupport.sqlite"
    path.write_bytes(b"not a database, but long enough to look like one" * 20)
    with pytest.raises(SetupError):
        Store(path)


def test_only_we_can_read_the_database(tmp_path: Path) -> None:
    os.umask(0o022)
    store = opened(tmp_path)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    store.close()


def test_writes_after_closing_are_refused(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.close()
    with pytest.raises(StoreError):
        asyncio.run(store.add_message(b"x" * 16, message(), minute=1))


def test_message_to_a_burned_visitor_is_refused(tmp_path: Path) -> None:
    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store)
        await store.burn(id, minute=1, retract=delivery)
        with pytest.raises(NotFound):
            await store.add_message(id, message(), minute=1)
        with pytest.raises(NotFound):
            await store.add_session(id, NewSession(b"t" * 32, b"w", None), minute=1)
        store.close()

    asyncio.run(go())


def test_another_message_like_the_last_touches_its_number_only_and_no_index(tmp_path: Path) -> None:
    """What is written then is one page, and not one for each index besides."""

    async def go() -> None:
        store = opened(tmp_path)
        id = await added(store)
        said: list[str] = []
        store._writer._db.set_trace_callback(said.append)

        async def touched(new: NewMessage, minute: int) -> list[str]:
            said.clear()
            await store.add_message(id, new, minute=minute)
            (update,) = [each for each in said if each.startswith("UPDATE conversation")]
            return re.findall(r"(\w+) = ", update.partition("WHERE")[0])

        assert await touched(message(), 1) == ["last_seq"]
        assert await touched(message(), 1) == ["last_seq"]
        for new, minute in ((message(), 2), (message(author=Author.ADMIN), 2)):
            assert {"last_seq", "last_minute", "waiting_minute", "request"} < set(await touched(new, minute))
        assert await touched(message(author=Author.ADMIN), 2) == ["last_seq"]
        await store.set_standing(id, Standing.CLOSED, minute=2)
        assert "standing" in await touched(message(author=Author.ADMIN), 2)
        claims = replace(message(author=Author.ADMIN), claimed_by=ADA)
        assert "owner" in await touched(claims, 2)
        assert await touched(claims, 2) == ["last_seq"]
        store.close()

    asyncio.run(go())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(Author), st.integers(0, 1), st.sampled_from([None, ADA, BERT]), st.booleans()),
        max_size=15,
    )
)
@example([(Author.VISITOR, 0, None, False), (Author.ADMIN, 0, None, False), (Author.VISITOR, 0, None, True)])
def test_a_conversations_row_is_what_its_messages_make_it(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[Author, int, bytes | None, bool]]
) -> None:
    """Whatever of it a message changes, against a plain dict; (who, minutes later, for whom it is claimed, closed)."""

    async def go() -> None:
        store = opened(tmp_path_factory.mktemp("row"))
        id = await added(store)
        row: dict[str, object] = {"last_seq": 1, "last_minute": 1, "standing": Standing.OPEN, "owner": None}
        row |= {"waiting_minute": 1, "request": Request.NEW}
        minute = 1
        for seq, (author, later, claimed_by, closed) in enumerate(plan, start=2):
            minute += later
            if closed:
                await store.set_standing(id, Standing.CLOSED, minute=minute)
                row["waiting_minute"] = None
            await store.add_message(id, replace(message(author=author), claimed_by=claimed_by), minute=minute)
            row |= {"last_seq": seq, "last_minute": minute, "owner": row["owner"] or claimed_by}
            if author is Author.ADMIN:
                row |= {"waiting_minute": None, "request": Request.ACCEPTED}
            elif author is Author.VISITOR and row["waiting_minute"] is None:
                row["waiting_minute"] = minute
            found = store.conversation(id)
            assert found is not None
            assert {name: getattr(found, name) for name in row} == row
        store.close()

    asyncio.run(go())


steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("close"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("burn"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("send"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("ack"), st.integers(0, 9), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(steps)
@example([("say", 0, 0), ("ack", 0, 0), ("burn", 0, 0)])
def test_store_behaves_as_a_dict_would(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[str, int, int]]
) -> None:
    """Random histories against the simplest thing that could be right."""

    async def go() -> None:
        store = opened(tmp_path_factory.mktemp("model"))
        talk: dict[int, list[bytes]] = {}
        once: dict[int, set[int]] = {}
        outbox: dict[str, str] = {}
        owner: dict[str, int] = {}
        for who in range(3):
            await store.add_visitor(visitor(who), minute=1)
        burned: set[int] = set()
        for step, (act, a, b) in enumerate(plan):
            id = visitor(a).id
            if act == "say" and a not in burned:
                stanza = f"s{step}"
                new = message(b"%d" % b, once=b"%d" % b, deliveries=(delivery(stanza),))
                await store.add_message(id, new, minute=1, aliases=iter([f"fox-{a}"]))
                if b not in once.setdefault(a, set()):
                    once[a].add(b)
                    talk.setdefault(a, []).append(b"%d#%d" % (b, len(talk.get(a, [])) + 1))
                    outbox[stanza], owner[stanza] = "due", a
            elif act == "close" and a in talk:
                await store.set_standing(id, Standing.CLOSED, minute=1)
            elif act == "burn":
                await store.burn(id, minute=1, retract=lambda stanza, admin: delivery("r" + stanza, admin))
                for stanza in [each for each, whose in owner.items() if whose == a]:
                    if outbox.pop(stanza) != "due":
                        outbox["r" + stanza] = "due"
                    del owner[stanza]
                talk.pop(a, None)
                burned.add(a)
            elif act in ("send", "ack") and len(outbox) > a:
                stanza = list(outbox)[a]
                if act == "send":
                    await store.mark_sent([stanza], minute=1)
                    outbox[stanza] = "sent" if outbox[stanza] == "due" else outbox[stanza]
                else:
                    await store.mark_acked([stanza])
                    outbox[stanza] = "acked"
        for who in range(3):
            assert sealed(store.messages(visitor(who).id, before=None, limit=99)) == talk.get(who, [])
        assert [each.stanza_id for each in store.due(minute=1, limit=99)] == [
            s for s, at in outbox.items() if at == "due"
        ]
        assert [s for s, *_ in store.unacknowledged()] == [s for s, at in outbox.items() if at == "sent"]
        store.close()

    asyncio.run(go())
