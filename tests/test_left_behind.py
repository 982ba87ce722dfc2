"""What a killed process, a full disk or a short memory leaves behind, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.test_residue import left
from veilsupport.model import Author, MessageState
from veilsupport.store import NewCredential, NewMessage, NewSession, NewVisitor, Store, snapshot
from veilsupport.store.writer import Writer

PAGE_BYTES = 4096


async def swept(store: Store) -> None:
    async with asyncio.timeout(20):
        while store._residue.is_left:
            await asyncio.sleep(0)


def test_what_lay_between_the_rows_goes_with_a_retracted_answer(tmp_path: Path) -> None:
    """SQLite leaves parts of an erased body there now and then; here one is put there."""
    path, left_over = tmp_path / "db", b"a part of what was retracted"

    async def story() -> None:
        some = random.Random(1).randbytes
        way, session = NewCredential(some(32), "code", None, some(72)), NewSession(some(32), some(72), None)
        new = NewMessage(Author.ADMIN, lambda seq: some(320), (), None, copy=lambda seq: some(320))
        store = Store(path)
        await store.add_visitor(
            NewVisitor(bytes(16), some(32), way, session), minute=1, first=new, aliases=["heron-42"]
        )
        await store.end_session(b"nobody's")  # The log is empty after it.
        await swept(store)
        with path.open("r+b") as file:
            whole = path.read_bytes()
            page = next(at for at in range(0, len(whole), PAGE_BYTES) if not any(whole[at + 100 : at + 2000]))
            file.seek(page + 1000)
            file.write(left_over)
        await store.change_message(bytes(16), 1, some(320), MessageState.RETRACTED, minute=1)
        await swept(store)
        assert left_over not in path.read_bytes()
        store.close()

    asyncio.run(story())


def test_what_a_killed_process_left_between_the_rows_goes_at_the_next_start(tmp_path: Path) -> None:
    path, chance = tmp_path / "db", random.Random(7)
    rows = [(chance.randbytes(16), chance.randbytes(chance.choice([40, 350, 606, 1500]))) for _ in range(1500)]
    gone = [sealed for _, sealed in rows[:500]]

    async def started() -> None:
        store = Store(path)
        await swept(store)
        store.close()

    asyncio.run(started())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("CREATE TABLE another (place BLOB PRIMARY KEY, sealed BLOB) WITHOUT ROWID")
        db.executemany("INSERT INTO another VALUES (?, ?)", rows)
        db.executemany("DELETE FROM another WHERE place = ?", [row[:1] for row in rows[:500]])
    assert left(path, gone) > 0
    asyncio.run(started())
    assert left(path, gone) == 0


def test_copy_that_a_killed_backup_left_goes_when_a_running_desk_burns(tmp_path: Path) -> None:
    async def story() -> None:
        store = Store(tmp_path / "db")
        await store.try_disk()
        copy = snapshot.copy_path(tmp_path / "db")
        copy.write_bytes(b"what is burned now")
        await store.burn(bytes(16), minute=1, retract=lambda stanza_id, admin: None)
        assert not copy.exists()
        store.close()

    asyncio.run(story())


def test_copy_that_a_backup_is_using_stays(tmp_path: Path) -> None:
    async def story() -> None:
        store = Store(tmp_path / "db")
        await store.try_disk()
        with snapshot.copied(tmp_path / "db") as copy:
            await store.burn(bytes(16), minute=1, retract=lambda stanza_id, admin: None)
            assert snapshot.check(copy) > 0
        store.close()

    asyncio.run(story())


def test_log_that_cannot_be_emptied_leaves_the_patience_of_later_writes_alone(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "db")
    db = writer._db
    patience = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute("BEGIN IMMEDIATE")
    db.execute("PRAGMA user_version = 4")
    writer._scrub()  # SQLite refuses it inside a transaction, as it does on a full disk
    assert db.execute("PRAGMA busy_timeout").fetchone() == patience
    db.close()
    writer.residue.close()


LITTLE_MEMORY = """
import asyncio, resource, sys
from veilsupport import crypto
from veilsupport.errors import SetupError, VisitorError
from veilsupport.model import Private

async def signs_in(passwords):
    await passwords.wrapping_key(Private("x"), bytes(16))

passwords = crypto.Passwords(bytes(32))
asyncio.run(signs_in(passwords))
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), resource.RLIM_INFINITY))
try:
    crypto.slow_hash(Private("x"), bytes(16), crypto.PASSPHRASE)
except SetupError as error:
    print(error.message, error.hint)
try:
    asyncio.run(signs_in(passwords))
except VisitorError as error:
    print(error.status)
"""


def test_too_little_memory_is_told_and_ends_no_desk() -> None:
    told = subprocess.run([sys.executable, "-c", LITTLE_MEMORY], capture_output=True, text=True, check=False)
    assert told.stderr == ""
    assert told.stdout.splitlines() == [
        "There is too little memory to try the passphrase."
        " It takes 256 MB for a moment: end something else, or raise the limit.",
        "503",
    ]
